import math

import numpy as np
import pytest
import torch

from captioner.data import DataError
from captioner.decoder import CnnDecoder, DecoderConfig
from captioner.language import batches, pretrain, read_sentences
from captioner.vocabulary import END, START


def make_decoder():
    torch.manual_seed(0)
    return CnnDecoder(DecoderConfig(width=16, layers=2), channels=8, grid=(2, 2), vocabulary=12).eval()


def learn(decoder, **changes):
    sentences = [[4, 5, 6], [7, 8, 9, 10]] * 20
    options = {"epochs": 60, "rate": 3e-2, "smoothing": 0.0, "longest": 8, "seed": 0} | changes
    return pretrain(decoder, sentences, **options)


def test_sentences_are_the_words_of_the_lines(tmp_path):
    (tmp_path / "text.txt").write_text("A dog runs .\n\nTwo men, one ball!\n")
    assert read_sentences(tmp_path / "text.txt") == [["a", "dog", "runs"], ["two", "men", "one", "ball"]]


def test_a_text_without_sentences_is_refused(tmp_path):
    (tmp_path / "text.txt").write_text("\n . \n")
    with pytest.raises(DataError, match="no sentences"):
        read_sentences(tmp_path / "text.txt")


def test_an_epoch_holds_every_sentence_once_and_pads_little():
    random = np.random.default_rng(0)
    sentences = [[index] * int(random.integers(1, 12)) for index in range(1000)]
    made = list(batches(sentences, random))
    assert sorted(sentence[0] for batch in made for sentence in batch) == list(range(1000))
    assert len(made) == math.ceil(1000 / 256)
    words = sum(map(len, sentences))
    assert sum(len(batch) * max(map(len, batch)) for batch in made) < 1.3 * words


@pytest.mark.parametrize("cpu_bfloat16", [False, True])
def test_the_decoder_learns_the_sentences(cpu_bfloat16):
    decoder = make_decoder()
    loss = learn(decoder, cpu_bfloat16=cpu_bfloat16)
    assert loss < 0.8  # half of the sentences begin one way: log(2) for their first word is the least
    logits = decoder.of_text(torch.tensor([[START, 4, 5, 6]]))
    assert logits.argmax(-1)[0, 1:].tolist() == [5, 6, END]


def test_text_teaches_the_language_side_alone():
    decoder = make_decoder()
    before = {name: value.clone() for name, value in decoder.named_parameters()}
    learn(decoder, epochs=1)
    moved = {name.split(".")[0] for name, value in decoder.named_parameters() if not torch.equal(before[name], value)}
    assert {"embedding", "convolutions", "norm", "head"} <= moved
    assert not moved & {"project", "position", "hierarchy", "contexts", "feedback"}


def test_the_same_seed_teaches_the_same():
    one, two = make_decoder(), make_decoder()
    assert learn(one, epochs=1) == learn(two, epochs=1)
    assert torch.equal(one.embedding.weight, two.embedding.weight)


def test_a_text_is_read_causally():
    decoder = make_decoder()
    words = torch.tensor([[START, 4, 5, 6, 7]])
    changed = words.clone()
    changed[0, 3] = 9
    first, second = decoder.of_text(words), decoder.of_text(changed)
    torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(first[:, 3:], second[:, 3:])
