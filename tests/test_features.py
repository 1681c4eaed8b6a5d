from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from captioner import features
from captioner.augmentation import View
from captioner.encoder import Encoder, EncoderConfig
from captioner.features import batch_of, cached_features
from captioner.photographs import Preprocessing, open_photograph

PREPROCESSING = Preprocessing(image_size=64)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_CHUNK", 2)


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig("resnet18")).eval()


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Five photographs, in three chunks."""
    random = np.random.default_rng(0)
    found = [tmp_path / f"{i}.png" for i in range(5)]
    for path in found:
        blocks = Image.fromarray(random.integers(0, 256, (4, 6, 3), np.uint8))
        blocks.resize((90, 60), Image.Resampling.NEAREST).save(path)
    return found


@torch.inference_mode()
def directly(encoder: Encoder, paths: list[Path], preprocessing: Preprocessing = PREPROCESSING) -> np.ndarray:
    images = torch.stack([preprocessing(open_photograph(path)) for path in paths])
    return encoder.lower(images).permute(0, 2, 3, 1).numpy()


def never(*_) -> None:
    pytest.fail("the encoder ran")


@pytest.mark.parametrize("size", [64, 80])
def test_features_are_those_of_the_encoder(encoder: Encoder, paths: list[Path], tmp_path: Path, size: int):
    preprocessing = Preprocessing(image_size=size)
    cached = cached_features(paths, encoder, preprocessing, tmp_path / "cache")
    expected = directly(encoder, paths, preprocessing)
    assert cached.dtype == np.float16
    assert cached.shape == expected.shape
    assert np.allclose(cached, expected, rtol=2e-3, atol=1e-4)
    assert not cached.flags.writeable


def test_a_second_call_reads_the_cache(
    encoder: Encoder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = np.array(cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache"))
    monkeypatch.setattr(Encoder, "lower", never)
    assert np.array_equal(cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache"), first)
    assert len(list((tmp_path / "cache").iterdir())) == 1  # nothing is left over


@pytest.mark.parametrize("progress", [None, ""], ids=["between chunks", "while noting the progress"])
def test_a_killed_run_continues_and_gives_the_same(
    encoder: Encoder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: str | None
):
    expected = np.array(cached_features(paths, encoder, PREPROCESSING, tmp_path / "whole"))
    read = []

    def opened(path: Path) -> Image.Image:
        if len(read) == 3:
            raise KeyboardInterrupt
        read.append(path)
        return open_photograph(path)

    monkeypatch.setattr(features, "open_photograph", opened)
    with pytest.raises(KeyboardInterrupt):
        cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.npy"))
    if progress is not None:
        [note] = (tmp_path / "cache").glob("*.progress")
        note.write_text(progress)

    again = []
    monkeypatch.setattr(features, "open_photograph", lambda path: again.append(path) or open_photograph(path))
    continued = cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache")
    assert np.array_equal(continued, expected)
    assert again == (paths[2:] if progress is None else paths)


def test_of_two_runs_at_once_one_makes_the_features(
    encoder: Encoder, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened, both = [], threading.Barrier(2)
    monkeypatch.setattr(features, "open_photograph", lambda path: opened.append(path) or open_photograph(path))

    def run(_: int) -> np.ndarray:
        both.wait()
        return np.array(cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache"))

    with ThreadPoolExecutor(2) as runs:
        one, two = runs.map(run, range(2))
    assert np.array_equal(one, two)
    assert len(opened) == len(paths)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_whatever_changes_the_features_changes_the_file(encoder: Encoder, paths: list[Path], tmp_path: Path):
    cache = tmp_path / "cache"

    def files(*arguments, **options) -> set[str]:
        cached_features(*arguments, cache, **options)
        return {path.name for path in cache.iterdir()}

    assert len(files(paths, encoder, PREPROCESSING)) == 1
    assert len(files(paths[:4], encoder, PREPROCESSING)) == 2
    assert len(files(paths[::-1], encoder, PREPROCESSING)) == 3
    assert len(files(paths, encoder, dataclasses.replace(PREPROCESSING, mean=(0.5, 0.5, 0.5)))) == 4
    assert len(files(paths, encoder, PREPROCESSING, view=View(mirrored=True))) == 5
    crops = [View(1), View(2), View(1, mirrored=True), View(2, mirrored=True)]
    for count, view in enumerate(crops, start=6):
        assert len(files(paths, encoder, PREPROCESSING, view=view)) == count
    Image.new("RGB", (200, 200), "red").save(paths[0])
    assert len(files(paths, encoder, PREPROCESSING)) == 10
    with torch.no_grad():
        encoder.body.layer3[1].bn2.running_mean += 0.1
    assert len(files(paths, encoder, PREPROCESSING)) == 11
    with torch.no_grad():
        encoder.body.layer4[1].bn2.running_mean += 0.1  # the last stage is not in the cache
    assert len(files(paths, encoder, PREPROCESSING)) == 11
    encoder.freeze()  # now it is
    assert len(files(paths, encoder, PREPROCESSING)) == 12
    with torch.no_grad():
        encoder.body.layer4[1].bn2.running_mean += 0.1
    assert len(files(paths, encoder, PREPROCESSING)) == 13
    assert len(files(paths, encoder, PREPROCESSING, bfloat16=True)) == 14
    one_level = Encoder(EncoderConfig("resnet18", levels=1)).eval()
    one_level.load_state_dict(encoder.state_dict())
    one_level.freeze()
    assert len(files(paths, one_level, PREPROCESSING)) == 15


def test_features_in_bfloat16_are_nearly_the_same(encoder: Encoder, paths: list[Path], tmp_path: Path):
    rounded = cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache", bfloat16=True)
    exact = directly(encoder, paths)
    assert rounded.dtype == np.float16
    assert not np.allclose(rounded, exact, rtol=2e-3, atol=1e-4)
    assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)


def test_the_sign_of_a_weight_that_is_zero_changes_no_file(encoder: Encoder, paths: list[Path], tmp_path: Path):
    for zero in (0.0, -0.0):
        with torch.no_grad():
            encoder.body.conv1.weight[0, 0, 0, 0] = zero
        cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_flipped_features_are_those_of_the_mirror_images(encoder: Encoder, paths: list[Path], tmp_path: Path):
    mirrored = [tmp_path / f"mirrored{path.name}" for path in paths]
    for path, mirror in zip(paths, mirrored):
        ImageOps.mirror(open_photograph(path)).save(mirror)
    flipped = cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache", view=View(mirrored=True))
    assert np.allclose(flipped, directly(encoder, mirrored), rtol=1e-2, atol=0.02)
    assert not np.allclose(flipped, directly(encoder, paths), rtol=1e-2, atol=0.02)


@pytest.mark.parametrize("mirrored", [False, True])
def test_features_of_a_crop_are_those_of_what_it_shows(
    encoder: Encoder, paths: list[Path], tmp_path: Path, mirrored: bool
):
    shown = []
    for path in paths:
        crop = View(1).show(open_photograph(path), path.name)
        shown.append(tmp_path / f"shown-{path.name}")
        (ImageOps.mirror(crop) if mirrored else crop).save(shown[-1])
    cropped = cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache", view=View(1, mirrored))
    assert np.allclose(cropped, directly(encoder, shown), rtol=1e-2, atol=0.02)
    assert not np.allclose(cropped, directly(encoder, paths), rtol=1e-2, atol=0.02)


def test_parameters_and_device_of_the_encoder_are_left_alone(encoder: Encoder, paths: list[Path], tmp_path: Path):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_cached_rows_finish_as_the_encoder_would(encoder: Encoder, paths: list[Path], tmp_path: Path):
    cached = cached_features(paths, encoder, PREPROCESSING, tmp_path / "cache")
    images = torch.stack([PREPROCESSING(open_photograph(path)) for path in paths])
    with torch.inference_mode():
        torch.testing.assert_close(
            encoder.upper(batch_of(cached, torch.device("cpu"))), encoder(images), rtol=1e-2, atol=1e-2
        )
