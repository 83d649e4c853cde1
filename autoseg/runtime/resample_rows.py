"""Images on another voxel grid, row by row: nothing of their size is held but the result.

Letters in shapes: C channels, R rows of the first axis, S spatial axes (ZYX or YX).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .resample import BAND_ROWS, GridChange, Lookup, Weighted

ROW_VOXELS = 1 << 22
"""Voxels worked on at once: arrays of 16 MiB."""

ReadRows: TypeAlias = Callable[[int, slice], NDArray]
"""Rows (R, *S[1:]) of a channel of an image."""


def resample_image(array: NDArray, change: GridChange, *, spline_order: int) -> NDArray[np.float32]:
    """Return (C, *S) on the new grid, by a spline that never leaves the range of what it reads.

    The range is that of the channel, or of the slice where slices are resampled one by one.
    """
    if change.is_identity:
        return np.ascontiguousarray(array, dtype=np.float32)
    return resample_read(
        lambda channel, rows: array[channel, rows], len(array), change, spline_order=spline_order
    )


def resample_read(
    read: ReadRows, num_channels: int, change: GridChange, *, spline_order: int
) -> NDArray[np.float32]:
    """Return what `resample_image` returns of the image whose rows `read` gives.

    It is gone through from its first row to its last, a few million voxels at a time.
    """
    operators = change.operators(spline_order)
    out = np.empty((num_channels, *change.new_shape), dtype=np.float32)
    for channel, target in enumerate(out):
        rows = partial(read, channel)
        if change.is_identity:
            for part in row_slices(change.new_shape):
                target[part] = rows(part)
        elif change.coarse_axis == 0:
            _fill_slice_by_slice(target, rows, operators)
        else:
            _fill(target, rows, change, operators)
    return out


def row_slices(shape: Sequence[int]) -> list[slice]:
    """Return the parts along the first axis that (*S) is worked on in: whole bands."""
    depth = max(1, ROW_VOXELS // math.prod(shape[1:]) // BAND_ROWS) * BAND_ROWS
    return [slice(first, min(first + depth, shape[0])) for first in range(0, shape[0], depth)]


def _fill(
    out: NDArray[np.float32],
    read: Callable[[slice], NDArray],
    change: GridChange,
    operators: Sequence[Weighted | Lookup],
) -> None:
    """Write a channel on the new grid to `out`, clipped to its range."""
    low, high = _ranges(read, change, operators)
    order = axis_order(change)
    split = order.index(0)
    source = _Source(read, [(axis, operators[axis]) for axis in order[:split]])
    for rows in row_slices(out.shape):
        needed, operator = operators[0].part(rows.start, rows.stop)
        values = operator.apply(source.rows(needed), 0)
        for axis in order[split + 1 :]:
            values = operators[axis].apply(values, axis)
        np.clip(values, low, high, out=out[rows])


def axis_order(change: GridChange) -> list[int]:
    """Return the axes in the order in which they are resampled.

    Those that grow least come first. A coarse axis comes before the others if it shrinks.
    """
    growth = [new / old for old, new in zip(change.old_shape, change.new_shape, strict=True)]
    if change.coarse_axis is not None:
        growth[change.coarse_axis] = 0 if growth[change.coarse_axis] < 1 else math.inf
    return sorted(range(len(growth)), key=growth.__getitem__)


def _ranges(
    read: Callable[[slice], NDArray], change: GridChange, operators: Sequence[Weighted | Lookup]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and the highest value of a channel, (1, ...), or of each coarse slice."""
    coarse = change.coarse_axis
    axes = tuple(axis for axis in range(len(change.old_shape)) if axis != coarse)
    lows, highs = [], []
    for rows in row_slices(change.old_shape):
        part = read(rows)
        lows.append(part.min(axis=axes, keepdims=True))
        highs.append(part.max(axis=axes, keepdims=True))
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    if coarse is not None:
        low, high = (operators[coarse].apply(line, coarse) for line in (low, high))
    return low.astype(np.float32), high.astype(np.float32)


class _Source:
    """Rows of a channel as they are needed, resampled along other axes than the first.

    Rows that are needed again are kept, because the next ones begin before the last have ended.
    """

    def __init__(
        self,
        read: Callable[[slice], NDArray],
        operators: Sequence[tuple[int, Weighted | Lookup]],
    ) -> None:
        self._read = read
        self._operators = operators
        self._first = 0
        self._kept: NDArray[np.float32] | None = None

    def rows(self, wanted: slice) -> NDArray[np.float32]:
        """Return rows (R, ...); they begin no earlier than those before."""
        if not self._operators:
            return np.ascontiguousarray(self._read(wanted), dtype=np.float32)
        kept = None if self._kept is None else self._kept[wanted.start - self._first :]
        self._kept = None
        parts = [] if kept is None else [kept]
        start = wanted.start + sum(map(len, parts))
        if start < wanted.stop:
            values = np.ascontiguousarray(self._read(slice(start, wanted.stop)), dtype=np.float32)
            for axis, operator in self._operators:
                values = operator.apply(values, axis)
            parts.append(values)
        self._first = wanted.start
        self._kept = np.concatenate(parts)
        return self._kept


def _fill_slice_by_slice(
    out: NDArray[np.float32],
    read: Callable[[slice], NDArray],
    operators: Sequence[Weighted | Lookup],
) -> None:
    """Write a channel on the new grid to `out`; along the first axis slices are looked up.

    Each slice that is used is resampled once, within its own range.
    """
    for rows in row_slices(out.shape):
        needed, lookup = operators[0].part(rows.start, rows.stop)
        assert isinstance(lookup, Lookup), "a coarse axis is looked up"
        used, places = np.unique(lookup.index, return_inverse=True)
        values = np.ascontiguousarray(read(needed)[used], dtype=np.float32)
        axes = tuple(range(1, values.ndim))
        low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
        for axis in sorted(axes, key=lambda axis: operators[axis].size / values.shape[axis]):
            values = operators[axis].apply(values, axis)
        np.clip(values[places], low[places], high[places], out=out[rows])
