"""The box around everything that is not zero, and the region inside it.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Box: TypeAlias = tuple[tuple[int, int], ...]
"""Half-open range of each spatial axis."""


def nonzero_box(image: NDArray) -> Box:
    """Return the smallest box with all voxels of (C, *S) that are nonzero in any channel.

    An image of zeros alone keeps its whole box. Each axis is trimmed slice by slice from both
    ends: an image without an empty margin costs six slices, not a pass over the volume.
    """
    whole = tuple((0, size) for size in image.shape[1:])
    box: list[tuple[int, int]] = []
    for axis in range(1, image.ndim):
        start, stop = 0, image.shape[axis]
        while start < stop and not _slice(image, axis, start).any():
            start += 1
        if start == stop:
            return whole
        while not _slice(image, axis, stop - 1).any():
            stop -= 1
        box.append((start, stop))
        image = image[(slice(None),) * axis + (slice(start, stop),)]
    return tuple(box)


def _slice(image: NDArray, axis: int, index: int) -> NDArray:
    return image[(slice(None),) * axis + (index,)]


def box_slices(box: Box) -> tuple[slice, ...]:
    """Return the index that takes `box` out of an array without channels."""
    return tuple(slice(start, stop) for start, stop in box)


def nonzero_region(image: NDArray) -> NDArray[np.bool_]:
    """Return (*S): where (C, *S) is nonzero in any channel, with the holes enclosed by that."""
    from scipy import ndimage  # 0.2 s that most starts do not need

    empty = image[0] == 0
    for channel in image[1:]:
        empty &= channel == 0
    if not empty.any():
        return ~empty
    components = np.empty(empty.shape, dtype=np.int32)
    ndimage.label(empty, output=components)
    outside = np.zeros(components.max() + 1, dtype=bool)
    for axis in range(components.ndim):
        for face in (0, -1):
            outside[np.take(components, face, axis=axis)] = True
    outside[0] = False
    return ~outside[components]
