import pytest
import torch

from captioner.reading import read
from tests.tiny import tiny_model


def a_reading(attention="pyramid", head="additive"):
    model = tiny_model(attention, image_size=96, head=head).model
    torch.manual_seed(1)
    words = torch.randint(4, 30, (4, 6))
    regions = model.decoder.look(torch.randn(2, 9, 512))
    with torch.no_grad():
        return model.decoder, words, regions, read(model.decoder, words, regions)


@pytest.mark.parametrize("attention", ["gated", "pyramid", "none"])
def test_the_parts_of_a_logit_add_up(attention):
    _, words, _, reading = a_reading(attention)
    logits = reading.logits.gather(2, words[:, :, None]).squeeze(2)
    total = reading.bias + reading.language + reading.region_logits.sum(-1)
    torch.testing.assert_close(total, logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["gated", "pyramid", "none"])
def test_attention_and_layer_maps_are_shares_of_the_full_grid(attention):
    _, words, _, reading = a_reading(attention)
    layers = 1 if attention == "none" else 3
    assert reading.attention.shape == (*words.shape, 9)
    assert reading.layer_maps.shape == (*words.shape, layers, 9)
    for maps in (reading.attention, reading.layer_maps):
        assert (maps >= 0).all()
        torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]))


def test_a_temperature_divides_every_part_and_changes_no_map():
    decoder, words, regions, sharp = a_reading()
    decoder.head.temperature.fill_(2)
    with torch.no_grad():
        soft = read(decoder, words, regions)
    for name in ("logits", "bias", "language", "region_logits"):
        torch.testing.assert_close(getattr(soft, name), getattr(sharp, name) / 2)
    for name in ("relevance", "attention", "layer_maps"):
        torch.testing.assert_close(getattr(soft, name), getattr(sharp, name))


def test_reading_gives_what_word_by_word_generation_gives():
    decoder, words, regions, reading = a_reading()
    state, given = None, torch.ones(4, 1, dtype=torch.long)
    for position in range(words.shape[1]):
        with torch.no_grad():
            decoded, state = decoder(given, regions, state)
        torch.testing.assert_close(decoded.logits[:, 0], reading.logits[:, position], rtol=1e-4, atol=1e-5)
        given = words[:, position : position + 1]


def test_padding_changes_nothing_before_it():
    decoder, words, regions, reading = a_reading()
    padded = torch.cat([words, torch.zeros(4, 2, dtype=torch.long)], 1)
    with torch.no_grad():
        longer = read(decoder, padded, regions)
    torch.testing.assert_close(longer.region_logits[:, :6], reading.region_logits)


def test_a_head_that_is_no_sum_has_no_region_parts():
    *_, reading = a_reading(head="plain")
    assert reading.language is None
    assert reading.region_logits is None
    assert reading.attention.sum(-1).allclose(torch.ones(4, 6))
