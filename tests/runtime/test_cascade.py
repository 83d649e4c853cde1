"""What a second stage sees of the first one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autoseg.runtime import cascade
from autoseg.runtime.blend import Tiling, blend
from autoseg.runtime.cascade import (
    CERTAIN,
    Previous,
    one_hot,
    previous_labels,
    voxel_margins,
)
from autoseg.runtime.crop import box_slices
from autoseg.runtime.geometry import Geometry, Image
from autoseg.runtime.manifest import Configuration, Manifest, StoredFile
from autoseg.runtime.model import Model
from autoseg.runtime.prepare import place, prepare, prepare_labels
from autoseg.runtime.recipe import Channel, Labels, Recipe
from autoseg.runtime.restore import restore_labels, restore_probabilities
from autoseg.runtime.scratch import InMemory
from autoseg.runtime.tiles import tile_starts

RECIPE = Recipe(
    transpose=(0, 1, 2),
    spacing=(1.0, 1.0, 1.0),
    channels=(Channel(name="MR", scheme="zscore"),),
    order="resample-normalise",
    spline_order=3,
    coarse_ratio=3.0,
    padding="mirror",
    overlap=0.5,
    mirror_axes=(),
    test_time_mirroring=False,
)


@st.composite
def labelled(draw):
    """Return labels of an image, where they go in a prepared one, its recipe and its spacing."""
    dims = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(3, 14)) for _ in range(dims))
    labels = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 4, shape)
    lengths = st.floats(0.3, 8)
    spacing = tuple(draw(lengths) for _ in shape)
    target = tuple(draw(lengths) for _ in range(draw(st.integers(1, dims))))
    transpose = tuple(draw(st.permutations(range(dims))))
    recipe = replace(RECIPE, transpose=transpose, spacing=target)
    box = tuple((draw(st.integers(0, 1)), shape[axis] - 1) for axis in transpose)
    return labels.astype(np.uint8), place(shape, spacing, box, recipe), recipe, spacing


@given(labelled())
def test_labels_are_brought_to_the_second_grid_as_preprocessing_brings_masks(case):
    labels, placement, recipe, spacing = case
    expected = prepare_labels(labels.astype(np.int8), placement, recipe, spacing)
    found = previous_labels(labels, placement, recipe, spacing)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("spacing", [(1.0, 0.7, 1.3), (5.0, 0.8, 0.8), (0.45, 2.0, 2.0)])
def test_slab_by_slab_gives_the_same_labels(monkeypatch, spacing):
    blobs = np.random.default_rng(0).integers(0, 3, (5, 4, 3))
    labels = np.kron(blobs, np.ones((4, 5, 6))).astype(np.uint8)
    placement = place(labels.shape, spacing, ((1, 20), (0, 19), (2, 18)), RECIPE)
    whole = previous_labels(labels, placement, RECIPE, spacing)
    monkeypatch.setattr(cascade, "SLAB_VOXELS", 1)
    np.testing.assert_array_equal(previous_labels(labels, placement, RECIPE, spacing), whole)
    assert set(np.unique(whole)) == {0, 1, 2}


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4)])
def test_a_channel_for_each_class_but_the_background(shape):
    labels = np.random.default_rng(0).integers(0, 4, shape)
    found = one_hot(labels, 4)
    assert (found.shape, found.dtype) == ((3, *shape), np.float32)
    for index in range(3):
        np.testing.assert_array_equal(found[index], labels == index + 1)


def bright(tile, mean, std):
    """Return logits of three classes: the background, above the mean, far above it."""
    axes = (None,) * (tile.ndim - 2)
    normal = (tile[:, 0] - mean[(..., 0, *axes)]) / std[(..., 0, *axes)]
    return np.stack([np.zeros_like(normal), normal, 2 * normal - 1], axis=1)


def copying(tile, mean, std):
    """Return logits that repeat the previous stage's labels, which are the last two channels."""
    assert (mean[:, -2:] == 0).all()
    assert (std[:, -2:] == 1).all()
    found = tile[:, -2:]
    return np.concatenate([1 - found.sum(axis=1, keepdims=True), found], axis=1)


def configuration(name, recipe, patch, **changes):
    item = Configuration(
        name=name,
        weight=1.0,
        folds=("0",),
        recipe=recipe,
        patch_size=patch,
        tiles_per_case=1.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(1,) * len(patch),
        onnx=f"{name}.onnx",
        torchscript=f"{name}.pt",
        parity=(),
        timings=(),
    )
    return replace(item, **changes)


