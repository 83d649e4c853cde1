"""Surface elements, HD95 and NSD against brute force and published values."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from autoseg.evaluate.surface import hausdorff_95, surface_dice, surface_distances
from autoseg.evaluate.surface_elements import corners, element_sizes
from autoseg.seeds import stream


def blob(shape, seed, quantile=0.7):
    noise = stream(seed, "blob").normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 2)
    return smooth > np.quantile(smooth, quantile)


def elements(mask, spacing):
    """Positions and sizes of all surface elements, one neighbourhood at a time."""
    sizes = element_sizes(spacing)
    padded = np.pad(mask, 1)
    positions, found = [], []
    for start in product(*(range(n - 1) for n in padded.shape)):
        flags = [padded[tuple(np.add(start, corner))] for corner in corners(mask.ndim)]
        if any(flags) and not all(flags):
            positions.append(np.multiply(start, spacing))
            found.append(sizes[sum(int(flag) << bit for bit, flag in enumerate(flags))])
    return np.array(positions, float), np.array(found)


def brute_force(prediction, reference, spacing, tolerance):
    (a, a_sizes), (b, b_sizes) = elements(prediction, spacing), elements(reference, spacing)
    table = np.linalg.norm(a[:, None] - b[None], axis=2)
    hd95 = 0.0
    near = 0.0
    for distances, sizes in ((table.min(axis=1), a_sizes), (table.min(axis=0), b_sizes)):
        near += sizes[distances <= tolerance].sum()
        for distance in sorted(set(distances)):
            if sizes[distances <= distance].sum() >= 0.95 * sizes.sum() - 1e-9:
                hd95 = max(hd95, distance)
                break
    return hd95, near / (a_sizes.sum() + b_sizes.sum())


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.7), (2.0, 0.5), (1.0, 1.0)])
def test_distances_agree_with_brute_force(spacing):
    shape = (9, 10, 8) if len(spacing) == 3 else (19, 23)
    prediction, reference = blob(shape, 1), blob(shape, 2)
    distances = surface_distances(prediction, reference, spacing)
    hd95, nsd = brute_force(prediction, reference, spacing, tolerance=1.3)
    assert hausdorff_95(distances) == pytest.approx(hd95, rel=1e-5)
    assert surface_dice(distances, 1.3) == pytest.approx(nsd, rel=1e-6)


def test_two_single_voxels_have_the_published_values():
    prediction, reference = np.zeros((2, 12, 14, 16), bool)
    reference[5, 6, 7] = prediction[5, 6, 9] = True
    distances = surface_distances(prediction, reference, (3.0, 2.0, 1.0))
    assert hausdorff_95(distances) == 2.0
    assert surface_dice(distances, 1.0) == 0.5


def test_two_slabs_that_touch_the_image_edge_have_the_published_values():
    prediction, reference = np.zeros((2, 100, 100, 100), bool)
    reference[:50], prediction[:51] = True, True
    distances = surface_distances(prediction, reference, (2.0, 1.0, 1.0))
    assert surface_dice(distances, 1.0) == pytest.approx(0.836145008498, abs=1e-6)
    assert hausdorff_95(distances) == 2.0


def test_a_ball_has_the_area_of_a_ball():
    spacing, radius = (2.0, 1.0, 1.0), 16.0
    grid = np.indices((20, 40, 40)) * np.reshape(spacing, (3, 1, 1, 1))
    ball = ((grid - 19.5) ** 2).sum(axis=0) < radius**2
    sizes = surface_distances(ball, ball, spacing).reference_sizes
    assert sizes.sum() == pytest.approx(4 * math.pi * radius**2, rel=0.15)  # stairs add area


def test_elements_of_a_pattern_and_its_complement_are_equal():
    for spacing in ((1.0, 2.0, 3.0), (1.0, 2.0)):
        sizes = element_sizes(spacing)
        assert sizes == pytest.approx(sizes[::-1])
        assert sizes[0] == 0
        assert (sizes[1:-1] > 0).all()


def test_flat_and_cut_corner_elements_have_known_sizes():
    plane = sum(1 << bit for bit, corner in enumerate(corners(3)) if corner[0] == 0)
    assert element_sizes((5.0, 2.0, 3.0))[plane] == pytest.approx(6.0)
    assert element_sizes((1.0, 1.0, 1.0))[1] == pytest.approx(math.sqrt(3) / 8)
    assert element_sizes((2.0, 4.0))[1] == pytest.approx(math.sqrt(5))


def test_equal_masks_are_at_distance_zero():
    mask = blob((12, 13), 5)
    distances = surface_distances(mask, mask, (1.0, 1.0))
    assert hausdorff_95(distances) == 0
    assert surface_dice(distances, 0.0) == 1


@pytest.mark.parametrize("tolerance", [0.0021, 0.011])
def test_ends_of_waves_agree_with_brute_force(tolerance):
    prediction, reference = blob((400,), 3), blob((400,), 4)
    distances = surface_distances(prediction, reference, (0.002,))
    hd95, nsd = brute_force(prediction, reference, (0.002,), tolerance)
    assert hausdorff_95(distances) == pytest.approx(hd95, rel=1e-5)
    assert surface_dice(distances, tolerance) == pytest.approx(nsd, rel=1e-6)


@pytest.mark.parametrize("spacing", [(0.002,), (0.8, 0.8), (0.1, 0.1, 0.1)])
def test_a_surface_as_far_as_the_tolerance_counts_as_near(spacing):
    reference = np.zeros((9,) * len(spacing), bool)
    reference[tuple(slice(2, 6) for _ in spacing)] = True
    prediction = np.roll(reference, 1, axis=0)
    distances = surface_distances(prediction, reference, spacing)
    assert surface_dice(distances, spacing[0]) == 1.0
