from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.data import DataError, of_split, read_karpathy


def described(name: str, split: str, *captions: str, **more) -> dict:
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
        [described("b.jpg", "train", "A dog.", "Two red dogs."), described("a.jpg", "test", "A café")],
    )
    first, second = read_karpathy(str(folder))
    assert first.path == tmp_path / "images" / "b.jpg"
    assert first.split == "train"
    assert first.tokens == (("a", "dog"), ("two", "red", "dogs"))
    assert first.raw == ("A dog.", "Two red dogs.")
    assert (second.path.name, second.split, second.raw) == ("a.jpg", "test", ("A café",))


def test_photographs_may_lie_in_subfolders_as_those_of_coco(tmp_path: Path):
    folder = write(tmp_path, [described("1.jpg", "val", "A dog.", filepath="val2014")])
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
        b'{"images": ["a.jpg"]}',
        b'{"images": [{"filename": "a.jpg", "split": "train"}]}',
        b'{"images": [{"split": "train", "sentences": []}]}',
        b'{"images": [{"filename": "a.jpg", "split": "train", "sentences": [{"tokens": ["a"]}]}]}',
    ],
)
def test_another_layout_is_refused_naming_the_file(tmp_path: Path, content: bytes):
    (tmp_path / "dataset_test.json").write_bytes(content)
    with pytest.raises(DataError, match=r"dataset_test\.json is not in the Karpathy layout"):
        read_karpathy(tmp_path)


def test_absent_photographs_are_counted_and_one_is_named(tmp_path: Path):
    folder = write(tmp_path, [described(f"{i}.jpg", "train", "A dog.") for i in range(3)])
    for name in ("1.jpg", "2.jpg"):
        (folder / "images" / name).unlink()
    with pytest.raises(DataError, match=r"^2 photographs .* first 1\.jpg"):
        read_karpathy(folder)


def test_split_keeps_its_records_in_order(tmp_path: Path):
    splits = ["train", "val", "train", "test"]
    records = read_karpathy(write(tmp_path, [described(f"{i}.jpg", s, "A dog.") for i, s in enumerate(splits)]))
    assert [record.path.name for record in of_split(records, "train")] == ["0.jpg", "2.jpg"]
    with pytest.raises(DataError, match=r"'validation'; this data has test, train, val\."):
        of_split(records, "validation")
