"""Models from the Hub, asked by the true client in a process of its own: it reads its settings when it is imported."""

import pytest

from tests.hub_server import FAULTS, run_alone

SET_UP = """
import json, os, pathlib, shutil
from tests.hub_server import FAULTS, TOKEN, HubServer

home = pathlib.Path(os.environ["HF_HOME"])
server = HubServer()
os.environ["HF_ENDPOINT"] = server.endpoint

import captioner
from captioner import fetching, hub
from tests.tiny import save_tiny_model

hub.BUNDLED = save_tiny_model(home / "bundled")
first = server.publish("user/model", save_tiny_model(home / "first", seed=1))
seen = {}

def load(case, model="user/model"):
    asked = len(server.requests)
    try:
        loaded = captioner.load(model, device="cpu")
    except captioner.ModelError as error:
        seen[case] = {"error": str(error)}
    else:
        words = loaded.model.decoder.embedding.weight.sum().item()
        seen[case] = {"name": loaded.name, "notice": loaded.notice, "words": words}
    seen[case]["asked"] = server.requests[asked:]

load("bundled", None)
load("first", home / "first")
"""

VISIT = """
second = server.publish("user/model", save_tiny_model(home / "second", seed=2))
load("second", home / "second")
server.publish("user/private", home / "first", private=True)
server.publish("user/pickle", pathlib.Path("captioner/recipes"))

def large():
    blobs = home.glob("hub/models--user--model/blobs/*")
    (path,) = (path for path in blobs if not path.suffix and path.stat().st_size > 1e6)
    return path

with server:
    load("pinned", f"user/model@{first}")
    load("latest")
    load("again")
    for case in ("user/other", "user/private", "user/model@v9", "user/pickle"):
        load(case, case)
    os.environ["HF_TOKEN"] = TOKEN
    load("private, its owner", "user/private")
    os.environ["HF_TOKEN"] = "hf_of_someone_else"
    load("private, someone else", "user/private")
    os.environ["HF_TOKEN"] = ""
    shutil.rmtree(home / "hub")
    for server.fault in ("is gated", "refuses the token"):
        load(server.fault)
    server.fault = None
    load("latest without pinned")
    content = large().read_bytes()
    large().write_bytes(content[:-1000])
    load("cut short")
    large().write_bytes(content[:-1000] + bytes(1000))
    load("damaged")
    server.fault = "fails"
    load("failing")
    server.publish("user/model", save_tiny_model(home / "third", seed=3))
    server.fault, fetching.PATIENCE = "stalls", 1
    load("a newer one stalls")
    load("another, at once", "user/private")
    fetching.REMEMBERED = 0
load("away")
load("away, pinned", f"user/model@{second}")
load("away, never fetched", f"user/model@{first}")
fetching.constants.HF_HUB_OFFLINE = True
load("not asked")
load("not asked, pinned", f"user/model@{second}")
large().write_bytes(content[:-1000] + bytes(1000))
load("away, damaged")
print(json.dumps(seen))
"""

FAILURES = """
import json, os, pathlib, time
from concurrent.futures import ThreadPoolExecutor
from tests.hub_server import FAULTS, HubServer

home = pathlib.Path(os.environ["HF_HOME"])
server = HubServer()
os.environ["HF_ENDPOINT"] = server.endpoint

from captioner import Captioner, ModelError, fetching, hub
from tests.tiny import save_tiny_model

hub.BUNDLED = save_tiny_model(home / "bundled")
fetching.REMEMBERED = 0
names = {fault: f"user/{fault.replace(' ', '-')}" for fault in FAULTS}
seen = {}

def find(fault, name):
    started = time.monotonic()
    try:
        found = hub.find_model(name)
    except ModelError as error:
        seen[fault] = {"error": str(error)}
    else:
        seen[fault] = {"name": found.name, "notice": found.notice, "bundled": found.folder == hub.BUNDLED}
    seen[fault]["seconds"] = time.monotonic() - started

def from_pretrained(fault, name):
    started = time.monotonic()
    try:
        Captioner.from_pretrained(name, cache_dir=home / "other")
    except ModelError as error:
        seen[f"from_pretrained, {fault}"] = {"error": str(error), "seconds": time.monotonic() - started}

server.publish("user/model", hub.BUNDLED)
for fault, name in names.items():
    server.publish(name, hub.BUNDLED)
    server.faults[name] = fault
with server, ThreadPoolExecutor(2 * len(names)) as pool:
    for fault, name in names.items():
        pool.submit(find, fault, name)
        pool.submit(from_pretrained, fault, name)
find("refuses connections", "user/model")
from_pretrained("refuses connections", "user/model")
fetching.constants.HF_HUB_OFFLINE = True
find("is not asked", "user/model")
from_pretrained("is not asked", "user/model")
print(json.dumps(seen))
"""
LIMIT = 15  # seconds
HARMLESS = {"is slow"}  # with the true limits


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_alone(SET_UP + VISIT, tmp_path_factory.mktemp("hub"))


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_alone(FAILURES, tmp_path_factory.mktemp("hub"))


def large_files(asked: list[str]) -> list[str]:
    return [request for request in asked if request.startswith("GET /large/")]


def test_the_latest_model_is_fetched(visit: dict):
    assert visit["latest"]["words"] == visit["second"]["words"] != visit["first"]["words"]
    assert visit["latest"]["name"] == "user/model"
    assert visit["latest"]["notice"] is None


