"""Elastic deformation: a smooth random displacement of every voxel.

Simard, Steinkraus and Platt (2003) filter uniform noise of -1 to 1 by a Gaussian of deviation sigma
and multiply it by alpha. Here the same amount of displacement, equally smooth, comes from random
values on a coarse grid between which a cubic B-spline goes: their largest value bounds all others,
so that what a patch reads is known before it is read.

Letters in shapes: D changed axes; G points of the coarse grid, P voxels of the patch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

REFERENCE = 512
"""Edge, in voxels, of the image that sigma and alpha are meant for; smaller patches get less."""
UNIFORM_STD = math.sqrt(1 / 3)
"""Deviation of uniform noise of -1 to 1."""
SPLINE_STD = math.sqrt(1 / 3)
"""Deviation of the cubic B-spline, a bell, in steps of its grid."""
SPLINE_POWER = 151 / 315
"""Mean square of what a cubic B-spline makes of white noise of variance 1, for each axis."""


@final
@dataclass(frozen=True)
class Elastic:
    """A drawn deformation."""

    seed: int
    """Of the generator that the displacements come from."""
    sigma: float
    """Pixels of an edge of `REFERENCE`."""
    alpha: float
    """Pixels of an edge of `REFERENCE`."""

    def controls(self, sizes: Sequence[int]) -> NDArray[np.float32]:
        """Return the displacements (D, *G) at the points of the coarse grid, voxels."""
        steps = [self._step(n) for n in sizes]
        # One point before the first voxel and two behind the last are needed by the spline.
        counts = [math.ceil((n - 1) / step) + 4 for n, step in zip(sizes, steps, strict=True)]
        noise = np.random.Generator(np.random.SFC64(self.seed)).standard_normal(
            (len(sizes), *counts), dtype=np.float32
        )
        # The Gaussian leaves 1 / (4 pi sigma^2) of the noise's variance in a plane; the same
        # part of the edge is displaced whatever the number of axes.
        std = self.alpha * UNIFORM_STD / (2 * math.sqrt(math.pi) * self.sigma)
        for axis, n in enumerate(sizes):
            noise[axis] *= std * n / REFERENCE / SPLINE_POWER ** (len(sizes) / 2)
        return noise

    def reach(self, sizes: Sequence[int]) -> list[float]:
        """Return the largest displacement along each axis, voxels."""
        return [float(np.abs(values).max()) for values in self.controls(sizes)]

    def rows(self, sizes: Sequence[int]) -> NDArray[np.float32]:
        """Return the displacements (D, G, *P) with all axes but the first at their voxels."""
        values = self.controls(sizes)
        for axis in range(1, len(sizes)):
            values = self._spline(values, axis, np.arange(sizes[axis]), sizes[axis])
        return values

    def field(
        self, rows: NDArray[np.float32], sizes: Sequence[int], slab: slice
    ) -> NDArray[np.float32]:
        """Return the displacements (D, *P) of a slab of the patch, from `rows(sizes)`."""
        return self._spline(rows, 0, np.arange(slab.start, slab.stop), sizes[0])

    def basis(
        self, voxels: NDArray[np.integer], size: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return the cubic B-spline at voxels (V,) of an axis of `size`.

        Returns
        -------
        first
            (V,) of the four points of the coarse grid that each voxel depends on.
        weights
            (4, V) of those points.
        """
        places = voxels / self._step(size)
        low = places.astype(np.intp)
        t = places - low
        weights = (
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        )
        return low, np.stack(weights).astype(np.float32)

    def _step(self, size: int) -> float:
        """Return the voxels between points of the coarse grid: the bell is as wide as sigma."""
        return max(self.sigma * size / REFERENCE / SPLINE_STD, 1.0)

    def _spline(
        self, values: NDArray[np.float32], axis: int, voxels: NDArray[np.integer], size: int
    ) -> NDArray[np.float32]:
        """Return the cubic B-spline through an axis of the coarse grid at some voxels."""
        low, weights = self.basis(voxels, size)
        shape = [-1 if index == axis + 1 else 1 for index in range(values.ndim)]
        total = np.zeros((), np.float32)
        for offset, weight in enumerate(weights):
            part = values.take(low + offset, axis=axis + 1)
            part *= weight.reshape(shape)
            total = part if offset == 0 else np.add(total, part, out=total)
        return total
