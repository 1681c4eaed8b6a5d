import json
from pathlib import Path

import pytest

from captioner.data import CaptionedPhotograph, DataError, of_split, read_karpathy
from captioner.metrics import score_captions
from captioner.predictions import read_predictions, write_predictions
from captioner.readme import RESULTS

FLICKR8K = Path(__file__).resolve().parents[2] / "shared" / "flickr8k"
RECORDS = [
    CaptionedPhotograph(Path("images") / name, "val", (), (), coco_id)
    for name, coco_id in (("one.jpg", None), ("two.jpg", 7), ("three.jpg", 0))
]
CAPTIONS = ["a dog", 'a café, "open"', ""]


def write(file: Path, entries: object) -> Path:
    file.write_text(json.dumps(entries))
    return file


def test_what_is_written_is_read(tmp_path):
    write_predictions(tmp_path / "new" / "said.json", RECORDS, CAPTIONS)
    assert read_predictions(tmp_path / "new" / "said.json", RECORDS) == CAPTIONS


def test_files_are_in_the_coco_results_format(tmp_path):
    write_predictions(tmp_path / "said.json", RECORDS, CAPTIONS)
    entries = json.loads((tmp_path / "said.json").read_text())
    assert entries == [{"image_id": i, "caption": c} for i, c in zip(["one.jpg", 7, 0], CAPTIONS)]


def test_captions_come_in_the_order_of_the_photographs_without_those_of_others(tmp_path):
    said = [{"image_id": i, "caption": str(i), "score": 1} for i in (0, 99, 7, "one.jpg", "two.jpg")]
    file = write(tmp_path / "said.json", said)
    with pytest.warns(UserWarning, match=r"said\.json: 2 captions are of photographs that are not scored, first 99\."):
        assert read_predictions(file, RECORDS) == ["one.jpg", "7", "0"]


def test_ids_may_be_written_as_text(tmp_path, recwarn):
    said = [{"image_id": i, "caption": i} for i in ("one.jpg", "7", "0")]
    assert read_predictions(write(tmp_path / "said.json", said), RECORDS) == ["one.jpg", "7", "0"]
    assert not recwarn.list


def test_a_file_may_begin_with_a_mark_of_its_encoding(tmp_path):
    file = write(tmp_path / "said.json", [{"image_id": i, "caption": "a dog"} for i in ("one.jpg", 7, 0)])
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read_predictions(file, RECORDS) == ["a dog"] * 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["one.jpg", 7, 0, 7, 7], r"captions 1 photographs more than once, first 7\."),
        (["one.jpg", 7, 0, "7"], r"captions 1 photographs more than once, first 7\."),
        (["two.jpg", 8, 0], r"lacks captions of 2 photographs, first 'one\.jpg'\."),
    ],
)
def test_photographs_given_twice_or_not_at_all_are_named(tmp_path, ids, message):
    file = write(tmp_path / "said.json", [{"image_id": i, "caption": "a dog"} for i in ids])
    with pytest.raises(DataError, match=message):
        read_predictions(file, RECORDS)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"3",
        b'{"annotations": []}',
        b"[[1, 2]]",
        b'[{"image_id": 7}]',
        b'[{"image_id": [], "caption": ""}]',
        b'[{"image_id": true, "caption": ""}]',
        b'[{"image_id": 7, "caption": null}]',
    ],
)
def test_another_format_is_refused_naming_the_file(tmp_path, content):
    (tmp_path / "said.json").write_bytes(content)
    with pytest.raises(DataError, match=r"said\.json is not in the COCO results format"):
        read_predictions(tmp_path / "said.json", RECORDS)


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f"There is no Flickr8k at {FLICKR8K}.")
def test_the_captions_kept_beside_the_results_are_those_that_were_scored():
    records = of_split(read_karpathy(FLICKR8K), "val")
    said = read_predictions(RESULTS / "val-captions.json", records)
    expected = json.loads((RESULTS / "val.json").read_text())["captions"]
    scores = score_captions(said, [record.raw for record in records])
    assert scores == pytest.approx({name: expected[name] for name in scores}, abs=1e-6)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*said\.json"):
        read_predictions(tmp_path / "said.json", RECORDS)