def test_a_pinned_revision_is_fetched(visit: dict):
    assert visit["pinned"]["words"] == visit["first"]["words"]
    assert visit["pinned"]["name"].startswith("user/model@")


def test_a_model_is_fetched_once(visit: dict):
    assert visit["again"]["words"] == visit["second"]["words"]
    assert large_files(visit["latest"]["asked"])
    assert not [request for request in visit["again"]["asked"] if request.startswith("GET") and "/api/" not in request]


def test_progress_is_shown(visit: dict):
    assert "user/model: 100%" in visit["stderr"]


@pytest.mark.parametrize("case", ["user/other", "user/private"])
def test_a_model_that_is_not_there_for_this_person_is_an_error(visit: dict, case: str):
    assert f"There is no model {case}" in visit[case]["error"]
    assert "private" in visit[case]["error"]


def test_a_private_model_is_for_its_owner(visit: dict):
    assert visit["private, its owner"]["words"] == visit["first"]["words"]
    assert "private" in visit["private, someone else"]["error"]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("user/model@v9", "user/model has no revision v9"),
        ("user/pickle", "user/pickle holds no model.safetensors"),
        ("is gated", "user/model is gated: ask for access"),
        ("refuses the token", "check the token in HF_TOKEN"),
    ],
)
def test_what_no_other_model_makes_good_is_an_error(visit: dict, case: str, said: str):
    assert said in visit[case]["error"]


@pytest.mark.parametrize("case", ["cut short", "damaged"])
def test_a_broken_file_is_noticed_and_fetched_again(visit: dict, case: str):
    assert visit[case]["words"] == visit["second"]["words"]
    assert visit[case]["notice"] is None
    assert len(large_files(visit[case]["asked"])) == 1
    assert "is damaged and is fetched again" in visit["stderr"]


def test_a_hub_that_kept_one_model_waiting_is_not_asked_for_the_next(visit: dict):
    assert visit["another, at once"]["asked"] == []
    assert "kept another model waiting" in visit["another, at once"]["notice"]


@pytest.mark.parametrize("case", ["away, pinned", "not asked, pinned"])
def test_without_the_hub_a_commit_fetched_earlier_is_what_was_asked_for(visit: dict, case: str):
    assert visit[case]["words"] == visit["second"]["words"]
    assert visit[case]["notice"] is None


def test_a_hub_that_the_person_wants_left_alone_has_not_failed(visit: dict):
    assert visit["not asked"]["words"] == visit["second"]["words"]
    assert "HF_HUB_OFFLINE" in visit["not asked"]["notice"]
    assert "cannot be used" not in visit["not asked"]["notice"]


@pytest.mark.parametrize("case", ["failing", "a newer one stalls", "away"])
def test_without_the_hub_the_copy_fetched_earlier_is_used_and_said(visit: dict, case: str):
    assert visit[case]["words"] == visit["second"]["words"]
    assert visit[case]["name"].startswith("user/model")
    assert visit[case]["notice"].endswith("is the copy fetched earlier.")


@pytest.mark.parametrize("case", ["away, never fetched", "away, damaged"])
def test_without_the_hub_and_a_whole_copy_the_bundled_model_is_used_and_said(visit: dict, case: str):
    assert visit[case]["words"] == visit["bundled"]["words"]
    assert visit[case]["name"] == "bundled model"
    assert visit[case]["notice"].startswith("user/model")


WITHOUT_FALLBACK = {"is gated", "refuses the token"}
FAILING = [*sorted(FAULTS.keys() - WITHOUT_FALLBACK - HARMLESS), "refuses connections", "is not asked"]


@pytest.mark.parametrize("fault", FAILING)
def test_a_hub_that_fails_is_given_up_for_the_bundled_model_and_said(failures: dict, fault: str):
    assert failures[fault]["bundled"]
    assert failures[fault]["name"] == "bundled model"
    assert failures[fault]["notice"].endswith("The bundled model is used.")
    assert "://" not in failures[fault]["notice"]
    assert "\n" not in failures[fault]["notice"]


@pytest.mark.parametrize("fault", [*FAILING, *sorted(WITHOUT_FALLBACK)])
def test_from_pretrained_takes_no_other_model_and_says_why(failures: dict, fault: str):
    said = failures[f"from_pretrained, {fault}"]["error"]
    assert fault.replace(" ", "-") in said or "user/model" in said
    assert "\n" not in said


@pytest.mark.parametrize("fault", [*sorted(FAULTS), "refuses connections", "is not asked"])
def test_no_fault_of_the_hub_takes_longer_than_a_person_waits(failures: dict, fault: str):
    assert failures[fault]["seconds"] < LIMIT
    assert failures.get(f"from_pretrained, {fault}", {"seconds": 0})["seconds"] < LIMIT


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("fails", "status 500"),
        ("is a login page", "something else answers"),
        ("is not found", "status 404"),
        ("is silent", "no answer in 5 seconds"),
        ("stalls", "less than a megabyte came in 7 seconds"),
        ("damages", "arrives damaged"),
        ("is not asked", "HF_HUB_OFFLINE"),
    ],
)
def test_the_notice_says_why(failures: dict, fault: str, reason: str):
    assert reason in failures[fault]["notice"]
