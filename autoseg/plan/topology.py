"""Patch size, pooling and kernels of a U-Net: nnU-Net's rules, as pure functions.

Axes are in prepared order, ZYX (2D: YX). Sizes may end in .5 until a patch is rounded up to what
the pooling needs: medians over an even number of cases do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MIN_FEATURE_MAP_EDGE = 4
"""Features are pooled no smaller than this: below it, padding is most of what a kernel sees."""
MIN_PATCH_VOXELS = 2
"""Fewer have no deviation, by which features are normalised; smaller images are padded."""
SINGLE_AXIS_EDGES = 3
"""The last axis that still can be pooled needs this many minimal edges: pooling one axis alone
adds a stage for little context."""
SIMILAR_SPACING = 2.0
"""Axes whose spacings differ by less than this factor are pooled and convolved together."""
FIRST_PATCH_VOXELS = {1: 65_536, 2: 2048**2, 3: 256**3}
"""Voxels of the first guess, by number of axes: more than any memory target needs. Memory bounds no
signal; half a million values a channel would only add stages that see the same."""


@dataclass(frozen=True)
class Topology:
    """A patch with the pooling and the kernels that fit it, one entry a stage."""

    patch_size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def divisor(self) -> tuple[int, ...]:
        """What the patch divides by, per axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def topology(spacing: Sequence[float], size: Sequence[float]) -> Topology:
    """Return the deepest topology for a patch of about `size`, which is rounded up to fit it."""
    spacings, sizes = list(spacing), list(size)
    dims = len(spacings)
    kernel = [1] * dims
    strides, kernels = [(1,) * dims], []
    while axes := _poolable(spacings, sizes):
        for axis in range(dims):
            if spacings[axis] / min(spacings) < SIMILAR_SPACING:
                kernel[axis] = 3  # and stays 3, though pooling others coarsens them
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in axes else 1 for axis in range(dims)))
        for axis in axes:
            spacings[axis] *= 2
            sizes[axis] = math.ceil(sizes[axis] / 2)
    kernels.append((3,) * dims)
    divisor = [math.prod(axis) for axis in zip(*strides, strict=True)]
    patch = tuple(math.ceil(n / d) * d for n, d in zip(size, divisor, strict=True))
    if math.prod(patch) < MIN_PATCH_VOXELS:
        patch = (*patch[:-1], MIN_PATCH_VOXELS)
    return Topology(patch, tuple(strides), tuple(kernels))


def _poolable(spacings: list[float], sizes: list[float]) -> list[int]:
    """Return the axes to pool next; none when the network is deep enough."""
    large = [i for i, n in enumerate(sizes) if n >= 2 * MIN_FEATURE_MAP_EDGE]
    if not large:
        return []
    finest = min(spacings[i] for i in large)
    axes = [i for i in large if spacings[i] / finest < SIMILAR_SPACING]
    if len(axes) == 1 and sizes[axes[0]] < SINGLE_AXIS_EDGES * MIN_FEATURE_MAP_EDGE:
        return []
    return axes


def first_patch(spacing: Sequence[float], median_shape: Sequence[float]) -> tuple[float, ...]:
    """Return the largest useful patch: the same extent in mm along all axes, within the image."""
    dims = len(spacing)
    fineness = [1.0 / s for s in spacing]
    scale = (FIRST_PATCH_VOXELS[dims] / math.prod(fineness)) ** (1.0 / dims)
    return tuple(min(round(f * scale), n) for f, n in zip(fineness, median_shape, strict=True))


def fit_topology(
    spacing: Sequence[float],
    median_shape: Sequence[float],
    *,
    start: Sequence[float],
    is_too_large: Callable[[Topology], bool],
) -> Topology:
    """Return the first topology that is not too large, shrinking the patch from `start`.

    Each time, the axis that covers most of the image is shortened by the least that keeps it
    divisible (of equals, the last axis). A patch that cannot be shortened is returned as it is.
    """
    found = topology(spacing, start)
    while is_too_large(found):
        smaller = _shortened(spacing, median_shape, found)
        if smaller is None:
            return found
        found = smaller
    return found


def _shortened(
    spacing: Sequence[float], median_shape: Sequence[float], found: Topology
) -> Topology | None:
    """Return the topology after one step of shrinking, None if no axis can be shortened."""
    patch = found.patch_size
    by_coverage = sorted(
        range(len(patch)), key=lambda axis: (patch[axis] / median_shape[axis], axis), reverse=True
    )
    for axis in by_coverage:
        trial = list(patch)
        trial[axis] -= found.divisor[axis]
        if trial[axis] < 1:
            continue
        # With the smaller patch one pooling less may do, so that a smaller cut is possible:
        # 256 divides by 64, but 224 needs only 32.
        cut = topology(spacing, trial).divisor[axis]
        smaller = topology(spacing, [n - cut * (i == axis) for i, n in enumerate(patch)])
        if smaller.patch_size != patch:
            return smaller
    return None
