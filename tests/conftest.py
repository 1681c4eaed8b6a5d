"""What several test modules share."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from captioner.predictor import Captioner
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
