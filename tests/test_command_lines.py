"""The three command lines, called as a person would, in this process."""

import json

import pytest

import evaluate
import train
from captioner import __main__ as caption
from captioner import deployment, load, onnx_export, publishing
from captioner.explanation import ExplainedCaption
from tests.tiny_data import make_data, make_encoder_weights


@pytest.fixture
def files(photograph, tmp_path):
    photograph.save(tmp_path / "one.png")
    photograph.rotate(90, expand=True).save(tmp_path / "two.jpg")
    (tmp_path / "bad.jpg").write_text("no photograph")
    return tmp_path


def test_captions_go_to_the_screen(files, model_folder, capsys):
    assert caption.main([str(files / "one.png"), "--model", str(model_folder), "--beam", "2"]) == 0
    expected = load(model_folder, device="cpu").explain(files / "one.png", beam_size=2).text
    assert capsys.readouterr().out == expected + "\n"


def test_a_bad_photograph_is_named_and_the_rest_goes_on(files, model_folder, capsys):
    names = [str(files / name) for name in ("one.png", "bad.jpg", "two.jpg")]
    assert caption.main([*names, "--model", str(model_folder)]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [names[0], names[2]]
    assert err.startswith(names[1])


def test_json_and_figures_are_written(files, model_folder):
    names = [str(files / name) for name in ("one.png", "two.jpg")]
    outputs = ["--json", str(files / "out.json"), "--figure", str(files / "out.png")]
    assert caption.main([*names, "--model", str(model_folder), "--prefix", "two", *outputs]) == 0
    entries = json.loads((files / "out.json").read_text())
    assert [entry.pop("photograph") for entry in entries] == names
    assert ExplainedCaption.from_json(json.dumps(entries[0])).text.startswith("two")
    assert (files / "out-1.png").stat().st_size > 1000
    assert (files / "out-2.png").stat().st_size > 1000


def test_a_missing_model_ends_with_a_message(files, tmp_path, capsys):
    assert caption.main([str(files / "one.png"), "--model", str(tmp_path)]) == 2
    assert "config.json" in capsys.readouterr().err


def test_a_model_is_trained_and_evaluated_from_the_command_line(tmp_path, capsys):
    data, weights = make_data(tmp_path / "tiny"), make_encoder_weights(tmp_path / "resnet18.safetensors")
    command = f"--data {data} --encoder-weights {weights} --output {tmp_path / 'run'} --cache {tmp_path / 'cache'}"
    small = "--encoder-name resnet18 --image-size 64 --width 16 --layers 2 --least-count 1 --captions 2 --no-flip"
    assert train.main([*command.split(), *small.split(), "--epochs", "1", "--reinforced-epochs", "1"]) == 0
    trained = load(tmp_path / "run", device="cpu")
    assert trained.about["training"]["flip"] is False

    report = tmp_path / "results" / "val.json"
    assert evaluate.main(f"--data {data} --model {tmp_path / 'run'} --json {report}".split()) == 0
    scores = json.loads(report.read_text())
    assert scores["split"] == "val"
    assert scores["photographs"] == 4
    assert {"vocabulary", "length", "novel"} <= set(scores["captions"])
    rounded = {name: round(score, 2) for name, score in scores["captions"].items()}
    # The model is stored in float16 and was scored as stored: training and evaluation agree.
    assert {"split": "val", "beam": 3, "CIDEr": rounded["CIDEr"]}.items() <= trained.about["scores"].items()
    assert trained.about["scores"].items() <= ({"split": "val", "beam": 3} | rounded).items()

    everything = "--metrics captions,grounding,faithfulness,hallucination --tested 1 --limit 2"
    assert evaluate.main(f"--data {data} --model {tmp_path / 'run'} {everything} --json {report}".split()) == 0
    scores = json.loads(report.read_text())
    assert scores["photographs"] == 2
    assert {"captions", "grounding", "faithfulness", "hallucination", "seconds"} <= set(scores)


def test_coco_files_are_measured_by_their_instances(tmp_path, photograph, model_folder):
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    photograph.save(tmp_path / "images" / "1.png")
    images = [{"id": 1, "file_name": "1.png", "width": photograph.width, "height": photograph.height}]
    captions = {"images": images, "annotations": [{"id": 1, "image_id": 1, "caption": "A dog on the grass."}]}
    box = {"id": 1, "image_id": 1, "category_id": 18, "bbox": [80, 20, 40, 40], "iscrowd": 0}
    instances = {"images": images, "annotations": [box], "categories": [{"id": 18, "name": "dog"}]}
    (tmp_path / "annotations" / "captions_tiny.json").write_text(json.dumps(captions))
    report = tmp_path / "report.json"
    command = f"--data {tmp_path} --split tiny --model {model_folder} --json {report} --tested 0 --metrics".split()
    assert evaluate.main([*command, "captions,hallucination"]) == 0
    assert json.loads(report.read_text())["hallucination"]["truth"] == "captions"
    (tmp_path / "annotations" / "instances_tiny.json").write_text(json.dumps(instances))
    assert evaluate.main([*command, "grounding,hallucination"]) == 0
    scores = json.loads(report.read_text())
    assert scores["grounding"]["phrases"] == 1
    assert scores["hallucination"]["truth"] == "instances and captions"


def test_saved_predictions_score_as_the_model_did(tmp_path, model_folder):
    data, report, said = make_data(tmp_path / "tiny"), tmp_path / "report.json", tmp_path / "said.json"
    command = f"--data {data} --metrics captions,hallucination --json {report}".split()
    assert evaluate.main([*command, "--model", str(model_folder), "--save-predictions", str(said)]) == 0
    of_model = json.loads(report.read_text())
    assert evaluate.main([*command, "--model", "/no/such/folder", "--predictions", str(said)]) == 0
    of_file = json.loads(report.read_text())
    assert of_file["model"] == "said.json"
    assert all(of_file[name] == of_model[name] for name in ("captions", "hallucination", "split", "photographs"))


def test_a_missing_java_is_told_before_captioning(tmp_path, model_folder, capsys, monkeypatch):
    data, said = make_data(tmp_path / "tiny"), tmp_path / "said.json"
    monkeypatch.setenv("PATH", "")
    command = f"--data {data} --model {model_folder} --save-predictions {said} --metrics spice"
    assert evaluate.main(command.split()) == 2
    assert "SPICE needs Java" in capsys.readouterr().err
    assert not said.exists()


def test_the_jars_of_spice_are_set_up_without_data(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert evaluate.main(["--setup-spice", str(tmp_path)]) == 2
    assert "stanford-corenlp-3.6.0.jar" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main([])
    assert "--data is required" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "--split test",
        "--metrics bleu",
        "--metrics grounding",
        "--beam 0",
        "--model /no/such/folder",
        "--predictions /no/file",
    ],
)
def test_evaluation_says_what_is_wrong(arguments, tmp_path, model_folder, capsys):
    data = make_data(tmp_path / "tiny")
    (data / "entities.json").unlink()
    assert evaluate.main(["--data", str(data), "--model", str(model_folder), *arguments.split()]) == 2
    assert capsys.readouterr().err.startswith("evaluate.py: ")


@pytest.mark.parametrize("flag", ["--json", "--save-predictions"])
def test_a_file_that_cannot_be_written_is_told_before_the_work(flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "_report", None)
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--data", str(tmp_path), flag, str(tmp_path)])
    assert ended.value.code == 2
    assert f"argument {flag}: {tmp_path} cannot be written" in capsys.readouterr().err


def test_fewer_photographs_than_one_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        evaluate.main(["--data", str(tmp_path), "--limit", "0"])
    assert ended.value.code == 2
    assert "--limit must be at least 1." in capsys.readouterr().err


def test_metrics_may_have_spaces_between_them(tmp_path, model_folder, capsys):
    data = make_data(tmp_path / "tiny")
    command = ["--data", str(data), "--model", str(model_folder), "--limit", "1"]
    assert evaluate.main([*command, "--metrics", "captions, hallucination"]) == 0
    assert {"captions", "hallucination"} <= json.loads(capsys.readouterr().out).keys()


def test_training_says_what_is_wrong(tmp_path, capsys):
    assert train.main(f"--data {tmp_path} --encoder-weights x --output {tmp_path / 'run'}".split()) == 2
    assert "Karpathy" in capsys.readouterr().err


@pytest.mark.parametrize("command", caption.COMMANDS)
def test_a_command_has_its_own_help(command, capsys):
    with pytest.raises(SystemExit):
        caption.main([command, "--help"])
    assert f"python -m captioner {command}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        caption.main(["--help"])
    assert command in capsys.readouterr().out


def test_every_flag_has_help():
    for parser in (module._parser() for module in (train, evaluate, caption, publishing, deployment, onnx_export)):
        assert all(action.help for action in parser._actions)
