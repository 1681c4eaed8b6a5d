import pytest
import torch

from captioner.attention import FORMS
from captioner.decoder import CnnDecoder, DecoderConfig
from tests.decoders import (
    CHANNELS,
    GRID,
    VOCABULARY,
    a_pass,
    assert_no_position_sees_a_later_word,
    assert_one_word_at_a_time_gives_what_all_at_once_gives,
)


@pytest.fixture(params=[*((form, "additive", True) for form in FORMS), ("pyramid", "plain", False)])
def decoder(request):
    torch.manual_seed(0)
    attention, head, feedback = request.param
    config = DecoderConfig(width=16, layers=4, attention=attention, head=head, feedback=feedback)
    return CnnDecoder(config, channels=CHANNELS, grid=GRID, vocabulary=VOCABULARY).eval()


def test_one_word_at_a_time_gives_the_logits_of_all_at_once(decoder):
    assert_one_word_at_a_time_gives_what_all_at_once_gives(decoder)


@torch.no_grad()
def test_a_caption_may_be_continued_from_any_point(decoder):
    features, words = a_pass()
    regions = decoder.look(features)
    together, _ = decoder(words, regions)
    _, state = decoder(words[:, :4], regions)
    rest, _ = decoder(words[:, 4:], regions, state)
    torch.testing.assert_close(rest.logits, together.logits[:, 4:], rtol=1e-5, atol=1e-5)


def test_no_position_sees_a_later_word(decoder):
    assert_no_position_sees_a_later_word(decoder)


def test_no_gradient_flows_from_a_position_to_a_later_word(decoder):
    features, words = a_pass(1, 1)
    embedded = []  # as input, and where feedback asks which regions spoke for it
    hook = decoder.embedding.register_forward_hook(lambda *call: embedded.append(call[2]) or call[2].retain_grad())
    decoded, _ = decoder(words, decoder.look(features))
    hook.remove()
    decoded.logits[:, 4].square().sum().backward()
    reached = sum(x.grad.abs() for x in embedded).sum((0, 2)) > 0
    assert reached.tolist() == [True] * 5 + [False] * 4


@torch.no_grad()
def test_the_state_does_not_grow_with_the_caption(decoder):
    features, words = a_pass(1, 1)
    regions = decoder.look(features)
    _, short = decoder(words[:, :2], regions)
    _, long = decoder(words, regions)
    assert [past.shape for past in short] == [past.shape for past in long]
    assert all(past.shape[1] == decoder.config.kernel - 1 for past in long)


@torch.no_grad()
def test_captions_do_not_mix_photographs(decoder):
    features, words = a_pass()
    decoded, _ = decoder(words, decoder.look(features))
    alone, _ = decoder(words[3:], decoder.look(features[1:]))
    torch.testing.assert_close(decoded.logits[3:], alone.logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_photograph_matters(decoder):
    features, words = a_pass()
    decoded, _ = decoder(words, decoder.look(features))
    other, _ = decoder(words, decoder.look(features.flip(0)))
    assert not torch.allclose(decoded.logits, other.logits, atol=1e-3)


def test_an_unknown_form_of_attention_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="gated, pyramid, none"):
        CnnDecoder(DecoderConfig(attention="soft"), channels=CHANNELS, grid=GRID, vocabulary=VOCABULARY)
