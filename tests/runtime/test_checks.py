import numpy as np
import pytest

from autoseg.runtime.checks import check_image, check_range, check_unit
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.images import Geometry, Image
from autoseg.runtime.recipe import Channel


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


@pytest.mark.parametrize(("unit", "known", "fix"), [("s", "pixel", "table"), ("pixel", "s", "out")])
def test_a_signal_in_another_unit_of_time_is_refused(unit, known, fix):
    signal = Image(np.ones((1, 9)), Geometry((1.0,), unit=known))
    with pytest.raises(AutosegError) as caught:
        check_unit(signal, unit)
    assert fix in caught.value.fix
    check_unit(signal, known)


def test_pictures_without_spacing_are_taken_as_they_are():
    check_unit(image(np.ones((1, 4, 5))), "mm")


def pretrained(upper):
    return (Channel(name="x", scheme="pretrained", lower=0.0, upper=upper, mean=0.5, std=0.2),)


@pytest.mark.parametrize(
    ("values", "upper", "remedy"),
    [
        (np.full((1, 4, 5), 0.9, np.float32), 255.0, "multiply the values by 255"),
        (np.full((1, 4, 5), 200, np.uint8), 1.0, "divide"),
    ],
)
def test_an_encoder_that_knows_bytes_takes_no_fractions_and_the_other_way_round(
    values, upper, remedy
):
    with pytest.raises(AutosegError, match="channel 0 with values up to") as caught:
        check_range(image(values), pretrained(upper))
    assert remedy in caught.value.fix


@pytest.mark.parametrize(
    ("values", "channels"),
    [
        (np.full((1, 4, 5), 200, np.uint8), pretrained(255.0)),
        (np.full((1, 4, 5), 1, np.uint8), pretrained(255.0)),
        (np.zeros((1, 4, 5), np.float32), pretrained(255.0)),
        (np.full((1, 4, 5), 1.01, np.float32), pretrained(1.0)),
        (np.full((1, 4, 5), 0.9, np.float32), (Channel(name="x", scheme="zscore"),)),
        (np.full((1, 4, 5), 0.9, np.float32), (Channel(name="x", scheme="rgb", mean=0.0),)),
    ],
)
def test_images_in_the_range_that_an_encoder_knows_pass(values, channels):
    check_range(image(values), channels)
