"""How far apart the surfaces of two masks are.

Both masks get their surface elements (see `surface_elements`). An element stands at the centre of
its neighbourhood; its distance to the other surface is the distance to the centre of the nearest
element there, and it counts with its area (in 2D: its length; in 1D, where a surface is the end of
a mask, as one). Outside of the image is background, so that a mask at the edge has a surface there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluate.surface_elements import corners, element_sizes

PERCENTILE = 95.0
ROUNDING = 1e-6
"""Relative: distances are measured in single precision, in which 0.002 is more than 0.002."""


@dataclass(frozen=True)
class Distances:
    """Distance of each surface element to the other surface, rising, with the elements' sizes."""

    prediction: NDArray[np.floating]
    prediction_sizes: NDArray[np.floating]
    reference: NDArray[np.floating]
    reference_sizes: NDArray[np.floating]


def surface_distances(
    prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]
) -> Distances:
    """Return how far two masks' surfaces are from each other; neither may be empty.

    Parameters
    ----------
    prediction, reference : (*S) bool
        The masks, cropped to any box that holds both.
    spacing
        Of the axes, ZYX, YX or X.
    """
    sizes = element_sizes(spacing)
    patterns = [_patterns(mask) for mask in (prediction, reference)]
    elements = [(item != 0) & (item != len(sizes) - 1) for item in patterns]
    distances = []
    for (own, other), pattern in zip(((0, 1), (1, 0)), patterns, strict=True):
        found = _distance_to(elements[other], spacing)[elements[own]]
        order = np.argsort(found)
        distances += [found[order], sizes[pattern[elements[own]]][order]]
    return Distances(*distances)


def hausdorff_95(distances: Distances) -> float:
    """Return the 95th percentile of the distances, the larger of the two directions.

    The percentile of one direction is the smallest distance such that the elements up to it have
    at least 95 % of the surface.
    """
    return max(
        _percentile(distances.prediction, distances.prediction_sizes),
        _percentile(distances.reference, distances.reference_sizes),
    )


def surface_dice(distances: Distances, tolerance: float) -> float:
    """Return the part of both surfaces together that is at most `tolerance` from the other one."""
    near = total = 0.0
    for values, sizes in (
        (distances.prediction, distances.prediction_sizes),
        (distances.reference, distances.reference_sizes),
    ):
        count = np.searchsorted(values, tolerance * (1 + ROUNDING), side="right")
        near += float(sizes[:count].sum())
        total += float(sizes.sum())
    return near / total


def _percentile(values: NDArray[np.floating], sizes: NDArray[np.floating]) -> float:
    share = np.cumsum(sizes)
    index = np.searchsorted(share, PERCENTILE / 100 * share[-1])
    return float(values[min(int(index), len(values) - 1)])


def _patterns(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the pattern of corners (see `surface_elements`) of each neighbourhood of (*S) + 1."""
    padded = np.pad(mask, 1).view(np.uint8)
    patterns = np.zeros([length - 1 for length in padded.shape], np.uint8)
    for bit, corner in enumerate(corners(mask.ndim)):
        window = tuple(
            slice(offset, offset + length)
            for offset, length in zip(corner, patterns.shape, strict=True)
        )
        patterns |= padded[window] << np.uint8(bit)
    return patterns


def _distance_to(elements: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    import edt

    outside = (~elements).view(np.uint8)  # twice as fast as bool
    steps = tuple(spacing) if len(spacing) > 1 else spacing[0]  # of one axis, edt takes a number
    return edt.edt(outside, anisotropy=steps, black_border=False, parallel=1)
