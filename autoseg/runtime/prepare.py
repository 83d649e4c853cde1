"""From a raw image to what a model takes, and what is needed to go back.

Letters in shapes: C channels, S spatial axes of the image, S' of the prepared array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from .crop import Box, box_slices, nonzero_box, nonzero_region
from .normalise import constants, normalise
from .recipe import Recipe
from .resample import GridChange, LabelResampler, coarse_axis, grid_change, resample_labels
from .resample_rows import ReadRows, resample_image, resample_read, row_slices

if TYPE_CHECKING:
    from .cascade import Previous


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
    spacing: tuple[float, ...]
    """Of the image, its axes in its own order."""
    previous: "Previous | None" = None
    """What the previous stage found, once it has."""

    @property
    def voxel_size(self) -> float:
        """Product of the image's spacings."""
        return math.prod(self.spacing)


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
    if recipe.order == "resample-normalise" and not masked:
        array = resample_image(cropped, change, spline_order=recipe.spline_order)
    else:
        read = _reader(cropped, region, mean, std, recipe)
        array = resample_read(read, len(cropped), change, spline_order=recipe.spline_order)
    if recipe.order == "normalise-resample":
        mean, std = np.zeros_like(mean), np.ones_like(std)
    elif region is not None and not change.is_identity:
        # Once more: now nothing from inside is smeared over the region's border.
        _set_outside_resampled(array, region, change, mean, recipe)
    placement = place(shape, spacing, box, recipe)
    return Prepared(array, mean, std, placement, tuple(spacing))


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


def _reader(
    cropped: NDArray,
    region: NDArray[np.bool_] | None,
    mean: NDArray[np.float32],
    std: NDArray[np.float32],
    recipe: Recipe,
) -> ReadRows:
    """Return how rows of (C, *S) are read that are to be resampled.

    They are normalised, if that comes first. Outside the region a channel that uses a mask has
    one value: no edge at the region's border is smeared into it.
    """
    first = recipe.order == "normalise-resample"

    def read(index: int, rows: slice) -> NDArray:
        one = slice(index, index + 1)
        values = cropped[one, rows]
        if first:
            values = normalise(values, mean[one], std[one], recipe.channels[one])
        if region is not None and recipe.channels[index].use_mask:
            outside = np.float32(0) if first else mean[index]
            values = np.where(region[rows], values, outside)
        return values[0]

    return read


def _set_outside_resampled(
    array: NDArray[np.float32],
    region: NDArray[np.bool_],
    change: GridChange,
    values: NDArray[np.float32],
    recipe: Recipe,
) -> None:
    """Set (C, *S') to one value a channel outside the region (*S), where a mask is used."""
    resampler = LabelResampler(change.operators(1))
    for rows in row_slices(change.new_shape):
        box = ((rows.start, rows.stop), *((0, size) for size in change.new_shape[1:]))
        part = region[box_slices(resampler.needed(box))]
        if part.all():
            continue
        outside = resampler.apply(part.astype(np.int8), box) == 0
        for target, value, channel in zip(array, values, recipe.channels, strict=True):
            if channel.use_mask:
                target[rows][outside] = value


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
