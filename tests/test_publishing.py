"""Models pushed by the true client to the stand-in of the Hub, from a process of its own."""

import shutil
from collections import ChainMap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import train
from captioner import Captioner, publishing
from captioner import __main__ as caption
from captioner.publishing import PublishingError, push, require_login
from tests.hub_server import FAULTS, run_alone

PUSHING = """
import contextlib, io, json, os, pathlib, shutil
from tests.hub_server import TOKEN, HubServer

home = pathlib.Path(os.environ["HF_HOME"])
server = HubServer()
os.environ["HF_ENDPOINT"] = server.endpoint
data, model = pathlib.Path(os.environ["TINY_DATA"]), pathlib.Path(os.environ["TINY_MODEL"])

import captioner, train
from huggingface_hub import HfApi
from captioner import Captioner, model_card
from captioner.__main__ import main
from tests.tiny_data import make_encoder_weights

# One example is enough, and each takes its time.
examples = home / "examples"
examples.mkdir()
for name in ("cat.jpg", "LICENSES.md"):
    shutil.copy(model_card.EXAMPLES / name, examples)
model_card.EXAMPLES = examples

seen = {}
photograph = next((data / "images").iterdir())

def explained(model):
    told = json.loads(model.explain(photograph).to_json())
    return {key: value for key, value in told.items() if key != "model"}

def said(run, *arguments):
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()) as stdout:
        status = run(list(arguments))
    return {"status": status, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}

weights = make_encoder_weights(home / "resnet18.safetensors")
training = f"--data {data} --encoder-weights {weights} --output {home / 'run'} --cache {home / 'cache'} --epochs 1"
training += " --encoder-name resnet18 --image-size 64 --width 16 --layers 2 --least-count 1 --captions 2 --no-flip"
training += " --reinforced-epochs 0 --push-to-hub user/trained"

with server:
    seen["training, not logged in"] = said(train.main, *training.split())
    seen["trained, not logged in"] = (home / "run" / "model.safetensors").exists()
    os.environ["HF_TOKEN"] = TOKEN
    seen["training"] = said(train.main, *training.split())
    seen["trained"] = explained(captioner.load(home / "run", device="cpu"))
    seen["loaded"] = explained(captioner.load("user/trained", device="cpu"))
    seen["from_pretrained"] = explained(Captioner.from_pretrained("user/trained"))
    files = server.repositories["user/trained"].files
    seen["files"] = {name: len(content) for name, content in files.items()}
    seen["same weights"] = files["model.safetensors"] == (home / "run" / "model.safetensors").read_bytes()
    seen["card"] = files["README.md"].decode()
    seen["push"] = said(main, "push", str(model), "user/model", "--private")
    seen["private"] = server.repositories["user/model"].private
    before = server.requests[:]
    seen["push again"] = said(main, "push", str(model), "user/model")
    seen["uploaded again"] = [request for request in server.requests[len(before):] if request.startswith("PUT")]
    seen["somewhere else"] = said(main, "push", str(model), "somebody/model")
    ours = Captioner.from_pretrained(model)
    ours.push_to_hub("branched", commit_message="A first try", private=True)
    seen["by its method"] = sorted(server.repositories["user/branched"].files)
    seen["its card"] = server.repositories["user/branched"].files["README.md"].decode()
    HfApi().create_branch("user/branched", branch="next")
    ours.about = {"data": "Something else"}
    ours.push_to_hub("user/branched", branch="next")
    branched = server.repositories["user/branched"]
    seen["main"], seen["next"] = (json.loads(branched.commits[branched.refs[branch]]["config.json"])["about"]
                                  for branch in ("main", "next"))
    server.fault = "fails"
    seen["failing"] = said(main, "push", str(model), "user/model")
print(json.dumps(seen))
"""

