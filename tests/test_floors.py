from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from captioner.data import CaptionedPhotograph, DataError, of_split, read_karpathy
from captioner.evaluation import captioned
from captioner.floors import consensus_captions, directions, most_common_caption, nearest, rounds
from captioner.generation import GenerationConfig


def record(tmp_path, *captions: str) -> CaptionedPhotograph:
    tokens = tuple(tuple(caption.lower().split()) for caption in captions)
    return CaptionedPhotograph(tmp_path / "photo.png", "val", tokens, captions)


def test_the_commonest_caption_is_found_word_by_word():
    assert most_common_caption(["Two cats .", "A dog runs .", "a dog runs", "Two cats sleep"]) == "A dog runs ."


def test_of_captions_as_common_the_first_stands():
    assert most_common_caption(["Two cats", "A dog", "A dog .", "two cats"]) == "Two cats"


def test_photographs_are_compared_by_the_mean_direction_of_their_features(captioner, data, tmp_path):
    records = of_split(read_karpathy(data), "train")
    found = directions(records, captioner.model, tmp_path / "cache", label="train")
    for direction, seen in zip(found, captioned(captioner, records, None, GenerationConfig()), strict=True):
        assert direction @ F.normalize(seen.features.mean(0), dim=0) == pytest.approx(1, abs=1e-3)
    assert found.norm(dim=1).tolist() == pytest.approx([1] * len(records))


def test_the_nearest_come_first():
    training = F.normalize(torch.tensor([[0.0, 1.0], [1.0, 0.2], [-1.0, 0.0], [1.0, 0.0]]), dim=1)
    asked = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert nearest(asked, training, 2).tolist() == [[3, 1], [0, 1]]
    assert nearest(asked, training, 9).tolist() == [[3, 1, 0, 2], [0, 1, 3, 2]]


CAPTIONS = [
    ["A boat on a lake", "The old stone bridge"],
    ["A red kite flies over the beach", "People rest"],
    ["The red kite flies over the beach", "Children run"],
    ["A red kite flies over the sand", "Nobody looks up"],
    ["A dog", "The dog"],
]


def test_the_caption_that_neighbours_agree_on_is_taken_over():
    neighbours = torch.tensor([[0, 1, 2, 3], [4, 0, 4, 0]]).numpy()
    agreed, _ = consensus_captions(neighbours, CAPTIONS)
    assert agreed == "A red kite flies over the beach"


def test_one_neighbour_can_only_give_its_own_caption_and_of_equals_the_first():
    neighbours = torch.tensor([[3], [0]]).numpy()
    assert consensus_captions(neighbours, CAPTIONS) == ["A red kite flies over the sand", "A boat on a lake"]


def test_every_person_is_left_out_once(tmp_path):
    records = [record(tmp_path, "A one", "A two", "A three"), record(tmp_path, "B one", "B two", "B three", "B four")]
    played = list(rounds(records))
    assert [said for said, _ in played] == [["A one", "B one"], ["A two", "B two"], ["A three", "B three"]]
    for said, others in played:
        for caption, before, left in zip(said, records, others, strict=True):
            assert sorted((*left.raw, caption)) == sorted(before.raw)
            assert [" ".join(tokens) for tokens in left.tokens] == [raw.lower() for raw in left.raw]
            assert left == replace(before, raw=left.raw, tokens=left.tokens)


def test_a_person_alone_cannot_be_compared(tmp_path):
    with pytest.raises(DataError, match="two captions"):
        list(rounds([record(tmp_path, "A one", "A two"), record(tmp_path, "B one")]))
