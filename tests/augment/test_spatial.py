import itertools

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from autoseg.augment.elastic import Elastic
from autoseg.augment.spatial import Warp, draw_warp, rotation_matrix

SIZES = {2: ((23, 18), (1, 65, 70)), 3: ((12, 17, 10), (2, 40, 45, 42))}
"""Patch and image; their middles coincide at whole voxels."""
ANGLES = {2: (0.3,), 3: (0.3, -0.2, 0.4)}


def warp_of(angles, scale):
    matrix = rotation_matrix(angles, {1: 2, 3: 3}[len(angles)]) * scale
    return Warp(tuple(tuple(float(v) for v in row) for row in matrix))


def warped(warp, image, labels, start, patch):
    """Return image and labels of a patch of a whole image (C, *S) with labels (*S)."""
    box = warp.source_box(start, patch)
    return warp.apply(cut(image, box), cut(labels, box), patch)


def cut(array, box):
    return np.ascontiguousarray(array[(..., *(slice(a, b) for a, b in box))])


def middle_start(shape, patch):
    return tuple((n - p) // 2 for n, p in zip(shape, patch, strict=True))


def corner_labels(shape):
    """Return labels -1, 0, 1, ... one for each corner of the image."""
    labels = np.zeros(shape, np.int16)
    for label, corner in enumerate(itertools.product((0, 1), repeat=len(shape)), start=-1):
        halves = zip(shape, corner, strict=True)
        labels[tuple(slice(n // 2) if c else slice(n // 2, None) for n, c in halves)] = label
    return labels


def library_warp(image, labels, angles, scale, patch):
    """Return what batchgeneratorsv2 makes of the middle of an image."""
    transform = SpatialTransform(
        patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=1,
        p_scaling=1,
        p_synchronize_scaling_across_axes=1,
        rotation=lambda image, dim: angles[dim if len(angles) == 3 else 0],
        scaling=scale,
        mode_seg="nearest",
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    result = transform(image=torch.from_numpy(image), segmentation=torch.from_numpy(labels[None]))
    return result["image"].numpy(), result["segmentation"][0].numpy()


@pytest.mark.parametrize("num_axes", [2, 3])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.4])
def test_warp_equals_the_library(num_axes, scale):
    patch, shape = SIZES[num_axes]
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = corner_labels(shape[1:])
    expected = library_warp(image, labels, ANGLES[num_axes], scale, patch)

    start = middle_start(shape[1:], patch)
    ours = warped(warp_of(ANGLES[num_axes], scale), image, labels, start, patch)

    np.testing.assert_allclose(ours[0], expected[0], atol=2e-4)
    assert np.mean(ours[1] != expected[1]) < 5e-4  # points halfway between two voxels


def test_slabs_do_not_show():
    patch, shape = (90, 31, 33), (200, 80, 82)
    coordinates = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).astype(np.float32)
    warp = warp_of((0.1, 0.2, 0.3), 1.1)
    start = middle_start(shape, patch)
    found, _ = warped(warp, coordinates, np.zeros(shape, np.int8), start, patch)

    offsets = np.stack(np.meshgrid(*[np.arange(p) - (p - 1) / 2 for p in patch], indexing="ij"))
    middle = np.array([s + (p - 1) / 2 for s, p in zip(start, patch, strict=True)])
    exact = np.einsum("ij,j...->i...", np.array(warp.matrix), offsets) + middle[:, None, None, None]
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_image_and_labels_stay_aligned():
    shape, patch = (48, 52, 50), (32, 30, 34)
    grid = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    distance = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, (20, 26, 29), strict=True)))
    image = (10 - distance).astype(np.float32)
    labels = (distance <= 10).astype(np.int8)
    warp = warp_of((0.4, -0.5, 0.2), 0.8)
    start = middle_start(shape, patch)

    (bright,), marked = warped(warp, image[None], labels, start, patch)

    assert marked.any()
    half_diagonal = 0.87  # of a voxel
    assert (bright[marked == 1] > -half_diagonal).all()
    assert (bright[marked == 0] < half_diagonal).all()


