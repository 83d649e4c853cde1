"""A second stage sees what the first one found: its labels, as further channels.

Letters in shapes: B tiles in a batch, C channels, K classes, P axes of the patch, S axes of the
image, S' of the prepared array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .crop import box_slices
from .prepare import Placement, recipe_change, recipe_spacing
from .recipe import Recipe
from .resample import LabelResampler
from .scratch import IN_MEMORY, Scratch

SLAB_VOXELS = 1 << 21
"""Voxels brought to another grid at once: each array of a class takes 8 MiB."""
CERTAIN = 16.0
"""Logit of the background where nothing is computed: of 100 classes its probability is 0.99999."""
ROUNDING = 1e-6
"""Part of a voxel by which spacings that are rounded may miss a whole number."""


@dataclass(frozen=True, kw_only=True)
class Previous:
    """What the previous stage found in an image, and where that calls for the network."""

    labels: NDArray[np.integer]
    """(*S') class indices on the prepared grid."""
    num_classes: int
    margins: tuple[int, ...] | None = None
    """Voxels along each axis around its foreground where the network is asked; None: everywhere."""

    @property
    def background(self) -> tuple[float, ...]:
        """Logits (K,) of a tile that is not computed."""
        return (CERTAIN, *(0.0,) * (self.num_classes - 1))

    def calls_for(self, start: Sequence[int], stop: Sequence[int]) -> bool:
        """Return whether a voxel of a box, which may reach beyond the image, is near foreground."""
        if self.margins is None:
            return True
        sides = zip(start, stop, self.margins, strict=True)
        near = tuple(slice(max(0, low - by), max(0, high + by)) for low, high, by in sides)
        return bool(self.labels[near].any())


def find_previous(
    labels: NDArray[np.integer],
    placement: Placement,
    recipe: Recipe,
    spacing: Sequence[float],
    *,
    num_classes: int,
    margin: float | None,
    scratch: Scratch = IN_MEMORY,
) -> Previous:
    """Return what a second stage is told of the first one's labels (*S) on the image's own grid.

    Parameters
    ----------
    placement, recipe
        Of the second stage's prepared image.
    spacing
        Of the image, its axes in its own order.
    margin
        Around the foreground, in the unit of `spacing`; None: the second stage is asked everywhere.
    scratch
        Gives room for the labels on the prepared grid, where that is another one.
    """
    return Previous(
        labels=previous_labels(labels, placement, recipe, spacing, scratch),
        num_classes=num_classes,
        margins=voxel_margins(margin, recipe_spacing(spacing, recipe)[1]),
    )


def previous_labels(
    labels: NDArray[np.integer],
    placement: Placement,
    recipe: Recipe,
    spacing: Sequence[float],
    scratch: Scratch = IN_MEMORY,
) -> NDArray[np.integer]:
    """Return class indices (*S) of the previous stage on the grid of the prepared image: (*S').

    They are brought there as `prepare_labels` brings label masks, but slab by slab. For the
    parameters see `find_previous`.
    """
    cropped = labels.transpose(placement.transpose)[box_slices(placement.box)]
    change = recipe_change(cropped.shape, spacing, recipe)
    if change.is_identity:
        return np.ascontiguousarray(cropped)
    resampler = LabelResampler(change.operators(1))
    out = scratch.zeros(change.new_shape, labels.dtype.type)
    row = max(math.prod(change.new_shape[1:]), cropped.size // change.new_shape[0], 1)
    depth = max(1, SLAB_VOXELS // row)
    rest = tuple((0, size) for size in out.shape[1:])
    for start in range(0, len(out), depth):
        box = ((start, min(start + depth, len(out))), *rest)
        needed = box_slices(resampler.needed(box))
        out[box_slices(box)] = resampler.apply(cropped[needed], box)
        scratch.forget()
    return out


def voxel_margins(margin: float | None, spacing: Sequence[float]) -> tuple[int, ...] | None:
    """Return how many voxels a margin reaches along each axis, in the unit of `spacing`."""
    if margin is None:
        return None
    return tuple(int(margin / size + ROUNDING) for size in spacing)


def one_hot(labels: NDArray, num_classes: int) -> NDArray[np.float32]:
    """Return (K-1, *S'): for each class but the background, 1 where `labels` (*S') name it."""
    out = np.empty((num_classes - 1, *labels.shape), dtype=np.float32)
    for index in range(1, num_classes):
        out[index - 1] = labels == index
    return out


def with_one_hot(tiles: NDArray[np.float32], num_classes: int) -> NDArray[np.float32]:
    """Return (B, C+K-1, *P) of tiles (B, C+1, *P) whose last channel holds class indices.

    Made for a batch at a time: all of an image would take K-1 times what its labels do, in floats.
    """
    num_tiles, num_channels, *patch_size = tiles.shape
    num_images = num_channels - 1
    shape = (num_tiles, num_images + num_classes - 1, *patch_size)
    out = np.empty(shape, dtype=np.float32)
    out[:, :num_images] = tiles[:, :num_images]
    for index in range(1, num_classes):
        out[:, num_images + index - 1] = tiles[:, -1] == index
    return out
