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
    config = DecoderConfig(width=16, layers=4, attention=attention, head=head, feedback=feedback, layer_dropout=0.5)
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


@pytest.fixture(params=["all at once", "text alone"])
def stochastic(request):
    """A decoder that skips half of its one layer in training, and a pass that gives what its head is shown."""
    torch.manual_seed(0)
    config = DecoderConfig(width=16, layers=1, feedback=False, dropout=0.0, feature_dropout=0.0, layer_dropout=0.5)
    decoder = CnnDecoder(config, channels=CHANNELS, grid=GRID, vocabulary=VOCABULARY)
    for parameter in decoder.hierarchy.looks[0].query.parameters():
        torch.nn.init.zeros_(parameter)  # what a layer sees is to be the same however much its convolution adds
    features, words = a_pass(1, 4000, 2)
    words[:] = words[0]
    shown = []
    decoder.norm = torch.nn.Identity()
    decoder.norm.register_forward_hook(lambda *call: shown.append(call[2]))

    @torch.no_grad()
    def states(*, training):
        decoder.train(training)
        decoder(words, decoder.look(features)) if request.param == "all at once" else decoder.of_text(words)
        return shown.pop()

    return decoder, words, states


def test_in_training_a_caption_skips_a_layer_or_gets_twice_of_it(stochastic):
    decoder, words, states = stochastic
    embedded = decoder._words(words).detach()
    whole = states(training=False) - embedded
    added = states(training=True) - embedded
    skipped = (added == 0).all(-1).all(-1)
    assert not (added[~skipped] == 0).all(-1).any()  # a caption skips a layer with all its words or with none
    torch.testing.assert_close(added[~skipped], 2 * whole[~skipped], rtol=1e-4, atol=1e-4)
    assert 0.45 < skipped.float().mean() < 0.55  # so that on average it gets the whole


def test_in_evaluation_no_layer_is_skipped(stochastic):
    _, _, states = stochastic
    torch.testing.assert_close(states(training=False), states(training=False)[:1].expand(4000, -1, -1))


def test_an_unknown_form_of_attention_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="gated, pyramid, none"):
        CnnDecoder(DecoderConfig(attention="soft"), channels=CHANNELS, grid=GRID, vocabulary=VOCABULARY)
