import numpy as np
import pytest

from captioner.region_maps import centre_map, correctness, entropy, overlap, pointing, uniform_map

INSIDE = np.array([[True, False, False, False]])


def random_maps(count: int, regions: int = 9) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(regions), count)


def test_a_map_points_where_it_is_strongest():
    assert pointing(np.array([[0.4, 0.3, 0.2, 0.1]]), INSIDE) == 100
    assert pointing(np.array([[0.3, 0.4, 0.2, 0.1]]), INSIDE) == 0


def test_ties_are_shared_even_where_rounding_parts_them():
    assert pointing(np.array([[0.4, 0.4, 0.2, 0.0]]), INSIDE) == 50
    assert pointing(np.array([[0.4, 0.4 * (1 + 1e-9), 0.2, 0.0]]), INSIDE) == 50


def test_a_uniform_map_points_as_often_as_centres_lie_inside():
    inside = np.random.default_rng(0).random((5, 12)) < 0.4
    maps = np.tile(uniform_map((3, 4)), (5, 1))
    np.testing.assert_allclose(pointing(maps, inside), 100 * inside.mean(-1))


def test_correctness_is_the_mass_inside():
    covered = np.array([[1.0, 0.5, 0.0, 0.0]])
    assert correctness(np.array([[0.2, 0.6, 0.1, 0.1]]), covered) == pytest.approx([50])
    maps = random_maps(6)
    np.testing.assert_allclose(correctness(maps, np.ones((6, 9))), 100)
    np.testing.assert_array_equal(correctness(maps, np.zeros((6, 9))), 0)


def test_entropy_runs_from_one_region_to_all():
    one = np.eye(9)[:1]
    np.testing.assert_array_equal(entropy(one), 0)
    np.testing.assert_allclose(entropy(uniform_map((3, 3))[None]), 100)
    three = np.array([[1, 1, 1, 0, 0, 0, 0, 0, 0]]) / 3
    np.testing.assert_allclose(entropy(three), 50)  # log 3 of log 9
    assert ((entropy(random_maps(5)) > 0) & (entropy(random_maps(5)) < 100)).all()


def test_overlap_runs_from_nothing_shared_to_the_same_map():
    maps = random_maps(6)
    np.testing.assert_allclose(overlap(maps, maps), 100)
    np.testing.assert_array_equal(overlap(np.eye(9)[:4], np.eye(9)[4:8]), 0)
    np.testing.assert_allclose(overlap(maps[:3], maps[3:]), overlap(maps[3:], maps[:3]))
    np.testing.assert_allclose(overlap(np.array([[0.7, 0.3]]), np.array([[0.5, 0.5]])), 80)


@pytest.mark.parametrize(("grid", "regions"), [((3, 3), [4]), ((2, 2), [0, 1, 2, 3]), ((3, 4), [5, 6]), ((1, 1), [0])])
def test_the_centre_is_the_middle_region_or_regions(grid, regions):
    centre = centre_map(grid)
    assert np.flatnonzero(centre).tolist() == regions
    np.testing.assert_allclose(centre[regions], 1 / len(regions))
