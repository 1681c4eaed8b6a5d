from pathlib import Path

import pytest

from captioner.data import DataError
from captioner.tables import read_tables


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "more").mkdir(parents=True)
    for name in ("dog.jpg", "more/cat.jpg"):
        (tmp_path / "images" / name).touch()
    return tmp_path


def test_lines_of_one_file_are_captions_of_one_photograph(folder):
    (folder / "train.tsv").write_text('A dog.\tdog.jpg\r\nUne chatte\tmore/cat.jpg\nTwo "dogs\tdog.jpg\n')
    dog, cat = read_tables(folder)
    assert (dog.path, dog.split) == (folder / "images" / "dog.jpg", "train")
    assert dog.raw == ("A dog.", 'Two "dogs')
    assert dog.tokens == (("a", "dog"), ("two", "dogs"))
    assert cat.path == folder / "images" / "more" / "cat.jpg"


def test_every_table_is_a_split(folder):
    (folder / "train.tsv").write_text("A dog\tdog.jpg\n")
    (folder / "val.tsv").write_text("A cat\tmore/cat.jpg\n")
    assert [(record.path.name, record.split) for record in read_tables(folder)] == [
        ("dog.jpg", "train"),
        ("cat.jpg", "val"),
    ]


def test_broken_lines_and_addresses_are_counted_and_named(folder):
    lines = [b"A dog\tdog.jpg", b"no tab", b"three\tdog.jpg\tcolumns", b"\xff\xfe\tdog.jpg", b"no file\t"]
    (folder / "train.tsv").write_bytes(b"\n".join([*lines, b"elsewhere\thttps://a.example/cat.jpg", b"gone\tno.jpg"]))
    with pytest.warns(UserWarning, match="left out") as warned:
        (dog,) = read_tables(folder)
    assert dog.raw == ("A dog",)
    told = str(warned[0].message)
    assert "4 x broken lines (train.tsv:2, train.tsv:3, train.tsv:4, ...)" in told
    assert "1 x web addresses, which are never fetched (train.tsv:6)" in told
    assert "1 x absent photographs (no.jpg)" in told


def test_addresses_alone_are_refused_saying_what_is_expected(folder):
    (folder / "train.tsv").write_text("A dog\thttp://a.example/dog.jpg\n")
    with pytest.raises(DataError, match=r"Expected: tables .*images/.*never fetched \(train\.tsv:1\)"):
        read_tables(folder)