def test_each_voxel_gets_the_label_nearest_to_what_the_image_reads():
    shape, patch = (60, 64), (24, 26)
    labels = np.random.default_rng(1).integers(-1, 6, shape).astype(np.int8)
    rows, columns = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([rows, columns]).astype(np.float32)
    warp = Warp(warp_of((0.7,), 0.9).matrix, Elastic(seed=3, sigma=15.0, alpha=400.0))

    read, winners = warped(warp, places, labels, (18, 19), patch)

    near = np.abs(read - np.rint(read)).max(axis=0) < 0.49  # no rounding decides
    expected = labels[tuple(np.rint(read).astype(int))]
    assert near.mean() > 0.9
    assert (winners == expected)[near].all()


def test_source_box_is_the_patch_without_a_change():
    assert Warp(()).source_box((-3, 5), (8, 9)) == ((-3, 5), (5, 14))


def test_source_box_reaches_no_voxel_too_far():
    box = warp_of((0.0, 0.0, 0.0), 1.4).source_box((0, 0, 0), (11, 11, 11))
    assert box == ((-3, 14),) * 3


def test_planar_change_leaves_the_first_axis_alone(always):
    planar = always.revised(planar=True, rotation=((-3.14, 3.14),))
    warp = draw_warp(np.random.default_rng(0), planar, (20, 20, 20))
    depth = np.broadcast_to(np.arange(9.0, dtype=np.float32)[:, None, None], (9, 80, 80))

    image, labels = warped(warp, depth[None], depth.astype(np.int8), (2, 30, 31), (5, 20, 18))

    assert len(warp.matrix) == 2
    assert image.shape == (1, 5, 20, 18)
    depths = np.broadcast_to(np.arange(2, 7)[:, None, None], (5, 20, 18))
    np.testing.assert_allclose(image[0], depths, atol=1e-5)
    assert (labels == np.arange(2, 7)[:, None, None]).all()


def test_rotation_and_scale_happen_as_often_as_planned(plan):
    rng = np.random.default_rng(0)
    matrices = [draw_warp(rng, plan, (20, 20, 20)).matrix for _ in range(4000)]
    changed = [np.array(matrix) for matrix in matrices if matrix]
    scales = [abs(np.linalg.det(matrix)) ** (1 / 3) for matrix in changed]

    assert len(changed) / 4000 == pytest.approx(1 - 0.8 * 0.8, abs=0.03)
    assert np.mean([abs(s - 1) > 1e-6 for s in scales]) == pytest.approx(0.2 / 0.36, abs=0.06)
    assert 0.7 <= min(scales) < 0.75
    assert 1.35 < max(scales) <= 1.4


def test_rotation_in_the_plane_turns_by_its_range(always):
    turned = always.revised(rotation=((0.25, 0.25),), scale_probability=0.0)
    matrix = np.array(draw_warp(np.random.default_rng(0), turned, (20, 20)).matrix)
    np.testing.assert_allclose(np.arctan2(matrix[1, 0], matrix[0, 0]), 0.25)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-12)


def test_a_signal_is_scaled_and_deformed_with_its_labels(always):
    shape, patch = (1, 200), (80,)
    ramp = np.arange(200, dtype=np.float32)[None]
    labels = np.arange(200, dtype=np.int16)
    bending = always.revised(rotation=(), elastic_probability=1.0)
    warp = draw_warp(np.random.default_rng(0), bending, patch)

    image, found = warped(warp, ramp, labels, (60,), patch)

    assert image.shape == (1, *patch)
    assert shape[1] > image.max() > image.min() >= 0
    assert np.abs(image[0] - found).max() <= 0.5 + 1e-4
    assert not np.allclose(np.diff(image[0]), np.diff(image[0])[0])
