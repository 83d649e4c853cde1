"""By how much two candidates differ."""

import numpy as np
import pytest

from autoseg.evaluate.paired import FoldScores, by_case, interval, lower_bound, signed_rank
from autoseg.seeds import stream


def fold(challenger, incumbent, name="fold"):
    challenger, incumbent = np.atleast_2d(challenger), np.atleast_2d(incumbent)
    cases = tuple(f"{name} {index}" for index in range(challenger.shape[1]))
    return FoldScores(cases, challenger, incumbent)


def test_interval_is_centred_on_the_mean_over_cases_not_over_folds():
    long = fold(np.full((2, 9), 0.9), np.full((2, 9), 0.8), "long")
    short = fold(np.full((2, 1), 0.5), np.full((2, 1), 0.5), "short")
    low, high = interval([long, short], seed=0)
    assert (low + high) / 2 == pytest.approx(0.09)


def test_interval_of_trainings_is_that_of_students_t_where_cases_tell_nothing_more():
    """With 2 x 2 trainings a side the resamples' variance is right on average."""
    rng = stream(0, "runs")
    squares, inside = [], 0
    for seed in range(200):
        sides = rng.normal(0, 0.01, (2, 2, 2, 1)) + np.zeros((1, 1, 1, 3))
        low, high = interval([fold(a, b, str(i)) for i, (a, b) in enumerate(sides)], seed)
        squares.append(((high - low) / 2 / 3.1824) ** 2)  # t with 3 degrees of freedom
        inside += low <= 0 <= high
    assert np.mean(squares) == pytest.approx(2 * 0.01**2 / 4, rel=0.15)
    assert inside >= 0.93 * 200


def test_more_trainings_make_the_interval_narrower():
    rng = stream(0, "runs")
    widths = []
    for seeds in (2, 8):
        sides = rng.normal(0, 0.01, (2, 2, seeds, 10))
        low, high = interval([fold(a, b, str(i)) for i, (a, b) in enumerate(sides)], 0)
        widths.append(high - low)
    assert widths[1] < widths[0] / 1.5


def test_signed_rank_is_exact_for_few_cases():
    assert signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 2**6)
    assert signed_rank(-np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 2**6)


def test_equal_cases_beside_them_make_few_cases_no_better_evidence():
    few = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    for number in (0, 1, 40, 95):
        assert signed_rank(np.concatenate([few, np.zeros(number)])) == pytest.approx(2 / 2**5)


def test_signed_rank_points_where_the_mean_points():
    assert signed_rank(np.array([-0.01, -0.02, -0.03, -0.04, -0.05, -0.06, 5.0])) == 1


def test_equal_cases_and_rounding_errors_are_no_evidence():
    assert signed_rank(np.zeros(5)) == 1
    assert signed_rank(np.full(20, 1e-12)) == 1
    assert signed_rank(np.array([0.1])) == 1


def test_case_that_two_folds_hold_out_is_averaged():
    one = FoldScores(("a", "b"), np.array([[0.6, 0.5]]), np.array([[0.5, 0.5]]))
    two = FoldScores(("a",), np.array([[0.8]]), np.array([[0.5]]))
    assert by_case([one, two]) == pytest.approx([0.2, 0.0])


def test_a_lower_bound_is_passed_by_the_true_mean_one_time_in_twenty():
    rng = np.random.default_rng(0)
    missed = [lower_bound(rng.normal(0.3, 1.0, size=8), 0.95) > 0.3 for _ in range(1000)]
    assert np.mean(missed) == pytest.approx(0.05, abs=0.02)


def test_one_difference_bounds_nothing():
    assert lower_bound(np.array([0.1]), 0.95) == -np.inf
