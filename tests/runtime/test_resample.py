import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from autoseg.runtime.resample import (
    IGNORE,
    GridChange,
    coarse_axis,
    grid_change,
    nearest,
    resample_labels,
    spline,
)
from autoseg.runtime.resample_rows import resample_image

SIZES = st.integers(1, 40)


def smooth_noise(shape, seed=0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1) * 100 + 5


def zoomed(array, shape, order):
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    return np.asarray(ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True))


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(
    ("old", "new"),
    [((20, 33, 41), (31, 27, 77)), ((1, 5, 300), (1, 9, 130)), ((70, 9), (35, 300)), ((9,), (50,))],
)
def test_separable_spline_equals_scipy(old, new, order):
    image = smooth_noise(old)
    expected = np.clip(zoomed(image, new, order), image.min(), image.max())
    change = GridChange(old, new, None)
    actual = resample_image(image[None], change, spline_order=order)[0]
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-5 * image.std())


@given(SIZES, SIZES, st.sampled_from([1, 3]))
def test_spline_keeps_a_constant(old, new, order):
    lines = np.full((2, old), 7.0, dtype=np.float32)
    np.testing.assert_allclose(spline(old, new, order).apply(lines, 1), 7, rtol=1e-5)


@given(st.integers(2, 200), st.integers(2, 200), st.data())
def test_part_of_the_output_needs_only_the_inputs_it_names(old, new, data):
    start = data.draw(st.integers(0, new - 1))
    stop = data.draw(st.integers(start + 1, new))
    values = np.random.default_rng(0).normal(size=(old, 3)).astype(np.float32)
    for operator in (spline(old, new, 1), spline(old, new, 3), nearest(old, new)):
        whole = operator.apply(values, 0)
        source, part = operator.part(start, stop)
        np.testing.assert_allclose(part.apply(values[source], 0), whole[start:stop], atol=1e-6)


@given(st.integers(2, 200), st.integers(2, 200), st.data())
def test_inputs_reach_only_the_outputs_they_name(old, new, data):
    start = data.draw(st.integers(0, old - 1))
    stop = data.draw(st.integers(start + 1, old))
    values = np.zeros((old, 3), dtype=np.float32)
    values[start:stop] = np.random.default_rng(0).normal(size=(stop - start, 3))
    for operator in (spline(old, new, 1), nearest(old, new)):
        expected = operator.apply(values, 0)
        target, part = operator.reached_from(start, stop)
        actual = np.zeros_like(expected)
        actual[target] = part.apply(values[start:stop], 0)
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_nearest_slice_is_that_of_the_voxel_centre():
    assert nearest(3, 6).index.tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest(6, 3).index.tolist() == [1, 3, 5]
    assert nearest(4, 4).index.tolist() == [0, 1, 2, 3]


def test_new_shape_is_rounded_and_never_empty():
    change = grid_change((10, 15, 1), (1.0, 1.0, 0.1), (2.0, 3.1, 1.0), coarse_ratio=100.0)
    assert change == GridChange((10, 15, 1), (5, 5, 1), None)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ((10.0, 1.0, 1.0), (5.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 10.0), (1.0, 1.0, 1.0), 2),
        ((2.0, 1.0, 1.0), (5.0, 1.0, 1.0), 0),
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        ((0.2, 1.25, 1.25), (5.0, 1.0, 1.0), None),
        ((10.0, 1.0), (1.0, 1.0), None),
    ],
)
def test_coarse_axis_is_that_of_the_old_grid_or_else_of_the_new(old, new, expected):
    assert coarse_axis(old, new, coarse_ratio=3.0) == expected


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("size", [4, 9])
def test_coarse_axis_is_resampled_slice_by_slice(axis, size):
    old, new = [7, 12, 14], [10, 16, 9]
    old[axis], new[axis] = 6, size
    image = smooth_noise(tuple(old))
    change = GridChange(tuple(old), tuple(new), axis)
    actual = np.moveaxis(resample_image(image[None], change, spline_order=3)[0], axis, 0)
    slices = np.moveaxis(image, axis, 0)
    shape = tuple(n for index, n in enumerate(new) if index != axis)
    for target, source in enumerate(nearest(6, size).index):
        low, high = slices[source].min(), slices[source].max()
        expected = np.clip(zoomed(slices[source], shape, 3), low, high)
        np.testing.assert_allclose(actual[target], expected, atol=1e-3)


def test_image_on_the_same_grid_stays_as_it_is():
    image = smooth_noise((1, 5, 6)).astype(np.float32)
    assert resample_image(image, GridChange((5, 6), (5, 6), None), spline_order=3) is image


def ball(shape, radius):
    grid = np.indices(shape) - (np.array(shape) / 2).reshape(-1, *(1,) * len(shape))
    return np.sqrt((grid**2).sum(axis=0)) < radius


@pytest.mark.parametrize("shape", [(24, 40, 30), (24, 40)])
def test_class_that_covers_half_a_voxel_wins(shape):
    labels = np.zeros(shape, dtype=np.int8)
    labels[ball(shape, 11)] = 2
    labels[ball(shape, 6)] = 1
    labels[..., :4] = IGNORE
    new = tuple(int(n * 1.37) for n in shape)
    actual = resample_labels(labels, GridChange(shape, new, None))
    assert actual.dtype == np.int8
    for value in (1, 2, IGNORE):
        share = zoomed((labels == value).astype(float), new, 1)
        assert (actual[share > 0.5 + 1e-5] == value).all()
        assert value in actual
    background = zoomed((labels == 0).astype(float), new, 1)
    assert (actual[background > 0.5 + 1e-5] == 0).all()


def test_voxel_that_no_class_fills_by_half_goes_to_the_largest_share():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]], dtype=np.int8)
    actual = resample_labels(labels, GridChange((4, 4), (3, 3), None))
    assert actual[1, 1] in (1, 2, 3)
    assert actual[0, 0] == 1
    assert actual[2, 2] == 0


def test_thin_class_that_fills_nothing_disappears():
    labels = np.zeros((40, 40), dtype=np.int8)
    labels[20, 20] = 1
    assert not resample_labels(labels, GridChange((40, 40), (11, 11), None)).any()


def test_labels_along_a_coarse_axis_are_copied():
    labels = np.zeros((2, 8, 8), dtype=np.int8)
    labels[1] = 3
    actual = resample_labels(labels, GridChange((2, 8, 8), (6, 8, 8), 0))
    assert (actual[:3] == 0).all()
    assert (actual[3:] == 3).all()
