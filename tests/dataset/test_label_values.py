import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from autoseg.dataset.label_values import (
    IGNORE,
    declared_labels,
    found_labels,
    to_classes,
    to_values,
)
from autoseg.errors import DatasetError
from autoseg.runtime.recipe import Labels

VALUES = st.lists(st.integers(-300, 70000), min_size=3, max_size=12, unique=True)


@given(values=VALUES, data=st.data())
def test_classes_and_values_are_inverse(values, data):
    names = tuple(f"class {value}" for value in values[1:])
    labels = Labels(names=names, values=tuple(values[1:]), ignore=values[0])
    array = data.draw(st_numpy.arrays(np.int64, (4, 5), elements=st.sampled_from(values)))
    classes = to_classes(array, labels)
    assert classes.dtype == np.int8
    assert ((classes == IGNORE) == (array == values[0])).all()
    np.testing.assert_array_equal(to_values(classes, labels), array)


def test_more_than_127_classes_need_wider_indices():
    labels = Labels(names=tuple(f"{i}" for i in range(200)), values=tuple(range(200)))
    values = np.arange(200, dtype=np.uint8).reshape(10, 20)
    classes = to_classes(values, labels)
    assert classes.dtype == np.int16
    np.testing.assert_array_equal(to_values(classes, labels), values)


def test_values_of_no_class_are_listed():
    labels = declared_labels({"background": 0, "a": 1}, None)
    with pytest.raises(DatasetError, match="label values 3, 7"):
        to_classes(np.array([[0, 7], [3, 1]], np.uint8), labels)
    with pytest.raises(DatasetError, match="label values 100000"):
        to_classes(np.array([[0, 100000]], np.int32), labels)


def test_the_background_is_first_wherever_it_is_declared():
    labels = declared_labels({"b": 9, "a": 3, "Background": 255}, 4)
    assert labels.names == ("Background", "a", "b")
    assert labels.values == (255, 3, 9)
    assert declared_labels({"sky": 5, "sea": 1}, None).names == ("sky", "sea")


def test_the_first_entry_is_the_background_beside_regions_too():
    labels = declared_labels({"rest": 3, "whole": [1, 2], "core": 2}, None)
    assert labels.names == ("rest", "rest of whole", "core")
    assert labels.values == (3, 1, 2)
    assert {region.name: region.classes for region in labels.regions} == {
        "whole": (1, 2),
        "core": (2,),
    }


def test_a_background_of_several_values_is_refused_with_the_map_that_merges_them():
    with pytest.raises(DatasetError) as caught:
        declared_labels({"a": 1, "background": [0, 4]}, None)
    written = json.loads(caught.value.fix.partition(": ")[2])
    assert written == {"labels": {"a": 1, "background": 0}, "label_map": {"4": 0}}
    assert declared_labels({"background": [0], "a": 1}, None).regions == ()


@pytest.mark.parametrize(
    "declared",
    [
        {"background": 0, "a": 1, "b": 2, "c": 2},
        {"background": 0, "a": [0, 1]},
        {"background": 0, "a": [1, 7]},
        {"background": 7, "a": 1},
    ],
)
def test_values_given_twice_are_refused(declared):
    with pytest.raises(DatasetError, match="twice"):
        declared_labels(declared, 7)


@pytest.mark.parametrize("declared", [{}, {"background": 0}, {"a": [1, 2]}])
def test_a_background_alone_is_refused(declared):
    with pytest.raises(DatasetError, match="at least one other class"):
        declared_labels(declared, None)


def test_found_values_rise_from_the_background():
    labels = found_labels([255, 0, 128, 7], 7)
    assert labels == Labels(
        names=("background", "class_128", "class_255"), values=(0, 128, 255), ignore=7
    )
    assert len(found_labels(range(32), None).values) == 32
    with pytest.raises(DatasetError, match="33 different values"):
        found_labels(range(33), None)
