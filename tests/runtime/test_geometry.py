"""What is written with a geometry is read with it: whatever the place, direction and spacing."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.runtime.images import (
    NIFTI_FORMATS,
    VOLUME_FORMATS,
    Geometry,
    Image,
    read_extent,
    read_image,
    read_labels,
    write_image,
    write_labels,
)
from autoseg.runtime.prepare import prepare, prepare_labels
from autoseg.runtime.recipe import Channel, Recipe
from autoseg.runtime.restore import restore_labels

ENDINGS = tuple(ending for ending in VOLUME_FORMATS if ending != ".mhd")  # written as .mha
QUARTERS = tuple(np.linspace(-np.pi, np.pi, 9))
"""Angles by which axes change places or direction."""
FRAME = 2
"""Voxels without signal at each side: they are cropped."""
LEAST_DICE = 0.85
"""Of an ellipsoid some ten voxels wide that goes to another grid and back."""


def turned(angle, first, second, axes):
    """Return a rotation in the plane of two axes."""
    matrix = np.eye(axes)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@st.composite
def directions(draw, axes):
    """Draw direction cosines: rotated, axes exchanged, mirrored."""
    angle = st.one_of(st.sampled_from(QUARTERS), st.floats(-3.1, 3.1))
    planes = ((0, 1),) if axes == 2 else ((0, 1), (0, 2), (1, 2))
    matrix = np.diag(draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * axes)))
    for first, second in planes:
        matrix = matrix @ turned(draw(angle), first, second, axes)
    return matrix


@st.composite
def volumes(draw, axes=None):
    """Draw an ending, labels and a geometry of two or three axes, isotropic or not."""
    axes = axes or draw(st.sampled_from((2, 3)))
    shape = draw(st.tuples(*[st.integers(2, 6)] * axes))
    spacing = draw(st.tuples(*[st.floats(0.05, 12.0)] * axes))
    origin = draw(st.tuples(*[st.floats(-500.0, 500.0)] * axes))
    labels = np.arange(np.prod(shape)).reshape(shape) % draw(st.sampled_from((2, 5, 300)))
    direction = draw(directions(axes))
    geometry = Geometry(spacing, origin, tuple(float(value) for value in direction.ravel()))
    return draw(st.sampled_from(ENDINGS)), labels, geometry


def same_geometry(first, second):
    """Require that two geometries agree as far as single precision goes."""
    np.testing.assert_allclose(first.spacing, second.spacing, rtol=1e-4)
    np.testing.assert_allclose(first.origin, second.origin, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(first.direction, second.direction, atol=1e-4)
    assert first.unit == second.unit


@settings(max_examples=60)
@given(case=volumes())
def test_labels_keep_their_voxels_and_their_place(case):
    ending, labels, geometry = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels{ending}"
        write_labels(path, labels, geometry)
        read = read_labels(path)
        np.testing.assert_array_equal(read.array[0], labels)
        same_geometry(read.geometry, geometry)
        extent = read_extent([path])
    assert extent.shape == labels.shape
    assert extent.voxel_bytes == read.array.itemsize
    np.testing.assert_allclose(extent.spacing, geometry.spacing, rtol=1e-4)


@settings(max_examples=60)
@given(case=volumes(axes=3))
def test_the_orientation_is_the_same_after_writing(case):
    ending, labels, geometry = case
    cosines = np.abs(np.reshape(geometry.direction, (3, 3)))
    ordered = np.sort(cosines, axis=0)
    is_clear = (ordered[2] - ordered[1] > 1e-3).all()  # else rounding decides between two axes
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"labels{ending}"
        write_labels(path, labels, geometry)
        read = read_labels(path).geometry
    assert not is_clear or read.orientation == geometry.orientation
    assert len(read.orientation or "") == 3


@settings(max_examples=60)
@given(case=volumes())
def test_labels_written_for_an_image_lie_on_it(case):
    ending, labels, geometry = case
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder) / f"image{ending}", Path(folder) / f"labels{ending}"
        write_image(paths[0], Image(labels[None].astype(np.int16), geometry))
        image = read_image([paths[0]])
        write_labels(paths[1], labels, image.geometry)
        mask = read_labels(paths[1])
    np.testing.assert_array_equal(mask.array, image.array)
    same_geometry(mask.geometry, image.geometry)


@given(case=volumes(axes=3), mirrored=st.integers(0, 2))
def test_mirroring_an_axis_turns_its_letter_round(case, mirrored):
    _, _, geometry = case
    cosines = np.reshape(geometry.direction, (3, 3)).copy()
    before = geometry.orientation or ""
    cosines[:, mirrored] *= -1
    flipped = Geometry(geometry.spacing, geometry.origin, tuple(cosines.ravel()))
    after = flipped.orientation or ""
    pairs = [a + b for a, b in zip(before, after, strict=True)]
    assert pairs[mirrored] in ("LR", "RL", "PA", "AP", "SI", "IS")
    assert all(pair[0] == pair[1] for index, pair in enumerate(pairs) if index != mirrored)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_strategy_draws_what_it_promises(axes):
    found = set()

    @given(matrix=directions(axes))
    def collect(matrix):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(axes), atol=1e-9)
        found.add("mirrored" if np.linalg.det(matrix) < 0 else "proper")
        found.add("oblique" if np.sort(np.abs(matrix))[:, :-1].max() > 0.01 else "along axes")

    collect()
    assert found == {"mirrored", "proper", "oblique", "along axes"}


@st.composite
def scans(draw):
    """Draw an ending, a geometry, a shape and a recipe: rotated, flipped, anisotropic; 2D or 3D."""
    axes = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(14, 20)] * axes))
    spacing = draw(st.tuples(*[st.floats(0.4, 5.0)] * axes))
    origin = draw(st.tuples(*[st.floats(-200.0, 200.0)] * axes))
    direction = tuple(float(value) for value in draw(directions(axes)).ravel())
    transpose = tuple(draw(st.permutations(range(axes))))
    finer = draw(st.tuples(*[st.floats(0.5, 1.0)] * axes))
    target = tuple(spacing[axis] * part for axis, part in zip(transpose, finer, strict=True))
    recipe = Recipe(
        transpose=transpose,
        spacing=target,
        channels=(Channel(name="MRI", scheme="zscore"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    ending = draw(st.sampled_from((*NIFTI_FORMATS, ".nrrd", ".mha")))
    return ending, Geometry(spacing, origin, direction), shape, recipe


def ellipsoid(shape):
    """Return (*S) labels: 1 in an ellipsoid beside the middle, 2 in a smaller one in it."""
    places = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    centres = [n * 0.5 + (-1) ** axis for axis, n in enumerate(shape)]
    axes = zip(places, centres, shape, strict=True)
    squares = [((place - centre) / (0.25 * n)) ** 2 for place, centre, n in axes]
    distance = np.sum(squares, axis=0)
    return (distance < 1).astype(np.uint8) + (distance < 0.3)


def middle_mm(path, value):
    """Return where the middle of a class lies in the body, as SimpleITK reads the file, in mm."""
    image = sitk.ReadImage(str(path))
    index = np.argwhere(sitk.GetArrayFromImage(image) == value).mean(axis=0)
    return np.array(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]]))


@settings(max_examples=15, deadline=None)
@given(scan=scans())
def test_labels_stay_in_their_place_through_reading_cropping_resampling_and_writing(scan):
    ending, geometry, shape, recipe = scan
    labels = ellipsoid(shape)
    signal = np.pad(np.ones([n - 2 * FRAME for n in shape]), FRAME)
    with tempfile.TemporaryDirectory() as folder:
        drawn, image_path, back = (
            Path(folder) / f"{name}{ending}" for name in ("drawn", "image", "back")
        )
        write_image(image_path, Image((signal * (labels + 1.0))[None], geometry))
        write_labels(drawn, labels, geometry)
        image, mask = read_image([image_path]), read_labels(drawn)
        spacing = image.geometry.spacing
        prepared = prepare(image.array, spacing, recipe)
        assert prepared.placement.box != tuple((0, n) for n in shape)
        classes = prepare_labels(mask.array[0], prepared.placement, recipe, spacing)
        assert classes.shape == prepared.array.shape[1:]
        logits = np.stack([classes == value for value in range(3)]).astype(np.float32)
        restored = restore_labels(logits, prepared.placement)
        write_labels(back, restored, image.geometry)
        same_geometry(read_labels(back).geometry, geometry)
        for value in (1, 2):
            step = np.linalg.norm(middle_mm(back, value) - middle_mm(drawn, value))
            assert step < 0.3 * max(geometry.spacing)
    for value in (1, 2):
        one, other = labels >= value, restored >= value
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > LEAST_DICE


@settings(max_examples=15, deadline=None)
@given(scan=scans())
def test_the_images_own_grid_gives_the_same_voxels(scan):
    ending, geometry, shape, recipe = scan
    labels = ellipsoid(shape)
    with tempfile.TemporaryDirectory() as folder:
        path, back = Path(folder) / f"labels{ending}", Path(folder) / f"back{ending}"
        write_labels(path, labels, geometry)
        mask = read_labels(path)
        spacing = mask.geometry.spacing
        recipe = replace(recipe, spacing=tuple(spacing[axis] for axis in recipe.transpose))
        prepared = prepare(mask.array.astype(np.float32), spacing, recipe)
        classes = prepare_labels(mask.array[0], prepared.placement, recipe, spacing)
        logits = np.stack([classes == value for value in range(3)]).astype(np.float32)
        write_labels(back, restore_labels(logits, prepared.placement), mask.geometry)
        np.testing.assert_array_equal(read_labels(back).array[0], labels)
        same_geometry(read_labels(back).geometry, geometry)
