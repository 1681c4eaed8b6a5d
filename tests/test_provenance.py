"""What a file of results says of its run; and that the commands say it."""

import hashlib
import json
import subprocess

import pytest

import evaluate
from captioner import calibration, java_metrics, provenance, throughput
from captioner.provenance import config_hash
from captioner.provenance import provenance as provenance_of
from captioner.readme import RESULTS
from tests.tiny_data import make_data


def in_git(folder, *arguments):
    person = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", *person, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_the_command_can_be_pasted():
    found = provenance_of(["-m", "captioner.ablation", "--rows", "whole model"], {})
    assert found["command"] == "python -m captioner.ablation --rows 'whole model'"
    assert set(found["versions"]) == {"python", "torch", "torchvision", "numpy"}


def test_equal_settings_have_one_hash_and_others_another(model_folder):
    settings = {"seeds": (0, 1), "rate": 0.5}
    hashes = [config_hash(own) for own in (settings, {"rate": 0.5, "seeds": [0, 1]}, settings | {"rate": 0.25})]
    assert hashes[0] == hashes[1] != hashes[2]
    assert provenance_of(["evaluate.py"], settings)["config"] == hashes[0]
    of_model = provenance_of(["evaluate.py"], settings, model_folder)  # its own settings decide as well
    assert of_model["config"] == config_hash(settings | {"model": of_model["model"]["config.json"]})


def test_the_versions_of_java_stand_where_it_was_used(monkeypatch):
    monkeypatch.setattr(java_metrics, "versions", lambda: {"java": "21", "pycocoevalcap": "1.2"})
    assert "java" not in provenance_of(["evaluate.py"], {}, metrics=["captions"])["versions"]
    used = provenance_of(["evaluate.py"], {}, metrics=["captions", "meteor"])["versions"]
    assert (used["java"], used["pycocoevalcap"]) == ("21", "1.2")


def test_the_model_is_known_by_its_files(model_folder):
    files = provenance_of(["evaluate.py"], {}, model_folder)["model"]
    assert files == {
        name: hashlib.sha256((model_folder / name).read_bytes()).hexdigest()
        for name in ("config.json", "model.safetensors")
    }
    assert "model" not in provenance_of(["evaluate.py"], {})


def test_the_commit_is_that_of_the_checkout_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert "commit" not in provenance_of(["evaluate.py"], {})
    in_git(tmp_path, "init")
    assert "commit" not in provenance_of(["evaluate.py"], {})  # nothing was committed
    (tmp_path / "program.py").write_text("1")
    in_git(tmp_path, "add", "program.py")
    in_git(tmp_path, "commit", "--message", "first")
    commit = in_git(tmp_path, "rev-parse", "HEAD").strip()
    assert provenance_of(["evaluate.py"], {})["commit"] == commit
    (tmp_path / "program.py").write_text("2, and longer")
    assert provenance_of(["evaluate.py"], {})["commit"] == f"{commit}-dirty"
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.setattr(provenance, "ROOT", folder)
    assert "commit" not in provenance_of(["evaluate.py"], {})  # the checkout around it is of another program


def test_results_say_how_they_were_made(tmp_path, model_folder, monkeypatch):
    data, report = make_data(tmp_path / "data"), tmp_path / "report.json"

    def run_of(main, command):
        assert main([*command.split(), "--json", str(report)]) == 0
        results = json.loads(report.read_text())
        assert {"seed", "seconds"} <= set(results)
        return results["run"], results

    run, results = run_of(evaluate.main, f"--data {data} --model {model_folder} --limit 1 --beam 2")
    settings = {
        key: results[key] for key in ("data", "split", "limit", "metrics", "seed", "beam", "generation", "tested")
    }
    assert run == provenance_of(["evaluate.py", *run["command"].split()[2:]], settings, model_folder)
    assert results["beam"] == 2
    monkeypatch.setattr(throughput, "measure", lambda *_, **__: [])
    run, results = run_of(throughput.main, "--device cpu")
    assert "model" not in run
    assert run["config"] == config_hash(results["settings"])
    monkeypatch.setattr(calibration, "calibrate", lambda saved, *_: (saved, {}))
    run, results = run_of(calibration.main, f"{model_folder} --data {data} --limit 1")
    assert run["command"].startswith("python -m captioner.calibration ")
    assert run == provenance_of(run["command"].split()[1:], results["settings"], model_folder)


# What is not in files that were made before there was such a field.
OLDER = {
    "val-first-run.json": {"config", "beam"},
    "val-before-self-critical.json": {"config", "beam"},
    "ablation.json": {"command", "commit", "config", "versions", "seed", "seconds", "training_seconds"},
    "ablation-grid.json": {"config", "seed", "training_seconds"},
}
# What has no sense for a file: a calibration reads captions and searches none, speed is measured on random data.
WITHOUT = {"calibration.json": {"beam"}, "throughput.json": {"split"}}


# Captions alone are in the COCO results format, which has no place for it.
REPORTS = [file for file in sorted(RESULTS.glob("*.json")) if not file.stem.endswith("-captions")]


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.name)
def test_every_file_of_results_says_how_it_was_made(file):
    results = json.loads(file.read_text())
    found = results.keys() | results.get("run", {}).keys() | ({"seed"} if "seeds" in results else set())
    wanted = {"command", "commit", "config", "versions", "split", "beam", "seed", "seconds"}
    wanted |= {"training_seconds"} if file.name.startswith(("ablation", "comparison")) else set()
    assert wanted - found == OLDER.get(file.name, set()) | WITHOUT.get(file.name, set())
