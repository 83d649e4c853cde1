"""Values of an array at many points: linear for images, nearest for labels.

Letters in shapes: N arrays on one grid, S axes of the grid, P axes of the points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True)
class Points:
    """Points in a grid of voxels; the cell of voxels around each lies inside the grid."""

    coordinates: Sequence[NDArray[np.float32]]
    """For each axis (*P), voxels, at least 0 and below n - 1."""
    shape: tuple[int, ...]
    """(*S), each at least 2."""

    def linear(self, sources: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (N, *P) interpolated linearly from contiguous arrays (N, *S)."""
        if len(self.shape) == 2:
            return self._linear_in_plane(sources)
        corners, fractions = self._cells()
        flat = sources.reshape(len(sources), -1)
        return np.stack([self._linear(row, corners, fractions) for row in flat])

    def nearest(self, sources: NDArray) -> NDArray:
        """Return (N, *P), the values of the nearest voxels of contiguous arrays (N, *S)."""
        index = np.zeros(self.coordinates[0].shape, np.int32)
        for coordinate, stride in zip(self.coordinates, self._strides(), strict=True):
            place = (coordinate + np.float32(0.5)).astype(np.int32)
            place *= stride
            index += place
        positions = index.astype(np.intp)
        values = np.empty((len(sources), *index.shape), sources.dtype)
        for row, target in zip(sources.reshape(len(sources), -1), values, strict=True):
            np.take(row, positions, out=target, mode="clip")
        return values

    def _linear_in_plane(self, sources: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate by torch's vector code for planes; of one image it uses one thread.

        Measured: a third of the time of the gathering below. For volumes torch has no such code
        and takes twice the time.
        """
        import torch
        from torch.nn.functional import grid_sample

        grid = np.empty((1, *self.coordinates[0].shape, 2), np.float32)  # XY, -1 to 1
        for axis, (coordinate, n) in enumerate(zip(self.coordinates, self.shape, strict=True)):
            np.multiply(coordinate, np.float32(2 / (n - 1)), out=grid[0, ..., 1 - axis])
        grid -= 1
        values = grid_sample(
            torch.from_numpy(sources[None]),
            torch.from_numpy(grid),
            padding_mode="border",
            align_corners=True,
        )
        return values[0].numpy()

    def _strides(self) -> tuple[int, ...]:
        return tuple(math.prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))

    def _cells(self) -> tuple[NDArray[np.intp], list[NDArray[np.float32]]]:
        """Return the lowest corner of each point's cell, and where in the cell the point lies."""
        corners = np.zeros(self.coordinates[0].shape, np.int32)
        fractions = []
        for coordinate, stride in zip(self.coordinates, self._strides(), strict=True):
            lowest = coordinate.astype(np.int32)
            fractions.append(np.subtract(coordinate, lowest, dtype=np.float32))
            lowest *= stride
            corners += lowest
        return corners.astype(np.intp), fractions

    def _linear(
        self,
        flat: NDArray[np.float32],
        corners: NDArray[np.intp],
        fractions: Sequence[NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """Return the values interpolated along the last `fractions` axes."""
        if not fractions:
            values = np.empty(corners.shape, flat.dtype)
            # "clip" writes straight into `out`; with "raise", numpy gathers into another array.
            np.take(flat, corners, out=values, mode="clip")
            return values
        stride = self._strides()[-len(fractions)]
        low = self._linear(flat, corners, fractions[1:])
        high = self._linear(flat[stride:], corners, fractions[1:])
        high -= low
        high *= fractions[0]
        high += low
        return high
