"""Rows of logits as they come, interpolated to slabs of the image's grid as they can be.

Letters in shapes: K classes, R rows of the first axis, S' axes of the prepared array.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .blend import Rows
from .prepare import Placement
from .resample import GridChange, Lookup, Weighted
from .scratch import IN_MEMORY, Scratch

_Operators: TypeAlias = tuple[Weighted | Lookup, ...]


def box_slabs(
    stream: Iterable[Rows],
    placement: Placement,
    num_voxels: int,
    scratch: Scratch = IN_MEMORY,
) -> Iterator[tuple[tuple[slice, ...], Iterator[NDArray[np.float32]]]]:
    """Yield slabs of the box: where they lie in it, and the logits of class after class.

    Interpolated linearly, along a coarse axis by nearest neighbour. A slab has about `num_voxels`
    and is to be used up before the next; of the logits, which lie in `scratch`, only the rows are
    kept that are needed again. Slabs go along the first axis, in the bands that the logits come in.
    """
    operators = _operators(placement)
    done = 0
    for (left, right), band in itertools.groupby(stream, key=lambda rows: rows.band):
        band_operators, place, columns = operators, (), ()
        if len(operators) > 1:
            stop = int(np.searchsorted(operators[1].needs()[1], right))
            if stop == done:
                continue
            needed, across = operators[1].part(done, stop)
            band_operators = (operators[0], across, *operators[2:])
            place, columns = (slice(done, stop),), (slice(needed.start - left, needed.stop - left),)
            done = stop
        slabs = _row_slabs(band, band_operators, columns, num_voxels)
        for rows, maps, slab_operators in slabs:
            yield (rows, *place), _interpolated(maps, slab_operators, scratch)


def split_columns(placement: Placement, count: int) -> list[tuple[int, int]]:
    """Return the ranges of a prepared array's second axis that `count` bands are computed from.

    They share the columns that both need at their border.
    """
    _, across, *_ = _operators(placement)
    lows, highs = across.needs()
    size = placement.prepared_shape[1]
    bands, done = [], 0
    for number in range(1, count + 1):
        right = size * number // count
        stop = int(np.searchsorted(highs, right))
        if stop > done:
            bands.append((int(lows[done]), right))
            done = stop
    return bands


def _operators(placement: Placement) -> _Operators:
    change = GridChange(placement.prepared_shape, placement.box_shape, placement.coarse_axis)
    return change.operators(1)


def _row_slabs(
    band: Iterable[Rows], operators: _Operators, columns: tuple[slice, ...], num_voxels: int
) -> Iterator[tuple[slice, Iterator[NDArray[np.float32]], _Operators]]:
    """Yield slabs of a band: rows of the box, what each class is computed from, and how."""
    first, *others = operators
    lows, highs = first.needs()
    depth = max(1, num_voxels // max(1, math.prod(operator.size for operator in others)))
    window, done = _Window(columns), 0
    for rows in band:
        window.add(rows)
        ready = int(np.searchsorted(highs, rows.stop))
        while done < ready:
            stop = min(done + depth, ready)
            source, operator = first.part(done, stop)
            yield slice(done, stop), window.take(source), (operator, *others)
            done = stop
        window.keep(int(lows[done]) if done < len(lows) else rows.stop)


def _interpolated(
    parts: Iterable[NDArray[np.float32]], operators: _Operators, scratch: Scratch
) -> Iterator[NDArray[np.float32]]:
    """Yield each class of a slab on the output grid; the axes that grow least come first."""
    for values in parts:
        growth = [op.size / size for op, size in zip(operators, values.shape, strict=True)]
        for axis in sorted(range(values.ndim), key=growth.__getitem__):
            values = operators[axis].apply(values, axis)
        yield values
        scratch.forget()


class _Window:
    """The newest rows, and those before them that are still needed; of `columns` alone."""

    def __init__(self, columns: tuple[slice, ...]) -> None:
        self._columns = columns
        self._new: Rows | None = None
        self._old: Rows | None = None

    def add(self, rows: Rows) -> None:
        """Take the next rows."""
        self._new = rows

    def take(self, rows: slice) -> Iterator[NDArray[np.float32]]:
        """Yield rows (R, ...) of each class, a view of them where they lie together."""
        found = [
            part.values[
                :,
                max(rows.start, part.start) - part.start : rows.stop - part.start,
                *self._columns,
            ]
            for part in (self._old, self._new)
            if part is not None and part.start < rows.stop and rows.start < part.stop
        ]
        for views in zip(*found, strict=True):
            yield views[0] if len(views) == 1 else np.concatenate(views)

    def keep(self, first: int) -> None:
        """Keep a copy of the rows from `first` on; the newest are about to be overwritten."""
        parts = [
            part.values[:, max(first - part.start, 0) :]
            for part in (self._old, self._new)
            if part is not None and first < part.stop
        ]
        stop = self._new.stop if self._new is not None else first
        self._old = Rows(first, np.concatenate(parts, axis=1)) if first < stop else None
        self._new = None
