import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.plan.rules import (
    MASK_THRESHOLD,
    are_slices_apart,
    batch_size,
    channels,
    find_lowres,
    image_grid,
    largest_batch,
    mirror_axes,
    resampled_shape,
    target_spacing,
    transpose_axes,
)
from autoseg.testing.fingerprints import fingerprint_of


def spacing_of(spacings, shapes):
    return target_spacing(np.array(spacings, dtype=float), np.array(shapes))


def test_spacing_is_the_median_along_each_axis():
    found = spacing_of([(1, 1, 2), (1, 2, 2), (3, 3, 2)], [(90, 90, 90)] * 3)
    assert found.tolist() == [1, 2, 2]


def test_coarse_axis_gets_a_finer_percentile():
    cases = [(5, 1, 1)] * 3 + [(10, 1, 1)] * 7
    found = spacing_of(cases, [(10, 200, 200)] * 10)
    assert found.tolist() == [5, 1, 1]


def test_coarse_axis_with_many_voxels_keeps_the_median():
    cases = [(5, 1, 1)] * 3 + [(10, 1, 1)] * 7
    assert spacing_of(cases, [(100, 200, 200)] * 10)[0] == 10


def test_axis_exactly_three_times_coarser_keeps_the_median():
    cases = [(1, 1, 1)] * 3 + [(3, 1, 1)] * 7
    assert spacing_of(cases, [(10, 200, 200)] * 10)[0] == 3


def test_coarse_axis_never_becomes_finer_than_the_others():
    cases = [(0.5, 1, 1)] * 3 + [(10, 1, 1)] * 7
    assert spacing_of(cases, [(10, 200, 200)] * 10)[0] == pytest.approx(1 + 1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("spacing", "order"),
    [
        ((1, 1, 1), (0, 1, 2)),
        ((1, 3, 2), (1, 0, 2)),
        ((1, 2, 2), (1, 0, 2)),
        ((1, 1, 3), (2, 0, 1)),
    ],
)
def test_coarsest_axis_goes_first_and_the_first_of_equals(spacing, order):
    assert transpose_axes(spacing) == order


def test_half_voxels_are_rounded_to_even():
    assert resampled_shape((5, 7, 4), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0)) == (2, 4, 2)


def test_no_axis_is_resampled_away():
    assert resampled_shape((1, 1), (1.0, 1.0), (9.0, 9.0)) == (1, 1)


def test_spacings_are_compared_in_single_precision():
    spacings = [(5.0, 0.8, 0.8), (1.6, 0.8, 0.8), (1.6, 0.8, 0.8)]
    shapes = [(60, 512, 512), (100, 512, 512), (300, 512, 512)]
    grid = image_grid(fingerprint_of(shapes, spacings))
    assert grid.median_shape[0] == 187  # 5.0 / 1.6 * 60 is 187.5 only in decimals
    assert grid.spacing == (1.6, 0.8, 0.8)


def test_images_of_unequal_pixels_keep_their_axes():
    grid = image_grid(fingerprint_of([(100, 400)] * 3, (0.5, 4.0)))
    assert (grid.transpose, grid.spacing) == ((0, 1), (0.5, 4.0))
    assert not grid.is_volume


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "ct"),
        ("ct", "ct"),
        ("noNorm", "none"),
        ("Rescale_to_0_1", "unit"),
        ("rgb_to_0_1", "rgb"),
        ("zscore", "zscore"),
        ("CT angiography", "zscore"),
        ("R", "zscore"),
    ],
)
def test_channel_names_choose_the_normalisation(name, scheme):
    fingerprint = fingerprint_of([(9, 9, 9)], channels=(name,))
    assert channels(fingerprint)[0].scheme == scheme


def test_ct_is_clipped_to_the_foreground_of_the_data_set():
    (channel,) = channels(fingerprint_of([(9, 9, 9)], channels=("CT",)))
    assert (channel.lower, channel.upper, channel.mean, channel.std) == (1.0, 250.0, 100.0, 30.0)


def test_only_zscore_leaves_out_a_large_cropped_background():
    found = channels(
        fingerprint_of([(9, 9, 9)], channels=("CT", "T2", "noNorm"), left_after_cropping=0.7)
    )
    assert [channel.use_mask for channel in found] == [False, True, False]
    at_threshold = fingerprint_of([(9, 9, 9)], left_after_cropping=MASK_THRESHOLD)
    assert not channels(at_threshold)[0].use_mask


@given(
    affordable=st.floats(0.01, 1e6),
    num_voxels=st.floats(1, 1e12),
    patch=st.tuples(*[st.integers(1, 512)] * 3),
)
def test_a_batch_never_covers_more_than_its_share_unless_it_is_two(affordable, num_voxels, patch):
    size = batch_size(affordable, largest_batch(num_voxels, patch, 0.05))
    assert size >= 2
    # rounding the cap may add up to half an image
    assert size == 2 or (size - 0.5) * np.prod(patch) <= 0.05 * num_voxels * (1 + 1e-9)


def test_a_coarser_configuration_is_sought_until_the_patch_shows_a_quarter():
    grid = image_grid(fingerprint_of([(400, 400, 400)] * 9))
    found = find_lowres(grid, (128, 128, 128), lambda *_: ((128, 128, 128), "plan"))
    assert found is not None
    spacing, shape, plan = found
    assert plan == "plan"
    assert 128**3 / np.prod(shape) == pytest.approx(0.25, rel=0.1)
    assert spacing[0] == spacing[1] == spacing[2]


def test_a_configuration_hardly_coarser_is_dropped():
    grid = image_grid(fingerprint_of([(205, 205, 205)] * 9))
    assert find_lowres(grid, (128, 128, 128), lambda *_: ((128, 128, 128), "plan")) is None


def test_axes_much_finer_than_the_coarsest_are_coarsened_first():
    grid = image_grid(fingerprint_of([(90, 512, 512)] * 9, (5.0, 0.7, 0.7)))
    found = find_lowres(grid, (16, 128, 128), lambda *_: ((16, 128, 128), None))
    assert found is not None
    (z, y, x), shape, _ = found
    assert y == x > 0.7
    assert z / y <= 2 * 1.03
    assert shape[1] < 512


def test_signals_have_the_median_spacing_and_no_axis_to_mirror():
    fingerprint = fingerprint_of([(1000,), (3000,), (2000,)], [(0.002,), (0.004,), (0.002,)])
    grid = image_grid(fingerprint)
    assert (grid.transpose, grid.spacing, grid.is_volume) == ((0,), (0.002,), False)
    assert grid.median_shape == (2000.0,)
    assert mirror_axes(fingerprint, grid, 1) == ()


@pytest.mark.parametrize(
    ("spacing", "slices", "expected"),
    [
        ((5.0, 1.0, 1.0), 10, True),
        ((5.0, 1.0, 1.0), 20, False),
        ((3.0, 1.0, 1.0), 10, False),
        ((5.0, 1.0, 2.0), 10, False),
        ((1.0,), 10, False),
    ],
)
def test_few_thick_slices_are_apart(spacing, slices, expected):
    assert are_slices_apart(spacing, slices) is expected
