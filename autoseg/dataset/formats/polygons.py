"""Outlines and run lengths as COCO writes them, painted as masks.

Letters in shapes: Y, X axes of a picture.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FIRST_CODE, CODE_BITS = 48, 5
"""Compressed run lengths are characters from "0" on: five bits each, and one for "more follow"."""


def polygon_area(polygons: Sequence[Sequence[float]]) -> float:
    """Return the area of some polygons, in pixels."""
    total = 0.0
    for polygon in polygons:
        x, y = np.asarray(polygon, float).reshape(-1, 2).T
        total += abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return total


def paint_polygons(values: NDArray, polygons: Sequence[Sequence[float]], value: int) -> None:
    """Set (Y, X) values where the centre of a pixel lies inside one of some polygons.

    Each is x, y, x, y, ..., with the upper left corner of the picture at 0, 0.
    """
    for polygon in polygons:
        points = np.asarray(polygon, float).reshape(-1, 2)
        low = np.clip(np.floor(points.min(axis=0)).astype(int), 0, values.shape[::-1])
        high = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, values.shape[::-1])
        window = values[low[1] : high[1], low[0] : high[0]]
        if window.size:
            window[_inside(points - low, window.shape)] = value


def _inside(points: NDArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return (Y, X) which pixel centres have an odd number of edges to their left."""
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    # An edge crosses the centres of the rows from `first` to before `last`.
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), 0, shape[0]).astype(int)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), 0, shape[0]).astype(int)
    counts = last - first
    edges = np.repeat(np.arange(len(points)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    slope = (x1 - x0)[edges] / (y1 - y0)[edges]
    crossing = x0[edges] + (rows + 0.5 - y0[edges]) * slope
    columns = np.clip(np.ceil(crossing - 0.5), 0, shape[1]).astype(int)
    edges_here = np.zeros((shape[0], shape[1] + 1), np.uint8)
    np.bitwise_xor.at(edges_here, (rows, columns), 1)
    return np.bitwise_xor.accumulate(edges_here, axis=1)[:, :-1].astype(bool)


def run_lengths(counts: str | Sequence[int]) -> list[int]:
    """Return the lengths of runs of zeros and ones in turn; strings are decoded."""
    return _decode(counts) if isinstance(counts, str) else list(counts)


def paint_runs(values: NDArray, runs: Sequence[int], value: int) -> None:
    """Set (Y, X) values in the runs of ones; runs go down the columns.

    Raises
    ------
    ValueError
        The runs do not add up to the size of the picture.
    """
    if sum(runs) != values.size or min(runs, default=0) < 0:
        raise ValueError(f"runs of {sum(runs)} pixels in a picture of {values.size}")
    is_set = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    values.T[is_set.reshape(values.shape[::-1])] = value


def _decode(text: str) -> list[int]:
    """Return the runs in a string; from the fourth on, it has differences to the last but one."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        code = ord(character) - FIRST_CODE
        value |= (code & 31) << shift
        shift += CODE_BITS
        if code & 32:  # more bits follow
            continue
        if code & 16:  # negative: the sign is extended
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    return runs
