import pytest
import torch
from captum.attr import InputXGradient, LayerGradCam
from torch import nn

from captioner.attribution import grad_cam, input_gradient
from captioner.reading import read
from tests.tiny import tiny_model

GRID = (3, 3)


@pytest.fixture(scope="module", params=["gated", "pyramid", "none"])
def model(request):
    return tiny_model(request.param, image_size=96).model


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def features(model, pixels):
    with torch.no_grad():
        return model.encode(pixels[None])[0]


WORDS = torch.tensor([[5, 12, 9, 20], [5, 12, 9, 20], [7, 7, 30, 4]])
POSITIONS = torch.tensor([1, 3, 2])


def logit(decoder, features, words, position):
    """What the maps explain, written out for one word: features (1, R, C) to (1,)."""
    return read(decoder, words[None], decoder.look(features)).logits[:, position, words[position]]


def test_grad_cam_is_that_of_captum(model, features):
    class LastGrid(nn.Module):
        def __init__(self, words, position):
            super().__init__()
            self.grid, self.words, self.position = nn.Identity(), words, position

        def forward(self, images):
            return logit(model.decoder, self.grid(images).flatten(2).transpose(1, 2), self.words, self.position)

    maps = grad_cam(model.decoder, features, WORDS, POSITIONS)
    images = features.T.unflatten(1, GRID)[None]  # (1, C, H, W)
    for found, words, position in zip(maps, WORDS, POSITIONS):
        network = LastGrid(words, position)
        expected = LayerGradCam(network, network.grid).attribute(images, relu_attributions=True)
        torch.testing.assert_close(found, expected.flatten().detach())
    assert maps.any()


def test_input_gradients_are_those_of_captum(model, pixels):
    maps = input_gradient(model, pixels, WORDS, POSITIONS)
    for found, words, position in zip(maps, WORDS, POSITIONS):
        network = InputXGradient(lambda x, w=words, p=position: logit(model.decoder, model.encode(x), w, p))
        of_pixels = network.attribute(pixels[None].clone().requires_grad_())[0].abs().sum(0)
        expected = of_pixels.detach().unflatten(0, (3, 32)).unflatten(2, (3, 32)).mean((1, 3)).flatten()
        torch.testing.assert_close(found, expected)
    assert maps.any()


def test_words_after_the_wanted_one_change_nothing(model, features):
    other = WORDS.clone()
    other[0, 2:] = 6
    one, two = (grad_cam(model.decoder, features, words[:1], POSITIONS[:1]) for words in (WORDS, other))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_maps_are_the_same_where_gradients_are_off(model, pixels, features, mode):
    expected = grad_cam(model.decoder, features, WORDS, POSITIONS), input_gradient(model, pixels, WORDS, POSITIONS)
    with mode():
        inside, words, positions = pixels.clone(), WORDS.clone(), POSITIONS.clone()
        seen = model.encode(inside[None])[0]
        found = grad_cam(model.decoder, seen, words, positions), input_gradient(model, inside, words, positions)
    torch.testing.assert_close(found, expected)
    assert not any(maps.requires_grad for maps in found)


def test_no_parameter_gets_a_gradient(model, pixels, features):
    grad_cam(model.decoder, features, WORDS, POSITIONS)
    input_gradient(model, pixels, WORDS, POSITIONS)
    assert all(parameter.grad is None for parameter in model.parameters())
