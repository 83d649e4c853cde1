"""Some rows of an image at a time: those that tiles are cut from, read once from its file.

Letters in shapes: C channels, R rows of the first axis, S spatial axes, B those of a box.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .crop import Box, box_slices
from .voxels import Voxels

PIECE_VALUES = 1 << 22
"""Numbers that are read at once, where parts are not larger: 16 MiB in single precision."""


class RowWindow:
    """Rows of an image in memory, which move along its first axis.

    Reading is cheap where boxes begin no earlier than those before, and repeats decoding elsewhere.

    Parameters
    ----------
    step
        Rows are read in multiples of so many, which are decoded together.
    """

    def __init__(self, voxels: Voxels, step: int) -> None:
        self._source = voxels
        self._step = step
        self._size = voxels.shape[0]
        self._rows: NDArray | None = None
        """(C, R, *S[1:])"""
        self._first = self._stop = 0

    @property
    def voxels(self) -> Voxels:
        """The image, read through this window; not for several threads at once."""
        return replace(self._source, read=self._read)

    def _read(self, box: Box) -> NDArray:
        """Return a view of (C, *B), which holds until the next is asked for."""
        low = box[0][0] // self._step * self._step
        high = min(math.ceil(box[0][1] / self._step) * self._step, self._size)
        if not self._first <= low <= self._stop:
            self._first = self._stop = low
        if high > self._stop:
            rows = self._make_room(low, high)
            for start, stop in self._pieces(self._stop, high):
                part = self._source.read(((start, stop), *self._whole))
                rows[:, start - self._first : stop - self._first] = part
            self._stop = high
        assert self._rows is not None
        inside = slice(box[0][0] - self._first, box[0][1] - self._first)
        return self._rows[(slice(None), inside, *box_slices(box[1:]))]

    @property
    def _whole(self) -> Box:
        return tuple((0, size) for size in self._source.shape[1:])

    def _make_room(self, low: int, high: int) -> NDArray:
        """Return the array for rows `low` to `high`, with those that are known already."""
        known = slice(low - self._first, self._stop - self._first)
        old, count = self._rows, self._stop - low
        if old is None or old.shape[1] < high - low:
            depth = min(high - low + self._step, self._size)
            shape = (self._source.num_channels, depth, *self._source.shape[1:])
            self._rows = np.empty(shape, self._source.dtype)
            if old is not None:
                self._rows[:, :count] = old[:, known]
        elif low > self._first and count:
            # In pieces that do not overlap: numpy would copy all of them first.
            for start, stop in _ranges(0, count, known.start):
                old[:, start:stop] = old[:, start + known.start : stop + known.start]
        self._first = low
        assert self._rows is not None
        return self._rows

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        row = self._source.num_channels * math.prod(self._source.shape[1:])
        return _ranges(start, stop, max(1, PIECE_VALUES // row // self._step) * self._step)


def _ranges(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for low in range(start, stop, step):
        yield low, min(low + step, stop)


class RowSource:
    """An image (C, *S) as blending takes it: an array that boxes are cut out of, none in memory.

    Parameters
    ----------
    voxels
        Read through windows: tiles come row by row.
    """

    def __init__(self, voxels: Voxels) -> None:
        self._voxels = voxels
        self._before: tuple[int, ...] = (0,) * len(voxels.shape)
        self._fill: tuple[float, ...] | None = None
        """None: mirrored."""
        self.shape = (voxels.num_channels, *voxels.shape)

    @property
    def ndim(self) -> int:
        """Number of axes, channels included."""
        return len(self.shape)

    def filled_up(
        self,
        shape: Sequence[int],
        *,
        padding: Literal["mirror", "zero"],
        values: Sequence[float],
        margins: Sequence[int],
    ) -> "tuple[RowSource, tuple[int, ...]]":
        """Return what `tiles.fill_up` returns of an array, filled as boxes are cut out."""
        out = RowSource(self._voxels)
        sides = zip(shape, self._voxels.shape, margins, strict=True)
        sizes = [(max(0, want - have), have, margin) for want, have, margin in sides]
        out._before = tuple(gap // 2 + margin for gap, _, margin in sizes)
        out._fill = None if padding == "mirror" else tuple(values)
        out.shape = (self.shape[0], *(gap + have + 2 * margin for gap, have, margin in sizes))
        return out, out._before

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return a copy (C, *B) of a box."""
        places = [
            np.arange(part.start, part.stop) - before
            for part, before in zip(index[1:], self._before, strict=True)
        ]
        lines = [_reflected(at, n) for at, n in zip(places, self._voxels.shape, strict=True)]
        box = tuple((int(line.min()), int(line.max()) + 1) for line in lines)
        array = self._voxels.read(box)
        for axis, (line, (start, stop)) in enumerate(zip(lines, box, strict=True), start=1):
            if len(line) != stop - start or line[0] != start or line[-1] != stop - 1:
                array = np.take(array, line - start, axis=axis)
        out = np.array(array, dtype=np.float32)
        if self._fill is not None:
            _fill_outside(out, places, self._voxels.shape, self._fill)
        return out


def _reflected(places: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return the voxels of an axis that mirroring, as often as needed, puts at these places."""
    if size == 1:
        return np.zeros_like(places)
    folded = places % (2 * size - 2)
    return np.minimum(folded, 2 * size - 2 - folded)


def _fill_outside(
    out: NDArray[np.float32],
    places: Sequence[NDArray[np.intp]],
    shape: Sequence[int],
    values: Sequence[float],
) -> None:
    for axis, (at, size) in enumerate(zip(places, shape, strict=True), start=1):
        outside = (at < 0) | (at >= size)
        if outside.any():
            for channel, value in zip(out, values, strict=True):
                np.moveaxis(channel, axis - 1, 0)[outside] = value
