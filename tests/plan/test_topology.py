import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.plan.topology import (
    MIN_FEATURE_MAP_EDGE,
    MIN_PATCH_VOXELS,
    first_patch,
    fit_topology,
    topology,
)

SPACINGS = st.tuples(*[st.floats(0.2, 8.0)] * 3)
SIZES = st.tuples(*[st.integers(1, 400)] * 3)


def test_equal_axes_are_pooled_together():
    found = topology((1.0, 1.0, 1.0), (36, 50, 35))
    assert found.patch_size == (40, 56, 40)
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    assert set(found.kernels) == {(3, 3, 3)}


def test_a_coarse_axis_waits_with_pooling_and_kernels():
    found = topology((3.6, 0.625, 0.625), (20, 320, 256))
    assert found.strides[1:4] == ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert found.kernels[0] == (1, 3, 3)
    assert found.kernels[-1] == (3, 3, 3)


def test_one_axis_alone_is_pooled_only_when_it_is_long_enough():
    assert len(topology((1.0, 1.0), (11, 4)).strides) == 1
    assert len(topology((1.0, 1.0), (12, 4)).strides) == 2


def test_images_too_small_to_pool_get_one_stage():
    assert topology((1.0, 1.0, 1.0), (7, 5, 3)).strides == ((1, 1, 1),)


def test_half_voxels_are_rounded_up_to_what_pooling_needs():
    assert topology((1.0, 1.0, 1.0), (36.5, 50.0, 40.5)).patch_size == (40, 56, 48)


@given(spacing=SPACINGS, size=SIZES)
def test_patches_divide_by_all_strides_and_features_stay_large_enough(spacing, size):
    found = topology(spacing, size)
    is_least = math.prod(found.patch_size) == MIN_PATCH_VOXELS
    for n, wanted, divisor in zip(found.patch_size, size, found.divisor, strict=True):
        assert n % divisor == 0
        assert wanted <= n < wanted + divisor or is_least
        assert divisor == 1 or n // divisor >= MIN_FEATURE_MAP_EDGE
    assert len(found.kernels) == len(found.strides)


@given(spacing=SPACINGS, shape=SIZES)
def test_the_first_patch_stays_within_the_image(spacing, shape):
    assert all(n <= size for n, size in zip(first_patch(spacing, shape), shape, strict=True))


@given(spacing=SPACINGS, shape=SIZES, limit=st.integers(1, 2_000_000))
def test_shrinking_ends_below_the_limit_or_at_two_voxels(spacing, shape, limit):
    found = fit_topology(
        spacing,
        shape,
        start=first_patch(spacing, shape),
        is_too_large=lambda trial: math.prod(trial.patch_size) > limit,
    )
    assert math.prod(found.patch_size) <= max(limit, MIN_PATCH_VOXELS)
    assert all(n % d == 0 for n, d in zip(found.patch_size, found.divisor, strict=True))


def test_the_axis_that_covers_most_of_the_image_is_shortened_first():
    found = fit_topology(
        (1.0, 1.0, 1.0),
        (128, 256, 256),
        start=(128, 128, 128),
        is_too_large=lambda trial: trial.patch_size == (128, 128, 128),
    )
    assert found.patch_size == (112, 128, 128)


def test_of_equal_axes_the_last_is_shortened_first():
    found = fit_topology(
        (1.0, 1.0, 1.0),
        (256, 256, 256),
        start=(128, 128, 128),
        is_too_large=lambda trial: trial.patch_size == (128, 128, 128),
    )
    assert found.patch_size == (128, 128, 112)


@pytest.mark.parametrize("size", [256, 512])
def test_no_valid_size_is_skipped_when_a_pooling_is_lost(size):
    found = fit_topology(
        (1.0, 1.0),
        (size, size),
        start=(size, size),
        is_too_large=lambda trial: trial.patch_size == (size, size),
    )
    assert found.patch_size == (size, size * 7 // 8)


def test_a_signal_is_halved_as_long_as_it_stays_long_enough():
    found = topology((0.002,), (1024,))
    assert found.patch_size == (1024,)
    assert found.strides == ((1,), *((2,),) * 7)
    assert set(found.kernels) == {(3,)}


def test_the_first_patch_of_a_signal_is_bounded():
    assert first_patch((0.002,), (5000.0,)) == (5000.0,)
    assert first_patch((0.002,), (1e8,)) == (65_536,)


def test_a_patch_has_the_two_voxels_that_normalisation_needs():
    assert topology((1.0, 1.0), (1, 1)).patch_size == (1, 2)
    shrunk = fit_topology((1.0, 1.0), (9, 9), start=(9, 9), is_too_large=lambda _: True)
    assert shrunk.patch_size == (1, 2)
