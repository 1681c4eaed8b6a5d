"""What several test modules share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, one thread each

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data import CaptionedPhotograph
from captioner.measurement import Seen
from captioner.photographs import open_photograph
from captioner.predictor import Captioner
from tests.browser import CHROMIUM, CHROMIUM_FLAGS, SECONDS
from tests.one_region import SIDE
from tests.tiny import save_tiny_model, tiny_model
from tests.tiny_data import make_data


@pytest.fixture(scope="session")
def captioner() -> Captioner:
    """A tiny captioner with random weights on a 3 x 3 grid."""
    return Captioner(tiny_model(image_size=96), name="tiny")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A saved tiny model."""
    return save_tiny_model(tmp_path_factory.mktemp("model"), image_size=96)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of tiny data."""
    return make_data(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def photograph() -> Image.Image:
    """Coloured noise with a bright square, not square itself."""
    pixels = np.random.default_rng(0).integers(0, 120, (90, 140, 3), dtype=np.uint8)
    pixels[20:60, 80:120] = (250, 220, 40)
    return Image.fromarray(pixels)


@pytest.fixture
def seen_of(tmp_path):
    """A function: a photograph with one bright region, as the model saw it, and a caption given to it."""

    def make(saved, region: int, words: str, name: str = "photo.png") -> Seen:
        row, column = divmod(region, 3)
        pixels = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = 250
        Image.fromarray(pixels).save(tmp_path / name)
        image = saved.model.config.preprocessing(open_photograph(tmp_path / name))
        with torch.inference_mode():
            features = saved.model.encode(image[None])[0]
        record = CaptionedPhotograph(tmp_path / name, "val", (), ())
        return Seen(record, features, tuple(saved.vocabulary.encode(words.split())))

    return make


@pytest.fixture(scope="session")
def browser():
    """Chromium, started once."""
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium, or set CHROMIUM to its path")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)


@pytest.fixture
def page(browser):
    """A fresh page in a browser; what goes wrong in its scripts fails the test."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    context.close()
    assert errors == []
