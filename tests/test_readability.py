import json

import pytest

import evaluate
import train
from captioner import readability
from captioner.data import DataError, of_split, read_karpathy
from captioner.readability import readable
from tests.tiny_data import make_data, make_encoder_weights


@pytest.fixture
def folder(tmp_path):
    return make_data(tmp_path / "data")


@pytest.fixture
def records(folder):
    return of_split(read_karpathy(folder), "val")


def damage(record, content: bytes | None = None) -> None:
    """Put other bytes in a photograph's place, or leave half of its own."""
    whole = record.path.read_bytes()
    record.path.write_bytes(whole[: len(whole) // 2] if content is None else content)


def test_whole_photographs_stay_without_a_warning(records, recwarn):
    assert readable(records) == records
    assert not recwarn.list


@pytest.mark.parametrize("content", [None, b"", b"no photograph"], ids=["cut off", "empty", "of another kind"])
def test_what_cannot_be_decoded_is_counted_named_and_left_out(records, content):
    damage(records[1], content)
    with pytest.warns(UserWarning, match=rf"left out 1 x unreadable photographs \({records[1].path.name}\)"):
        assert readable(records) == [records[0], *records[2:]]


def test_nothing_left_is_an_error(records):
    damage(records[0])
    with pytest.raises(DataError, match="No photograph can be read"):
        readable(records[:1])


def test_photographs_are_tried_once_where_notes_are_kept(records, tmp_path, monkeypatch):
    damage(records[0], b"no photograph")
    with pytest.warns(UserWarning, match="1 x unreadable"):
        kept = readable(records, tmp_path / "notes")
    tried, open_photograph = [], readability.open_photograph
    monkeypatch.setattr(readability, "open_photograph", lambda path: tried.append(path) or open_photograph(path))
    with pytest.warns(UserWarning, match="1 x unreadable"):
        assert readable(records, tmp_path / "notes") == kept
    assert not tried
    records[0].path.write_bytes(records[1].path.read_bytes())  # mended
    assert readable(records, tmp_path / "notes") == records
    assert len(tried) == len(records)


def test_evaluation_goes_on_without_an_unreadable_photograph(folder, records, model_folder, tmp_path, capsys):
    damage(records[2])
    report, said = tmp_path / "report.json", tmp_path / "said.json"
    command = f"--data {folder} --model {model_folder} --json {report} --save-predictions {said}"
    with pytest.warns(UserWarning, match="1 x unreadable"):
        assert evaluate.main(command.split()) == 0
    assert json.loads(report.read_text())["photographs"] == len(records) - 1
    assert records[2].image_id not in {entry["image_id"] for entry in json.loads(said.read_text())}
    for record in records:
        damage(record, b"")
    assert evaluate.main(command.split()) == 2
    assert "No photograph can be read" in capsys.readouterr().err


def test_training_goes_on_without_unreadable_photographs(folder, records, tmp_path):
    first = of_split(read_karpathy(folder), "train")[0]
    damage(first)
    damage(records[0], b"no photograph")
    weights = make_encoder_weights(tmp_path / "resnet18.safetensors")
    files = f"--data {folder} --encoder-weights {weights} --cache {tmp_path / 'cache'} --output {tmp_path / 'run'}"
    model = "--encoder-name resnet18 --encoder-levels 1 --image-size 64 --width 16 --layers 2 --device cpu"
    steps = "--batch 4 --captions 2 --least-count 1 --epochs 1 --tuned-epochs 0 --reinforced-epochs 0"
    with pytest.warns(UserWarning, match="unreadable") as warned:
        assert train.main(f"{files} {model} {steps}".split()) == 0
    told = " ".join(str(warning.message) for warning in warned)
    assert all(f"1 x unreadable photographs ({record.path.name})" in told for record in (first, records[0]))
