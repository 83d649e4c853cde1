"""Counting what keep-largest would do is the same as doing it."""

from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from autoseg.ensemble.largest import Rules, count_ways
from autoseg.ensemble.objects import count_objects
from autoseg.ensemble.postprocessing import to_steps
from autoseg.runtime.postprocess import apply_steps
from autoseg.seeds import stream


def labels(seed, shape):
    rng = stream(seed, "labels")
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
    return np.digitize(smooth, np.quantile(smooth, [0.6, 0.8])).astype(np.int8)


def count(*pairs, num_classes=3):
    known = (True,) * num_classes
    return count_ways([count_objects(found, truth, known, 1.0) for found, truth in pairs])


@pytest.mark.parametrize("shape", [(9, 10, 11), (24, 25), (300,)])
@pytest.mark.parametrize("rules", list(product((False, True), repeat=3)))
def test_counts_agree_with_the_steps_that_prediction_applies(shape, rules):
    prediction, reference = labels(1, shape), labels(2, shape)
    reference[:2] = -1
    foreground, *classes = rules
    chosen = Rules(foreground=foreground, classes=tuple(classes))
    dice = count((prediction, reference)).dice(chosen)[0]
    after = apply_steps(prediction, to_steps(chosen))
    known = reference >= 0
    for index in (1, 2):
        a, b = (after == index) & known, reference == index
        assert dice[index - 1] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_class_that_both_lack_is_not_counted():
    empty = np.zeros((4, 5), np.int8)
    nothing = Rules(foreground=False, classes=(False,))
    assert np.isnan(count((empty, empty), num_classes=2).dice(nothing)).all()


def test_cases_keep_their_order():
    pairs = [(labels(i, (8, 9)), labels(i + 1, (8, 9))) for i in range(3)]
    nothing = Rules(foreground=False, classes=(False, False))
    table = count(*pairs).dice(nothing)
    assert table.shape == (3, 2)
    assert (table[1] == count(pairs[1]).dice(nothing)[0]).all()
