"""Rows of logits as they come, interpolated to slabs of the image's grid as they can be.

Letters in shapes: K classes, R rows of the first axis, S' axes of the prepared array.
"""

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
) -> Iterator[tuple[slice, Iterator[NDArray[np.float32]]]]:
    """Yield slabs of the box along its first axis: their rows, and the logits of class after class.

    Interpolated linearly, along a coarse axis by nearest neighbour. A slab has about `num_voxels`
    and is to be used up before the next; of the logits, which lie in `scratch`, only the rows are
    kept that are needed again.
    """
    shape = placement.box_shape
    change = GridChange(placement.prepared_shape, shape, placement.coarse_axis)
    first, *others = change.operators(1)
    lows, highs = first.needs()
    depth = max(1, num_voxels // max(1, int(np.prod(shape[1:]))))
    window, done = _Window(), 0
    for rows in stream:
        window.add(rows)
        ready = int(np.searchsorted(highs, rows.stop))
        while done < ready:
            stop = min(done + depth, ready)
            source, operator = first.part(done, stop)
            parts = (window.take(index, source) for index in range(len(rows.values)))
            yield slice(done, stop), _interpolated(parts, (operator, *others), scratch)
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
    """The newest rows, and those before them that are still needed."""

    def __init__(self) -> None:
        self._new: Rows | None = None
        self._old: Rows | None = None

    def add(self, rows: Rows) -> None:
        """Take the next rows."""
        self._new = rows

    def take(self, index: int, rows: slice) -> NDArray[np.float32]:
        """Return rows (R, *S'[1:]) of a class, a view of them where they lie together."""
        found = [
            part.values[index, max(rows.start, part.start) - part.start : rows.stop - part.start]
            for part in (self._old, self._new)
            if part is not None and part.start < rows.stop and rows.start < part.stop
        ]
        return found[0] if len(found) == 1 else np.concatenate(found)

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
