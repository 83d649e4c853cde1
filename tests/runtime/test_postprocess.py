import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from autoseg.runtime.postprocess import apply_steps, remove_small
from autoseg.runtime.recipe import KeepLargest, SmallestObject

MAPS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3), elements=st.integers(0, 2))


def test_only_the_largest_component_stays():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [2, 0, 2, 2]], dtype=np.uint8)
    out = apply_steps(labels, (KeepLargest(classes=(1,)),))
    assert out.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [2, 0, 2, 2]]
    assert labels[0, 3] == 1


def test_classes_taken_together_form_one_component():
    labels = np.array([[1, 2, 2, 0, 1, 1]], dtype=np.uint8)
    out = apply_steps(labels, (KeepLargest(classes=(1, 2)),))
    assert out.tolist() == [[1, 2, 2, 0, 0, 0]]


def test_diagonal_neighbours_are_apart():
    labels = np.array([[1, 1, 0], [0, 0, 1]], dtype=np.uint8)
    assert apply_steps(labels, (KeepLargest(classes=(1,)),)).tolist() == [[1, 1, 0], [0, 0, 0]]


def test_steps_are_applied_in_order():
    labels = np.array([[1, 0, 2, 2, 0, 1, 1]], dtype=np.uint8)
    steps = (KeepLargest(classes=(1, 2)), KeepLargest(classes=(1,)))
    assert apply_steps(labels, steps).tolist() == [[0, 0, 2, 2, 0, 0, 0]]
    assert apply_steps(labels, steps[::-1]).tolist() == [[0, 0, 2, 2, 0, 0, 0]]


def test_map_without_the_class_stays():
    labels = np.zeros((3, 3), dtype=np.uint8)
    assert apply_steps(labels, (KeepLargest(classes=(1,)),)) is labels
    assert apply_steps(labels, ()) is labels


@given(MAPS)
def test_a_single_component_is_left_and_other_classes_stay(labels):
    out = apply_steps(labels, (KeepLargest(classes=(1,)),))
    components = np.zeros(out.shape, dtype=np.int32)
    ndimage.label(out == 1, output=components)
    assert components.max() <= 1
    assert ((out == 2) == (labels == 2)).all()
    assert not (out == 1)[labels != 1].any()


def test_smaller_objects_vanish_and_one_of_just_the_size_stays():
    labels = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [2, 0, 1, 1]])
    smallest = (SmallestObject(class_index=1, size=0.6),)
    out = remove_small(labels, smallest, voxel_size=0.3)
    assert out.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [2, 0, 1, 1]]
    assert labels[0, 3] == 1


def test_what_holds_no_small_object_is_returned_as_it_is():
    labels = np.ones((3, 3), np.uint8)
    assert remove_small(labels, (SmallestObject(class_index=1, size=9.0),), 1.0) is labels
    assert remove_small(labels, (SmallestObject(class_index=2, size=9.0),), 1.0) is labels
