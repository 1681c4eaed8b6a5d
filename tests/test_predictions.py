import json
from pathlib import Path

import pytest

from captioner.data import CaptionedPhotograph, DataError
from captioner.predictions import read_predictions, write_predictions

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
    said = [{"image_id": i, "caption": str(i), "score": 1} for i in (0, 99, 7, "one.jpg")]
    assert read_predictions(write(tmp_path / "said.json", said), RECORDS) == ["one.jpg", "7", "0"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["one.jpg", 7, 0, 7, 7], r"captions 1 photographs more than once, first 7\."),
        (["two.jpg", "7", 0], r"lacks captions of 2 photographs, first 'one\.jpg'\."),
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
        b'[{"image_id": 7, "caption": null}]',
    ],
)
def test_another_format_is_refused_naming_the_file(tmp_path, content):
    (tmp_path / "said.json").write_bytes(content)
    with pytest.raises(DataError, match=r"said\.json is not in the COCO results format"):
        read_predictions(tmp_path / "said.json", RECORDS)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"said\.json"):
        read_predictions(tmp_path / "said.json", RECORDS)