def open_model(folder, networks, *configurations, **changes):
    """Return a model whose networks are functions, by the names of configurations."""
    names = [name for item in configurations for name in (item.onnx, item.torchscript)]
    manifest = Manifest(
        autoseg_version="0",
        name="made up",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("MR",),
        channel_files="single",
        file_ending=".nii.gz",
        labels=Labels(names=("background", "organ", "lesion"), values=(0, 3, 9)),
        configurations=configurations,
        postprocessing=(),
        verification=None,
        files=tuple(StoredFile(name=name, num_bytes=1, sha256="0" * 64) for name in names),
    )
    manifest = replace(manifest, **changes)
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    return Model(folder, lambda _folder, _manifest, item: networks[item.name])


@st.composite
def framed_images(draw):
    """Return an image with an empty frame, two recipes for it, and a patch."""
    dims = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(2, 11)) for _ in range(dims))
    frame = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in shape]
    values = np.random.default_rng(draw(st.integers(0, 99))).normal(50, 10, (1, *shape))
    lengths = st.floats(0.4, 5)
    spacing = tuple(draw(lengths) for _ in shape)
    recipes = [
        replace(
            RECIPE,
            transpose=tuple(draw(st.permutations(range(dims)))),
            spacing=tuple(draw(lengths) for _ in range(net)),
            padding=draw(st.sampled_from(["mirror", "zero"])),
            mirror_axes=(0,),
            test_time_mirroring=draw(st.booleans()),
        )
        for net in (dims, draw(st.integers(1, dims)))
    ]
    image = Image(np.pad(values.astype(np.float32), [(0, 0), *frame]), Geometry(spacing))
    patches = [tuple(draw(st.integers(2, 9)) for _ in item.spacing) for item in recipes]
    return image, recipes, patches


def stages(recipes, patches, **changes):
    return (
        configuration("lowres", recipes[0], patches[0], weight=0.0),
        configuration("cascade", recipes[1], patches[1], previous="lowres", **changes),
    )


@settings(max_examples=20)
@given(framed_images())
def test_a_second_stage_that_ignores_the_first_is_the_full_resolution_alone(tmp_path_factory, case):
    image, recipes, patches = case
    folder = tmp_path_factory.mktemp("model")
    alone = configuration("fullres", recipes[1], patches[1])
    networks = {"fullres": bright, "cascade": bright, "lowres": bright}
    expected = open_model(folder, networks, alone).predict_image(image, probabilities=True)
    model = open_model(folder, networks, *stages(recipes, patches))
    found = model.predict_image(image, probabilities=True)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


@settings(max_examples=20)
@given(framed_images())
def test_a_second_stage_that_copies_the_first_gives_its_labels_resampled(tmp_path_factory, case):
    image, recipes, patches = case
    folder = tmp_path_factory.mktemp("model")
    networks = {"lowres": bright, "cascade": copying}
    first = open_model(folder, networks, configuration("lowres", recipes[0], patches[0]))
    values = first.predict_image(image).labels
    classes = np.searchsorted((0, 3, 9), values).astype(np.uint8)
    spacing = image.geometry.spacing
    part = prepare(image.array, spacing, recipes[1])
    there = previous_labels(classes, part.placement, recipes[1], spacing)
    logits = np.stack([there == index for index in range(3)]).astype(np.float32)
    expected = restore_labels(logits, part.placement)
    if there.shape == part.placement.box_shape:  # the same grid: the very labels
        inside = part.placement.box
        turned = classes.transpose(recipes[1].transpose)[box_slices(inside)]
        back = expected.transpose(recipes[1].transpose)[box_slices(inside)]
        np.testing.assert_array_equal(turned, back)
    found = open_model(folder, networks, *stages(recipes, patches)).predict_image(image).labels
    differing = np.array((0, 3, 9))[expected] != found
    # Ties of interpolated logits are decided by the last digit, which blending may change.
    assert _ties(logits, part.placement)[differing].all()


def _ties(logits, placement):
    chances = np.sort(restore_probabilities(logits, placement).astype(np.float64), axis=0)
    return chances[-1] - chances[-2] < 1e-2


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.5, 0.5)])
def test_the_first_stage_is_computed_once_whoever_votes(tmp_path, weights):
    seen = []

    def counted(tile, mean, std):
        seen.append(len(tile))
        return bright(tile, mean, std)

    image = Image(np.random.default_rng(0).normal(50, 10, (1, 9, 9)), Geometry((1.0, 1.0)))
    recipe = replace(RECIPE, transpose=(0, 1), spacing=(1.0, 1.0))
    items = [
        replace(item, weight=weight)
        for item, weight in zip(stages([recipe] * 2, [(9, 9)] * 2), weights, strict=True)
    ]
    networks = {"lowres": counted, "cascade": copying}
    open_model(tmp_path, networks, *items).predict_image(image)
    assert sum(seen) == 1


