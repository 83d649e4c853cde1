"""Sliding-window prediction: a network that takes patches, made to take a whole image.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the network (the patch),
S' axes of the prepared image. Leading image axes that the network lacks are gone through slice by
slice.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .tiles import Centre, axis_shares, fill_up, tile_starts

Network: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(B, C, *P) -> (B, K, *P) logits; P is smaller by a margin at each side if the tiling says so."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How an image is cut into tiles, and how often each is predicted."""

    overlap: float
    """Fraction of a tile shared with the next one."""
    padding: Literal["mirror", "zero"]
    """How an image smaller than the patch is filled up."""
    pad_values: tuple[float, ...]
    """What `zero` fills in, one value a channel: 0 for normalised input, the mean for raw input."""
    mirror_axes: tuple[int, ...]
    """Axes of the patch along which mirrored tiles are predicted too; empty for none."""
    batch_size: int
    """Most tiles that the network gets at once."""
    margins: tuple[int, ...] = ()
    """Voxels of a patch that the network sees at each side but does not predict, per axis; the
    image is filled up by them. Empty for none."""
    centre: Centre = "middle"
    """Where a tile counts most."""


_Job: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]
"""First voxel of a tile, and the axes of the patch along which it is mirrored."""


def blend(
    array: NDArray, network: Network, patch_size: Sequence[int], *, tiling: Tiling
) -> NDArray[np.float32]:
    """Return logits (K, *S') of a whole prepared image (C, *S').

    Overlapping tiles are averaged with Gaussian weights, mirrored versions equally.
    """
    margins = tiling.margins or (0,) * len(patch_size)
    output = [size - 2 * margin for size, margin in zip(patch_size, margins, strict=True)]
    slices = (1,) * (array.ndim - 1 - len(patch_size))
    tile, read = (*slices, *output), (*slices, *patch_size)
    around = (*(0 for _ in slices), *margins)
    full, offset = fill_up(
        array, tile, padding=tiling.padding, values=tiling.pad_values, margins=around
    )
    shape = tuple(n - 2 * margin for n, margin in zip(full.shape[1:], around, strict=True))
    flips = _subsets(tiling.mirror_axes)
    jobs = [(start, flip) for start in tile_starts(shape, tile, tiling.overlap) for flip in flips]
    sums = None
    weigh = _Weights(shape, tile, tiling, len(flips))
    for first in range(0, len(jobs), tiling.batch_size):
        batch = jobs[first : first + tiling.batch_size]
        logits = network(_stack(full, batch, read, len(patch_size)))
        if sums is None:
            sums = np.zeros((logits.shape[1], *shape), dtype=np.float32)
        for (start, flip), single in zip(batch, logits, strict=True):
            upright = np.flip(single, tuple(axis + 1 for axis in flip)).reshape(-1, *tile)
            region = sums[(slice(None), *_tile_slices(start, tile))]
            region += weigh(upright, start)
    assert sums is not None  # there is always a tile
    starts = [at - margin for at, margin in zip(offset, around, strict=True)]
    inner = tuple(slice(o, o + n) for o, n in zip(starts, array.shape[1:], strict=True))
    return np.ascontiguousarray(sums[(slice(None), *inner)])


def _subsets(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    sizes = range(len(axes) + 1)
    return [subset for size in sizes for subset in itertools.combinations(axes, size)]


def _tile_slices(start: Sequence[int], tile: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + size) for first, size in zip(start, tile, strict=True))


def _stack(
    full: NDArray, batch: list[_Job], read: Sequence[int], dimensions: int
) -> NDArray[np.float32]:
    """Return what the network reads for the tiles of a batch, mirrored: (B, C, *P).

    A tile begins in `full` where it begins in the image, because both lack or have its margins.
    """
    tiles = np.empty((len(batch), full.shape[0], *read[len(read) - dimensions :]), dtype=np.float32)
    for target, (start, flip) in zip(tiles, batch, strict=True):
        source = full[(slice(None), *_tile_slices(start, read))].reshape(target.shape)
        target[...] = np.flip(source, tuple(axis + 1 for axis in flip))
    return tiles


class _Weights:
    """Multiplies a tile by its share of the voxels it covers; nothing to do for a lone tile."""

    def __init__(
        self, shape: Sequence[int], tile: Sequence[int], tiling: Tiling, num_flips: int
    ) -> None:
        sizes = zip(shape, tile, strict=True)
        self.shares = [
            axis_shares(size, width, tiling.overlap, tiling.centre) for size, width in sizes
        ]
        self.scale = 1 / num_flips
        self.is_lone = all(len(shares) == 1 for shares in self.shares)

    def __call__(self, logits: NDArray[np.float32], start: tuple[int, ...]) -> NDArray[np.float32]:
        if self.is_lone:
            return logits if self.scale == 1 else logits * self.scale
        weights = np.array(self.scale, dtype=np.float32)
        for shares, first in zip(self.shares, start, strict=True):
            weights = weights[..., None] * shares[first]
        return logits * weights
