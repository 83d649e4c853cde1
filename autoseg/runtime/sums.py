"""Sums of what tiles say, row by row and, where memory is short, band by band.

Letters in shapes: K classes, R rows of the image's first axis, S' axes of the prepared image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .scratch import Scratch
from .tiles import Centre, axis_shares

Area: TypeAlias = tuple[slice, ...]
"""Range of each axis but the first, of what the tiles cover."""


@dataclass(frozen=True)
class Rows:
    """Logits (K, R, *S'[1:]) of the rows `start` to `stop` of an image's first axis.

    Where it is gone through in bands, they are those of a band of the second axis.
    """

    start: int
    values: NDArray[np.float32]
    left: int = 0
    """Where the band begins."""

    @property
    def stop(self) -> int:
        """The row after the last."""
        return self.start + self.values.shape[1]

    @property
    def band(self) -> tuple[int, int]:
        """Where the band begins, and where it ends."""
        return self.left, self.left + (self.values.shape[2] if self.values.ndim > 2 else 0)


class Sums:
    """Weighted sums of the rows that are being worked on.

    Parameters
    ----------
    values
        (K, R, ...) room for those of the area.
    image
        Where the image lies in what the tiles cover; only this is given out.
    area
        What of that is summed, along all axes but the first.
    """

    def __init__(
        self,
        values: NDArray[np.float32],
        image: tuple[slice, ...],
        area: Area,
        scratch: Scratch,
    ) -> None:
        inside = (slice(0, part.stop - part.start) for part in area)
        self._values = values[(slice(None), slice(None), *inside)]
        self._image = image
        self._area = area
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
        seen = [_common(*pair) for pair in zip(others, self._area, strict=True)]
        place = (_moved(one, -area.start) for one, area in zip(seen, self._area, strict=True))
        left = seen[0].start - others[0].start if others else 0
        return Rows(low - inside.start, self._values[(slice(None), part, *place)], left)

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
        place, part = self._place(start, logits.shape[1:])
        shares = weights[part] if isinstance(weights, np.ndarray) else weights
        for values, target in zip(logits, self._values, strict=True):
            region = target[place]
            region += values[part] * shares
            self._scratch.forget()

    def add_constants(
        self,
        logits: Sequence[float],
        start: Sequence[int],
        tile: Sequence[int],
        weights: NDArray[np.float32] | np.float32,
    ) -> None:
        """Add logits (K,), the same everywhere in a tile, as `add` does."""
        place, part = self._place(start, tile)
        shares = weights[part] if isinstance(weights, np.ndarray) else weights
        for value, target in zip(logits, self._values, strict=True):
            if value:
                region = target[place]
                region += np.float32(value) * shares
                self._scratch.forget()

    def _place(
        self, start: Sequence[int], tile: Sequence[int]
    ) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return where a tile lies in the sums, and which part of it does."""
        spans = [slice(first, first + size) for first, size in zip(start, tile, strict=True)]
        common = [_common(*pair) for pair in zip(spans[1:], self._area, strict=True)]
        inside = (_moved(one, -area.start) for one, area in zip(common, self._area, strict=True))
        part = (_moved(one, -first) for one, first in zip(common, start[1:], strict=True))
        return (_moved(spans[0], -self._first), *inside), (slice(None), *part)


def _common(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


class Weights:
    """The share of a tile in the voxels that it covers."""

    def __init__(
        self,
        shape: Sequence[int],
        tile: Sequence[int],
        overlap: float,
        centre: Centre,
        *,
        num_flips: int,
    ) -> None:
        sizes = zip(shape, tile, strict=True)
        self._shares = [axis_shares(size, width, overlap, centre) for size, width in sizes]
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