def test_both_stages_may_vote_and_the_second_still_sees_the_first(tmp_path):
    image = Image(np.random.default_rng(0).normal(50, 10, (1, 8, 9)), Geometry((1.0, 1.0)))
    recipe = replace(RECIPE, transpose=(0, 1), spacing=(1.0, 1.0))
    networks = {"lowres": bright, "cascade": copying}
    alone = open_model(tmp_path, networks, configuration("lowres", recipe, (8, 9)))
    first = alone.predict_image(image, probabilities=True)
    items = [replace(item, weight=0.5) for item in stages([recipe] * 2, [(8, 9)] * 2)]
    found = open_model(tmp_path, networks, *items).predict_image(image, probabilities=True)
    copied = np.where(found.labels[None] == np.array((0, 3, 9))[:, None, None], np.e, 1.0)
    copied /= copied.sum(axis=0)
    np.testing.assert_array_equal(found.labels, first.labels)
    assert first.probabilities is not None
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, (first.probabilities + copied) / 2, atol=2e-3)


def test_three_stages_follow_each_other(tmp_path):
    image = Image(np.random.default_rng(0).normal(50, 10, (1, 8, 9)), Geometry((1.0, 1.0)))
    recipe = replace(RECIPE, transpose=(0, 1), spacing=(1.0, 1.0))
    first, second = stages([recipe] * 2, [(8, 8)] * 2)
    third = configuration("third", recipe, (4, 4), previous="cascade")
    networks = {"lowres": bright, "cascade": copying, "third": copying}
    alone = open_model(tmp_path, networks, replace(first, weight=1.0)).predict_image(image)
    model = open_model(tmp_path, networks, first, replace(second, weight=0.0), third)
    np.testing.assert_array_equal(model.predict_image(image).labels, alone.labels)


def test_labels_are_0_where_an_image_is_filled_up(tmp_path):
    seen = []

    def looking(tile, mean, std):
        seen.append(tile)
        return copying(tile, mean, std)

    image = Image(np.array([[[1.0, 9.0, 1.0, 9.0]]]), Geometry((1.0, 1.0)))
    recipe = replace(RECIPE, transpose=(0, 1), spacing=(1.0, 1.0))
    model = open_model(
        tmp_path, {"lowres": bright, "cascade": looking}, *stages([recipe] * 2, [(1, 4), (1, 8)])
    )
    model.predict_image(image)
    np.testing.assert_array_equal(seen[0][0, 0], [[1, 9, 1, 9, 1, 9, 1, 9]])
    np.testing.assert_array_equal(seen[0][0, 1:].any(axis=0), [[0, 0, 0, 1, 0, 1, 0, 0]])


def test_a_margin_in_the_unit_of_the_spacing_reaches_whole_voxels():
    assert voxel_margins(None, (1.0, 0.7)) is None
    assert voxel_margins(2.1, (1.0, 0.7, 5.0)) == (2, 3, 0)
    assert voxel_margins(0, (1.0, 0.7)) == (0, 0)


@st.composite
def spots(draw):
    """Return labels with a few spots, margins, a patch, an overlap, and mirrored axes."""
    dims = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 30 if dims < 3 else 14)) for _ in range(dims))
    labels = np.zeros(shape, np.uint8)
    for _ in range(draw(st.integers(0, 2))):
        labels[tuple(draw(st.integers(0, n - 1)) for n in shape)] = draw(st.integers(1, 2))
    margins = tuple(draw(st.integers(0, 4)) for _ in shape)
    net = draw(st.integers(1, dims))
    patch = tuple(draw(st.integers(1, 7)) for _ in range(net))
    flips = draw(st.sampled_from([(), (0,)]))
    plan = Tiling(
        overlap=draw(st.sampled_from([0.0, 0.5])),
        padding="mirror",
        pad_values=(0.0,),
        mirror_axes=flips,
        batch_size=draw(st.integers(1, 4)),
    )
    return labels, margins, patch, plan


