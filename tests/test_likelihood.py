import pytest
import torch

from captioner.likelihood import NEVER_SAID, log_probabilities
from captioner.vocabulary import END, PAD, START, UNKNOWN


def test_what_may_be_said_shares_all_of_the_probability():
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 9)
    probabilities = log_probabilities(logits).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, 3))
    assert probabilities[..., [PAD, START, UNKNOWN]].max() == 0
    assert probabilities[..., [END, *range(UNKNOWN + 1, 9)]].min() > 0


def test_shares_of_what_may_be_said_are_as_the_logits_have_them():
    logits = torch.tensor([7.0, 8.0, 0.5, 99.0, 1.5, -1.0])
    found = log_probabilities(logits)
    assert (found[4] - found[5]).item() == pytest.approx(2.5)
    assert (found[4] - found[END]).item() == pytest.approx(1.0)
    assert NEVER_SAID == [PAD, START, UNKNOWN]


def test_half_precision_is_counted_in_float32_and_gradients_are_finite():
    logits = torch.randn(4, 7, dtype=torch.float16, requires_grad=True)
    found = log_probabilities(logits)
    assert found.dtype == torch.float32
    found[:, 5].sum().backward()
    assert logits.grad.isfinite().all()
