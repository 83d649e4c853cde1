import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from autoseg.runtime.crop import box_slices, nonzero_box, nonzero_region

SHAPES = hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=7)
IMAGES = hnp.arrays(np.int16, SHAPES, elements=st.sampled_from([0, 0, 0, 0, 5]))


@given(IMAGES)
def test_box_is_the_smallest_that_keeps_every_nonzero_voxel(image):
    box = nonzero_box(image)
    kept = image[(slice(None), *box_slices(box))]
    assert np.count_nonzero(kept) == np.count_nonzero(image)
    if image.any():
        for axis in range(1, image.ndim):
            assert np.take(kept, 0, axis).any()
            assert np.take(kept, -1, axis).any()


def test_image_of_zeros_keeps_its_whole_box():
    assert nonzero_box(np.zeros((2, 3, 4))) == ((0, 3), (0, 4))


def test_a_voxel_of_any_channel_counts():
    image = np.zeros((2, 5, 6))
    image[0, 1, 2] = 1
    image[1, 3, 4] = -1
    assert nonzero_box(image) == ((1, 4), (2, 5))


def test_nan_is_not_zero():
    image = np.zeros((1, 4, 4))
    image[0, 2, 2] = np.nan
    assert nonzero_box(image) == ((2, 3), (2, 3))


@given(IMAGES)
def test_region_is_the_nonzero_voxels_with_their_holes_filled(image):
    expected = ndimage.binary_fill_holes((image != 0).any(axis=0))
    np.testing.assert_array_equal(nonzero_region(image), expected)
