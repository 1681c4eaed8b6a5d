import numpy as np
import pytest
import torch

from captioner.generation import sample
from captioner.reinforcement import Reward, self_critical_loss
from captioner.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from tests.tiny import tiny_model

REFERENCES = [["a red ball".split(), "the red ball".split()], ["two dogs run".split(), "dogs run".split()]]
VOCABULARY = Vocabulary("a the two red ball dogs run".split())


def ids(text, *rest):
    return [*VOCABULARY.encode(text.split()), *rest]


def test_a_better_caption_has_a_higher_reward():
    reward = Reward(REFERENCES, VOCABULARY)
    words = np.array([ids("a red ball", END), ids("dogs run", END, PAD), ids("a red run", END)])
    good, wrong, half = reward(words, [0, 0, 0])
    assert good > half > wrong


def test_a_caption_that_does_not_end_earns_less():
    ended, broken = Reward(REFERENCES, VOCABULARY)(np.array([ids("a red ball", END), ids("a red ball", PAD)]), [0, 0])
    assert ended > broken


def test_padding_earns_nothing_and_costs_nothing():
    reward = Reward(REFERENCES, VOCABULARY)
    short, padded = np.array([ids("dogs run", END)]), np.array([ids("dogs run", END, PAD, PAD)])
    assert reward(short, [1]) == reward(padded, [1])


def test_the_loss_pushes_towards_what_is_better_than_its_siblings():
    logits = torch.zeros(4, 2, 6, requires_grad=True)
    words = torch.tensor([[4, END], [5, END], [4, END], [5, END]])
    rewards = torch.tensor([1.0, 0.0, 0.3, 0.3])
    self_critical_loss(logits, words, rewards, 2).backward()
    assert logits.grad[0, 0, 4] < 0 < logits.grad[1, 0, 5]  # descent raises the first, lowers the second
    assert logits.grad[2:].abs().max() == 0  # equal siblings teach nothing


def test_what_cannot_be_sampled_is_not_learnt():
    logits = torch.zeros(2, 1, 6)
    logits[:, :, UNKNOWN] = 9.0
    logits.requires_grad_()
    self_critical_loss(logits, torch.tensor([[4], [5]]), torch.tensor([1.0, 0.0]), 2).backward()
    assert logits.grad[:, :, [PAD, START, UNKNOWN]].abs().max() == 0
    assert logits.grad[0, 0, 4] < -0.1  # as if the others were all there is


def test_padding_is_not_learnt_from():
    logits = torch.randn(2, 3, 6, requires_grad=True)
    words = torch.tensor([[4, END, PAD], [5, 4, END]])
    self_critical_loss(logits, words, torch.tensor([1.0, 0.0]), 2).backward()
    assert logits.grad[0, 2].abs().max() == 0
    assert logits.grad[1, 2].abs().sum() > 0


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_are_captions_drawn_by_their_probability(temperature):
    decoder = tiny_model().model.decoder
    regions = decoder.look(torch.rand(2, 4, 512))
    torch.manual_seed(0)
    words = sample(decoder, regions, 400, 6, temperature=temperature)
    assert words.shape[0] == 800
    assert words.shape[1] <= 7
    assert not torch.isin(words, torch.tensor([START, UNKNOWN])).any()
    for row in words[:50].tolist():
        ended = row.index(END) if END in row else len(row)
        assert all(word == PAD for word in row[ended + 1 :])
        assert PAD not in row[:ended]
    decoded, _ = decoder(torch.full((2, 1), START), regions)
    expected = (decoded.logits[:, 0] / temperature).softmax(-1)
    expected[:, [PAD, START, UNKNOWN]] = 0
    expected /= expected.sum(-1, keepdim=True)
    for photograph in range(2):
        counts = words[photograph * 400 : (photograph + 1) * 400, 0].bincount(minlength=expected.shape[1]) / 400
        assert (counts - expected[photograph]).abs().max() == pytest.approx(0, abs=0.1)
