import fnmatch
import re
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, SpaceCardData, metadata_load

from captioner import __main__ as caption
from captioner import deployment
from captioner.deployment import NEEDED, ROOT, listing, needed_files, space_card
from captioner.hub import is_hub_id
from captioner.model_card import LICENCE_FILE, LICENCE_NAME
from captioner.publishing import PublishingError
from tests.hub_server import run_alone

DEPLOYING = """
import json, os, pathlib
from tests.hub_server import TOKEN, HubServer

server = HubServer()
os.environ["HF_ENDPOINT"] = server.endpoint

from captioner.deployment import deploy, needed_files
from captioner.publishing import PublishingError

root = pathlib.Path(os.environ["TINY_ROOT"])
seen = {}

def state():
    space = server.repositories["spaces/user/app"]
    readme = space.files["README.md"].decode()
    return {"files": sorted(space.files), "variables": dict(space.variables), "readme": readme}

def error(*arguments, **options):
    try:
        deploy(*arguments, **options, root=root)
    except PublishingError as error:
        return str(error)

with server:
    seen["not logged in"] = error("user/app")
    os.environ["HF_TOKEN"] = TOKEN
    seen["no such model"] = error("user/app", model="user/model")
    server.publish("user/model", root / "tests")
    seen["no captioner"] = error("user/app", model="user/model")
    server.publish("user/model", root / "assets" / "model")
    seen["no such revision"] = error("user/app", model="user/model@v9")
    seen["nothing yet"] = [name for name in server.repositories if name.startswith("spaces/")]
    seen["address"] = deploy("user/app", model="user/model", private=True, root=root)
    seen["private"] = server.repositories["spaces/user/app"].private
    seen["first"] = state()
    seen["same"] = all(
        server.repositories["spaces/user/app"].files[name] == path.read_bytes()
        for name, path in needed_files(root).items()
    )
    server.repositories["spaces/user/app"].files["notes.txt"] = b"of the owner"
    (root / "captioner" / "old.py").unlink()
    (root / "captioner" / "new.py").write_text("new = 1")
    deploy("user/app", root=root)
    seen["second"] = state()
    seen["of someone else"] = error("somebody/app")
    server.publish("user/private", root / "assets" / "model", private=True)
    deploy("user/app", model="user/private", root=root)
print(json.dumps(seen))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A program of few files, among others that no Space needs."""
    return make_program(tmp_path / "program")


def make_program(folder: Path) -> Path:
    needed = "app.py captioner/old.py captioner/recipes/small.yaml assets/style.css assets/examples/cat.jpg"
    needed += " assets/model/config.json assets/model/model.safetensors requirements.txt LICENSE.md"
    others = (
        "train.py tests/test_app.py runs/name/model.safetensors .git/config captioner/__pycache__/old.pyc study.sqlite"
    )
    others += (
        " captioner/.hidden.py assets/examples/.hidden assets/results/val.json assets/model/model.safetensors.partial"
    )
    for name in f"{needed} {others}".split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    front = "title: Tiny\nsdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\nshort_description: A tiny app"
    (folder / "README.md").write_text(f"---\n{front}\n---\n\n# Tiny\n\n![a picture](assets/results/of.png)\n")
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("hub")
    return run_alone(DEPLOYING, folder / "home", TINY_ROOT=str(make_program(folder / "program")))


FILES = {
    "app.py",
    "requirements.txt",
    "LICENSE.md",
    "captioner/old.py",
    "captioner/recipes/small.yaml",
    "assets/style.css",
    "assets/examples/cat.jpg",
    "assets/model/config.json",
    "assets/model/model.safetensors",
}


def test_only_what_the_app_needs_is_uploaded(root: Path):
    assert needed_files(root).keys() == FILES


def test_all_that_the_app_imports_and_shows_is_uploaded():
    names = needed_files()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "captioner").rglob("*.py")}
    assert modules <= names.keys()
    assert {"app.py", "requirements.txt", "assets/model/config.json", "assets/model/model.safetensors"} <= names.keys()
    assets = {name for name in names if name.startswith("assets/")}
    assert {Path(name).suffix for name in assets} >= {".js", ".css", ".jpg", ".md"}
    assert not [name for name in names if name.startswith(("tests", "runs", ".", "assets/results"))]


def test_a_space_is_made_with_the_app_and_its_model(deployed: dict):
    assert deployed["address"].endswith("/spaces/user/app")
    assert set(deployed["first"]["files"]) == FILES | {"README.md", ".gitattributes"}
    assert deployed["same"]
    assert deployed["private"]
    assert deployed["first"]["variables"] == {"CAPTIONER_MODEL": "user/model"}
    assert "preload_from_hub" in deployed["first"]["readme"]


def test_a_space_is_updated_and_what_is_gone_here_is_deleted_there(deployed: dict):
    first, second = (set(deployed[case]["files"]) for case in ("first", "second"))
    assert second - first == {"captioner/new.py", "notes.txt"}
    assert first - second == {"captioner/old.py"}
    assert deployed["second"]["variables"] == {}
    assert "preload_from_hub" not in deployed["second"]["readme"]


