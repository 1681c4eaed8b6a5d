import json

from captioner.json_files import write_json


def test_what_is_written_reads_back_and_its_folder_is_made(tmp_path):
    file = tmp_path / "new" / "folder" / "values.json"
    write_json(file, {"a": [1, 2.5, None], "b": "text"})
    assert json.loads(file.read_text()) == {"a": [1, 2.5, None], "b": "text"}
    assert file.read_text().endswith("}\n")
    write_json(file, [])
    assert json.loads(file.read_text()) == []
