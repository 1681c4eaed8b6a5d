from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from captioner.encoder import Encoder, EncoderConfig
from captioner.model import ModelConfig
from captioner.photographs import Preprocessing

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights" / "resnet50_imagenet_v1.safetensors"


@pytest.fixture(scope="module")
def resnet18() -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig("resnet18")).eval()


def imagenet_like(seed: int = 1, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights as torchvision publishes them, for a ResNet-18, with its classifier."""
    torch.manual_seed(seed)
    weights = Encoder(EncoderConfig("resnet18")).body.state_dict()
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    return {**weights, "fc.weight": torch.randn(1000, 512), "fc.bias": torch.randn(1000), **more}


@pytest.mark.parametrize("size", [32, 63, 64, 65, 96, 100, 224])
@pytest.mark.parametrize("levels", [1, 2])
@torch.inference_mode()
def test_grid_is_what_the_model_config_says(levels: int, size: int):
    encoder = Encoder(EncoderConfig("resnet18", levels=levels)).eval()
    config = ModelConfig(encoder.config, preprocessing=Preprocessing(image_size=size))
    assert encoder(torch.zeros(2, 3, size, size)).shape == (2, encoder.channels, *config.grid)
    assert encoder.lower(torch.zeros(2, 3, size, size)).shape[1] == encoder.lower_channels


@pytest.mark.parametrize("levels", [1, 2])
@torch.inference_mode()
def test_a_region_answers_to_its_place_in_the_photograph(levels: int):
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig("resnet18", levels=levels)).eval()
    images = torch.zeros(2, 3, 224, 224)
    images[1, :, :16, -16:] = 5  # the upper right corner
    difference = (encoder(images)[1] - encoder(images)[0]).abs().sum(0)
    strongest = (difference == difference.max()).nonzero()[0].tolist()
    assert strongest[0] <= levels - 1
    assert strongest[1] >= 6 * levels


@torch.inference_mode()
def test_two_levels_are_the_last_stage_beside_the_one_before_it(resnet18: Encoder):
    one = Encoder(EncoderConfig("resnet18", levels=1)).eval()
    one.load_state_dict(resnet18.state_dict())
    image = torch.rand(1, 3, 64, 64)
    both, top = resnet18(image), one(image)
    assert torch.equal(both[:, :256], resnet18.lower(image))
    # Bringing to a finer grid keeps the mean of every channel.
    torch.testing.assert_close(both[:, 256:].mean((2, 3)), top.mean((2, 3)))


@pytest.mark.parametrize("levels", [1, 2])
@torch.inference_mode()
def test_a_frozen_encoder_gives_the_same_features_and_leaves_nothing_to_finish(levels: int):
    encoder = Encoder(EncoderConfig("resnet18", levels=levels)).eval()
    images = torch.rand(2, 3, 64, 64)
    features = encoder(images)
    encoder.freeze()
    assert torch.equal(encoder(images), features)
    assert torch.equal(encoder.lower(images), features)
    assert encoder.upper(features) is features


def test_another_number_of_levels_is_refused():
    with pytest.raises(ValueError, match="1 or 2 levels, not 3"):
        Encoder(EncoderConfig("resnet18", levels=3))


def test_batch_norm_stays_frozen_in_training():
    encoder = Encoder(EncoderConfig("resnet18")).train()
    assert encoder.training
    before = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    one, two = torch.randn(1, 3, 64, 64), torch.randn(1, 3, 64, 64) * 9
    together, alone = encoder(torch.cat([one, two])), encoder(one)
    assert torch.allclose(together[:1], alone, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.named_buffers())
    assert not any(module.training for module in encoder.modules() if isinstance(module, nn.BatchNorm2d))


@torch.inference_mode()
def test_conv1_arrangement_moves_the_strides_and_keeps_the_shape():
    with torch.device("meta"):
        first, second = (Encoder(EncoderConfig("resnet50", stride_in=place)) for place in ("conv1", "conv2"))
        for size in (64, 100):
            assert first(torch.zeros(1, 3, size, size)).shape == second(torch.zeros(1, 3, size, size)).shape
    for encoder, place in ((first, "conv1"), (second, "conv2")):
        strided = [
            name
            for name, module in encoder.body.named_modules()
            if getattr(module, "stride", None) == (2, 2) and "layer" in name and "downsample" not in name
        ]
        assert strided == [f"layer{layer}.0.{place}" for layer in (2, 3, 4)]


def test_unknown_name_is_answered_with_the_choices():
    with pytest.raises(ValueError, match=r"'vgg16'.*resnet101.*resnet50"):
        Encoder(EncoderConfig("vgg16"))
    with pytest.raises(ValueError, match="'conv1' or 'conv2'"):
        Encoder(EncoderConfig("resnet18", stride_in="conv3"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_imagenet_weights_load_without_their_classifier(tmp_path: Path, dtype: torch.dtype):
    weights = {name: t.to(dtype) if t.is_floating_point() else t for name, t in imagenet_like().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    encoder = Encoder(EncoderConfig("resnet18"))
    encoder.load_imagenet_weights(tmp_path / "weights.safetensors")
    loaded = encoder.body.state_dict()
    assert all(torch.equal(loaded[name], weights[name].to(loaded[name].dtype)) for name in loaded)
    assert all(parameter.dtype == torch.float32 for parameter in encoder.parameters())


def test_weights_without_batch_counters_load(tmp_path: Path):
    weights = {name: t for name, t in imagenet_like().items() if not name.endswith("num_batches_tracked")}
    save_file(weights, tmp_path / "weights.safetensors")
    Encoder(EncoderConfig("resnet18")).load_imagenet_weights(str(tmp_path / "weights.safetensors"))


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in imagenet_like().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        (lambda: without("layer4.1.conv2.weight"), "layer4.1.conv2.weight"),
        (lambda: imagenet_like(**{"layer5.weight": torch.zeros(1)}), "layer5.weight"),
        (lambda: imagenet_like(**{"conv1.weight": torch.zeros(64, 1, 7, 7)}), "conv1.weight"),
    ],
    ids=["missing", "unknown", "another shape"],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(tmp_path: Path, weights, name: str):
    save_file(weights(), tmp_path / "weights.safetensors")
    encoder = Encoder(EncoderConfig("resnet18"))
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=f"does not fit resnet18.*{name}"):
        encoder.load_imagenet_weights(tmp_path / "weights.safetensors")
    assert all(torch.equal(tensor, before[key]) for key, tensor in encoder.state_dict().items())


def test_torchvision_as_a_source_downloads_the_published_file(monkeypatch: pytest.MonkeyPatch):
    asked = []
    weights = imagenet_like()

    def download(url: str, **options) -> dict[str, torch.Tensor]:
        asked.append((url, options))
        return weights

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    encoder = Encoder(EncoderConfig("resnet18"))
    encoder.load_imagenet_weights("torchvision")
    [(url, options)] = asked
    assert "resnet18" in url
    assert options["weights_only"]
    assert options["check_hash"]
    assert torch.equal(encoder.body.conv1.weight, weights["conv1.weight"])


@pytest.mark.skipif(not SHARED.exists(), reason=f"there is no {SHARED}")
def test_shared_resnet50_loads():
    encoder = Encoder(EncoderConfig("resnet50"))
    encoder.load_imagenet_weights(SHARED)
    stored = load_file(SHARED)["layer4.2.conv3.weight"]
    assert torch.equal(encoder.body.layer4[2].conv3.weight, stored.float())
