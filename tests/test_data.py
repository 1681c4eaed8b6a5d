from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.data import DataError, LeftOut, described, of_split, read_karpathy, usable


def described_entry(name: str, split: str, *captions: str, **more) -> dict:
    sentences = [{"tokens": caption.lower().rstrip(".").split(), "raw": caption} for caption in captions]
    return {"filename": name, "split": split, "sentences": sentences, **more}


def write(folder: Path, images: object, *, name: str = "dataset_test.json") -> Path:
    """A data set in the Karpathy layout; its photographs are empty files."""
    if isinstance(images, list):
        for image in images:
            if isinstance(image, dict) and "filename" in image:
                path = folder / "images" / image.get("filepath", "") / image["filename"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    (folder / name).write_text(json.dumps({"images": images}))
    return folder


def test_photographs_have_their_captions_and_split_in_file_order(tmp_path: Path):
    folder = write(
        tmp_path,
        [described_entry("b.jpg", "train", "A dog.", "Two red dogs."), described_entry("a.jpg", "test", "A café")],
    )
    first, second = read_karpathy(str(folder))
    assert first.path == tmp_path / "images" / "b.jpg"
    assert first.split == "train"
    assert first.tokens == (("a", "dog"), ("two", "red", "dogs"))
    assert first.raw == ("A dog.", "Two red dogs.")
    assert (second.path.name, second.split, second.raw) == ("a.jpg", "test", ("A café",))


def test_photographs_may_lie_in_subfolders_as_those_of_coco(tmp_path: Path):
    folder = write(tmp_path, [described_entry("1.jpg", "val", "A dog.", filepath="val2014")])
    assert read_karpathy(folder)[0].path == tmp_path / "images" / "val2014" / "1.jpg"


def test_no_or_several_descriptions_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="it holds 0"):
        read_karpathy(tmp_path)
    with pytest.raises(DataError, match="it holds 0"):
        read_karpathy(tmp_path / "absent")
    write(tmp_path, [])
    write(tmp_path, [], name="dataset_other.json")
    with pytest.raises(DataError, match="it holds 2"):
        read_karpathy(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"images": [',
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"images": 3}',
    ],
)
def test_another_layout_is_refused_naming_the_file(tmp_path: Path, content: bytes):
    (tmp_path / "dataset_test.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset_test\.json is not in the Karpathy layout"):
        read_karpathy(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        "a.jpg",
        {"filename": "a.jpg", "split": "train"},
        {"split": "train", "sentences": []},
        {"filename": "a.jpg", "split": "train", "sentences": [{"tokens": ["a"]}]},
        {"filename": 3, "split": "train", "sentences": []},
        {"filename": "a.jpg", "split": None, "sentences": []},
        {"filename": "a.jpg", "split": ["train"], "sentences": []},
        {"filename": "a.jpg", "split": "train", "sentences": [], "cocoid": [7]},
        {"filename": "a.jpg", "split": "train", "sentences": [{"tokens": ["a"], "raw": 5}]},
        {"filename": "a.jpg", "split": "train", "sentences": [{"tokens": "a", "raw": "A"}]},
        {"filename": "a.jpg", "split": "train", "sentences": None},
    ],
)
def test_a_broken_entry_is_left_out_with_a_warning(tmp_path: Path, broken):
    (tmp_path / "dataset_test.json").write_text(json.dumps({"images": [broken]}))
    with pytest.raises(
        DataError, match=r"Expected: the Karpathy layout.*dataset_test\.json: left out 1 x broken entries"
    ):
        read_karpathy(tmp_path)
    whole = described_entry("b.jpg", "train", "A dog.")
    write(tmp_path, [whole])
    (tmp_path / "dataset_test.json").write_text(json.dumps({"images": [broken, whole]}))
    with pytest.warns(UserWarning, match="1 x broken entries"):
        assert [record.path.name for record in read_karpathy(tmp_path)] == ["b.jpg"]


def test_absent_photographs_are_counted_and_the_first_are_named(tmp_path: Path):
    folder = write(tmp_path, [described_entry(f"{i}.jpg", "train", "A dog.") for i in range(6)])
    for number in range(1, 5):
        (folder / "images" / f"{number}.jpg").unlink()
    with pytest.warns(UserWarning, match=r"4 x absent photographs \(1\.jpg, 2\.jpg, 3\.jpg, \.\.\.\)"):
        assert [record.path.name for record in read_karpathy(folder)] == ["0.jpg", "5.jpg"]


def test_nothing_left_is_an_error_that_says_what_is_expected(tmp_path: Path):
    folder = write(tmp_path, [described_entry("0.jpg", "train", "A dog.")])
    (folder / "images" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"Expected: the Karpathy layout.*1 x absent photographs \(0\.jpg\)\."):
        read_karpathy(folder)


def test_photographs_given_twice_or_without_captions_are_left_out(tmp_path: Path):
    left_out = LeftOut(tmp_path)
    candidates = [
        described(tmp_path / "a.jpg", "train", ["A dog"], left_out, 1),
        described(tmp_path / "a.jpg", "val", ["The same file"], left_out, 2),
        described(tmp_path / "b.jpg", "train", ["The same id"], left_out, 1),
        described(tmp_path / "c.jpg", "val", ["That id in another split"], left_out, 1),
        described(tmp_path / "d.jpg", "train", [" ! ", None], left_out, 4),
    ]
    with pytest.warns(UserWarning, match="left out") as warned:
        kept = usable(candidates, left_out, "photographs", present=lambda path: True)
    assert [record.path.name for record in kept] == ["a.jpg", "c.jpg"]
    (warning,) = warned
    for part in ("2 x photographs given twice (a.jpg, b.jpg)", "1 x photographs without captions (d.jpg)"):
        assert part in str(warning.message)
    assert "2 x captions without a word (d.jpg, d.jpg)" in str(warning.message)


def test_captions_without_a_word_are_left_out_of_their_photograph(tmp_path: Path):
    with pytest.warns(UserWarning, match=r"1 x captions without a word \(0\.jpg\)"):
        (record,) = read_karpathy(write(tmp_path, [described_entry("0.jpg", "train", ".", "A dog.")]))
    assert (record.tokens, record.raw) == ((("a", "dog"),), ("A dog.",))


def test_sound_data_is_read_without_a_warning(tmp_path: Path, recwarn):
    read_karpathy(write(tmp_path, [described_entry("0.jpg", "train", "A dog.")]))
    assert not recwarn.list


def test_equal_words_are_kept_once(tmp_path: Path):
    made = [described(Path(name), "train", ["A Dog's dog"], LeftOut(tmp_path)) for name in ("a.jpg", "b.jpg")]
    assert made[0].tokens == (("a", "dog", "'s", "dog"),)
    assert all(one is other for one, other in zip(made[0].tokens[0], made[1].tokens[0]))


def test_split_keeps_its_records_in_order(tmp_path: Path):
    splits = ["train", "val", "train", "test"]
    records = read_karpathy(write(tmp_path, [described_entry(f"{i}.jpg", s, "A dog.") for i, s in enumerate(splits)]))
    assert [record.path.name for record in of_split(records, "train")] == ["0.jpg", "2.jpg"]
    with pytest.raises(DataError, match=r"'validation'; this data has test, train, val\."):
        of_split(records, "train", "validation")
    assert of_split(records, "val", "train") == records[:3]
