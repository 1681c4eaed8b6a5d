import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from captioner import sanity
from captioner.data import CaptionedPhotograph
from captioner.measurement import Seen
from captioner.photographs import open_photograph
from captioner.sanity import Sanity, randomise, rank_correlation

PARTS = ("head", "decoder", "all", "encoder")


@pytest.fixture
def photographs(captioner, tmp_path):
    """Four photographs of noise as the tiny model saw them."""
    found = []
    for number in range(4):
        file = tmp_path / f"{number}.png"
        noise = np.random.default_rng(number).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
        pixels = captioner.model.config.preprocessing(open_photograph(file))
        with torch.inference_mode():
            features = captioner.model.encode(pixels[None])[0]
        caption = tuple(captioner.vocabulary.encode("a dog with a man".split()))
        found.append(Seen(CaptionedPhotograph(file, "val", (), ()), features, caption))
    return found


def measured(model, photographs, /, **options):
    metric = Sanity(model, **options)
    for seen in photographs:
        metric.add(seen)
    return metric.result()


def test_rank_correlation_is_spearmans():
    maps = torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4], [5, 5, 5, 5]])
    others = torch.tensor([[0.1, 0.2, 7, 9], [4, 3, 2, 1], [2, 1, 4, 3], [1, 2, 3, 4]])
    expected = torch.tensor([1, -1, 0.6, 0])  # 1 - 6 sum d^2 / n (n^2 - 1); a flat map has none
    torch.testing.assert_close(rank_correlation(maps, others).float(), expected)


def test_equal_values_share_a_rank():
    one, other = torch.tensor([0.0, 0, 1, 2, 2]), torch.tensor([3.0, 1, 1, 5, 4])
    ranks = np.corrcoef([1.5, 1.5, 3, 4.5, 4.5], [3, 1.5, 1.5, 5, 4])
    assert rank_correlation(one, other).item() == pytest.approx(ranks[0, 1])


def test_random_weights_differ_in_value_and_not_in_scale():
    torch.manual_seed(0)
    layer = torch.nn.Linear(100, 100)
    trained = deepcopy(layer)
    with torch.no_grad():
        trained.weight.mul_(7).add_(1)
    layer.load_state_dict(trained.state_dict())
    randomise([layer.weight], seed=1)
    assert layer.weight.mean().item() == pytest.approx(trained.weight.mean().item(), abs=0.02)
    assert layer.weight.std().item() == pytest.approx(trained.weight.std().item(), rel=0.05)
    pair = torch.stack([layer.weight.flatten(), trained.weight.flatten()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.05
    torch.testing.assert_close(layer.bias, trained.bias)


def test_maps_of_weights_left_alone_correlate_wholly(captioner, photographs, monkeypatch):
    monkeypatch.setattr(sanity, "randomise", lambda parameters, seed: None)
    found = measured(captioner.model, photographs)
    for part in PARTS:
        assert found[part] == pytest.approx({"region_word": 100, "attention": 100}, abs=0.5)
    assert found["words"]["region_word"] < 99  # the words' own maps differ


def test_random_weights_change_the_maps_and_leave_the_model_as_it_was(captioner, photographs):
    before = deepcopy(captioner.model.state_dict())
    found = measured(captioner.model, photographs)
    torch.testing.assert_close(captioner.model.state_dict(), before, rtol=0, atol=0)
    for part in PARTS:
        for kind in ("region_word", "attention"):
            assert -100 <= found[part][kind] < 90
            low, high = found["intervals"][part][kind]
            assert low <= found[part][kind] <= high
    assert found["photographs"] == 4
    assert json.loads(json.dumps(found)) == found


def test_each_part_is_randomised_alone(captioner, photographs, monkeypatch):
    changed = []
    monkeypatch.setattr(sanity, "randomise", lambda parameters, seed: changed.append({id(p) for p in parameters}))
    metric = Sanity(captioner.model)
    metric.add(photographs[0])
    decoder, encoder = metric._decoder, metric._stranger.encoder
    own = {id(parameter) for parameter in captioner.model.parameters()}
    head, rest, everything, of_encoder = changed
    assert head == {id(p) for n, p in decoder.head.named_parameters() if n != "embedding.weight"}
    assert head < rest < everything == {id(p) for p in decoder.parameters()}
    assert everything - rest == {id(decoder.embedding.weight)}
    assert of_encoder == {id(p) for p in encoder.parameters()}
    assert not own & (everything | of_encoder)


def test_results_depend_on_the_seed_and_not_on_the_order_of_photographs(captioner, photographs):
    one, backwards = measured(captioner.model, photographs[:2]), measured(captioner.model, photographs[1::-1])
    other = measured(captioner.model, photographs[:2], seed=1)
    for part in PARTS:
        assert backwards[part] == pytest.approx(one[part])
        assert other[part] != one[part]
    assert other["words"] == one["words"]


def test_only_the_first_photographs_are_measured(captioner, photographs):
    assert measured(captioner.model, photographs, photographs=1) == measured(captioner.model, photographs[:1])


def test_without_region_word_maps_their_row_is_left_out(captioner, photographs, monkeypatch):
    read = sanity.read
    monkeypatch.setattr(sanity, "read", lambda *arguments: replace(read(*arguments), region_logits=None))
    found = measured(captioner.model, photographs[:1])
    assert set(found["words"]) == set(found["head"]) == {"attention"}


def test_a_caption_that_repeats_one_word_has_no_pair_of_words(captioner, photographs):
    alone = replace(photographs[0], caption=photographs[0].caption[:1] * 3)
    assert "words" not in measured(captioner.model, [alone])
