import numpy as np
import pytest

from autoseg.runtime.checks import check_image
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.images import Geometry, Image


def image(array):
    spacing = (1.0,) * (array.ndim - 1)
    return Image(array, Geometry(spacing, (), (), "pixel"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_sound_image_passes(dtype):
    check_image(image(np.ones((2, 4, 5, 6), dtype=dtype)), expected_channels=2, dims=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_counted(value):
    array = np.ones((2, 4, 5), dtype=np.float32)
    array[1, 2, 2:4] = value
    with pytest.raises(AutosegError, match="2 voxels of channel 1") as caught:
        check_image(image(array), expected_channels=2, dims=2)
    assert caught.value.fix


def test_wrong_channels_are_told_with_the_expected_ones():
    with pytest.raises(AutosegError, match="3 channels") as caught:
        check_image(image(np.ones((3, 4, 5))), expected_channels=1, dims=2)
    assert "1" in caught.value.expected


def test_picture_is_not_a_volume():
    with pytest.raises(AutosegError, match="2 axes"):
        check_image(image(np.ones((1, 4, 5))), expected_channels=1, dims=3)


def test_empty_image_is_refused():
    with pytest.raises(AutosegError, match="without voxels"):
        check_image(image(np.ones((1, 0, 5))), expected_channels=1, dims=2)
