"""Rotation and scaling of a training patch: drawn first, so that only the needed box is read.

The distribution is nnU-Net's (batchgeneratorsv2, SpatialTransform).

Letters in shapes: C channels; S changed axes of the source box, P of the patch, D their number; L
axes before them (the slices of a planar change).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.interpolate import Cells, uniform_cells
from autoseg.plan.plan import AugmentationPlan

Box = tuple[tuple[int, int], ...]
"""Half-open range of voxels on each axis; may overhang the image."""

PLANES = {2: ((0, 1),), 3: ((1, 2), (2, 0), (0, 1))}
"""The two axes that each angle turns into each other, by the number of changed axes."""

SLACK = 1e-3
"""Voxels by which a source box reaches further than exact arithmetic asks: float32 rounds."""

SLAB_VOXELS = 65536
"""Voxels interpolated at once: their coordinates and values stay in the second-level cache."""


@final
@dataclass(frozen=True)
class Warp:
    """A change of the last D axes: the patch's voxel at x from its middle reads matrix x."""

    matrix: tuple[tuple[float, ...], ...]
    """(D, D); empty where nothing changes: such a patch is a plain cut."""

    def source_box(self, start: Sequence[int], patch_size: Sequence[int]) -> Box:
        """Return the box of the image that the patch reads which begins at `start` unchanged."""
        box = [(s, s + p) for s, p in zip(start, patch_size, strict=True)]
        changed = len(box) - len(self.matrix)
        reach = self._reach(patch_size)
        return tuple(
            box[:changed]
            + [(s + a, s + b) for (s, _), (a, b) in zip(box[changed:], reach, strict=True)]
        )

    def apply(
        self, image: NDArray[np.float32], labels: NDArray, patch_size: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray]:
        """Return image (C, *L, *P) and labels (*L, *P) of the patch from those of its source box.

        The image is interpolated linearly. Each voxel gets the label whose indicator, linearly
        interpolated, is largest; nothing is summed in cells of one label, and those are nearly all.

        Parameters
        ----------
        image, labels
            (C, *L, *S) and (*L, *S), contiguous.
        patch_size
            All axes, the unchanged ones included.
        """
        if not self.matrix:
            return image, labels
        new_image, new_labels = self._new(image, patch_size), self._new(labels, patch_size)
        known = uniform_cells(labels, len(self.matrix))
        for slab, cells in self._slabs(labels.shape, patch_size):
            for index in np.ndindex(self._leading(image)):
                new_image[(*index, slab)] = cells.linear(image[index])
            for index in np.ndindex(self._leading(labels)):
                new_labels[(*index, slab)] = cells.majority(labels[index], known[index])
        return new_image, new_labels

    def _reach(self, patch_size: Sequence[int]) -> Box:
        """Return for each changed axis what is read, relative to the patch's unchanged start."""
        sizes = patch_size[len(patch_size) - len(self.matrix) :]
        halves = [(size - 1) / 2 for size in sizes]
        reaches = [
            SLACK + sum(abs(m) * half for m, half in zip(row, halves, strict=True))
            for row in self.matrix
        ]
        return tuple(
            (math.floor(half - reach), math.floor(half + reach) + 2)
            for half, reach in zip(halves, reaches, strict=True)
        )

    def _leading(self, array: NDArray) -> tuple[int, ...]:
        return array.shape[: array.ndim - len(self.matrix)]

    def _new(self, source: NDArray, patch_size: Sequence[int]) -> NDArray:
        """Return an empty patch with the leading axes of its source."""
        sizes = patch_size[len(patch_size) - len(self.matrix) :]
        return np.empty((*self._leading(source), *sizes), source.dtype)

    def _slabs(
        self, source_shape: Sequence[int], patch_size: Sequence[int]
    ) -> Iterator[tuple[slice, Cells]]:
        """Yield slices of the patch along its first changed axis, each with its cells."""
        shape = source_shape[len(source_shape) - len(self.matrix) :]
        sizes = patch_size[len(patch_size) - len(self.matrix) :]
        terms = self._terms(patch_size)
        thickness = max(1, SLAB_VOXELS // math.prod(sizes[1:]))
        for first in range(0, sizes[0], thickness):
            slab = slice(first, min(first + thickness, sizes[0]))
            yield slab, Cells.at([sum(t[1:], start=t[0][slab]) for t in terms], shape)

    def _terms(self, patch_size: Sequence[int]) -> list[list[NDArray[np.float32]]]:
        """Return each coordinate in the source box as a sum of one term for each patch axis."""
        sizes = patch_size[len(patch_size) - len(self.matrix) :]
        offsets = np.meshgrid(
            *(np.arange(n) - (n - 1) / 2 for n in sizes), indexing="ij", sparse=True
        )
        terms = []
        for row, size, (low, _) in zip(self.matrix, sizes, self._reach(patch_size), strict=True):
            products = [m * offset for m, offset in zip(row, offsets, strict=True)]
            products[0] += (size - 1) / 2 - low
            terms.append([product.astype(np.float32) for product in products])
        return terms


def draw_warp(rng: np.random.Generator, plan: AugmentationPlan, *, num_axes: int) -> Warp:
    """Draw rotation and scaling of a patch with `num_axes` axes; usually neither happens."""
    changed = min(num_axes, 2) if plan.planar else num_axes
    matrix = np.eye(changed)
    is_rotated = rng.random() < plan.rotation_probability
    is_scaled = rng.random() < plan.scale_probability
    if not is_rotated and not is_scaled:
        return Warp(())
    if is_rotated:
        matrix = rotation_matrix([rng.uniform(*limits) for limits in plan.rotation])
    if is_scaled:
        matrix = matrix * rng.uniform(*plan.scale)
    return Warp(tuple(tuple(float(value) for value in row) for row in matrix))


def rotation_matrix(angles: Sequence[float]) -> NDArray[np.float64]:
    """Return the rotation by one angle (2D), or about each axis in turn, the first first (3D)."""
    num_axes = 2 if len(angles) == 1 else 3
    matrix = np.eye(num_axes)
    for angle, (i, j) in zip(angles, PLANES[num_axes], strict=True):
        turn = np.eye(num_axes)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix
