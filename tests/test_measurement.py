import numpy as np
import pytest

from captioner.measurement import Means


def means_of(values: dict[str, list[float]], name: str = "score") -> Means:
    means = Means()
    for photograph, own in values.items():
        for value in own:
            means.add(name, photograph, value)
    return means


def random_values(photographs: int, *, seed: int = 0) -> dict[str, list[float]]:
    random = np.random.default_rng(seed)
    return {f"{number}.jpg": random.normal(50, 10, random.integers(1, 6)).tolist() for number in range(photographs)}


def test_the_mean_is_over_values_not_over_photographs():
    means = means_of({"a": [1, 2, 3], "b": [10]})
    assert means.means() == {"score": 4}
    assert means.counts() == {"score": 4}


def test_names_are_kept_apart():
    means = means_of({"a": [1]}, "one")
    means.add("other", "a", 3)
    assert means.means() == {"one": 1, "other": 3}
    assert means.counts() == {"one": 1, "other": 1}


def test_nothing_has_no_mean():
    assert Means().means() == Means().intervals() == Means().counts() == {}


def test_an_interval_holds_the_mean_and_narrows_with_more_photographs():
    widths = []
    for photographs in (10, 1000):
        means = means_of(random_values(photographs))
        low, high = means.intervals()["score"]
        assert low < means.means()["score"] < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 4


def test_photographs_are_resampled_whole():
    # Within a photograph the values differ, between photographs they do not: there is nothing to be unsure of.
    low, high = means_of({name: [0, 100] for name in "abcde"}).intervals()["score"]
    assert low == high == 50


def test_an_interval_is_about_as_wide_as_theory_says():
    values = {str(number): [value] for number, value in enumerate(np.random.default_rng(0).normal(0, 1, 400))}
    low, high = means_of(values).intervals(resamples=4000)["score"]
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(400), rel=0.1)


def test_the_seed_decides_the_interval():
    means = means_of(random_values(20))
    assert means.intervals(seed=1) == means.intervals(seed=1) != means.intervals(seed=2)