def test_what_the_hub_refuses_is_said(deployed: dict):
    assert "hf auth login" in deployed["not logged in"]
    assert "don't have the rights" in deployed["of someone else"]


def test_a_space_is_not_made_for_a_model_that_it_could_not_load(deployed: dict):
    assert "no model user/model" in deployed["no such model"]
    assert "holds no model.safetensors" in deployed["no captioner"]
    assert "no revision v9" in deployed["no such revision"]
    assert deployed["nothing yet"] == []


def test_who_deploys_a_private_model_learns_that_the_space_needs_a_token(deployed: dict):
    assert "user/private is private: give the Space a secret HF_TOKEN" in deployed["stderr"]
    assert "user/model is private" not in deployed["stderr"]


def test_a_program_without_its_readme_is_told(root: Path):
    (root / "README.md").unlink()
    with pytest.raises(PublishingError, match=r"holds no README\.md"):
        listing("user/app", root=root)


def test_the_dry_run_lists_what_would_be_uploaded_with_its_size(root: Path):
    *lines, last = listing("user/app", model="user/model", root=root).splitlines()
    sizes = {name: int(size) for size, name in (line.split() for line in lines)}
    assert sizes.keys() == FILES | {"README.md"}
    assert sizes["captioner/old.py"] == len("captioner/old.py")
    assert last.startswith(f"{len(sizes)} files, ")
    assert last.endswith("to user/app with CAPTIONER_MODEL=user/model")


def test_the_dry_run_asks_no_hub(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    for name in ("HfApi", "require_login"):
        monkeypatch.setattr(deployment, name, None)
    assert caption.main(["deploy", "user/app", "--dry-run"]) == 0
    assert capsys.readouterr().out == listing("user/app") + "\n"


@pytest.mark.parametrize("model", [None, "user/model", "user/model@v1"])
def test_the_front_matter_is_what_the_hub_reads(tmp_path: Path, model: str | None):
    space_card(model).save(tmp_path / "README.md")
    data = SpaceCard.load(tmp_path / "README.md").data
    assert isinstance(data, SpaceCardData)
    source = metadata_load(ROOT / "README.md")
    assert source.items() <= data.to_dict().items()
    assert data.sdk == "gradio"
    assert (ROOT / data.app_file).is_file()
    assert data.to_dict().get("models") == (["user/model"] if model else source.get("models"))
    if model:
        assert data.preload_from_hub[0].split()[:2] == ["user/model", "config.json,model.safetensors"]
        assert data.preload_from_hub[0].split()[2:] == (["v1"] if "@" in model else [])


FRONT_MATTER = (
    "title emoji colorFrom colorTo sdk sdk_version python_version app_file models datasets tags license license_name "
    "license_link short_description suggested_hardware preload_from_hub pinned"
)


def test_the_front_matter_is_complete():
    data = space_card("user/model").data.to_dict()
    assert sorted(data) == sorted(FRONT_MATTER.split())
    assert all(value not in (None, "", []) for value in data.values())
    assert all(is_hub_id(name) for name in (*data["models"], *data["datasets"]))
    assert data["license_link"] in needed_files()
    assert len(data["short_description"]) <= 60  # as the Hub wants it


def test_space_and_model_card_call_the_licence_the_same():
    data = space_card().data.to_dict()
    assert (data["license_name"], data["license_link"]) == (LICENCE_NAME, LICENCE_FILE)


def test_a_space_shows_the_gradio_that_requirements_allow():
    version = metadata_load(ROOT / "README.md")["sdk_version"]
    low, high = re.search(
        r"^gradio>=(\d+)\.\d+,<(\d+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE
    ).groups()
    assert int(low) <= int(version.split(".")[0]) < int(high)


@pytest.mark.parametrize(
    "arguments", ["app", "user/app --model model", "user/app --model runs/my/model", "user/app --model @v1"]
)
@pytest.mark.parametrize("dry", ["", " --dry-run"])
def test_what_is_no_hub_id_is_refused(arguments: str, dry: str, capsys: pytest.CaptureFixture):
    assert caption.main(["deploy", *(arguments + dry).split()]) == 2
    assert "no Hub id" in capsys.readouterr().err


def test_no_name_is_uploaded_without_a_check_of_it():
    with pytest.raises(PublishingError):
        listing("no name")


def test_the_image_gets_what_a_space_gets():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert lines[0] == "*"
    assert all(any(fnmatch.fnmatch(name, f"{pattern}*") for pattern in allowed) for name in needed_files())
    copied = re.findall(r"^COPY .*?((?:\S+ )+)\S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    sources = {word for line in copied for word in line.split() if not word.startswith("--")}
    assert all((ROOT / source).exists() for source in sources)
    assert {pattern.split("/")[0] for pattern in NEEDED} <= sources
