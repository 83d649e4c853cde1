"""Reading a box of a prepared case that may overhang it.

Letters in shapes: C channels, T slices and S box axes of a stored array.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.spatial import Box
from autoseg.runtime.resample import IGNORE

SIGN_AND_NUMBER = np.int32(~0x70000000)
"""Bits of a widened half-precision number that are not copies of its sign."""


class Stored(Protocol):
    """An array in memory or in a file, read by slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        ...

    def __getitem__(self, key: tuple[slice, ...], /) -> NDArray: ...


def read_image(
    stored: Stored, box: Box, *, padding: Literal["mirror", "zero"]
) -> NDArray[np.float32]:
    """Return a box (C, *S) of an image (C, *S), filled by `padding` where it overhangs."""
    if padding == "zero":
        return _read_filled(stored, ((0, stored.shape[0]), *box), np.float32, 0)
    positions = [
        mirrored(np.arange(low, high), n)
        for (low, high), n in zip(box, stored.shape[1:], strict=True)
    ]
    inner = [slice(int(p.min()), int(p.max()) + 1) for p in positions]
    values = single(stored[(slice(None), *inner)])
    for axis, (position, part) in enumerate(zip(positions, inner, strict=True), start=1):
        if part.stop - part.start != position.size or position[0] != part.start:
            values = values.take(position - part.start, axis=axis)
    return values


def read_labels(stored: Stored, box: Box) -> NDArray[np.signedinteger]:
    """Return a box (*S) of labels (*S), IGNORE where it overhangs."""
    return _read_filled(stored, box, None, IGNORE)


def single(values: NDArray) -> NDArray[np.float32]:
    """Return a new array of finite values in single precision.

    Half precision is widened by its bits, which takes a fifth of numpy's own time: the exponent's
    bias differs by 112, and so do those of the smallest numbers, which have no leading one.
    """
    if values.dtype != np.float16:
        return values.astype(np.float32)
    bits = np.ascontiguousarray(values).view(np.int16).astype(np.int32)  # the sign goes on
    bits <<= 13
    bits &= SIGN_AND_NUMBER
    wide = bits.view(np.float32)
    wide *= np.float32(2.0**112)
    return wide


def mirrored(positions: NDArray[np.integer], n: int) -> NDArray[np.integer]:
    """Return the voxels, 0 to n - 1, seen at positions outside an axis whose ends are mirrors."""
    if n == 1:
        return np.zeros_like(positions)
    folded = positions % (2 * (n - 1))
    return np.minimum(folded, 2 * (n - 1) - folded)


def _read_filled(
    stored: Stored, box: Sequence[tuple[int, int]], dtype: type | None, fill: int
) -> NDArray:
    """Return a box of an array, `fill` where it overhangs; always a new array."""
    inside = [
        (max(low, 0), max(min(high, n), 0, low))
        for (low, high), n in zip(box, stored.shape, strict=True)
    ]
    values = stored[tuple(slice(low, high) for low, high in inside)]
    shape = tuple(high - low for low, high in box)
    if values.shape == shape:
        return np.array(values, dtype=dtype)
    filled = np.full(shape, fill, dtype or values.dtype)
    target = tuple(
        slice(low - outer, high - outer)
        for (low, high), (outer, _) in zip(inside, box, strict=True)
    )
    filled[target] = values
    return filled
