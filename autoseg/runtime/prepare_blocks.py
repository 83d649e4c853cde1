"""`prepare` for images that need not fit into memory: what a network sees, computed box by box.

The same numbers as `prepare` and `network_input` give: exactly where the grid stays, but for the
last digits of sums; to single precision where it changes.
Letters in shapes: C channels, S spatial axes of the image, S' of the prepared array, B of a box.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .block_constants import BlockConstants, can_be_counted
from .crop import Box
from .normalise import normalise
from .prepare import Placement, place, recipe_change
from .recipe import Recipe
from .resample import GridChange, LabelResampler, Lookup, Weighted
from .voxels import Voxels, slabs

SLAB_VOXELS = 1 << 23
"""Numbers that are looked at together in a pass over an image: 32 MB in single precision."""


@dataclass(frozen=True)
class PreparedVoxels:
    """An image as a network sees it, read box by box."""

    voxels: Voxels
    """(C, *S') in single precision."""
    mean: NDArray[np.float32]
    """(C,), as `Prepared` has it."""
    std: NDArray[np.float32]
    placement: Placement


def can_prepare(image: Voxels, recipe: Recipe) -> bool:
    """Return whether a recipe can be followed box by box.

    It cannot where a region is filled, or percentiles are needed of many different values.
    """
    return all(
        not channel.use_mask and can_be_counted(channel, image.dtype) for channel in recipe.channels
    )


def prepare_voxels(image: Voxels, recipe: Recipe) -> PreparedVoxels:
    """Return an image (C, *S) cropped, on the recipe's grid and normalised: (C, *S').

    Reads the image up to twice, for the box that is not empty and for its constants.
    """
    if not can_prepare(image, recipe):
        raise ValueError("the recipe asks for all of the image at once: see `can_prepare`")
    spacing = image.geometry.spacing
    upright = turned(image, recipe.transpose)
    box = nonzero_box(upright)
    cropped = cut_out(upright, box)
    change = recipe_change(cropped.shape, spacing, recipe)
    voxels, mean, std = resample_boxes(cropped, change, recipe)
    if recipe.order == "resample-normalise":
        read = voxels.read
        voxels = replace(voxels, read=lambda box: normalise(read(box), mean, std, recipe.channels))
    voxels = replace(voxels, dtype=np.dtype(np.float32))
    return PreparedVoxels(voxels, mean, std, place(image.shape, spacing, box, recipe))


def resample_boxes(
    cropped: Voxels, change: GridChange, recipe: Recipe
) -> tuple[Voxels, NDArray[np.float32], NDArray[np.float32]]:
    """Return (C, *S') as `Prepared` has it, with mean and std (C,).

    Values are as they were read where the grid stays and normalising comes later.
    """
    mean, std, ranges = facts(cropped, recipe, change)
    resampled = not change.is_identity
    resample = (
        BoxResampler(change, change.operators(recipe.spline_order), ranges) if resampled else None
    )
    first = recipe.order == "normalise-resample"
    if resample is None and not first:
        return cropped, mean, std

    def read(box: Box) -> NDArray[np.float32]:
        array = cropped.read(box if resample is None else resample.needed(box))
        if first:
            array = normalise(array, mean, std, recipe.channels)
        return array if resample is None else resample.apply(array, box)

    voxels = replace(cropped, shape=change.new_shape, dtype=np.dtype(np.float32), read=read)
    return voxels, *((np.zeros_like(mean), np.ones_like(std)) if first else (mean, std))


def prepare_label_voxels(
    labels: Voxels, placement: Placement, recipe: Recipe, spacing: Sequence[float]
) -> Voxels:
    """Return class indices (1, *S) on the grid of the prepared image (1, *S')."""
    cropped = cut_out(turned(labels, placement.transpose), placement.box)
    change = recipe_change(cropped.shape, spacing, recipe)
    if change.is_identity:
        return cropped
    resampler = LabelResampler(change.operators(1))

    def read(box: Box) -> NDArray:
        return resampler.apply(cropped.read(resampler.needed(box))[0], box)[None]

    return replace(cropped, shape=change.new_shape, read=read)


def nonzero_box(image: Voxels) -> Box:
    """Return the smallest box with all voxels that are nonzero in any channel; see `crop`.

    The ends of the first axis are looked at first: where they are not empty, nothing else is read.
    """
    seen = NonzeroSpans(image.shape)
    order = [*slabs(image.shape, image.part_shape, SLAB_VOXELS // image.num_channels)]
    for box in (*order[:1], *order[:0:-1]):
        seen.add(box, image.read(box))
        if seen.is_whole:
            break
    return seen.box


class NonzeroSpans:
    """Along each axis of an image, where slabs of it were nonzero."""

    def __init__(self, shape: Sequence[int]) -> None:
        self._filled = [np.zeros(size, bool) for size in shape]

    def add(self, box: Box, array: NDArray) -> None:
        """Take (C, *B) of a box into account."""
        filled = array[0] != 0
        for channel in array[1:]:
            filled |= channel != 0
        axes = range(filled.ndim)
        for axis, (start, stop) in enumerate(box):
            others = tuple(other for other in axes if other != axis)
            self._filled[axis][start:stop] |= filled.any(axis=others)

    @property
    def is_whole(self) -> bool:
        """Whether nothing can be cut off any more."""
        return all(line[0] and line[-1] for line in self._filled)

    @property
    def box(self) -> Box:
        """The smallest box around everything that is not zero; all where everything is."""
        if not self._filled[0].any():
            return tuple((0, len(line)) for line in self._filled)
        spans = [np.flatnonzero(line) for line in self._filled]
        return tuple((int(span[0]), int(span[-1]) + 1) for span in spans)


@dataclass(frozen=True)
class BoxResampler:
    """Boxes of the new grid from those of the old one."""

    change: GridChange
    operators: tuple[Weighted | Lookup, ...]
    ranges: tuple[NDArray[np.float32], NDArray[np.float32]]
    """Lowest and highest value of each channel, or of each slice of it along the coarse axis."""

    def _parts(self, box: Box) -> list[tuple[slice, Weighted | Lookup]]:
        return [op.part(*span) for op, span in zip(self.operators, box, strict=True)]

    def needed(self, box: Box) -> Box:
        """Return the voxels of the old grid that a box of the new one is computed from."""
        return tuple((source.start, source.stop) for source, _ in self._parts(box))

    def apply(self, array: NDArray, box: Box) -> NDArray[np.float32]:
        """Return (C, *B) of a box of the new grid from the voxels that it needs."""
        parts = [operator for _, operator in self._parts(box)]
        ratios = [new / old for old, new in zip(*_shapes(self.change), strict=True)]
        coarse = self.change.coarse_axis
        low, high = self.ranges
        if coarse is not None:
            slices = self.operators[coarse]
            assert isinstance(slices, Lookup), "a coarse axis is looked up"
            index = slices.index[slice(*box[coarse])]
            low, high = (np.take(line, index, axis=coarse + 1) for line in self.ranges)
        out = []
        for channel, bottom, top in zip(array, low, high, strict=True):
            values = np.ascontiguousarray(channel, dtype=np.float32)
            for axis in sorted(range(values.ndim), key=lambda axis: ratios[axis]):
                values = parts[axis].apply(values, axis)
            out.append(np.clip(values, bottom, top))
        return np.stack(out)


def _shapes(change: GridChange) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return change.old_shape, change.new_shape


def facts(
    cropped: Voxels, recipe: Recipe, change: GridChange
) -> tuple[
    NDArray[np.float32], NDArray[np.float32], tuple[NDArray[np.float32], NDArray[np.float32]]
]:
    """Return mean and std (C,), and the ranges (C, ...) that interpolation keeps to."""
    constants = BlockConstants(recipe.channels)
    ranges = _Ranges(cropped, change.coarse_axis)
    needs_ranges = not change.is_identity
    if constants.are_open or needs_ranges:
        for box in slabs(cropped.shape, cropped.part_shape, SLAB_VOXELS // cropped.num_channels):
            array = cropped.read(box)
            constants.add(array)
            if needs_ranges:
                ranges.add(box, array)
    mean, std = constants.result()
    limits = ranges.low, ranges.high
    if needs_ranges and recipe.order == "normalise-resample":
        # Normalising never turns the order of two values.
        low, high = (normalise(values, mean, std, recipe.channels) for values in limits)
        limits = low, high
    return mean, std, limits


class _Ranges:
    """Lowest and highest values (C, 1, ...), along the coarse axis one for each slice."""

    def __init__(self, image: Voxels, coarse: int | None) -> None:
        shape = [1] * len(image.shape)
        if coarse is not None:
            shape[coarse] = image.shape[coarse]
        self._coarse = coarse
        self.low = np.full((image.num_channels, *shape), np.inf, np.float32)
        self.high = np.full((image.num_channels, *shape), -np.inf, np.float32)

    def add(self, box: Box, array: NDArray) -> None:
        """Take (C, *B) of a box into account."""
        axes = tuple(axis + 1 for axis in range(len(box)) if axis != self._coarse)
        place = [slice(None)] * (len(box) + 1)
        if self._coarse is not None:
            place[self._coarse + 1] = slice(*box[self._coarse])
        index = tuple(place)
        low, high = (f(axis=axes, keepdims=True).astype(np.float32) for f in (array.min, array.max))
        self.low[index] = np.minimum(self.low[index], low)
        self.high[index] = np.maximum(self.high[index], high)


def turned(image: Voxels, transpose: Sequence[int]) -> Voxels:
    """Return an image whose axis i is axis ``transpose[i]`` of the one given."""
    if tuple(transpose) == tuple(range(len(transpose))):
        return image
    back = np.argsort(transpose)
    axes = 0, *(axis + 1 for axis in transpose)
    read = image.read
    return replace(
        image,
        shape=tuple(image.shape[axis] for axis in transpose),
        part_shape=tuple(image.part_shape[axis] for axis in transpose),
        read=lambda box: read(tuple(box[axis] for axis in back)).transpose(axes),
    )


def cut_out(image: Voxels, box: Box) -> Voxels:
    """Return the part of an image in a box."""
    starts, read = [start for start, _ in box], image.read

    def read_inside(inner: Box) -> NDArray:
        pairs = zip(starts, inner, strict=True)
        return read(tuple((start + low, start + high) for start, (low, high) in pairs))

    return replace(image, shape=tuple(stop - start for start, stop in box), read=read_inside)
