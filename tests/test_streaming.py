"""Batches from shards; which process and worker reads what is in ``tests/test_shards.py``."""

from dataclasses import replace
from itertools import islice

import pytest
import torch

from captioner import distributed
from captioner.data import DataError
from captioner.shards import read_captions, shards_of
from captioner.streaming import StreamedExamples
from captioner.training_config import TrainingConfig
from captioner.vocabulary import Vocabulary
from tests.tiny import tiny_model
from tests.tiny_data import make_shards, write_shard

pytest.importorskip("webdataset", reason="needs webdataset: pip install webdataset")
CONFIG = TrainingConfig(batch=4, captions=2, least_count=1, flip=False)


@pytest.fixture(scope="module")
def shards(data, tmp_path_factory):
    return shards_of(make_shards(tmp_path_factory.mktemp("shards"), data), "train")


def examples(shards, **changes):
    records = read_captions(shards)
    vocabulary = Vocabulary.of((words for record in records for words in record.tokens), least_count=1)
    return StreamedExamples(shards, records, vocabulary, replace(CONFIG, **changes), tiny_model().model)


def rows(batches):
    return [row for batch in batches for row in batch.rows]


def test_an_epoch_shows_every_photograph_once_with_its_own_captions(shards):
    made = examples(shards)
    batches = list(made.epoch(0))
    assert len(batches) == made.steps == 3
    assert sorted(rows(batches)) == list(range(12))
    for batch in batches:
        assert batch.features.shape == (4, 256, 4, 4)
        for ids, row in zip(batch.words.view(4, 2, -1).tolist(), batch.rows):
            said = [[word for word in words if word > 2] for words in ids]
            assert sorted(said) == sorted(made.captions[row])


def test_epochs_differ_and_may_be_entered_in_the_middle(shards):
    made = examples(shards)
    first = list(made.epoch(0))
    assert rows(made.epoch(1)) != rows(first)
    for whole, late in zip(first[1:], made.epoch(0, skip=1), strict=True):
        assert torch.equal(whole.features, late.features)
        assert torch.equal(whole.words, late.words)


def test_mirror_images_have_mirrored_captions(shards):
    made = examples(shards, flip=True)
    plain = {row: feature for batch in examples(shards).epoch(0) for row, feature in zip(batch.rows, batch.features)}
    flipped = 0
    for batch in islice(made.epoch(0), 3):
        for row, feature, words, mirrored in zip(batch.rows, batch.features, batch.words[::2], batch.mirrored):
            known = [made.mirrored[caption].tolist() if mirrored else caption for caption in made.captions[row]]
            assert [word for word in words.tolist() if word > 2] in known
            assert torch.allclose(feature, plain[row], atol=1e-3) != mirrored
            flipped += mirrored
    assert 0 < flipped < 12


def test_an_unreadable_photograph_is_replaced_by_others_and_told(data, shards, tmp_path):
    broken = write_shard(tmp_path / "train" / "bad.tar", {"a.png": b"none", "a.txt": b"A red square"})
    made = examples([*shards, broken], batch=13)
    with pytest.warns(UserWarning, match=r"1 x unreadable photographs \(train/bad\.tar/a\.png\)"):
        (batch,) = made.epoch(0)
    assert sorted(set(batch.rows)) == list(range(12))
    assert len(batch.rows) == 13
    with pytest.raises(DataError, match="None of the photographs"), pytest.warns(UserWarning, match="unreadable"):
        list(examples([broken], batch=1).epoch(0))


def test_no_process_can_have_more_steps_than_its_shards_fill(data, tmp_path, monkeypatch):
    files = shards_of(make_shards(tmp_path, data, shards=3), "train")  # of four photographs each
    monkeypatch.setattr(distributed, "world", lambda: 2)
    assert examples(files).steps == 2
    with pytest.raises(ValueError, match="as many shards"):
        examples(files[:1])