@settings(max_examples=40)
@given(spots())
def test_near_what_was_found_nothing_changes_and_far_from_it_is_background(case):
    labels, margins, patch, plan = case
    image = np.random.default_rng(0).normal(size=(1, *labels.shape)).astype(np.float32)
    seen = []

    def network(tiles):
        seen.append(len(tiles))
        return np.stack([np.cos(tiles[:, 0]), tiles[:, 0] + tiles[:, 1], 3 * tiles[:, 0]], axis=1)

    whole = blend(
        image, network, patch, tiling=plan, previous=Previous(labels=labels, num_classes=3)
    )
    num_tiles = sum(seen)
    seen.clear()
    told = Previous(labels=labels, num_classes=3, margins=margins)
    found = blend(image, network, patch, tiling=plan, previous=told)
    reach = [2 * by + 1 for by in margins]
    near = ndimage.maximum_filter(labels, reach, mode="constant") > 0
    np.testing.assert_array_equal(found[:, near], whole[:, near])
    assert sum(seen) <= num_tiles
    if not labels.any():
        assert sum(seen) == 0
        np.testing.assert_allclose(found[0], CERTAIN, rtol=1e-5)
        np.testing.assert_array_equal(found[1:], 0)


def test_tiles_far_from_what_was_found_are_not_computed(tmp_path):
    """Measured: a small object in a volume of 7 x 7 x 7 tiles."""
    array = np.full((1, 32, 32, 32), 10.0, np.float32)
    array += np.random.default_rng(0).normal(size=array.shape)
    array[0, 9:12, 20:23, 14:17] = 100
    calls = []

    def counted(tile, mean, std):
        calls.append(len(tile))
        return copying(tile, mean, std)

    recipes = [replace(RECIPE, spacing=(2.0, 2.0, 2.0)), RECIPE]
    image, patches = Image(array, Geometry((1.0, 1.0, 1.0))), [(16, 16, 16), (8, 8, 8)]
    networks = {"lowres": far_above, "cascade": counted}
    found, tiles = [], []
    for margin in (None, 4.0):
        model = open_model(tmp_path, networks, *stages(recipes, patches, region_margin=margin))
        found.append(model.predict_image(image).labels)
        tiles.append(sum(calls))
        calls.clear()
    np.testing.assert_array_equal(*found)
    near = ndimage.maximum_filter(found[0], 9, mode="constant") > 0
    firsts = tile_starts(array.shape[1:], (8, 8, 8), RECIPE.overlap)
    called = [near[tuple(slice(at, at + 8) for at in first)].any() for first in firsts]
    assert tiles == [343, sum(called)]
    assert sum(called) < 343 / 2


def far_above(tile, mean, std):
    """Return logits of the last class where the image is far above its mean."""
    logits = bright(tile, mean, std)
    logits[:, 1] = -10
    logits[:, 2] -= 3
    return logits


@pytest.mark.parametrize("probabilities", [False, True])
def test_offsets_do_not_turn_what_is_not_computed_into_foreground(tmp_path, probabilities):
    image = Image(np.random.default_rng(0).normal(50, 10, (1, 20, 20)), Geometry((1.0, 1.0)))
    recipe = replace(RECIPE, transpose=(0, 1), spacing=(1.0, 1.0))

    def nothing(tile, mean, std):
        return bright(tile, mean, std) * 0 + np.array([1.0, 0, 0]).reshape(1, 3, 1, 1)

    items = stages([recipe] * 2, [(8, 8)] * 2, region_margin=3.0)
    model = open_model(
        tmp_path, {"lowres": nothing, "cascade": copying}, *items, offsets=(0.0, 3.0, 3.0)
    )
    found = model.predict_image(image, probabilities=probabilities)
    assert not found.labels.any()
    if found.probabilities is not None:
        np.testing.assert_allclose(found.probabilities[0], 1, atol=1e-3)


class Narrow(InMemory):
    """Lets an image be gone through in as many bands as there can be."""

    def __init__(self):
        self.most = 0

    def choose(self, sizes):
        self.most = len(list(sizes))
        return self.most - 1


@pytest.mark.parametrize("margin", [None, 3.0])
def test_a_cascade_in_bands_gives_the_same_labels(tmp_path, margin):
    array = np.random.default_rng(0).normal(50, 10, (1, 6, 90, 20)).astype(np.float32)
    array[:, :, 40:50] += 60
    image = Image(array, Geometry((1.0, 0.7, 1.3)))
    recipes = [replace(RECIPE, spacing=(2.0, 2.0, 2.0)), RECIPE]
    items = stages(recipes, [(3, 8, 6), (4, 8, 8)], region_margin=margin)
    model = open_model(tmp_path, {"lowres": far_above, "cascade": copying}, *items)
    narrow = Narrow()
    expected = model.predict_image(image).labels
    found = model.predict_image(image, scratch=narrow).labels
    assert narrow.most > 2
    assert (expected != 0).any()
    np.testing.assert_array_equal(found, expected)
