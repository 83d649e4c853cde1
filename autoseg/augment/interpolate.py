"""Linear interpolation at many points of one array, by gathering the corners of their cells.

On one CPU core faster than `torch.nn.functional.grid_sample` with the map of coordinates that it
needs (measured in 3D: half the time), and the same for any number of threads.

Letters in shapes: S axes of the source, P axes of the points, M voxels between labels.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Cells:
    """For each point the cell of the source around it, and where in the cell the point lies."""

    strides: tuple[int, ...]
    """Voxels from one corner of a cell to the next, along each axis of the flat source."""
    corners: NDArray[np.intp]
    """(*P) lowest corner in the flat source."""
    fractions: tuple[NDArray[np.float32], ...]
    """For each axis (*P), 0 to 1: the weight of the higher corners."""

    @classmethod
    def at(cls, coordinates: Sequence[NDArray[np.float32]], shape: Sequence[int]) -> Self:
        """Return the cells at points whose cells all lie inside a source of `shape` (*S).

        Parameters
        ----------
        coordinates
            For each axis of the source (*P), voxels, at least 0 and below n - 1.
        shape
            The source's.
        """
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        corners = np.zeros(coordinates[0].shape, np.int32)
        fractions = []
        for coordinate, stride in zip(coordinates, strides, strict=True):
            lowest = coordinate.astype(np.int32)
            fractions.append(np.subtract(coordinate, lowest, dtype=np.float32))
            lowest *= stride
            corners += lowest
        return cls(strides, corners.astype(np.intp), tuple(fractions))

    def linear(self, source: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the interpolated values (*P) of a contiguous source (*S)."""
        return self._linear(source.reshape(-1), 0, 0)

    def majority(self, source: NDArray, known: NDArray) -> NDArray:
        """Return for each point the label of largest interpolated weight, (*P).

        Parameters
        ----------
        source
            Labels (*S), contiguous.
        known
            `uniform_cells(source)`.
        """
        labels = self._corner(known.reshape(-1), 0)
        mixed = np.flatnonzero(labels == mixed_mark(known.dtype))
        if mixed.size:
            labels.reshape(-1)[mixed] = self._vote(source.reshape(-1), mixed)
        return labels

    def _linear(self, flat: NDArray, axis: int, offset: int) -> NDArray:
        """Return the values interpolated along `axis` and all later ones."""
        if axis == len(self.strides):
            return self._corner(flat, offset)
        low = self._linear(flat, axis + 1, offset)
        high = self._linear(flat, axis + 1, offset + self.strides[axis])
        high -= low
        high *= self.fractions[axis]
        high += low
        return high

    def _corner(self, flat: NDArray, offset: int) -> NDArray:
        values = np.empty(self.corners.shape, flat.dtype)
        # "clip" writes straight into `out`; with "raise", numpy gathers into a second array first.
        np.take(flat[offset:], self.corners, out=values, mode="clip")
        return values

    def _vote(self, flat: NDArray, points: NDArray[np.intp]) -> NDArray:
        """Return the winning labels (M,) at some points; of equal weights the lowest label wins."""
        lowest = self.corners.reshape(-1)[points]
        high = [fraction.reshape(-1)[points] for fraction in self.fractions]
        sides = [(1 - fraction, fraction) for fraction in high]
        weights, found = [], []
        for corner in itertools.product((0, 1), repeat=len(self.strides)):
            offset = sum(side * stride for side, stride in zip(corner, self.strides, strict=True))
            weights.append(math.prod(pair[side] for pair, side in zip(sides, corner, strict=True)))
            found.append(flat[lowest + offset])
        winner = np.empty(points.shape, flat.dtype)
        best = np.full(points.shape, -1.0, np.float32)
        for label in np.unique(np.concatenate(found)):
            total = sum(w * (f == label) for w, f in zip(weights, found, strict=True))
            better = total > best
            winner[better] = label
            np.maximum(best, total, out=best)
        return winner


def mixed_mark(dtype: np.dtype) -> int:
    """Return the value that marks a cell whose corners differ: one that no label has."""
    return int(np.iinfo(dtype).min)


def uniform_cells(labels: NDArray, num_axes: int) -> NDArray:
    """Return for each cell of the last `num_axes` axes its label, or the mark of a mixed cell.

    A cell is named by its lowest corner; those at the upper borders are cut off and of no meaning.
    """
    low, high = labels.copy(), labels.copy()
    for axis in range(labels.ndim - num_axes, labels.ndim):
        this = (slice(None),) * axis + (slice(None, -1),)
        following = (slice(None),) * axis + (slice(1, None),)
        low[this] = np.minimum(low[this], low[following])
        high[this] = np.maximum(high[this], high[following])
    low[low != high] = mixed_mark(labels.dtype)
    return low
