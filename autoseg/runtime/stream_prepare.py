"""`prepare` for images that are read as tiles need them: the same numbers, row by row.

Letters in shapes: C channels, S spatial axes of the image, S' of the prepared array.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from .checks import check_finite, check_image, check_range, check_unit
from .geometry import Image
from .manifest import Manifest
from .prepare import Placement, Prepared, place, recipe_change, recipe_spacing
from .prepare_blocks import can_prepare, cut_out, nonzero_box, resample_boxes, turned
from .recipe import Channel, Recipe
from .resample import GridChange, grid_change
from .row_window import RowSource, RowWindow
from .voxels import Voxels, slabs

Levels: TypeAlias = tuple[Voxels, ...]
"""An image, then smaller copies of it with coarser spacings."""

SAME_SCALE = 1e-2
"""A level may be this much coarser than the recipe asks for: sizes of levels are rounded."""
PASS_VALUES = 1 << 23
"""Numbers that are looked at together."""


def choose_level(levels: Levels, recipe: Recipe) -> Voxels:
    """Return the coarsest level that is no coarser than the recipe's grid along any axis."""
    chosen = levels[0]
    for level in levels[1:]:
        old, new = recipe_spacing(level.geometry.spacing, recipe)
        if all(a <= b * (1 + SAME_SCALE) for a, b in zip(old, new, strict=True)):
            chosen = max(chosen, level, key=lambda item: math.prod(item.geometry.spacing))
    return chosen


def can_stream(image: Voxels, manifest: Manifest) -> bool:
    """Return whether all configurations of a model can take an image row by row."""
    fits = len(image.shape) == manifest.dimensions and 0 not in image.shape
    return fits and all(can_prepare(image, item.recipe) for item in manifest.configurations)


def open_parts(levels: Levels, manifest: Manifest) -> list[Prepared]:
    """Return an image as each configuration takes it; its `array` is a `RowSource`.

    Reads the image up to twice for each that has its own constants or grid.

    Raises
    ------
    AutosegError
        As `Model.prepare`; values that are not finite are told when they are read.
    """
    image = levels[0]
    stand_in = Image(np.broadcast_to(np.uint8(0), _whole(image)), image.geometry)
    check_image(stand_in, len(manifest.channels), manifest.dimensions)
    check_unit(stand_in, manifest.unit)
    levels = tuple(_finite(level) for level in levels)
    recipes = [item.recipe for item in manifest.configurations]
    for recipe in recipes:
        _check_range(levels[0], recipe.channels)
    return [open_rows(levels, recipe) for recipe in recipes]


def open_rows(levels: Levels, recipe: Recipe) -> Prepared:
    """Return what `prepare` returns of an image (C, *S), its `array` read row by row.

    Of a pyramid it is computed from the level that the recipe needs, and the constants too.
    """
    image, level = levels[0], choose_level(levels, recipe)
    spacing = image.geometry.spacing
    upright = turned(level, recipe.transpose)
    raw = RowWindow(upright, min(upright.part_shape[0], upright.shape[0])).voxels
    if level is image:
        box = nonzero_box(raw)
        cropped = cut_out(raw, box)
        change = recipe_change(cropped.shape, spacing, recipe)
        placement = place(image.shape, spacing, box, recipe)
    else:
        cropped = raw
        box = tuple((0, image.shape[axis]) for axis in recipe.transpose)
        placement = place(image.shape, spacing, box, recipe)
        change = _from_level(level, placement, recipe)
    voxels, mean, std = resample_boxes(cropped, change, recipe)
    if not change.is_identity:
        voxels = RowWindow(voxels, 1).voxels
    array = cast("NDArray[np.float32]", RowSource(voxels))
    return Prepared(array, mean, std, placement, tuple(spacing))


def _from_level(level: Voxels, placement: Placement, recipe: Recipe) -> GridChange:
    """Return the change from a level's grid to the one that the image itself is brought to."""
    old, new = recipe_spacing(level.geometry.spacing, recipe)
    shape = [level.shape[axis] for axis in recipe.transpose]
    change = grid_change(shape, old, new, coarse_ratio=recipe.coarse_ratio)
    return replace(change, new_shape=placement.prepared_shape)


def _whole(image: Voxels) -> tuple[int, ...]:
    return (image.num_channels, *image.shape)


def _finite(level: Voxels) -> Voxels:
    """Return an image whose boxes are refused where they are not finite."""
    if level.dtype.kind != "f":
        return level

    def check(array: NDArray) -> NDArray:
        check_finite(array)
        return array

    return level.changed(check)


def _check_range(image: Voxels, channels: Sequence[Channel]) -> None:
    """Refuse what `check_range` refuses; looks through the image only where that can be."""
    pretrained = any(item.scheme == "pretrained" and item.lower == 0 for item in channels)
    is_whole = image.dtype.kind in "iu" and all((item.upper or 0) > 1 for item in channels)
    if not pretrained or is_whole:
        return
    highest = np.full(image.num_channels, -np.inf)
    for box in slabs(image.shape, image.part_shape, PASS_VALUES // image.num_channels):
        array = image.read(box)
        highest = np.maximum(highest, array.max(axis=tuple(range(1, array.ndim))))
    line = highest.astype(image.dtype).reshape(-1, *(1,) * len(image.shape))
    check_range(Image(line, image.geometry), channels)
