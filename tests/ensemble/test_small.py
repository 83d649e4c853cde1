"""Objects below a size are removed only where other cases say that it helps."""

import numpy as np
import pytest

from autoseg.ensemble.largest import Rules
from autoseg.ensemble.objects import count_objects
from autoseg.ensemble.small import choose_sizes
from autoseg.ensemble.tried import mean_dice
from autoseg.ensemble.weights import class_dice
from autoseg.runtime.postprocess import apply_steps, remove_small
from autoseg.runtime.recipe import KeepLargest

NOTHING = Rules(foreground=False, classes=(False, False))
NUM_CASES = 8
PATIENTS = [f"patient {index}" for index in range(NUM_CASES)]
GROUPS = np.arange(NUM_CASES) // 2


def truth():
    labels = np.zeros((12, 14), np.int8)
    labels[1:6, 1:6], labels[1:6, 8:13] = 1, 1  # two right objects: the largest alone is wrong
    labels[8:11, 1:6] = 2
    return labels


def speckled(seed):
    labels = truth()
    rows = np.random.default_rng(seed).choice((7, 9, 11), size=2, replace=False)
    labels[rows, 8] = 1
    labels[rows, 9] = 1
    return labels


def choose(predictions, rules=NOTHING, voxel_size=0.5):
    cases = [count_objects(item, truth(), (True,) * 3, voxel_size) for item in predictions]
    return choose_sizes(
        cases, rules, groups=GROUPS, patients=PATIENTS, names=("large", "small"), unit="mm2"
    )


def test_speckles_are_removed_by_size_and_the_runtime_gives_that_dice():
    predictions = [speckled(seed) for seed in range(NUM_CASES)]
    smallest, tried = choose(predictions)
    assert tried.used
    assert [(item.class_index, item.size) for item in smallest] == [(1, 2.0)]
    assert tried.best == "large 2 mm2"
    found = [remove_small(item, smallest, 0.5) for item in predictions]
    table = np.array([class_dice(item, truth(), 3) for item in found])
    assert tried.in_sample == tried.cross_fitted == mean_dice(table) == 1.0


def test_right_predictions_keep_every_object():
    smallest, tried = choose([truth()] * NUM_CASES)
    assert smallest == ()
    assert tried.best == "as planned"


def test_after_keep_largest_there_is_nothing_small_to_remove():
    rules = Rules(foreground=False, classes=(True, False))
    predictions = [speckled(seed) for seed in range(NUM_CASES)]
    smallest, tried = choose(predictions, rules)
    assert smallest == ()
    kept = [apply_steps(item, (KeepLargest(classes=(1,)),)) for item in predictions]
    table = np.array([class_dice(item, truth(), 3) for item in kept])
    assert tried.before == pytest.approx(mean_dice(table))


def test_objects_outside_the_largest_foreground_are_gone_before():
    rules = Rules(foreground=True, classes=(False, False))
    predictions = [speckled(seed) for seed in range(NUM_CASES)]
    _, tried = choose(predictions, rules)
    kept = [apply_steps(item, (KeepLargest(classes=(1, 2)),)) for item in predictions]
    table = np.array([class_dice(item, truth(), 3) for item in kept])
    assert tried.before == pytest.approx(mean_dice(table))
