"""Objects are what prediction would remove, whatever the case can judge."""

import numpy as np
import pytest
from scipy import ndimage

from autoseg.ensemble.largest import Rules, count_ways
from autoseg.ensemble.objects import count_objects
from autoseg.ensemble.postprocessing import to_steps
from autoseg.runtime.postprocess import apply_steps

KNOWN = (True, True, True)


def bar():
    """Two right objects of class 1, joined by one of class 2."""
    labels = np.zeros((3, 11), np.int8)
    labels[1, 1:5], labels[1, 5:8], labels[1, 8:10] = 1, 2, 1
    return labels


@pytest.mark.parametrize("shape", [(9, 10, 11), (24, 25), (300,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_objects_are_those_of_each_class_alone(shape, dtype):
    rng = np.random.default_rng(0)
    prediction, reference = np.array(rng.integers(0, 4, shape)), np.array(rng.integers(0, 4, shape))
    reference[:2] = -1
    found = count_objects(prediction.astype(dtype), reference, (True,) * 4, 1.0)
    for index, objects in enumerate(found.classes, start=1):
        numbers = np.zeros(shape, np.int32)
        ndimage.label(prediction == index, output=numbers)
        names = range(1, numbers.max() + 1)
        assert objects.sizes.tolist() == [np.sum(numbers == name) for name in names]
        right = (numbers > 0) & (reference == index)
        assert objects.overlap.tolist() == [np.sum(right & (numbers == name)) for name in names]
    assert found.reference.tolist() == [np.sum(reference == index) for index in (1, 2, 3)]


def test_unknown_voxels_do_not_count_but_belong_to_their_object():
    reference = bar().astype(np.int16)
    reference[1, 8:10] = -1
    objects = count_objects(bar(), reference, KNOWN, 1.0).classes[0]
    assert objects.sizes.tolist() == [4, 2]
    assert objects.counted.tolist() == [4, 0]
    assert objects.overlap.tolist() == [4, 0]


def test_a_class_that_is_not_annotated_joins_others_as_when_predicting():
    reference = np.where(bar() == 2, 0, bar())
    counts = count_ways([count_objects(bar(), reference, (True, True, False), 1.0)])
    rules = Rules(foreground=True, classes=(False, False))
    after = apply_steps(bar(), to_steps(rules))
    assert (after == 1).sum() == counts.predicted[0, 1, 0] == 6
    assert counts.dice(rules)[0, 0] == 1.0
    assert np.isnan(counts.dice(rules)[0, 1])


@pytest.mark.parametrize(
    "rules",
    [
        Rules(foreground=True, classes=(False, False)),
        Rules(foreground=False, classes=(True, False)),
    ],
)
def test_of_equal_objects_the_same_stays_as_when_predicting_however_files_are_read(rules):
    prediction = np.zeros((4, 5), np.uint8)
    prediction[0, 3:], prediction[1:3, 0] = 1, 1  # of two voxels each
    after = apply_steps(prediction, to_steps(rules)) == 1
    for layout in (prediction, np.asfortranarray(prediction)):
        counts = count_ways([count_objects(layout, after.astype(np.int8), KNOWN, 1.0)])
        assert counts.dice(rules)[0, 0] == 1.0


def test_nothing_found_is_no_object():
    empty = np.zeros((4, 5), np.uint8)
    found = count_objects(empty, np.ones((4, 5), np.int8), KNOWN, 1.0)
    assert [len(item.sizes) for item in found.classes] == [0, 0]
    assert count_ways([found]).dice(Rules(foreground=True, classes=(True, True)))[0, 0] == 0.0
