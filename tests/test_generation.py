import itertools

import pytest
import torch

from captioner.generation import GenerationConfig, beam_search
from captioner.vocabulary import END, PAD, START, UNKNOWN
from tests.tiny import tiny_model


def asked(seed=0, photographs=12, attention="pyramid"):
    """A decoder with random weights and regions of random features."""
    decoder = tiny_model(attention, seed=seed).model.decoder
    torch.manual_seed(seed)
    return decoder, decoder.look(torch.rand(photographs, 4, 512) * 3)


@torch.no_grad()
def log_probabilities(decoder, regions, index, captions):
    """Of captions of equal length of one photograph, end included, by one parallel pass."""
    one = type(regions)(
        [memory and (memory[0][[index]], memory[1][[index]]) for memory in regions.layers],
        regions.keys[[index]],
        regions.values[[index]],
    )
    inputs = torch.tensor([[START, *caption] for caption in captions])
    targets = torch.tensor([[*caption, END] for caption in captions])
    decoded, _ = decoder(inputs, one)
    decoded.logits[:, :, [PAD, START, UNKNOWN]] = -torch.inf
    return decoded.logits.log_softmax(-1).gather(2, targets[:, :, None]).sum((1, 2))


@pytest.mark.parametrize("attention", ["gated", "pyramid", "none"])
def test_a_captions_probability_is_that_of_its_words(attention):
    decoder, regions = asked(attention=attention)
    config = GenerationConfig(max_words=12)
    for index, found in enumerate(beam_search(decoder, regions, config)):
        for hypothesis in found:
            expected = log_probabilities(decoder, regions, index, [hypothesis.words]).item()
            assert hypothesis.log_probability == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 1.7])
def test_a_beam_never_scores_below_greedy(seed, length_penalty):
    decoder, regions = asked(seed)
    greedy = beam_search(decoder, regions, GenerationConfig(1, 12, length_penalty))
    beam = beam_search(decoder, regions, GenerationConfig(3, 12, length_penalty))
    for one, best in zip(greedy, beam):
        assert best[0].log_probability >= one[0].log_probability - 1e-3
        assert best[0].score >= one[0].score - 1e-3


def test_beam_one_takes_the_likeliest_word_each_time():
    decoder, regions = asked(photographs=4)
    words, state = torch.full((4, 1), START), None
    greedy = [[] for _ in range(4)]
    with torch.no_grad():
        for _ in range(12):
            decoded, state = decoder(words, regions, state)
            decoded.logits[:, :, [PAD, START, UNKNOWN]] = -torch.inf
            if words.eq(START).all():
                decoded.logits[:, :, END] = -torch.inf
            decoded.logits.scatter_(2, words[:, :, None], -torch.inf)
            words = decoded.logits.argmax(-1)
            for caption, word in zip(greedy, words[:, 0].tolist()):
                caption.append(word)
    for caption, (found,) in zip(greedy, beam_search(decoder, regions, GenerationConfig(1, 12))):
        ended = caption.index(END) if END in caption else 12
        assert found.words == tuple(caption[:ended])


@pytest.mark.parametrize("beam_size", [1, 3])
def test_no_word_follows_itself(beam_size):
    decoder, regions = asked(seed=3)
    with torch.no_grad():
        decoder.embedding.weight[7] *= 30  # a word that would go on for ever
        decoder.head.bias[7] = 50
    for found in beam_search(decoder, regions, GenerationConfig(beam_size, 12), prefix=[7]):
        for hypothesis in found:
            assert 7 in hypothesis.words[1:]
            assert all(one != two for one, two in itertools.pairwise(hypothesis.words))


def test_a_beam_as_wide_as_the_choice_finds_the_likeliest_caption():
    decoder, regions = asked(photographs=3)
    vocabulary = len(decoder.head.bias)
    words = [word for word in range(vocabulary) if word not in (PAD, START, UNKNOWN, END)]
    wide = GenerationConfig(beam_size=len(words) ** 2 + len(words) + 1, max_words=2, length_penalty=0.0)
    for index, found in enumerate(beam_search(decoder, regions, wide)):
        captions = [[(word,) for word in words], list(itertools.permutations(words, 2))]  # no word follows itself
        exact = max(log_probabilities(decoder, regions, index, equally_long).max() for equally_long in captions).item()
        assert found[0].log_probability == pytest.approx(exact, abs=1e-3)


def test_n_best_captions_differ_and_are_ranked():
    decoder, regions = asked()
    for found in beam_search(decoder, regions, GenerationConfig(5, 12)):
        assert len({hypothesis.words for hypothesis in found}) == len(found) > 1
        # Below the greedy caption's probability nothing ranks above it, so only the first of them are sorted alone.
        assert found[0].score == max(h.score for h in found if h.log_probability >= found[0].log_probability)


def test_a_batch_gives_the_captions_of_its_photographs():
    decoder, regions = asked()
    torch.manual_seed(0)
    features = torch.rand(12, 4, 512) * 3
    together = beam_search(decoder, regions)
    for index in (0, 5, 11):
        alone = beam_search(decoder, decoder.look(features[[index]]))
        assert [h.words for h in alone[0]] == [h.words for h in together[index]]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_forced_prefix_is_kept(beam_size):
    decoder, regions = asked()
    for found in beam_search(decoder, regions, GenerationConfig(beam_size), prefix=(7, 5, 9)):
        assert all(hypothesis.words[:3] == (7, 5, 9) for hypothesis in found)
    with pytest.raises(ValueError, match="fewer than 4"):
        beam_search(decoder, regions, GenerationConfig(max_words=4), prefix=(7, 5, 9, 6))


def test_special_words_are_never_said():
    decoder, regions = asked()
    with torch.no_grad():
        decoder.head.bias[[PAD, START, UNKNOWN]] = 50.0
    for found in beam_search(decoder, regions):
        assert all(not {PAD, START, UNKNOWN, END} & set(hypothesis.words) for hypothesis in found)


def test_what_is_never_said_changes_no_caption_and_no_probability():
    (decoder, regions), (other, _) = asked(), asked()
    with torch.no_grad():
        other.head.bias[[PAD, START, UNKNOWN]] += 20.0
    for found, same in zip(beam_search(decoder, regions), beam_search(other, regions)):
        assert [hypothesis.words for hypothesis in same] == [hypothesis.words for hypothesis in found]
        assert same[0].log_probability == pytest.approx(found[0].log_probability, abs=1e-4)


def test_a_caption_has_at_least_one_word():
    decoder, regions = asked()
    with torch.no_grad():
        decoder.head.bias[END] = 50.0
    for found in beam_search(decoder, regions):
        assert {len(hypothesis.words) for hypothesis in found} == {1}


def trigrams(words):
    return list(zip(words, words[1:], words[2:]))


def test_no_trigram_is_repeated_when_asked():
    decoder, regions = asked()
    with torch.no_grad():
        decoder.head.bias[END] = -50.0  # captions go on, and these random ones go round in circles
    free = beam_search(decoder, regions, GenerationConfig(max_words=20))
    assert any(len(set(trigrams(f[0].words))) < len(trigrams(f[0].words)) for f in free)
    for found in beam_search(decoder, regions, GenerationConfig(max_words=20, repeat_trigrams=False)):
        assert all(len(set(trigrams(h.words))) == len(trigrams(h.words)) for h in found)


@pytest.mark.parametrize("wrong", [{"beam_size": 0}, {"max_words": 0}])
def test_senseless_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        GenerationConfig(**wrong)
