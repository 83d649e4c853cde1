import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.runtime import resample_rows
from autoseg.runtime.normalise import network_input
from autoseg.runtime.prepare import Placement, prepare, prepare_labels
from autoseg.runtime.recipe import Channel, Recipe
from autoseg.runtime.restore import restore_labels

RECIPE = Recipe(
    transpose=(0, 1, 2),
    spacing=(1.0, 1.0, 1.0),
    channels=(Channel(name="MRI", scheme="zscore"),),
    order="resample-normalise",
    spline_order=3,
    coarse_ratio=3.0,
    padding="mirror",
    overlap=0.5,
    mirror_axes=(0, 1, 2),
    test_time_mirroring=False,
)
MASKED = replace(RECIPE, channels=(Channel(name="MRI", scheme="zscore", use_mask=True),))


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(10, 3, size=shape).astype(np.float32)


@st.composite
def framed_images(draw):
    """Return an image with an empty frame, its spacing and a recipe to prepare it by."""
    dims = draw(st.integers(2, 3))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(dims))
    frame = [(draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in shape]
    image = np.pad(np.abs(noise((1, *shape))) + 1, [(0, 0), *frame])
    lengths = st.floats(0.3, 8)
    spacing = tuple(draw(lengths) for _ in shape)
    net = draw(st.integers(2, dims))
    target = tuple(draw(lengths) for _ in range(net))
    transpose = tuple(draw(st.permutations(range(dims))))
    return image, spacing, replace(RECIPE, transpose=transpose, spacing=target)


@given(framed_images())
def test_restoring_gives_the_shape_of_the_image_and_background_outside(case):
    image, spacing, recipe = case
    prepared = prepare(image, spacing, recipe)
    logits = np.stack([np.zeros(prepared.array.shape[1:]), np.ones(prepared.array.shape[1:])])
    labels = restore_labels(logits.astype(np.float32), prepared.placement)
    np.testing.assert_array_equal(labels, image[0] != 0)


@given(framed_images())
def test_labels_of_an_image_that_is_not_resampled_come_back_exactly(case):
    image, spacing, recipe = case
    prepared_spacing = [spacing[axis] for axis in recipe.transpose][-len(recipe.spacing) :]
    recipe = replace(recipe, spacing=tuple(prepared_spacing))
    labels = np.random.default_rng(1).integers(0, 4, image.shape[1:]).astype(np.int8)
    labels[image[0] == 0] = 0
    placement = prepare(image, spacing, recipe).placement
    classes = prepare_labels(labels, placement, recipe, spacing)
    logits = (np.arange(4).reshape(-1, *(1,) * classes.ndim) == classes).astype(np.float32)
    np.testing.assert_array_equal(restore_labels(logits, placement), labels)


@given(framed_images())
def test_placement_survives_json(case):
    placement = prepare(*case).placement
    assert Placement.from_dict(json.loads(json.dumps(placement.to_dict()))) == placement


def test_prepared_array_is_cropped_resampled_and_raw():
    image = np.zeros((1, 14, 20, 20), dtype=np.int16)
    image[:, 2:12, 5:15, 5:15] = 7
    prepared = prepare(image, (2.0, 1.0, 1.0), RECIPE)
    assert prepared.array.shape == (1, 20, 10, 10)
    assert prepared.array.dtype == np.float32
    np.testing.assert_allclose(prepared.array, 7, rtol=1e-5)
    assert prepared.placement.box == ((2, 12), (5, 15), (5, 15))


def test_constants_come_from_the_original_grid():
    image = noise((1, 20, 21, 22)) ** 2
    prepared = prepare(image, (1.0, 1.3, 0.7), RECIPE)
    assert prepared.mean[0] == pytest.approx(image.mean(dtype=np.float64), rel=1e-6)
    assert prepared.std[0] == pytest.approx(image.std(dtype=np.float64), rel=1e-6)


def test_both_orders_give_the_same_network_input_without_clipping():
    image = noise((1, 20, 21, 22))
    swapped = replace(RECIPE, order="normalise-resample")
    first = network_input(prepare(image, (1.0, 1.3, 0.7), RECIPE), RECIPE)
    second = prepare(image, (1.0, 1.3, 0.7), swapped)
    assert second.mean[0] == 0
    assert second.std[0] == 1
    np.testing.assert_allclose(first, network_input(second, swapped), atol=1e-4)


@pytest.mark.parametrize("order", ["resample-normalise", "normalise-resample"])
@pytest.mark.parametrize("target", [1.0, 0.8])
def test_outside_of_the_mask_is_zero_for_the_network(order, target):
    image = np.zeros((1, 20, 20, 20), dtype=np.float32)
    image[:, :, 4:16, 4:16] = noise((1, 20, 12, 12))
    image[:, 0, 0, 0] = image[:, -1, -1, -1] = 5
    image[:, 10, 10, 10] = 0
    recipe = replace(MASKED, order=order, spacing=(target,) * 3)
    prepared = prepare(image, (1.0, 1.0, 1.0), recipe)
    assert prepared.array.shape[1:] == (round(20 / target),) * 3
    values = network_input(prepared, recipe)
    # A spline on normalised values rings a little beyond the border, as published.
    tolerance = 1e-6 if order == "resample-normalise" or target == 1 else 0.1
    np.testing.assert_allclose(values[0, 4:-4, :3, 3:-3], 0, atol=tolerance)
    inside = values[0, 4:-4, 7:-7, 7:-7]
    assert inside.std() == pytest.approx(1, abs=0.25)


def test_both_orders_agree_at_the_border_of_the_mask():
    image = np.zeros((1, 20, 20, 20), dtype=np.float32)
    image[:, :, 4:16, 4:16] = 100 + noise((1, 20, 12, 12))
    image[:, 0, 0, 0] = image[:, -1, -1, -1] = 100
    recipes = [replace(MASKED, order=o) for o in ("resample-normalise", "normalise-resample")]
    first, second = (network_input(prepare(image, (1.3,) * 3, r), r) for r in recipes)
    inside = (slice(None), slice(4, -4), slice(7, -7), slice(7, -7))
    np.testing.assert_allclose(first[inside], second[inside], atol=1e-3)


def test_slices_of_a_2d_configuration_are_not_resampled():
    recipe = replace(RECIPE, spacing=(0.5, 0.5))
    prepared = prepare(noise((1, 5, 8, 9)), (4.0, 1.0, 1.0), recipe)
    assert prepared.array.shape == (1, 5, 16, 18)


def test_input_is_left_alone():
    image = noise((1, 6, 7, 8))
    before = image.copy()
    for order in ("resample-normalise", "normalise-resample"):
        prepare(image, (1.0, 1.0, 1.0), replace(MASKED, order=order))
    np.testing.assert_array_equal(image, before)


def test_ignored_voxels_stay_ignored_on_the_prepared_grid():
    image = noise((1, 10, 10, 10))
    labels = np.zeros((10, 10, 10), dtype=np.int8)
    labels[5:] = -1
    prepared = prepare(image, (2.0, 2.0, 2.0), RECIPE)
    out = prepare_labels(labels, prepared.placement, RECIPE, (2.0, 2.0, 2.0))
    assert out.shape == prepared.placement.prepared_shape
    assert set(np.unique(out)) == {-1, 0}
    assert (out[11:] == -1).all()


@pytest.mark.parametrize("order", ["resample-normalise", "normalise-resample"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.8, 1.0), (5.0, 1.2, 1.2)])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (1, 0, 2)])
def test_an_image_prepared_in_parts_is_that_prepared_at_once(
    order, spacing, transpose, monkeypatch
):
    channels = (Channel(name="CT", scheme="zscore", lower=5, upper=15), *MASKED.channels)
    recipe = replace(MASKED, order=order, channels=channels, transpose=transpose)
    image = noise((2, 80, 70, 12))
    image[:, 20:50, :30, :6] = 0
    image[:, :40, 30:] = 0
    whole = prepare(image, spacing, recipe)
    monkeypatch.setattr(resample_rows, "ROW_VOXELS", 1)
    parts = prepare(image, spacing, recipe)
    assert parts.placement == whole.placement
    np.testing.assert_array_equal(parts.mean, whole.mean)
    scale = np.abs(whole.array).max()
    np.testing.assert_allclose(parts.array, whole.array, rtol=0, atol=5e-7 * scale)
