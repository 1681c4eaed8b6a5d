import json
from pathlib import Path

import pytest
from PIL import Image

from captioner.coco import read_coco, read_instances
from captioner.data import DataError

SIZES = {"dog.jpg": (40, 20), "cat.jpg": (20, 40), "empty.jpg": (10, 10)}
IMAGES = [
    {"id": 7 + number, "file_name": name, "width": width, "height": height}
    for number, (name, (width, height)) in enumerate(SIZES.items())
]
CAPTIONS = [
    {"id": 1, "image_id": 7, "caption": "A dog's ball. "},
    {"id": 2, "image_id": 8, "caption": "A cat, asleep"},
    {"id": 3, "image_id": 7, "caption": "The dog"},
    {"id": 4, "image_id": 9, "caption": "."},
]
INSTANCES = [
    {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 5, 20, 10], "iscrowd": 0},
    {"id": 2, "image_id": 7, "category_id": 18, "bbox": [30, 0, 10.01, 20], "iscrowd": 1},
    {"id": 3, "image_id": 8, "category_id": 17, "bbox": [0, 0, 20, 40], "iscrowd": 0},
]
CATEGORIES = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}]


def write(folder: Path, kind: str, annotations: list[dict], *, split: str = "val2017", **content) -> None:
    (folder / "annotations").mkdir(exist_ok=True)
    content = {"images": IMAGES, "annotations": annotations} | content
    (folder / "annotations" / f"{kind}_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name, size in SIZES.items():
        Image.new("RGB", size).save(tmp_path / "images" / name)
    write(tmp_path, "captions", CAPTIONS)
    write(tmp_path, "instances", INSTANCES, categories=CATEGORIES)
    return tmp_path


def test_captions_go_to_their_photographs_with_the_split_of_the_file(coco):
    dog, cat = read_coco(coco)  # nothing is said of the third photograph
    assert (dog.path, dog.split) == (coco / "images" / "dog.jpg", "val2017")
    assert dog.raw == ("A dog's ball.", "The dog")
    assert dog.tokens == (("a", "dog", "'s", "ball"), ("the", "dog"))
    assert cat.tokens == (("a", "cat", "asleep"),)


def test_splits_are_read_together_each_from_its_own_folder_where_it_has_one(coco):
    (coco / "images" / "train2017").mkdir()
    Image.new("RGB", (8, 8)).save(coco / "images" / "train2017" / "new.jpg")
    write(
        coco,
        "captions",
        [{"id": 9, "image_id": 1, "caption": "A bird"}],
        split="train2017",
        images=[{"id": 1, "file_name": "new.jpg"}],
    )
    assert [(record.path.parent.name, record.split) for record in read_coco(coco)] == [
        ("train2017", "train2017"),
        ("images", "val2017"),
        ("images", "val2017"),
    ]


def test_boxes_become_fractions_that_stay_in_the_photograph(coco):
    assert read_instances(coco) == {
        "dog.jpg": {"dog": ((0.25, 0.25, 0.75, 0.75), (0.75, 0.0, 1.0, 1.0))},
        "cat.jpg": {"cat": ((0.0, 0.0, 1.0, 1.0),)},
        "empty.jpg": {},
    }


@pytest.mark.parametrize(("kind", "read"), [("captions", read_coco), ("instances", read_instances)])
def test_annotations_of_unknown_photographs_are_counted_and_left_out(coco, kind, read):
    known = read(coco)
    stray = {"image_id": 999, "caption": "Nothing", "category_id": 17, "bbox": [0, 0, 1, 1]}
    annotations = CAPTIONS if kind == "captions" else INSTANCES
    write(coco, kind, [*annotations, stray | {"id": 50}, stray | {"id": 51}], categories=CATEGORIES)
    with pytest.warns(UserWarning, match=r"2 x annotations of unlisted photographs \(50, 51\)"):
        assert read(coco) == known


@pytest.mark.parametrize(("kind", "read"), [("captions", read_coco), ("instances", read_instances)])
def test_a_missing_file_is_named(tmp_path, kind, read):
    with pytest.raises(DataError, match=f"no {kind}_"):
        read(tmp_path)


@pytest.mark.parametrize(("kind", "read"), [("captions", read_coco), ("instances", read_instances)])
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 3, "annotations": []}'])
def test_another_layout_is_refused_by_the_name_of_the_file(coco, kind, read, text):
    (coco / "annotations" / f"{kind}_val2017.json").write_text(text)
    with pytest.raises(DataError, match=rf"{kind}_val2017\.json is not in the COCO layout"):
        read(coco)


@pytest.mark.parametrize("content", [{"images": [*IMAGES, IMAGES[0]]}, {"annotations": [*CAPTIONS, CAPTIONS[0]]}])
def test_of_what_has_an_id_twice_the_first_is_kept(coco, content):
    known = read_coco(coco)
    write(coco, "captions", **({"annotations": CAPTIONS} | content))
    with pytest.warns(UserWarning, match="1 x ids given twice"):
        assert read_coco(coco) == known


def test_broken_entries_are_left_out(coco):
    known = read_coco(coco)
    broken = [{"image_id": 7, "caption": "No id"}, {"id": 50, "image_id": 7, "caption": 3}, {"id": 51}, "text"]
    write(coco, "captions", [*CAPTIONS, *broken], images=[{"id": 90}, *IMAGES])
    with pytest.warns(UserWarning, match="left out") as warned:
        assert read_coco(coco) == known
    for part in ("2 x entries without an id", "2 x broken entries ({'id': 51}", "2 x captions without a word"):
        assert part in str(warned[0].message)


@pytest.mark.parametrize("number", [[7], None, 7.5, True, {"id": 7}])
def test_ids_of_other_types_are_broken_entries(coco, number):
    known = read_coco(coco)
    annotations = [{"id": 50, "image_id": number, "caption": "A bird"}, {"id": number, "image_id": 7, "caption": "No"}]
    write(coco, "captions", [*CAPTIONS, *annotations], images=[*IMAGES, {"id": number, "file_name": "dog.jpg"}])
    with pytest.warns(UserWarning, match="3 x broken entries"):
        assert read_coco(coco) == known


def test_a_broken_file_beside_others_is_left_out(coco):
    known = read_coco(coco)
    (coco / "annotations" / "captions_train2017.json").write_text("{")
    with pytest.warns(UserWarning, match=r"1 x broken files \(.*captions_train2017\.json"):
        assert read_coco(coco) == known


def test_an_object_of_no_category_is_refused(coco):
    write(coco, "instances", INSTANCES, categories=CATEGORIES[:1])
    with pytest.raises(DataError, match="not in the COCO layout"):
        read_instances(coco)


def test_absent_photographs_are_counted_and_the_first_is_named(coco):
    (coco / "images" / "cat.jpg").unlink()
    with pytest.warns(UserWarning, match=r"1 x absent photographs \(cat\.jpg\)"):
        assert [record.path.name for record in read_coco(coco)] == ["dog.jpg"]
