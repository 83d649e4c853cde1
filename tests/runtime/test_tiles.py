import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from autoseg.runtime.tiles import axis_shares, axis_starts, axis_weights, fill_up, tile_starts

SIZES = st.integers(1, 300)
OVERLAPS = st.floats(0, 0.9)


@given(SIZES, SIZES, OVERLAPS)
def test_tiles_cover_the_axis_and_stay_inside(size, tile, overlap):
    starts = axis_starts(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, size - tile)
    assert all(0 < b - a <= tile for a, b in itertools.pairwise(starts))


def test_positions_are_those_of_the_published_rule():
    assert axis_starts(200, 128, 0.5) == (0, 36, 72)
    assert axis_starts(128, 128, 0.5) == (0,)
    assert axis_starts(129, 128, 0.5) == (0, 1)


def test_slices_are_each_visited_once():
    assert axis_starts(5, 1, 0.5) == (0, 1, 2, 3, 4)


def test_tiles_are_the_product_over_axes():
    assert tile_starts((3, 5), (2, 5), 0.5) == [(0, 0), (1, 0)]


@given(SIZES, SIZES, OVERLAPS)
def test_shares_of_all_tiles_add_up_to_one(size, tile, overlap):
    size = max(size, tile)
    total = np.zeros(size)
    for start, share in axis_shares(size, tile, overlap).items():
        total[start : start + tile] += share
    np.testing.assert_allclose(total, 1, rtol=1e-5)


@given(SIZES)
def test_weight_is_positive_symmetric_and_highest_in_the_middle(tile):
    weights = axis_weights(tile)
    assert weights.min() > 0
    assert weights.max() == weights[tile // 2] == 1
    np.testing.assert_allclose(weights, weights[::-1])


def test_image_smaller_than_the_patch_is_mirrored_repeatedly():
    image = np.array([[0.0, 1, 2]])
    full, (start,) = fill_up(image, (9,), padding="mirror", values=(0,))
    assert start == 3
    assert full[0].tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1]


def test_zero_padding_uses_the_value_of_each_channel():
    full, start = fill_up(np.ones((2, 1, 2)), (3, 2), padding="zero", values=(5.0, 6.0))
    assert start == (1, 0)
    assert full[:, 0, 0].tolist() == [5, 6]
    assert full[:, 1].min() == 1


def test_large_image_is_not_copied():
    image = np.ones((1, 9, 9))
    assert fill_up(image, (4, 9), padding="mirror", values=(0,))[0] is image


def test_the_upper_centre_is_that_of_a_filtered_impulse():
    for tile in (8, 9):
        impulse = np.zeros(tile)
        impulse[tile // 2] = 1
        expected = gaussian_filter1d(impulse, tile / 8, mode="constant")
        weights = axis_weights(tile, "upper")
        np.testing.assert_allclose(weights, expected / expected.max(), atol=1e-12)
