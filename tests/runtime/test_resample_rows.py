import tracemalloc

import numpy as np
import pytest
from numpy.typing import DTypeLike

from autoseg.runtime import resample_rows
from autoseg.runtime.resample import GridChange
from autoseg.runtime.resample_rows import resample_image, resample_read

ONE_ULP = 1.2e-7


def noise(shape, dtype: DTypeLike = np.float32):
    return (np.random.default_rng(0).normal(size=shape) * 100).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int16, np.float64])
@pytest.mark.parametrize(
    ("old", "new", "coarse_axis"),
    [
        ((150, 9, 8), (110, 11, 10), None),
        ((110, 9, 8), (150, 10, 10), None),
        ((110, 9, 8), (150, 30, 20), None),
        ((110, 9, 8), (110, 12, 6), None),
        ((110, 9, 8), (70, 12, 10), 0),
        ((70, 9, 8), (150, 12, 10), 0),
        ((110, 9, 8), (150, 5, 10), 1),
        ((110, 9, 8), (90, 21, 10), 1),
        ((200, 30), (130, 50), None),
    ],
)
def test_an_image_resampled_in_parts_is_that_resampled_at_once(
    old, new, coarse_axis, dtype, monkeypatch
):
    image, change = noise((2, *old), dtype), GridChange(old, new, coarse_axis)
    whole = resample_image(image, change, spline_order=3)
    monkeypatch.setattr(resample_rows, "ROW_VOXELS", 1)
    parts = resample_image(image, change, spline_order=3)
    assert parts.dtype == np.float32
    np.testing.assert_allclose(parts, whole, rtol=0, atol=4 * ONE_ULP * np.abs(whole).max())


def test_rows_are_read_twice_at_most(monkeypatch):
    monkeypatch.setattr(resample_rows, "ROW_VOXELS", 1)
    image, count = noise((1, 200, 8, 8)), np.zeros(200, int)

    def read(channel, rows):
        count[rows] += 1
        return image[channel, rows]

    change = GridChange((200, 8, 8), (260, 9, 9), None)  # the first axis grows most
    resample_read(read, 1, change, spline_order=3)
    assert set(count) == {2}  # for the range, and to be resampled


@pytest.mark.parametrize("new", [(400, 25, 27), (300, 25, 27), (500, 35, 27)])
def test_nothing_of_the_size_of_the_image_is_held_but_the_result(new, monkeypatch):
    monkeypatch.setattr(resample_rows, "ROW_VOXELS", 1)
    image = noise((1, 400, 30, 30), np.int16)
    change = GridChange(image.shape[1:], new, None)
    resample_image(image[:, :, :5, :5], GridChange((400, 5, 5), (400, 5, 4), None), spline_order=3)
    tracemalloc.start()
    out = resample_image(image, change, spline_order=3)
    peak = tracemalloc.get_traced_memory()[1] - out.nbytes
    tracemalloc.stop()
    assert peak < 0.8 * 4 * image.size
