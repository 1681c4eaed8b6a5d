import argparse
import json

import pytest

from captioner.json_files import output_file, write_json


def test_what_is_written_reads_back_and_its_folder_is_made(tmp_path):
    file = tmp_path / "new" / "folder" / "values.json"
    write_json(file, {"a": [1, 2.5, None], "b": "text"})
    assert json.loads(file.read_text()) == {"a": [1, 2.5, None], "b": "text"}
    assert file.read_text().endswith("}\n")
    write_json(file, [])
    assert json.loads(file.read_text()) == []


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path):
    new, there = tmp_path / "new" / "folder" / "values.json", tmp_path / "there.json"
    there.write_text("[1]")
    assert (output_file(str(new)), output_file(str(there))) == (new, there)
    assert new.parent.is_dir()
    assert not new.exists()
    assert there.read_text() == "[1]"


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file" / "values.json"):
        with pytest.raises(argparse.ArgumentTypeError, match=rf"{name} cannot be written \(.*\)\. Name another file\."):
            output_file(str(name))
