import numpy as np
import pytest

from benchmarks.baselines import PERCENTILES, everywhere, threshold_dice


def test_the_largest_class_is_everywhere_and_the_others_score_nothing():
    counts = np.array([[80, 5, 15], [90, 0, 10]])
    scores = everywhere(counts)
    assert scores[0] == 0
    assert scores[1] == pytest.approx((30 / 115 + 20 / 110) / 2)


def test_a_class_that_a_case_lacks_counts_only_where_it_is_predicted():
    counts = np.array([[60, 40, 0], [100, 0, 0]])
    scores = everywhere(counts)
    assert scores[0] == pytest.approx((80 / 140 + 0) / 2)
    assert np.isnan(scores[1])  # nowhere there, and never predicted


@pytest.mark.parametrize("side", [0, 1])
def test_a_class_that_a_threshold_separates_is_found(side):
    values = np.arange(1000.0)
    labels = (values >= 700 if side == 0 else values < 300).astype(np.int8)
    dice = threshold_dice(values, labels, num_classes=2)
    assert dice.shape == (1, 2, len(PERCENTILES))
    assert dice[0, side].max() > 0.99
    assert dice[0, 1 - side].max() < 0.7


def test_dice_of_a_threshold_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=500), rng.integers(0, 3, 500)
    predicted = values >= np.percentile(values, PERCENTILES[59])
    truth = labels == 2
    expected = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    assert threshold_dice(values, labels, num_classes=3)[1, 0, 59] == pytest.approx(expected)
