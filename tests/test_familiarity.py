import pytest
import torch
import torch.nn.functional as F

from captioner.familiarity import Familiarity, auroc, mean_features
from captioner.predictor import Captioner
from tests.tiny import tiny_model


def drawn(count: int, seed: int, *, shift: float = 0.0, spread: float = 1.0) -> torch.Tensor:
    """Features (count, 20) that vary in the first five channels, and little elsewhere, as unit vectors."""
    scale = torch.tensor([3.0, 2.5, 2.0, 1.5, 1.0] + [0.1 * spread] * 15)
    noise = torch.randn(count, 20, generator=torch.Generator().manual_seed(seed))
    return F.normalize(10 + noise * scale + shift * torch.linspace(-1, 1, 20), dim=1)


@pytest.fixture(scope="module")
def familiarity() -> Familiarity:
    return Familiarity.fit(drawn(400, 0), drawn(400, 1))


def test_tensors_have_the_shapes_that_are_announced(familiarity):
    shapes = {name: tuple(tensor.shape) for name, tensor in vars(familiarity).items()}
    assert shapes == Familiarity.shapes(20, len(familiarity.components))


def test_principal_directions_are_orthonormal_and_fewer_than_the_channels(familiarity):
    products = familiarity.components @ familiarity.components.T
    torch.testing.assert_close(products, torch.eye(len(products)), atol=1e-2, rtol=0)
    assert len(products) < 20


def test_familiarity_is_evenly_spread_over_photographs_like_the_usual_ones(familiarity):
    shares = familiarity.shares(familiarity.distances(drawn(2000, 2)))
    assert ((shares >= 0) & (shares <= 1)).all()
    for share in (0.1, 0.5, 0.9):
        assert (shares < share).mean() == pytest.approx(share, abs=0.1)


@pytest.mark.parametrize("strange", [{"shift": 8.0}, {"spread": 10.0}], ids=["elsewhere", "wider"])
def test_what_lies_elsewhere_is_less_familiar(familiarity, strange):
    near, far = familiarity.distances(drawn(100, 2)), familiarity.distances(drawn(100, 3, **strange))
    assert auroc(near, far) > 90
    assert familiarity.shares(far).mean() < 0.1 < familiarity.shares(near).mean()


def test_familiarity_lies_between_nought_and_one(familiarity):
    assert familiarity.of(-torch.ones(4, 20)) == 0
    assert familiarity.of(familiarity.mean.expand(4, -1)) > 0.9


def test_a_photograph_is_judged_by_the_direction_of_its_mean_features(familiarity):
    features = drawn(9, 4)
    assert mean_features(features).shape == (20,)
    assert mean_features(features).norm() == pytest.approx(1)
    of = familiarity.of(features)
    for same in (features.flip(0), 5 * features, features.mean(0)[None]):
        assert familiarity.of(same) == pytest.approx(of, abs=1e-3)


def test_too_few_photographs_are_refused():
    with pytest.raises(ValueError, match="three training"):
        Familiarity.fit(drawn(2, 0), drawn(5, 0))
    with pytest.raises(ValueError, match="one of validation"):
        Familiarity.fit(drawn(5, 0), drawn(5, 0)[:0])


def test_few_photographs_are_enough_for_a_familiarity():
    few = Familiarity.fit(drawn(4, 0), drawn(1, 1))
    assert 0 <= few.of(drawn(9, 2)) <= 1


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    near = torch.tensor([1.0, 2.0])
    assert auroc(near, torch.tensor([3.0])) == 100
    assert auroc(near, torch.tensor([0.0])) == 0
    assert auroc(near, torch.tensor([2.0])) == 75
    assert auroc(near, near) == 50


def test_a_captioner_without_familiarity_says_so(captioner, photograph):
    assert captioner.explain(photograph).familiarity is None


def test_a_captioner_knows_how_familiar_a_photograph_is(photograph, monkeypatch):
    saved = tiny_model(image_size=96)
    channels = saved.model.encoder.channels
    random = torch.Generator().manual_seed(0)
    usual = F.normalize(torch.rand(30, channels, generator=random))
    tiny = Captioner(saved, name="tiny")
    tiny.familiarity = Familiarity.fit(usual, usual)
    encoded = []
    encode = tiny.model.encode
    monkeypatch.setattr(tiny.model, "encode", lambda images: encoded.append(images) or encode(images))
    explained = tiny.explain(photograph)
    assert len(encoded) == 1
    pixels = tiny.model.config.preprocessing(photograph)
    with torch.inference_mode():
        expected = tiny.familiarity.of(encode(pixels[None])[0])
    assert explained.familiarity == pytest.approx(expected, abs=1e-3)
    assert tiny.explain_caption(photograph, explained.text).familiarity == explained.familiarity
