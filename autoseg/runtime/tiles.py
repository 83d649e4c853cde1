"""Where the tiles of a sliding window lie, their weights, and how small images are filled up."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

SIGMA_FRACTION = 1 / 8
"""Standard deviation of the tile's weight, as a fraction of its size."""

Centre: TypeAlias = Literal["middle", "upper"]
"""Where a tile's weight is largest: in its middle, or at the upper of the two middle voxels of an
even size, as nnU-Net has it."""


def axis_starts(size: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Return the first voxels of the tiles along one axis: evenly spread, covering it."""
    if size <= tile:
        return (0,)
    step = max(1.0, tile * (1 - overlap))
    gaps = math.ceil((size - tile) / step)
    return tuple(round((size - tile) * i / gaps) for i in range(gaps + 1))


def tile_starts(
    shape: Sequence[int], tile_shape: Sequence[int], overlap: float
) -> list[tuple[int, ...]]:
    """Return the first voxel of each tile, the last axis running fastest."""
    axes = zip(shape, tile_shape, strict=True)
    return list(itertools.product(*(axis_starts(size, tile, overlap) for size, tile in axes)))


def axis_weights(tile: int, centre: Centre = "middle") -> NDArray[np.float64]:
    """Return the weight of each voxel of a tile along one axis: a Gaussian with maximum 1."""
    offsets = np.arange(tile) - (tile // 2 if centre == "upper" else (tile - 1) / 2)
    weights = np.exp(-0.5 * (offsets / (tile * SIGMA_FRACTION)) ** 2)
    return weights / weights.max()


def axis_shares(
    size: int, tile: int, overlap: float, centre: Centre = "middle"
) -> dict[int, NDArray[np.float32]]:
    """Return, by first voxel, each tile's share of the voxels that it covers along one axis.

    The weight of a tile is a product over axes and the tiles form a grid, so dividing by the sum
    of all weights factorises too: the shares of all tiles add up to 1 everywhere.
    """
    weights = axis_weights(tile, centre)
    total = np.zeros(size)
    starts = axis_starts(size, tile, overlap)
    for start in starts:
        total[start : start + tile] += weights
    return {start: (weights / total[start : start + tile]).astype(np.float32) for start in starts}


def fill_up(
    array: NDArray,
    shape: Sequence[int],
    *,
    padding: Literal["mirror", "zero"],
    values: Sequence[float] | NDArray,
    margins: Sequence[int] = (),
) -> tuple[NDArray, tuple[int, ...]]:
    """Return (C, *S) padded on both sides to at least `shape`, and where the array starts in it.

    `mirror` repeats the mirrored image as often as needed; `zero` fills channel c with
    ``values[c]``, which is the raw value that normalises to 0. Each side gets `margins` besides.
    """
    margins = margins or (0,) * len(shape)
    missing = [max(0, want - have) for want, have in zip(shape, array.shape[1:], strict=True)]
    starts = tuple(gap // 2 + margin for gap, margin in zip(missing, margins, strict=True))
    if not any(missing) and not any(margins):
        return array, starts
    sides = zip(starts, missing, margins, strict=True)
    widths = [(0, 0), *((start, gap + 2 * margin - start) for start, gap, margin in sides)]
    if padding == "mirror":
        return np.pad(array, widths, mode="reflect"), starts
    channels = [
        np.pad(channel, widths[1:], constant_values=value)
        for channel, value in zip(array, values, strict=True)
    ]
    return np.stack(channels), starts