FAILURES = """
import json, os, pathlib, time
from tests.hub_server import FAULTS, TOKEN, HubServer

home = pathlib.Path(os.environ["HF_HOME"])
server = HubServer()
os.environ |= {"HF_ENDPOINT": server.endpoint, "HF_TOKEN": TOKEN}

from captioner import Captioner, model_card, publishing
from captioner.deployment import deploy
from tests.test_deployment import make_program
from tests.tiny import save_tiny_model

(home / "none").mkdir(parents=True)
(home / "none" / "LICENSES.md").touch()
model_card.EXAMPLES = home / "none"
folder = save_tiny_model(home / "model")
model = Captioner.from_pretrained(folder)
publishing.load = lambda *_, **__: model
root = make_program(home / "program")
server.publish("user/model", folder)
acts = {
    "push": lambda name: publishing.push(folder, f"user/model{name}"),
    "deploy": lambda name: deploy(f"user/app{name}", model="user/model", root=root),
}
asked = os.environ["ACT"]
seen = {}

def tried(case, act):
    started = time.monotonic()
    try:
        act()
    except publishing.PublishingError as error:
        seen[case] = {"error": str(error)}
    except Exception as error:
        seen[case] = {"error": None, "unexpected": repr(error)}
    else:
        seen[case] = {"error": None}
    seen[case]["seconds"] = time.monotonic() - started

with server:
    for number, server.fault in enumerate(FAULTS):
        tried(f"{asked}, {server.fault}", lambda: acts[asked](f"-{number}"))
        server.large.clear()
    server.fault = None
    signed_in = publishing.require_login
    for name, known in (("falls silent", "is silent"), ("begins to fail", "fails")):
        def require_login(repo):
            server.fault = None
            signed_in(repo)
            server.fault = known
        if asked == "push":
            publishing.require_login = require_login
            tried(f"push, {name}", lambda: acts["push"](""))
publishing.require_login = signed_in
tried(f"{asked}, refuses connections", lambda: acts[asked](""))
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict:
    # Most of it is waiting: what is pushed and what is deployed wait side by side.
    with ThreadPoolExecutor() as together:
        found = together.map(
            lambda act: run_alone(FAILURES, tmp_path_factory.mktemp("hub") / "home", ACT=act), ("push", "deploy")
        )
        return dict(ChainMap(*found))


LIMIT = 15  # seconds
# What does not keep anybody from uploading: gated are downloads.
HARMLESS = {"is slow", "is gated"}
FAILING = [*sorted(FAULTS.keys() - HARMLESS), "refuses connections"]


@pytest.mark.parametrize(
    "case",
    [
        *(f"{act}, {fault}" for fault in FAILING for act in ("push", "deploy")),
        "push, falls silent",
        "push, begins to fail",
    ],
)
def test_a_hub_that_fails_is_given_up_and_said_in_a_sentence(failures: dict, case: str):
    assert failures[case]["error"].endswith(".")
    assert "\n" not in failures[case]["error"]


@pytest.mark.parametrize("act", ["push", "deploy"])
@pytest.mark.parametrize("fault", sorted(HARMLESS))
def test_what_does_not_concern_uploads_does_not_stop_them(failures: dict, act: str, fault: str):
    assert failures[f"{act}, {fault}"].keys() == {"error", "seconds"}
    assert failures[f"{act}, {fault}"]["error"] is None


def test_no_fault_of_the_hub_takes_longer_than_a_person_waits(failures: dict):
    waited = {case: found["seconds"] for case, found in failures.items() if isinstance(found, dict)}
    assert {case: seconds for case, seconds in waited.items() if seconds >= LIMIT and "is slow" not in case} == {}


@pytest.fixture(scope="module")
def pushed(data: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    tiny = {"TINY_DATA": str(data), "TINY_MODEL": str(model_folder)}
    return run_alone(PUSHING, tmp_path_factory.mktemp("hub"), **tiny)


def test_a_model_trained_and_pushed_explains_as_before_wherever_it_is_loaded(pushed: dict):
    assert pushed["training"]["status"] == 0
    assert pushed["training"]["stdout"].rstrip().rpartition("\n")[2].split("/commit/")[0].endswith("/user/trained")
    assert pushed["trained"]["words"]
    assert pushed["loaded"] == pushed["from_pretrained"] == pushed["trained"]


def test_weights_settings_and_card_are_what_is_pushed(pushed: dict):
    pictures = {name for name in pushed["files"] if name.startswith("examples/")}
    written = {"README.md", "LICENSE.md", "config.json", "model.safetensors"}
    assert pushed["files"].keys() - pictures - {".gitattributes"} == written
    assert pictures
    assert pushed["same weights"]
    assert 'captioner.load("user/trained")' in pushed["card"]
    assert all(f"]({picture})" in pushed["card"] for picture in pictures)
    assert pushed["by its method"] == sorted(pushed["files"])


def test_the_card_has_the_name_that_the_hub_gave(pushed: dict):
    assert 'captioner.load("user/branched")' in pushed["its card"]


def test_a_push_to_a_branch_leaves_the_others_as_they_are(pushed: dict):
    assert pushed["next"] == {"data": "Something else"} != pushed["main"]


def test_who_is_not_logged_in_learns_it_before_training(pushed: dict):
    assert pushed["training, not logged in"]["status"] == 2
    assert "hf auth login" in pushed["training, not logged in"]["stderr"]
    assert not pushed["trained, not logged in"]


def test_a_folder_is_pushed_from_the_command_line(pushed: dict):
    assert pushed["push"]["status"] == 0
    assert "/user/model/commit/" in pushed["push"]["stdout"]
    assert pushed["private"]


def test_weights_that_are_there_are_not_uploaded_again(pushed: dict):
    assert pushed["push again"]["status"] == 0
    assert pushed["uploaded again"] == []


@pytest.mark.parametrize(("case", "reason"), [("somewhere else", "don't have the rights"), ("failing", "status 500")])
def test_what_the_hub_refuses_is_said(pushed: dict, case: str, reason: str):
    assert pushed[case]["status"] == 2
    assert reason in pushed[case]["stderr"]


def test_a_push_that_fails_says_where_the_model_is(pushed: dict, model_folder: Path):
    assert f"python -m captioner push {model_folder} somebody/model" in pushed["somewhere else"]["stderr"]


@pytest.mark.parametrize("name", ["model", "user/model/more", "user/mo del", ""])
def test_what_is_no_hub_id_is_refused(name: str):
    with pytest.raises(PublishingError, match="no Hub id"):
        require_login(name)


@pytest.mark.usefixtures("logged_in")
def test_a_folder_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert caption.main(["push", str(tmp_path), "user/model"]) == 2
    assert "config.json" in capsys.readouterr().err
    with pytest.raises(PublishingError, match="no folder"):
        push(tmp_path / "nothing", "user/model")


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "require_login", lambda repo: None)


@pytest.mark.usefixtures("logged_in")
def test_results_beside_the_model_are_taken_for_its_card(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked = []

    def push_to_hub(self: Captioner, repo: str, *, model_card_kwargs: dict, **_) -> None:
        asked.append(model_card_kwargs["results"])

    monkeypatch.setattr(Captioner, "push_to_hub", push_to_hub)
    model, elsewhere = Path(shutil.copytree(model_folder, tmp_path / "model")), tmp_path / "elsewhere"
    push(model, "user/model")
    (model / "results").mkdir()
    push(model, "user/model")
    push(model, "user/model", results=elsewhere)
    assert asked == [None, model / "results", elsewhere]


def test_training_names_what_is_no_hub_id(tmp_path: Path, capsys: pytest.CaptureFixture):
    command = f"--data {tmp_path} --encoder-weights x --output {tmp_path / 'run'} --push-to-hub model"
    assert train.main(command.split()) == 2
    assert "no Hub id" in capsys.readouterr().err
