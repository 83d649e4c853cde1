"""The warp of `autoseg.augment.spatial` by torch, on any device.

What depends on a draw is computed by the worker with the numbers that the processor would use, so
that both read the same points; labels are equal in every voxel.

Letters in shapes: C channels; S changed axes of the source box, P of the patch, D their number; L
axes before them; G points of the coarse grid; N arrays on one grid, V its voxels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from autoseg.augment.elastic import Elastic
from autoseg.augment.spatial import Warp


@final
@dataclass(frozen=True)
class SplineTables:
    """The coarse grid of an elastic deformation, and how voxels depend on it."""

    controls: Tensor
    """(D, *G) displacements at its points, voxels."""
    firsts: Tensor
    """(sum of P) first of the four points that each voxel of each axis depends on."""
    weights: Tensor
    """(4, sum of P) of those points."""

    def displacements(self, sizes: Sequence[int]) -> Tensor:
        """Return the displacements (D, *P), voxels, added up in the order of `Elastic`."""
        firsts, weights = self.firsts.split(list(sizes)), self.weights.split(list(sizes), dim=1)
        values = self.controls
        for axis in (*range(1, len(sizes)), 0):
            total = _along(values, axis + 1, firsts[axis], weights[axis][0])
            for offset in range(1, len(self.weights)):
                total += _along(values, axis + 1, firsts[axis] + offset, weights[axis][offset])
            values = total
        return values


@final
@dataclass(frozen=True)
class WarpTables:
    """All that a device needs to know of one warp: small tensors, no draws."""

    sizes: tuple[int, ...]
    """(*P)."""
    terms: Tensor
    """(D, sum of P), each coordinate as a sum of one term for each patch axis, voxels."""
    spline: SplineTables | None

    def apply(self, image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return image (C, *L, *P) and labels (*L, *P) from those of the source box.

        As `Warp.apply` does: the image linearly, a voxel's label from the nearest voxel.
        """
        num_axes = len(self.sizes)
        shape = labels.shape[labels.ndim - num_axes :]
        coordinates = self._coordinates()
        strides = [math.prod(shape[axis + 1 :]) for axis in range(num_axes)]
        patch = _linear(image.reshape(-1, math.prod(shape)), coordinates, strides)
        mask = _nearest(labels.reshape(-1, math.prod(shape)), coordinates, strides)
        return (
            patch.reshape(*image.shape[: image.ndim - num_axes], *self.sizes),
            mask.reshape(*labels.shape[: labels.ndim - num_axes], *self.sizes),
        )

    def sent(self, send: Callable[[Tensor], Tensor]) -> "WarpTables":
        """Return the tables on the device that `send` copies to."""
        spline = self.spline and SplineTables(
            send(self.spline.controls), send(self.spline.firsts), send(self.spline.weights)
        )
        return replace(self, terms=send(self.terms), spline=spline)

    def _coordinates(self) -> list[Tensor]:
        """Return for each axis of the source box where each voxel of the patch reads, (*P)."""
        moved = None if self.spline is None else self.spline.displacements(self.sizes)
        coordinates = []
        for axis, row in enumerate(self.terms):
            terms = [
                _spread(term, position, len(self.sizes))
                for position, term in enumerate(row.split(list(self.sizes)))
            ]
            coordinate = sum(terms[1:], start=terms[0])
            coordinates.append(coordinate if moved is None else coordinate + moved[axis])
        return coordinates


def warp_tables(warp: Warp, patch_size: Sequence[int]) -> WarpTables | None:
    """Return what a device needs to know of a warp; None if it changes nothing."""
    if not warp.matrix:
        return None
    sizes = warp.sizes(patch_size)
    terms = [
        np.concatenate(
            [np.broadcast_to(term.ravel(), n) for term, n in zip(row, sizes, strict=True)]
        )
        for row in warp.terms(patch_size)
    ]
    spline = None if warp.elastic is None else _spline_tables(warp.elastic, sizes)
    return WarpTables(sizes, torch.from_numpy(np.stack(terms)), spline)


def _spline_tables(elastic: Elastic, sizes: Sequence[int]) -> SplineTables:
    bases = [elastic.basis(np.arange(n), n) for n in sizes]
    return SplineTables(
        torch.from_numpy(elastic.controls(sizes)),
        torch.from_numpy(np.concatenate([firsts for firsts, _ in bases])),
        torch.from_numpy(np.concatenate([weights for _, weights in bases], axis=1)),
    )


def _linear(sources: Tensor, coordinates: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Return (N, prod of P) interpolated linearly from (N, V)."""
    lowest = [coordinate.int() for coordinate in coordinates]
    corners = sum(low * stride for low, stride in zip(lowest, strides, strict=True))
    assert isinstance(corners, Tensor)
    fractions = [
        (coordinate - low).flatten() for coordinate, low in zip(coordinates, lowest, strict=True)
    ]
    return _between(sources, corners.flatten(), fractions, strides)


def _between(
    sources: Tensor, corners: Tensor, fractions: Sequence[Tensor], strides: Sequence[int]
) -> Tensor:
    """Return (N, prod of P) interpolated along the axes of `fractions` and `strides`."""
    if not fractions:
        return sources.index_select(1, corners)
    low = _between(sources, corners, fractions[1:], strides[1:])
    high = _between(sources, corners + strides[0], fractions[1:], strides[1:])
    return low.lerp_(high, fractions[0].expand_as(low))


def _nearest(sources: Tensor, coordinates: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Return (N, prod of P), the values of the nearest voxels of (N, V)."""
    places = sum(
        (coordinate + 0.5).int() * stride
        for coordinate, stride in zip(coordinates, strides, strict=True)
    )
    assert isinstance(places, Tensor)
    return sources.index_select(1, places.flatten())


def _along(values: Tensor, axis: int, places: Tensor, weights: Tensor) -> Tensor:
    """Return the values at some places of an axis, each times its weight."""
    return values.index_select(axis, places) * _spread(weights, axis, values.ndim)


def _spread(line: Tensor, axis: int, num_axes: int) -> Tensor:
    """Return a line of values (n,) as an array of `num_axes` axes that varies along one."""
    return line.view([-1 if index == axis else 1 for index in range(num_axes)])
