"""An image whose voxels are read box by box, for images that need not fit into memory.

Letters in shapes: C channels, S spatial axes (ZYX, YX, or X for signals), B those of a box.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .crop import Box, box_slices
from .geometry import Geometry, Image


@dataclass(frozen=True)
class Voxels:
    """Voxels (C, *S) that stay where they are until a box of them is read."""

    num_channels: int
    shape: tuple[int, ...]
    """Spatial axes, voxels."""
    dtype: np.dtype
    geometry: Geometry
    part_shape: tuple[int, ...]
    """What is decoded at once: boxes along its multiples decode nothing twice."""
    read: Callable[[Box], NDArray]
    """Returns (C, *B) of a box; threads may call it at once."""

    @property
    def voxel_bytes(self) -> int:
        """Bytes of a voxel with all its channels."""
        return self.num_channels * self.dtype.itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all voxels, decoded."""
        return math.prod(self.shape) * self.voxel_bytes

    def changed(self, change: Callable[[NDArray], NDArray]) -> "Voxels":
        """Return voxels each box of which is changed as it is read; type and shape must stay."""
        read = self.read
        return replace(self, read=lambda box: change(read(box)))


def in_memory(image: Image) -> Voxels:
    """Return an image that is in memory, as one that is read box by box."""
    array = image.array
    return Voxels(
        num_channels=len(array),
        shape=image.shape,
        dtype=array.dtype,
        geometry=image.geometry,
        part_shape=(1,) * len(image.shape),
        read=lambda box: array[(slice(None), *box_slices(box))],
    )


def join_channels(parts: Sequence[Voxels]) -> Voxels:
    """Return one image of several with the same grid, their channels one after the other."""
    first = parts[0]
    return replace(
        first,
        num_channels=sum(part.num_channels for part in parts),
        dtype=np.result_type(*(part.dtype for part in parts)),
        read=lambda box: np.concatenate([part.read(box) for part in parts]),
    )


def slabs(shape: Sequence[int], part_shape: Sequence[int], max_voxels: int) -> Iterator[Box]:
    """Yield boxes that cover a grid in the order of its voxels, each over all but the first axis.

    As thick as `max_voxels` allow, in multiples of a part where that is possible.
    """
    thick = max(1, max_voxels // max(1, math.prod(shape[1:])))
    step = thick // part_shape[0] * part_shape[0] or thick
    whole = tuple((0, size) for size in shape[1:])
    for start in range(0, shape[0], step):
        yield ((start, min(start + step, shape[0])), *whole)


def blocks(shape: Sequence[int], part_shape: Sequence[int], max_voxels: int) -> Iterator[Box]:
    """Yield boxes of whole parts that cover a grid.

    A part grows to `max_voxels`, last axes first; a part that is larger stays one.
    """
    size = [min(pair) for pair in zip(part_shape, shape, strict=True)]
    for axis in reversed(range(len(size))):
        room = max_voxels // math.prod(size)
        if room > 1:
            size[axis] = min(shape[axis], size[axis] * room)
    counts = [range(0, n, step) for n, step in zip(shape, size, strict=True)]
    for index in np.ndindex(*(len(starts) for starts in counts)):
        yield tuple(
            (starts[i], min(starts[i] + step, n))
            for i, starts, step, n in zip(index, counts, size, shape, strict=True)
        )
