"""From a raw image to what a model takes, and what is needed to go back.

Letters in shapes: C channels, S spatial axes of the image, S' of the prepared array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from .crop import Box, box_slices, nonzero_box, nonzero_region
from .normalise import constants, normalise
from .recipe import Recipe
from .resample import GridChange, coarse_axis, grid_change, resample_image, resample_labels


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a prepared array lies in its image: everything that `restore` needs."""

    image_shape: tuple[int, ...]
    """Axes of the image."""
    transpose: tuple[int, ...]
    """Axis i of the prepared array is axis ``transpose[i]`` of the image."""
    box: Box
    """Range that was kept, prepared order."""
    prepared_shape: tuple[int, ...]
    coarse_axis: int | None
    """Axis that is resampled by nearest neighbour on the way back, prepared order."""

    @property
    def box_shape(self) -> tuple[int, ...]:
        """Shape of the range that was kept, prepared order."""
        return tuple(stop - start for start, stop in self.box)

    def to_dict(self) -> dict:
        """Return numbers and lists that JSON keeps."""
        return {
            **{name: list(getattr(self, name)) for name in _TUPLES},
            "box": [list(pair) for pair in self.box],
            "coarse_axis": self.coarse_axis,
        }

    @classmethod
    def from_dict(cls, content: dict) -> Self:
        """Return the placement that `to_dict` wrote."""
        return cls(
            **{name: tuple(content[name]) for name in _TUPLES},
            box=tuple((start, stop) for start, stop in content["box"]),
            coarse_axis=content["coarse_axis"],
        )


_TUPLES = ("image_shape", "transpose", "prepared_shape")


@dataclass(frozen=True)
class Prepared:
    """An image ready for a model."""

    array: NDArray[np.float32]
    """(C, *S'): raw values, or normalised ones under the order `normalise-resample`."""
    mean: NDArray[np.float32]
    """(C,)"""
    std: NDArray[np.float32]
    """(C,)"""
    placement: Placement
    voxel_size: float
    """Product of the image's spacings."""


def prepare(image: NDArray, spacing: Sequence[float], recipe: Recipe) -> Prepared:
    """Return an image (C, *S) cropped, on the recipe's grid, with its normalisation constants."""
    shape = image.shape[1:]
    image = image.transpose(0, *(axis + 1 for axis in recipe.transpose))
    box = nonzero_box(image)
    cropped = image[(slice(None), *box_slices(box))]
    masked = any(channel.use_mask for channel in recipe.channels)
    region = nonzero_region(cropped) if masked else None
    change = recipe_change(cropped.shape[1:], spacing, recipe)
    mean, std = constants(cropped, recipe.channels, region)
    if recipe.order == "normalise-resample":
        array = normalise(cropped, mean, std, recipe.channels)
        mean, std = np.zeros_like(mean), np.ones_like(std)
        array = _set_outside(array, region, mean, recipe)
        array = resample_image(array, change, spline_order=recipe.spline_order)
    else:
        # Twice: before, so that no edge at the region's border is smeared into it, and after.
        array = _set_outside(cropped, region, mean, recipe)
        array = resample_image(array, change, spline_order=recipe.spline_order)
        array = _set_outside(array, _resample_region(region, change), mean, recipe)
    placement = place(shape, spacing, box, recipe)
    return Prepared(array, mean, std, placement, math.prod(spacing))


def place(
    image_shape: Sequence[int], spacing: Sequence[float], box: Box, recipe: Recipe
) -> Placement:
    """Return the placement of an image of which `box` (prepared order) is kept."""
    old, new = recipe_spacing(spacing, recipe)
    kept = tuple(stop - start for start, stop in box)
    return Placement(
        image_shape=tuple(image_shape),
        transpose=recipe.transpose,
        box=box,
        prepared_shape=recipe_change(kept, spacing, recipe).new_shape,
        coarse_axis=coarse_axis(new, old, coarse_ratio=recipe.coarse_ratio),
    )


def _set_outside(
    array: NDArray, region: NDArray[np.bool_] | None, values: NDArray, recipe: Recipe
) -> NDArray:
    """Return (C, *S) with one value a channel outside the region, where the channel uses a mask."""
    if region is None or region.all():
        return array
    outside = ~region
    array = np.array(array, dtype=np.float32, order="C")
    for target, value, channel in zip(array, values, recipe.channels, strict=True):
        if channel.use_mask:
            target[outside] = value
    return array


def _resample_region(
    region: NDArray[np.bool_] | None, change: GridChange
) -> NDArray[np.bool_] | None:
    if region is None:
        return None
    return resample_labels(region.astype(np.int8), change).astype(bool)


def recipe_spacing(spacing: Sequence[float], recipe: Recipe) -> tuple[tuple[float, ...], ...]:
    """Return the image's spacing and the prepared array's, both in prepared order."""
    old = tuple(spacing[axis] for axis in recipe.transpose)
    slices = len(old) - len(recipe.spacing)
    return old, (*old[:slices], *recipe.spacing)


def recipe_change(shape: Sequence[int], spacing: Sequence[float], recipe: Recipe) -> GridChange:
    """Return the change of grid for a cropped image of this shape (prepared order)."""
    old, new = recipe_spacing(spacing, recipe)
    return grid_change(shape, old, new, coarse_ratio=recipe.coarse_ratio)


def prepare_labels(
    labels: NDArray[np.signedinteger],
    placement: Placement,
    recipe: Recipe,
    spacing: Sequence[float],
) -> NDArray[np.signedinteger]:
    """Return class indices (*S) on the grid of the prepared image; `IGNORE` stays."""
    cropped = labels.transpose(placement.transpose)[box_slices(placement.box)]
    change = recipe_change(cropped.shape, spacing, recipe)
    return np.ascontiguousarray(resample_labels(cropped, change))
