import numpy as np
import pytest

from autoseg.dataset.formats.peek import binary_threshold
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image


def masks(root, name, *values, kind: type = np.uint8, count=3):
    """Write volumes with a row of each value; return their paths."""
    array = np.zeros((1, 2, 8, 8), kind)
    for row, value in enumerate(values):
        array[..., row, :] = value
    paths = [root / f"{name}{index}.nii.gz" for index in range(count)]
    for path in paths:
        write_image(path, Image(array, Geometry((1.0,) * 3)))
    return paths


@pytest.mark.parametrize(
    ("values", "kind", "threshold"),
    [
        ((1,), np.uint8, None),
        ((255,), np.uint8, None),
        ((1, 2, 3), np.uint8, None),
        ((100, 200, 255), np.uint8, 128),
        ((100, 200, 255), np.int16, 128),
        ((100, 2000), np.int16, None),
        ((0.2, 0.7, 1), np.float32, None),
    ],
)
def test_smoothed_masks_of_whole_numbers_are_split_in_the_middle(tmp_path, values, kind, threshold):
    assert binary_threshold({"a": masks(tmp_path, "a", *values, kind=kind)}) == threshold


def test_every_class_is_looked_at(tmp_path):
    sharp = masks(tmp_path, "a", 255, count=20)
    assert binary_threshold({"a": sharp, "b": masks(tmp_path, "b", 90, 255, count=1)}) == 128


def test_a_class_that_a_threshold_would_empty_is_refused(tmp_path):
    smoothed, binary = masks(tmp_path, "a", 90, 255), masks(tmp_path, "b", 1)
    with pytest.raises(DatasetError, match="of a with grey values to 255, those of b"):
        binary_threshold({"a": smoothed, "b": binary})
    fractions = masks(tmp_path, "d", 0.4, 1, kind=np.float32)
    with pytest.raises(DatasetError, match="those of d with values to 127"):
        binary_threshold({"a": smoothed, "d": fractions})
    empty = masks(tmp_path, "c")
    assert binary_threshold({"a": smoothed, "c": empty}) == 128
