"""Resampling to another voxel grid, one axis at a time.

A spline of any order is linear in the voxels and separable, so each axis is one matrix. It is
measured from `scipy.ndimage.zoom` itself (with impulses), hence equal to it, and applied as fp32
matrix products: an order of magnitude faster than the spline evaluated voxel by voxel. The matrix
is banded - a spline's memory fades by 0.27 a voxel - and only the band is multiplied.

A coarse axis (see `Recipe.coarse_ratio`) is not interpolated: each new slice is the nearest old
one.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .crop import Box

IGNORE = -1
"""Index of voxels without annotation in label arrays."""

PERIOD = 64
"""Distance of the impulses that measure a spline: its weights are below 1e-17 half-way between."""
NEGLIGIBLE = 1e-8
"""Weights below this cannot be seen in fp32."""
TIE = 1e-6
"""Shares of a voxel closer than this are equal (fp32), and then the background loses."""
BAND_ROWS = 32
"""Output voxels of one matrix product: wide enough for BLAS, narrow enough for the band."""
SINGLE_THREADED = 1 << 18
"""Multiplications of one matrix product. From twice as many on OpenBLAS starts threads, which wait
for each other by spinning: ten times slower as soon as the processor has anything else to do."""
MIN_STRIPE = 16
"""Columns multiplied at once are a multiple of this: whole vector registers."""


@dataclass(frozen=True)
class Band:
    """Output voxels `rows` of one axis are `weights` (rows, columns) times the inputs `columns`."""

    rows: slice
    columns: slice
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Weighted:
    """One axis interpolated: `size` output voxels by banded weights."""

    size: int
    bands: tuple[Band, ...]

    def apply(self, array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """Return `array` with this axis resampled."""
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        flat = array.reshape(math.prod(before), array.shape[axis], math.prod(after))
        out = np.empty((flat.shape[0], self.size, flat.shape[2]), dtype=np.float32)
        for band in self.bands:
            source, target = flat[:, band.columns], out[:, band.rows]
            if flat.shape[2] == 1:
                # The last axis: the lines before it take the place of the voxels after it.
                source, target = source[..., 0].T[None], target[..., 0].T[None]
            for stripe, rest in _stripes(source.shape[2], band.weights.size):
                _multiply(band.weights, source[..., stripe], target[..., stripe], rest)
        return out.reshape(*before, self.size, *after)

    def part(self, start: int, stop: int) -> tuple[slice, "Weighted"]:
        """Return the inputs that outputs `start` to `stop` need, and the operator between them."""
        bands = [
            _rows_of(b, max(b.rows.start, start), min(b.rows.stop, stop))
            for b in self.bands
            if b.rows.start < stop and b.rows.stop > start
        ]
        first = min(b.columns.start for b in bands)
        last = max(b.columns.stop for b in bands)
        cut = tuple(
            Band(
                rows=slice(b.rows.start - start, b.rows.stop - start),
                columns=slice(b.columns.start - first, b.columns.stop - first),
                weights=b.weights,
            )
            for b in bands
        )
        return slice(first, last), Weighted(stop - start, cut)

    def needs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last input of each output; both rise."""
        first, last = np.empty((2, self.size), dtype=np.intp)
        for band in self.bands:
            used = np.abs(band.weights) > NEGLIGIBLE
            first[band.rows] = band.columns.start + used.argmax(axis=1)
            last[band.rows] = band.columns.stop - 1 - used[:, ::-1].argmax(axis=1)
        return np.minimum.accumulate(first[::-1])[::-1], np.maximum.accumulate(last)

    def reached_from(self, start: int, stop: int) -> tuple[slice, "Weighted"]:
        """Return the outputs that inputs `start` to `stop` reach, and the operator between them."""
        cuts = [cut for band in self.bands if (cut := _reaching(band, start, stop)) is not None]
        if not cuts:
            return slice(0, 0), Weighted(0, ())
        first, last = cuts[0].rows.start, cuts[-1].rows.stop
        bands = tuple(
            Band(slice(c.rows.start - first, c.rows.stop - first), c.columns, c.weights)
            for c in cuts
        )
        return slice(first, last), Weighted(last - first, bands)


