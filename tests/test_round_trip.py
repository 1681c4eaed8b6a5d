"""The whole way of a model: trained, pushed to the Hub, fetched by the app, and asked in a browser."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

import captioner
from captioner.explanation import ExplainedCaption
from tests.browser import ROOT, started
from tests.hub_server import TOKEN, HubServer
from tests.test_app import Person
from tests.tiny_data import make_encoder_weights

TRAINING = (
    "--epochs 1 --encoder-name resnet18 --image-size 64 --width 16 --layers 2 --least-count 1 --captions 2 --no-flip "
    "--reinforced-epochs 0"
).split()


def test_a_model_that_was_trained_and_pushed_captions_in_the_app(
    page, data: Path, photograph: Image.Image, tmp_path: Path
):
    picture, run = tmp_path / "photograph.png", tmp_path / "run"
    photograph.save(picture)
    weights = make_encoder_weights(tmp_path / "resnet18.safetensors")
    places = ["--data", data, "--encoder-weights", weights, "--output", run, "--cache", tmp_path / "cache"]
    with HubServer() as hub:
        trained = subprocess.run(
            [sys.executable, ROOT / "train.py", *places, *TRAINING, "--push-to-hub", "user/model"],
            env=hub.environment(tmp_path / "home", token=TOKEN),
            capture_output=True,
            text=True,
        )
        assert trained.returncode == 0, trained.stderr
        with started("user/model", tmp_path, hub.environment(tmp_path / "another home")) as address:
            person = Person(page, address)
            person.upload(picture)
            person.tested()
            assert person.words.count() > 0
            assert page.locator("#notice").count() == 0
            with page.expect_download() as saved:
                page.get_by_role("button", name="JSON", exact=True).click()
            explained = ExplainedCaption.from_json(Path(saved.value.path()).read_text())
    assert explained.model == "user/model"
    assert explained.text == captioner.load(run, device="cpu").explain(picture).text
