import numpy as np
import pytest

from captioner.boxes import centres_inside, coverage

GRIDS = [(7, 7), (3, 5), (1, 1)]


def random_boxes(random: np.random.Generator, count: int) -> list[tuple[float, float, float, float]]:
    corners = np.sort(random.random((count, 2, 2)), axis=1)  # low before high
    return [tuple(box) for box in corners.reshape(count, 4).tolist()]


@pytest.mark.parametrize("grid", GRIDS)
def test_the_whole_photograph_covers_every_region_and_no_box_none(grid):
    np.testing.assert_allclose(coverage([(0, 0, 1, 1)], grid), np.ones(grid))
    np.testing.assert_array_equal(coverage([], grid), np.zeros(grid))
    assert centres_inside([(0, 0, 1, 1)], grid).all()
    assert not centres_inside([], grid).any()


def test_a_region_counts_by_its_covered_share():
    covered = coverage([(0.25, 0.0, 0.75, 0.5)], (2, 2))
    np.testing.assert_allclose(covered, [[0.5, 0.5], [0, 0]])


def test_x_runs_along_columns_and_y_along_rows():
    box = [(0.0, 0.0, 1.0, 0.5)]  # the upper half
    np.testing.assert_allclose(coverage(box, (2, 3)), [[1, 1, 1], [0, 0, 0]])
    np.testing.assert_array_equal(centres_inside(box, (2, 3)), [[True] * 3, [False] * 3])


@pytest.mark.parametrize("grid", GRIDS)
def test_coverage_adds_up_to_the_area_of_the_union(grid):
    random = np.random.default_rng(0)
    for _ in range(20):
        one, other = random_boxes(random, 2)
        shared = [max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])]
        areas = [max(x1 - x0, 0) * max(y1 - y0, 0) for x0, y0, x1, y1 in (one, other, shared)]
        assert coverage([one, other], grid).mean() == pytest.approx(areas[0] + areas[1] - areas[2])


@pytest.mark.parametrize("grid", GRIDS)
def test_coverage_agrees_with_counting_points(grid):
    boxes = random_boxes(np.random.default_rng(1), 4)
    fine = (grid[0] * 60, grid[1] * 60)
    points = centres_inside(boxes, fine).reshape(grid[0], 60, grid[1], 60)
    np.testing.assert_allclose(coverage(boxes, grid), points.mean((1, 3)), atol=0.05)


def test_a_box_beyond_the_photograph_covers_what_lies_in_it():
    np.testing.assert_allclose(coverage([(-1, -1, 0.5, 2)], (2, 2)), [[1, 0], [1, 0]])


def test_a_box_repeated_covers_no_more():
    box = (0.1, 0.2, 0.55, 0.9)
    np.testing.assert_allclose(coverage([box, box], (7, 7)), coverage([box], (7, 7)))


def test_a_box_may_cover_most_of_a_region_and_miss_its_centre():
    box = [(0.0, 0.0, 0.49, 1.0)]
    assert coverage(box, (1, 1))[0, 0] == pytest.approx(0.49)
    assert not centres_inside(box, (1, 1)).any()
