"""What an image looks like, in 64 bits: nearly equal images have nearly equal bits.

The signs of cosines (DCT-II) of middle frequency: the lowest ones show what all images of a data
set share, such as a dark margin, the highest ones noise. Signs do not change with brightness and
contrast, frequencies counted from edge to edge do not change with the number of voxels.
Letters in shapes: C channels, S spatial axes (ZYX, YX, or X for signals).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CELLS = {1: 512, 2: 32, 3: 16}
"""Parts that each axis is averaged to, by the number of axes longer than one voxel."""
SAMPLES = 4
"""Voxels along each axis of a part that are looked at, at least: more would not change the mean."""
FREQUENCIES = {1: (16, 80), 2: (4, 12), 3: (3, 7)}
"""First and last (exclusive) half waves along each axis: 64 combinations."""
CUT = 2.0
"""Contrasts beyond so many times the median one count no more than that."""
FLAT = 1e-6
"""An image whose parts differ by less, relative to their size, has no look."""


def thumbnail(array: NDArray) -> str | None:
    """Return 64 bits of (C, *S), hexadecimal; None for an image that is the same everywhere.

    Copies that were stored in another type, scaled, brightened, resized or compressed keep nearly
    all bits; of unrelated images, half are equal.
    """
    small = np.squeeze(_averaged(array))
    if not 1 <= small.ndim <= 3 or np.ptp(small) <= FLAT * np.abs(small).max():
        return None
    small = _levelled(small)
    first, last = FREQUENCIES[small.ndim]
    for axis, size in enumerate(small.shape):
        waves = np.outer(np.arange(first, last), np.arange(size) + 0.5) * (math.pi / size)
        small = np.moveaxis(np.tensordot(np.cos(waves), small, axes=(1, axis)), 0, axis)
    return np.packbits(small.ravel() > 0).tobytes().hex()


def sampling_steps(shape: Sequence[int]) -> tuple[int, ...]:
    """Return at which distance along each axis the voxels lie that are looked at.

    An image of those voxels alone has the same thumbnail.
    """
    return tuple(max(1, size // (SAMPLES * _num_cells(shape))) for size in shape)


def _num_cells(shape: Sequence[int]) -> int:
    """Return the number of parts that each axis is averaged to."""
    return CELLS[max(1, sum(size > 1 for size in shape))]


def _levelled(small: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much brighter each part is than its surroundings, strong contrasts cut off.

    Else the edge of what all images show, such as the field of view, would outweigh their content.
    """
    around = small
    for axis, size in enumerate(small.shape):
        reach = [(2, 2) if other == axis else (0, 0) for other in range(small.ndim)]
        padded, before = np.pad(around, reach, "edge"), (slice(None),) * axis
        around = sum(padded[(*before, slice(s, s + size))] for s in range(5)) / 5
    contrast = small - around
    usual = float(np.median(np.abs(contrast))) or float(np.abs(contrast).mean())
    return np.clip(contrast / (CUT * usual), -1, 1)


def _averaged(array: NDArray) -> NDArray[np.float64]:
    """Return the mean of the channels, with each axis averaged to a fixed number of parts."""
    count, total = _num_cells(array.shape[1:]), np.zeros(())
    steps = tuple(slice(None, None, step) for step in sampling_steps(array.shape[1:]))
    for channel in array:
        small = channel[steps]
        for axis, size in enumerate(small.shape):
            if size == 1:
                continue
            if size < count:  # repeated, so that the frequencies stay the same
                small = np.take(small, np.arange(count) * size // count, axis)
                continue
            edges = np.arange(count) * size // count
            widths = np.diff(np.append(edges, size)).reshape(-1, *(1,) * (channel.ndim - 1 - axis))
            small = np.add.reduceat(small, edges, axis, dtype=np.float64) / widths
        total = total + small.astype(np.float64)
    return total
