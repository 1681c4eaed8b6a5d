import pytest

from captioner.schedule import half_cosine, warmed_cosine


def test_half_a_cosine_falls_from_one_to_zero():
    values = [half_cosine(part / 10) for part in range(11)]
    assert values[0] == 1
    assert values[-1] == pytest.approx(0)
    assert values == sorted(values, reverse=True)


def test_the_rate_rises_then_falls_to_zero():
    rates = [warmed_cosine(step, 100, warm=10) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert max(rates) == 1
    assert rates[-1] < 0.001
