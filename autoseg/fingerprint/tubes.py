"""How wide and how long the parts of each class are, from counts of voxels and of their faces.

Nothing is thinned to a skeleton: voxels over faces tell the mean width (Cauchy's formula for the
mean chord of a body, V over S), and the volume over that width the length of its centreline.

Letters in shapes: S spatial axes (ZYX or YX), P connected parts.
"""

import math

import numpy as np
from numpy.typing import NDArray

MAX_VOXELS = 4_000_000
"""Of larger images the middle is measured: the width of vessels is the same there."""
FACES_OF_CURVES = {2: 4 / math.pi, 3: 3 / 2}
"""Faces of voxels over the surface that they stand for, mean over all directions."""
DIGITS = 2


def tube_facts(classes: NDArray, num_classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean width of each class's parts, voxels, and their length over that width.

    A part is taken for a tube: of width 2 A / P in a plane, 4 V / S in space. Parts count by their
    voxels. A ball is 2 long by this measure, the vessels of a retina are 1400. 0 for absent
    classes.

    Parameters
    ----------
    classes : (*S) unsigned int
        Class indices; 0 is background.
    num_classes
        With the background.
    """
    import cc3d

    if classes.size > MAX_VOXELS:
        classes = _middle(classes)
    corners = 26 if classes.ndim == 3 else 8  # thin lines hang together by corners alone
    parts, count = cc3d.connected_components(classes, connectivity=corners, return_N=True)
    num_parts = int(count) + 1
    class_of = np.zeros(num_parts, classes.dtype)
    class_of[parts] = classes  # all voxels of a part have one class
    voxels = np.bincount(parts[parts > 0], minlength=num_parts)
    surface = _faces(parts, num_parts) / FACES_OF_CURVES[classes.ndim]
    with np.errstate(divide="ignore", invalid="ignore"):  # the background has no surface
        width = (2 if classes.ndim == 2 else 4) * voxels / surface
        section = width if classes.ndim == 2 else np.pi / 4 * width**2
        length = voxels / section / width
    widths, lengths = (_by_class(n, voxels, class_of, num_classes) for n in (width, length))
    return widths, lengths


def _middle(classes: NDArray) -> NDArray:
    """Return the middle of (*S), of the same proportions, with at most `MAX_VOXELS`."""
    part = (MAX_VOXELS / classes.size) ** (1 / classes.ndim)
    sizes = [max(1, int(n * part)) for n in classes.shape]
    starts = [(n - size) // 2 for n, size in zip(classes.shape, sizes, strict=True)]
    box = tuple(slice(start, start + n) for start, n in zip(starts, sizes, strict=True))
    return np.ascontiguousarray(classes[box])


def _faces(parts: NDArray, count: int) -> NDArray[np.int64]:
    """Return the faces of each part towards anything else, those of the image included."""
    faces = np.zeros(count, np.int64)
    for axis in range(parts.ndim):
        lined = np.moveaxis(parts, axis, 0)
        low, high = lined[:-1], lined[1:]
        is_face = low != high
        for side in (low[is_face], high[is_face], lined[0].ravel(), lined[-1].ravel()):
            faces += np.bincount(side, minlength=count)
    return faces


def _by_class(
    values: NDArray[np.float64], voxels: NDArray[np.int64], class_of: NDArray, num_classes: int
) -> tuple[float, ...]:
    """Return the mean of the parts of each class, weighted by their voxels."""
    inside = (class_of > 0) & (voxels > 0)
    owners, weights = class_of[inside], voxels[inside]
    totals = np.bincount(owners, weights * values[inside], minlength=num_classes)
    means = totals / np.maximum(1, np.bincount(owners, weights, minlength=num_classes))
    return tuple(round(float(mean), DIGITS) for mean in means)
