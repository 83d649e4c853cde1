"""Sliding-window prediction: a network that takes patches, made to take a whole image.

Letters in shapes: C channels, K classes, R rows of the image's first axis, S' axes of the prepared
image. Leading image axes that the network lacks are gone through slice by slice.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .batches import Network as Network
from .batches import predict_tiles
from .scratch import IN_MEMORY, Scratch
from .tiles import Centre, axis_shares, fill_up, tile_starts

MIN_VOXELS = 1 << 20
"""Sums of at least this many voxels a class are held: small images are blended in one piece."""


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


@dataclass(frozen=True)
class Rows:
    """Logits (K, R, *S'[1:]) of the rows `start` to `stop` of an image's first axis."""

    start: int
    values: NDArray[np.float32]

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + self.values.shape[1]


def blend(
    array: NDArray, network: Network, patch_size: Sequence[int], *, tiling: Tiling
) -> NDArray[np.float32]:
    """Return logits (K, *S') of a whole prepared image (C, *S').

    Overlapping tiles are averaged with Gaussian weights, mirrored versions equally.
    """
    out = None
    for rows in blend_rows(array, network, patch_size, tiling=tiling):
        if rows.values.shape[1:] == array.shape[1:]:
            return np.ascontiguousarray(rows.values)
        if out is None:
            out = np.empty((len(rows.values), *array.shape[1:]), dtype=np.float32)
        out[:, rows.start : rows.stop] = rows.values
    assert out is not None  # there is always a tile
    return out


def blend_rows(
    array: NDArray,
    network: Network,
    patch_size: Sequence[int],
    *,
    tiling: Tiling,
    scratch: Scratch = IN_MEMORY,
) -> Iterator[Rows]:
    """Yield what `blend` returns from the first row to the last, as rows are finished.

    Memory does not grow with the first axis: sums of `row_depth` rows are held, in `scratch`. What
    is yielded holds until the next is asked for.
    """
    axes = array.ndim - 1
    tile = tile_shape(axes, patch_size, tiling)
    margins = (0,) * (axes - len(patch_size)) + (tiling.margins or (0,) * len(patch_size))
    full, offset = fill_up(
        array, tile, padding=tiling.padding, values=tiling.pad_values, margins=margins
    )
    shape = tuple(n - 2 * margin for n, margin in zip(full.shape[1:], margins, strict=True))
    before = [at - margin for at, margin in zip(offset, margins, strict=True)]
    image = tuple(slice(o, o + n) for o, n in zip(before, array.shape[1:], strict=True))
    flips = _subsets(tiling.mirror_axes)
    jobs = itertools.product(tile_starts(shape, tile, tiling.overlap), flips)
    weigh = _Weights(shape, tile, tiling, len(flips))
    sums = None
    for (start, flip), logits in predict_tiles(
        full, jobs, network, patch_size=patch_size, batch_size=tiling.batch_size
    ):
        if sums is None:
            sums = _Sums((len(logits), row_depth(shape, tile), *shape[1:]), image, scratch)
        if start[0] + tile[0] > sums.stop:
            yield sums.rows(start[0])
            sums.move_to(start[0])
        upright = np.flip(logits, tuple(axis + 1 for axis in flip)).reshape(-1, *tile)
        sums.add(upright, start, weigh(start))
    assert sums is not None  # there is always a tile
    yield sums.rows(shape[0])


def tile_shape(num_axes: int, patch_size: Sequence[int], tiling: Tiling) -> tuple[int, ...]:
    """Return what the network predicts at once, with as many axes as the image."""
    margins = tiling.margins or (0,) * len(patch_size)
    output = (size - 2 * margin for size, margin in zip(patch_size, margins, strict=True))
    return (*(1,) * (num_axes - len(patch_size)), *output)


def row_depth(shape: Sequence[int], tile: Sequence[int]) -> int:
    """Return of how many rows sums are held, for an image (*S') and tiles with as many axes."""
    return min(shape[0], max(tile[0], MIN_VOXELS // math.prod(shape[1:])))


def _subsets(axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    sizes = range(len(axes) + 1)
    return [subset for size in sizes for subset in itertools.combinations(axes, size)]


class _Sums:
    """Weighted sums of the rows that are being worked on.

    Parameters
    ----------
    shape
        (K, R, *S'[1:]), S' being what the tiles cover.
    image
        Where the image lies in that; only this is given out.
    """

    def __init__(self, shape: Sequence[int], image: tuple[slice, ...], scratch: Scratch) -> None:
        self._values: NDArray[np.float32] = scratch.zeros(shape, np.float32)
        self._image = image
        self._scratch = scratch
        self._first = 0

    @property
    def stop(self) -> int:
        """The row after the last that there is room for."""
        return self._first + self._values.shape[1]

    def rows(self, stop: int) -> Rows:
        """Return the rows before `stop`."""
        inside, *others = self._image
        low = min(max(self._first, inside.start), inside.stop)
        high = max(low, min(stop, inside.stop))
        part = slice(low - self._first, high - self._first)
        return Rows(low - inside.start, self._values[(slice(None), part, *others)])

    def move_to(self, first: int) -> None:
        """Forget the rows before `first`, and make room for as many more."""
        gone = first - self._first
        for values in self._values:
            kept = max(0, len(values) - gone)
            values[:kept] = values[len(values) - kept :]
            values[kept:] = 0
            self._scratch.forget()
        self._first = first

    def add(
        self,
        logits: NDArray[np.float32],
        start: Sequence[int],
        weights: NDArray[np.float32] | np.float32,
    ) -> None:
        """Add logits (K, *tile) times weights (*tile) to the tile that begins at `start`."""
        inside = (start[0] - self._first, *start[1:])
        place = tuple(slice(o, o + n) for o, n in zip(inside, logits.shape[1:], strict=True))
        for values, target in zip(logits, self._values, strict=True):
            region = target[place]
            region += values * weights
            self._scratch.forget()


class _Weights:
    """The share of a tile in the voxels that it covers."""

    def __init__(
        self, shape: Sequence[int], tile: Sequence[int], tiling: Tiling, num_flips: int
    ) -> None:
        sizes = zip(shape, tile, strict=True)
        self._shares = [
            axis_shares(size, width, tiling.overlap, tiling.centre) for size, width in sizes
        ]
        self._scale = np.float32(1 / num_flips)
        self._is_lone = all(len(shares) == 1 for shares in self._shares)
        self._last: tuple[Sequence[int], NDArray[np.float32] | np.float32] = ((), self._scale)

    def __call__(self, start: Sequence[int]) -> NDArray[np.float32] | np.float32:
        """Return the weights (*tile) of a tile; a number where it is the only one."""
        if self._is_lone:
            return self._scale
        if start != self._last[0]:  # mirrored versions follow each other
            weights = np.array(self._scale)
            for shares, first in zip(self._shares, start, strict=True):
                weights = weights[..., None] * shares[first]
            self._last = (start, weights)
        return self._last[1]
