from types import SimpleNamespace

import numpy as np
import pytest
import torch

from captioner.decoder import CnnDecoder, DecoderConfig
from captioner.enhancement import PhraseBoxes, PhraseWords, box_loss, matching_loss
from captioner.entities import GroundedCaption, Phrase
from captioner.reading import read
from captioner.vocabulary import END, PAD

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
CAPTION = GroundedCaption(
    ("a", "dog", "and", "the", "red", "ball", "sleep"),
    (Phrase(0, 1, ("animals",), (LEFT,)), Phrase(3, 5, ("other",), (RIGHT,)), Phrase(6, 6, ("other",), ())),
)


@pytest.fixture(scope="module")
def phrase_words():
    other = ("nothing", "known")
    return PhraseWords([[CAPTION.words, other]], [[CAPTION]], (2, 2))


def test_the_content_words_of_phrases_with_boxes_are_tied_to_them(phrase_words):
    batch = phrase_words.batch([(0, 1, False), (0, 0, False)], longest=16)
    assert batch.captions.tolist() == [1, 1, 1]
    assert batch.positions.tolist() == [1, 4, 5]  # dog; red, ball
    assert batch.inside.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]]


def test_a_mirrored_photograph_has_mirrored_boxes(phrase_words):
    batch = phrase_words.batch([(0, 0, True)], longest=16)
    assert batch.inside.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [1, 0, 1, 0]]


def test_words_that_are_cut_off_are_left_out(phrase_words):
    assert phrase_words.batch([(0, 0, False)], longest=5).positions.tolist() == [1, 4]


def test_a_box_smaller_than_a_region_still_has_a_region_of_its_own():
    small = GroundedCaption(("dog",), (Phrase(0, 0, ("animals",), ((0.1, 0.1, 0.2, 0.2),)),))
    batch = PhraseWords([[("dog",)]], [[small]], (2, 2)).batch([(0, 0, False)], longest=16)
    assert batch.inside.tolist() == [[1, 0, 0, 0]]


def reading(attention, relevance):
    attention, relevance = torch.tensor([[attention]]), torch.tensor([[relevance]], requires_grad=True)
    return SimpleNamespace(
        bias=torch.zeros(1, 1), attention=attention, relevance=relevance, region_logits=attention * relevance
    )


INSIDE_LEFT = PhraseBoxes(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1.0, 0.0]]))


def test_the_box_loss_is_nothing_where_all_lies_inside_and_grows_with_what_lies_outside():
    losses = [
        box_loss(reading([1 - out, out], [8 * (1 - out), 8 * out]), INSIDE_LEFT).item() for out in (0.0, 0.3, 0.6, 0.9)
    ]
    assert losses[0] == pytest.approx(0, abs=1e-3)
    assert losses == sorted(losses)
    assert losses[-1] > 1


def test_the_box_loss_moves_a_word_for_which_no_region_speaks_yet():
    given = reading([0.5, 0.5], [-2.0, -1.0])
    box_loss(given, INSIDE_LEFT).backward()
    inside, outside = -given.relevance.grad[0, 0]
    assert inside > 0 > outside


def test_a_batch_without_boxes_costs_nothing():
    none = PhraseBoxes(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 2))
    assert box_loss(reading([0.5, 0.5], [1.0, 1.0]), none).item() == 0


def matching(strength, words, regions=3):
    """Two photographs; word 4 is seen somewhere in the first, word 5 in the second."""
    embedding = torch.eye(8)
    values = torch.zeros(2, regions, 8)
    values[0, 0, 4] = values[1, 1, 5] = strength
    return matching_loss(values, embedding, torch.tensor(words)).item()


def test_captions_that_find_their_photographs_match():
    right, wrong = [[4, END], [5, END]], [[5, END], [4, END]]
    assert matching(0.0, right) == pytest.approx(2 * np.log(2), abs=1e-5)  # chance, both ways
    assert matching(12.0, right) < 0.01
    assert matching(12.0, wrong) > 10


def test_several_captions_of_one_photograph_are_all_right():
    assert matching(12.0, [[4, END], [4, END], [5, END], [5, END]]) < 0.01


def test_padding_and_end_do_not_count_in_matching():
    short, padded = matching(3.0, [[4], [5]]), matching(3.0, [[4, END, PAD], [5, END, PAD]])
    assert short == pytest.approx(padded)


def test_learning_from_boxes_moves_attention_and_maps_into_them():
    torch.manual_seed(0)
    decoder = CnnDecoder(DecoderConfig(width=16, layers=2), channels=8, grid=(2, 2), vocabulary=12).eval()
    features, words = torch.randn(6, 4, 8), torch.randint(4, 12, (6, 3))
    everywhere = torch.arange(6).repeat_interleave(3), torch.arange(3).repeat(6)
    boxes = PhraseBoxes(*everywhere, torch.eye(4)[torch.randint(4, (18,))])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        box_loss(read(decoder, words, decoder.look(features)), boxes).backward()
        optimizer.step()
    learnt = read(decoder, words, decoder.look(features))
    inside = boxes.inside.view(6, 3, 4)
    assert (learnt.attention * inside).sum(-1).mean() > 0.8
    spoken = learnt.region_logits.relu()
    assert ((spoken * inside).sum(-1) / spoken.sum(-1)).mean() > 0.9