def _stripes(size: int, num_weights: int) -> list[tuple[slice, int]]:
    """Return the stripes (range, width) in which `size` columns are multiplied."""
    width = max(MIN_STRIPE, SINGLE_THREADED // num_weights // MIN_STRIPE * MIN_STRIPE)
    even = size // width * width
    stripes = [(slice(0, even), width), (slice(even, size), size - even)]
    return [(stripe, width) for stripe, width in stripes if stripe.start < stripe.stop]


def _multiply(weights: NDArray[np.float32], source: NDArray, target: NDArray, width: int) -> None:
    """Write weights (R, W) times source (B, W, N) to target (B, R, N), `width` columns at once."""
    batch, _, size = source.shape
    parts = size // width
    np.matmul(
        weights,
        source.reshape(batch, -1, parts, width).swapaxes(1, 2),
        out=target.reshape(batch, -1, parts, width).swapaxes(1, 2),
    )


def _rows_of(band: Band, start: int, stop: int) -> Band:
    """Return the outputs `start` to `stop` of a band, with the inputs that they need."""
    weights = band.weights[start - band.rows.start : stop - band.rows.start]
    used = np.flatnonzero((np.abs(weights) > NEGLIGIBLE).any(axis=0))
    low, high = int(used[0]), int(used[-1]) + 1
    begin = band.columns.start
    columns = slice(begin + low, begin + high)
    return Band(slice(start, stop), columns, np.ascontiguousarray(weights[:, low:high]))


def _reaching(band: Band, start: int, stop: int) -> Band | None:
    """Return the rows of a band that read inputs `start` to `stop`, counted from there."""
    low, high = max(band.columns.start, start), min(band.columns.stop, stop)
    weights = band.weights[:, max(0, low - band.columns.start) : max(0, high - band.columns.start)]
    rows = np.flatnonzero(weights.any(axis=1))
    if not rows.size:
        return None
    first, last = int(rows[0]), int(rows[-1]) + 1
    begin = band.rows.start
    return Band(
        rows=slice(begin + first, begin + last),
        columns=slice(low - start, high - start),
        weights=weights[first:last],
    )


@dataclass(frozen=True)
class Lookup:
    """One axis by nearest neighbour: output voxel i is input voxel ``index[i]``; rising."""

    index: NDArray[np.intp]

    @property
    def size(self) -> int:
        """Number of output voxels."""
        return len(self.index)

    def apply(self, array: NDArray, axis: int) -> NDArray:
        """Return `array` with this axis resampled; itself if nothing changes."""
        if np.array_equal(self.index, np.arange(array.shape[axis])):
            return array
        return np.take(array, self.index, axis=axis)

    def part(self, start: int, stop: int) -> tuple[slice, "Lookup"]:
        """Return the inputs that outputs `start` to `stop` need, and the operator between them."""
        index = self.index[start:stop]
        return slice(int(index[0]), int(index[-1]) + 1), Lookup(index - index[0])

    def needs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the first and the last input of each output; both rise."""
        return self.index, self.index

    def reached_from(self, start: int, stop: int) -> tuple[slice, "Lookup"]:
        """Return the outputs that inputs `start` to `stop` reach, and the operator between them."""
        first, last = np.searchsorted(self.index, (start, stop))
        return slice(int(first), int(last)), Lookup(self.index[first:last] - start)


@dataclass(frozen=True)
class GridChange:
    """From one voxel grid to another over the same volume; equal values resample equally."""

    old_shape: tuple[int, ...]
    new_shape: tuple[int, ...]
    coarse_axis: int | None
    """The axis that is resampled by nearest neighbour."""

    @property
    def is_identity(self) -> bool:
        """Whether both grids are the same."""
        return self.old_shape == self.new_shape

    def operators(self, order: int) -> tuple[Weighted | Lookup, ...]:
        """Return the operator of each axis, for a spline of this order."""
        pairs = zip(self.old_shape, self.new_shape, strict=True)
        return tuple(
            nearest(old, new) if old == new or axis == self.coarse_axis else spline(old, new, order)
            for axis, (old, new) in enumerate(pairs)
        )


def grid_change(
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    *,
    coarse_ratio: float,
) -> GridChange:
    """Return the change from `spacing` to `new_spacing`; the new shape is rounded, never empty."""
    new_shape = tuple(
        max(1, round(old / new * size))
        for old, new, size in zip(spacing, new_spacing, shape, strict=True)
    )
    coarse = coarse_axis(spacing, new_spacing, coarse_ratio=coarse_ratio)
    return GridChange(tuple(shape), new_shape, coarse)


def coarse_axis(
    spacing: Sequence[float], new_spacing: Sequence[float], *, coarse_ratio: float
) -> int | None:
    """Return the axis of a volume to resample alone: the coarsest, by the old grid or else the new.

    None where no grid is that anisotropic, where two axes are equally coarse, and in 2D.
    """
    if len(spacing) < 3:
        return None
    for values in (spacing, new_spacing):
        if max(values) / min(values) > coarse_ratio:
            coarsest = [axis for axis, value in enumerate(values) if value == max(values)]
            return coarsest[0] if len(coarsest) == 1 else None
    return None


def nearest(old: int, new: int) -> Lookup:
    """Return the nearest-neighbour operator from `old` to `new` voxels over the same length."""
    centres = old / new * (np.arange(new) + 0.5) - 0.5
    index = np.floor(centres + 0.5).astype(np.intp)
    return Lookup(np.clip(index, 0, old - 1))


def spline(old: int, new: int, order: int) -> Weighted:
    """Return the operator of an interpolating spline, edges repeated, voxels as cells."""
    from scipy import ndimage  # 0.2 s that most starts do not need

    impulses = np.zeros((old, min(old, PERIOD)))
    impulses[np.arange(old), np.arange(old) % PERIOD] = 1
    response = np.asarray(
        ndimage.zoom(impulses, (new / old, 1), order=order, mode="nearest", grid_mode=True)
    )
    centres = old / new * (np.arange(new) + 0.5) - 0.5
    bands = []
    for start in range(0, new, BAND_ROWS):
        rows = slice(start, min(start + BAND_ROWS, new))
        first = max(0, math.ceil(centres[rows.start] - PERIOD / 2))
        last = min(old, math.floor(centres[rows.stop - 1] + PERIOD / 2) + 1)
        columns = np.arange(first, last)
        weights = response[rows][:, columns % PERIOD]
        weights[np.abs(columns - centres[rows, None]) >= PERIOD / 2] = 0
        used = np.flatnonzero((np.abs(weights) > NEGLIGIBLE).any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        cut = np.ascontiguousarray(weights[:, low:high], dtype=np.float32)
        bands.append(Band(rows, slice(first + low, first + high), cut))
    return Weighted(new, tuple(bands))


def resample_labels(labels: NDArray[np.signedinteger], change: GridChange) -> NDArray:
    """Return (*S) class indices on the new grid, of the same type.

    Each class is interpolated linearly on its own box; the class that covers most of a voxel wins,
    hence every class that covers at least half. `IGNORE` takes part like a class.
    """
    if change.is_identity:
        return labels
    return _resample_labels(labels, change.operators(1))


@dataclass(frozen=True)
class LabelResampler:
    """`resample_labels` box by box: boxes of the new grid from those of the old one."""

    operators: tuple[Weighted | Lookup, ...]

    def _parts(self, box: Box) -> list[tuple[slice, Weighted | Lookup]]:
        return [op.part(*span) for op, span in zip(self.operators, box, strict=True)]

    def needed(self, box: Box) -> Box:
        """Return the voxels of the old grid that a box of the new one is computed from."""
        return tuple((source.start, source.stop) for source, _ in self._parts(box))

    def apply(self, labels: NDArray[np.integer], box: Box) -> NDArray:
        """Return (*B) of a box of the new grid from the voxels that it needs."""
        return _resample_labels(labels, [operator for _, operator in self._parts(box)])


def _resample_labels(
    labels: NDArray[np.integer], operators: Sequence[Weighted | Lookup]
) -> NDArray:
    from scipy import ndimage  # 0.2 s that most starts do not need

    shape = tuple(operator.size for operator in operators)
    boxes = ndimage.find_objects(labels.astype(np.int32) - IGNORE + 1)
    out = np.zeros(shape, dtype=labels.dtype)
    best = np.zeros(shape, dtype=np.float32)
    background = np.ones(shape, dtype=np.float32)
    for value, box in enumerate(boxes, start=IGNORE):
        if box is None or value == 0:
            continue
        target, parts = _reached_from(box, operators)
        share = (labels[box] == value).astype(np.float32)
        for axis, part in enumerate(parts):
            share = part.apply(share, axis)
        background[target] -= share
        wins = share > best[target]
        out[target][wins] = value
        np.maximum(best[target], share, out=best[target])
    out[background > best + TIE] = 0
    return out


def _reached_from(
    box: tuple[slice, ...], operators: Sequence[Weighted | Lookup]
) -> tuple[tuple[slice, ...], list[Weighted | Lookup]]:
    pairs = [op.reached_from(s.start, s.stop) for s, op in zip(box, operators, strict=True)]
    return tuple(rows for rows, _ in pairs), [part for _, part in pairs]
