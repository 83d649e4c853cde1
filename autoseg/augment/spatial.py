"""Rotation, scaling and elastic deformation of a training patch in one interpolation.

Drawn first, so that only the needed box is read. The distribution of rotation and scale is
nnU-Net's (batchgeneratorsv2, SpatialTransform).

Letters in shapes: C channels; S changed axes of the source box, P of the patch, D their number; L
axes before them (the slices of a planar change).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.elastic import Elastic
from autoseg.augment.interpolate import Points
from autoseg.plan.plan import AugmentationPlan

Box = tuple[tuple[int, int], ...]
"""Half-open range of voxels on each axis; may overhang the image."""

PLANES = {1: (), 2: ((0, 1),), 3: ((1, 2), (2, 0), (0, 1))}
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
    elastic: Elastic | None = None
    """Added to what `matrix` reads."""

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

        The image is interpolated linearly; a voxel gets the label nearest to the same point.

        Parameters
        ----------
        image, labels
            (C, *L, *S) and (*L, *S), contiguous; of several labels each is read alike.
        patch_size
            All axes, the unchanged ones included.
        """
        if not self.matrix:
            return image, labels
        sizes = self.sizes(patch_size)
        shape = labels.shape[labels.ndim - len(sizes) :]
        images, masks = image.reshape(-1, *shape), labels.reshape(-1, *shape)  # (C L, *S), (L, *S)
        new_images = np.empty((len(images), *sizes), image.dtype)
        new_masks = np.empty((len(masks), *sizes), labels.dtype)
        for slab, points in self._slabs(shape, patch_size):
            new_images[:, slab] = points.linear(images)
            new_masks[:, slab] = points.nearest(masks)
        return (
            new_images.reshape(*image.shape[: image.ndim - len(sizes)], *sizes),
            new_masks.reshape(*labels.shape[: labels.ndim - len(sizes)], *sizes),
        )

    def sizes(self, patch_size: Sequence[int]) -> tuple[int, ...]:
        """Return the patch's changed axes."""
        return tuple(patch_size[len(patch_size) - len(self.matrix) :])

    def _reach(self, patch_size: Sequence[int]) -> Box:
        """Return for each changed axis what is read, relative to the patch's unchanged start."""
        sizes = self.sizes(patch_size)
        halves = [(size - 1) / 2 for size in sizes]
        moved = self.elastic.reach(sizes) if self.elastic else [0.0] * len(sizes)
        reaches = [
            SLACK + more + sum(abs(m) * half for m, half in zip(row, halves, strict=True))
            for row, more in zip(self.matrix, moved, strict=True)
        ]
        return tuple(
            (math.floor(half - reach), math.floor(half + reach) + 2)
            for half, reach in zip(halves, reaches, strict=True)
        )

    def _slabs(
        self, shape: tuple[int, ...], patch_size: Sequence[int]
    ) -> Iterator[tuple[slice, Points]]:
        """Yield slices of the patch along its first changed axis, each with what it reads."""
        sizes = self.sizes(patch_size)
        terms = self.terms(patch_size)
        rows = self.elastic.rows(sizes) if self.elastic else None
        thickness = max(1, SLAB_VOXELS // math.prod(sizes[1:]))
        for first in range(0, sizes[0], thickness):
            slab = slice(first, min(first + thickness, sizes[0]))
            coordinates = [sum(term[1:], start=term[0][slab]) for term in terms]
            if self.elastic and rows is not None:
                for coordinate, moved in zip(
                    coordinates, self.elastic.field(rows, sizes, slab), strict=True
                ):
                    coordinate += moved
            yield slab, Points(coordinates, shape)

    def terms(self, patch_size: Sequence[int]) -> list[list[NDArray[np.float32]]]:
        """Return each coordinate in the source box as a sum of one term for each patch axis."""
        sizes = self.sizes(patch_size)
        offsets = np.meshgrid(
            *(np.arange(n) - (n - 1) / 2 for n in sizes), indexing="ij", sparse=True
        )
        terms = []
        for row, size, (low, _) in zip(self.matrix, sizes, self._reach(patch_size), strict=True):
            products = [m * offset for m, offset in zip(row, offsets, strict=True)]
            products[0] += (size - 1) / 2 - low
            terms.append([product.astype(np.float32) for product in products])
        return terms


def draw_warp(rng: np.random.Generator, plan: AugmentationPlan, patch_size: Sequence[int]) -> Warp:
    """Draw rotation, scaling and deformation of a patch; usually none happens."""
    changed = min(len(patch_size), 2) if plan.planar else len(patch_size)
    matrix = np.eye(changed)
    is_rotated = rng.random() < plan.rotation_probability
    is_scaled = rng.random() < plan.scale_probability
    is_deformed = plan.elastic_probability > 0 and rng.random() < plan.elastic_probability
    if not is_rotated and not is_scaled and not is_deformed:
        return Warp(())
    if is_rotated:
        matrix = rotation_matrix([rng.uniform(*limits) for limits in plan.rotation], changed)
    if is_scaled:
        matrix = matrix * rng.uniform(*plan.scale)
    return Warp(
        tuple(tuple(float(value) for value in row) for row in matrix),
        _draw_elastic(rng, plan) if is_deformed else None,
    )


def rotation_matrix(angles: Sequence[float], num_axes: int) -> NDArray[np.float64]:
    """Return the rotation by one angle (2D), or about each axis in turn, the first first (3D)."""
    matrix = np.eye(num_axes)
    for angle, (i, j) in zip(angles, PLANES[num_axes], strict=True):
        turn = np.eye(num_axes)
        turn[i, i] = turn[j, j] = math.cos(angle)
        turn[i, j], turn[j, i] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    return matrix


def _draw_elastic(rng: np.random.Generator, plan: AugmentationPlan) -> Elastic:
    return Elastic(
        seed=int(rng.integers(2**63)),
        sigma=rng.uniform(*plan.elastic_sigma),
        alpha=rng.uniform(*plan.elastic_alpha),
    )
