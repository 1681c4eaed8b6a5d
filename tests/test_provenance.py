"""What a file of results says of its run; and that the commands say it."""

import hashlib
import json
import subprocess

import evaluate
from captioner import calibration, provenance, throughput
from captioner.provenance import provenance as provenance_of
from tests.tiny_data import make_data


def in_git(folder, *arguments):
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *person, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_command_can_be_pasted():
    found = provenance_of(["-m", "captioner.ablation", "--rows", "whole model"])
    assert found["command"] == "python -m captioner.ablation --rows 'whole model'"
    assert set(found["versions"]) == {"python", "torch", "torchvision", "numpy"}


def test_the_model_is_known_by_its_files(model_folder):
    files = provenance_of(["evaluate.py"], model_folder)["model"]
    assert files == {
        name: hashlib.sha256((model_folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }
    assert "model" not in provenance_of(["evaluate.py"])


def test_the_commit_is_that_of_the_checkout_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert "commit" not in provenance_of(["evaluate.py"])
    in_git(tmp_path, "init")
    assert "commit" not in provenance_of(["evaluate.py"])  # nothing was committed
    (tmp_path / "program.py").write_text("1")
    in_git(tmp_path, "add", "program.py")
    in_git(tmp_path, "commit", "--message", "first")
    commit = in_git(tmp_path, "rev-parse", "HEAD").strip()
    assert provenance_of(["evaluate.py"])["commit"] == commit
    (tmp_path / "program.py").write_text("2, and longer")
    assert provenance_of(["evaluate.py"])["commit"] == f"{commit}-dirty"
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.setattr(provenance, "ROOT", folder)
    assert "commit" not in provenance_of(["evaluate.py"])  # the checkout around it is of another program


def test_results_say_how_they_were_made(tmp_path, model_folder, monkeypatch):
    data, report = make_data(tmp_path / "data"), tmp_path / "report.json"

    def run_of(main, command):
        assert main([*command.split(), "--json", str(report)]) == 0
        results = json.loads(report.read_text())
        assert {"seed", "seconds"} <= set(results)
        return results["run"]

    run = run_of(evaluate.main, f"--data {data} --model {model_folder} --limit 1")
    assert run == provenance_of(["evaluate.py", *run["command"].split()[2:]], model_folder)
    monkeypatch.setattr(throughput, "measure", lambda *_, **__: [])
    assert "model" not in run_of(throughput.main, "--device cpu")
    monkeypatch.setattr(calibration, "calibrate", lambda saved, *_: (saved, {}))
    run = run_of(calibration.main, f"{model_folder} --data {data} --limit 1")
    assert run["command"].startswith("python -m captioner.calibration ")
    assert run["model"] == provenance_of([], model_folder)["model"]
