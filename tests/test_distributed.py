"""Two processes over gloo, started by torchrun, against one process."""

import json
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train
from captioner import distributed
from captioner.data import of_split, read_karpathy
from captioner.examples import Examples
from captioner.progress import Progress
from captioner.training_config import TrainingConfig
from captioner.vocabulary import Vocabulary
from tests.tiny_data import make_encoder_weights
from tests.two_processes import train_in_two


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The same six steps by one process and by two, which go on with three self-critical ones."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "sentences.txt").write_text("A blue square is on the left.\nThe red square is right.\n")
    weights = make_encoder_weights(folder / "resnet18.safetensors")
    files = f"--data {data} --text {folder / 'sentences.txt'} --encoder-weights {weights} --cache {folder / 'cache'}"
    model = "--encoder-name resnet18 --image-size 64 --width 16 --layers 2 --device cpu"
    # Terms of one weight, no dropout, no clipping: whatever is not added up rightly shows.
    terms = "--boxes 1 --matching 1 --dropout 0 --feature-dropout 0 --clip 1000"
    # Three batches an epoch, of 5, 5 and 2 photographs: the processes do not always have equal parts.
    steps = "--batch 5 --captions 2 --least-count 1 --warm-up 0.2 --epochs 2 --tuned-epochs 1 --reinforced-epochs"
    flags = [*f"{files} {model} {terms} {steps}".split()]
    said = train_in_two([*flags, "1"], folder / "two")
    assert train.main([*flags, "0", "--output", str(folder / "one")]) == 0
    return SimpleNamespace(one=folder / "one", two=folder / "two", said=said)


def log(folder, name):
    return [json.loads(line).get(name) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_processes_learn_what_one_learns(runs):
    assert log(runs.two, "step") == [3, 6, 9]
    assert log(runs.two, "loss")[:2] == pytest.approx(log(runs.one, "loss"), abs=2e-4)
    one, two = load_file(runs.one / Progress.FILE), load_file(runs.two / "step-6.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        # What a key's bias adds to the scores is the same for all regions and means nothing: only rounding moves it.
        atol = 5e-3 if name.endswith("key.bias") else 2e-5
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=atol, msg=f"{name} differs")


def test_processes_stay_in_step_in_self_critical_training_too(runs):
    first, second = (load_file(runs.two / f"process-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = load_file(runs.two / "step-6.safetensors")
    name = "decoder.embedding.weight"
    assert first[name].isfinite().all()
    assert not torch.equal(first[name], before[f"model.{name}"])
    assert log(runs.two, "reward")[2] >= 0


def test_one_process_speaks_for_all(runs):
    for beginning in ("learnt 2 sentences", "12 photographs", "epoch 1,", "val, beam 3"):
        assert len([line for line in runs.said if line.startswith(beginning)]) == 1


def test_parts_hold_everything_once_and_are_of_like_size(monkeypatch):
    for world in (1, 2, 3, 8):
        monkeypatch.setattr(distributed, "world", lambda world=world: world)
        for count in (8, 9, 31):
            parts = []
            for rank in range(world):
                monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
                parts.append(list(range(count))[distributed.part(count)])
            assert list(chain(*parts)) == list(range(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def examples(data, **changes):
    records = of_split(read_karpathy(data), "train")
    vocabulary = Vocabulary.of((words for record in records for words in record.tokens), least_count=1)
    rows = np.arange(len(records), dtype=np.float16)[:, None, None, None] * np.ones((1, 2, 2, 8), dtype=np.float16)
    return Examples(records, vocabulary, [rows], TrainingConfig(captions=2, **changes))


def test_the_batches_of_the_processes_are_parts_of_the_same_batches(data, monkeypatch):
    whole = list(examples(data, batch=5).epoch(0))
    monkeypatch.setattr(distributed, "world", lambda: 2)
    halves = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        halves.append(list(examples(data, batch=5).epoch(0)))
    for batch, *parts in zip(whole, *halves, strict=True):
        for name in ("features", "words"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
        for name in ("rows", "mirrored"):
            assert (np.concatenate([getattr(part, name) for part in parts]) == getattr(batch, name)).all()


def test_a_batch_too_small_for_the_processes_is_refused(data, monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(ValueError, match=r"last batch .* 2 photographs, too few for 3 processes; .* than 5"):
        examples(data, batch=5)
    examples(data, batch=4)


def test_one_process_needs_none_of_it():
    values, mean = torch.rand(3, 2, requires_grad=True), torch.tensor(0.3)
    assert distributed.gathered(values) is values
    assert distributed.part_of_mean(mean, 7) is mean
    assert distributed.total(0.1, 3) == [0.1, 3]
