"""What predicting an image takes, known beforehand.

Letters in shapes: C channels, K classes, S axes of the image, S' of the prepared array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .batches import MAX_KEPT_BYTES
from .blend import row_depth, tile_shape
from .cascade import SLAB_VOXELS as LABEL_SLAB
from .manifest import Configuration, Manifest
from .model import BALANCED, Effort, make_tiling
from .prepare import recipe_change
from .recipe import Recipe
from .resample_rows import row_slices
from .restore import CHANCES, MAX_UINT8_CLASSES, SLAB_VOXELS

FLOAT = 4
"""Bytes of a number in single precision."""
HALF = 2
"""Bytes of a probability that is given out."""
CARRIED_ROWS = 2
"""Rows of logits that are kept for the next slab where the first axis is interpolated."""
SLAB_ARRAYS = 6
"""Arrays of a slab that a class is interpolated and compared with."""
CHANCE_ARRAYS = 3
"""Arrays of a slab of all classes while probabilities are computed."""
ALLOCATOR = 1 << 24
"""Freed memory that the C library keeps (measured with glibc), at most as much as is used."""
COMPONENT_BYTES = 7
"""A voxel, while components are looked for: their numbers, masks and a copy of the labels."""
LABEL_GRID_BYTES = 40
"""A voxel of labels, while they are brought to another grid: the classes' shares of it."""
REACH = 14
"""Rows before and after its own that a spline reads."""
ROW_ARRAYS = 2
"""Arrays of the rows that are resampled together."""
MASK_BYTES = 6
"""A voxel, while the region that is not empty is looked for."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """Bytes that one image takes, besides the process and its networks."""

    image: int
    """As it was read."""
    prepared: int
    preparing: int
    """More than both while it is prepared."""
    labels: int
    """Of the image, also those that a further stage is told of."""
    telling: int
    """While labels are brought to the grid of the stage that is told of them."""
    tiles: int
    """One batch: images, logits and weights; without what happens inside the network."""
    sums: int
    """Weighted sums of the logits of unfinished rows."""
    slabs: int
    """Logits on their way to the image's grid."""
    chances: int
    """Probabilities of the whole image."""
    components: int
    """For post-processing."""

    @property
    def peak(self) -> int:
        """Everything in memory."""
        return self._peak(self.sums, self.chances)

    @property
    def least(self) -> int:
        """Sums and probabilities in files, of which a tile or a slab is in memory."""
        part = min(self.sums + self.chances, self.tiles)
        return self._peak(part, 0)

    @property
    def reading(self) -> int:
        """Until it is prepared."""
        return self.image + self.prepared + self.preparing

    @property
    def around(self) -> int:
        """What comes on top of the prepared image, sums, probabilities and the network's tiles."""
        return self.labels + self.slabs

    def _peak(self, sums: int, chances: int) -> int:
        kept = self.labels + chances
        peak = max(
            self.reading,
            kept + self.prepared + self.telling,
            kept + self.prepared + self.slabs + self.tiles + sums,
            kept + self.components,
        )
        return peak + min(peak, ALLOCATOR)


def expected_memory(
    manifest: Manifest,
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    effort: Effort = BALANCED,
    voxel_bytes: int = FLOAT,
    probabilities: bool = False,
) -> Demand:
    """Return what a model takes to predict an image (*S).

    Parameters
    ----------
    voxel_bytes
        Of a number in the image as it is read.
    probabilities
        Whether they are asked for, too.
    """
    items = [share_of(item, manifest, shape, spacing, effort) for item in manifest.configurations]
    voxels = math.prod(shape)
    several = sum(item.weight > 0 for item in manifest.configurations) > 1
    followed = any(item.previous is not None for item in manifest.configurations)
    outputs = num_outputs(manifest)
    halves = voxels * outputs * HALF if probabilities else 0
    whole = voxels * outputs * FLOAT if several else 0
    row = voxels // shape[0] * outputs
    working = CHANCE_ARRAYS * max(CHANCES, row) * FLOAT if halves or whole else 0
    steps = manifest.postprocessing or manifest.smallest
    return Demand(
        image=voxels * len(manifest.channels) * voxel_bytes,
        prepared=sum(item.prepared for item in items),
        preparing=max(item.preparing for item in items),
        labels=voxels * label_bytes(manifest) * (2 if followed else 1),
        telling=max(item.telling for item in items),
        tiles=max(item.tiles for item in items),
        sums=max(item.sums for item in items),
        slabs=max(item.slabs for item in items) + min(working, outputs * voxels * CHANCE_ARRAYS),
        chances=halves + whole,
        components=voxels * COMPONENT_BYTES if steps else 0,
    )


def num_outputs(manifest: Manifest) -> int:
    """Return how many values a voxel gets from a network."""
    regions = manifest.configurations[0].decision == "regions"
    return len(manifest.labels.values) - regions


def label_bytes(manifest: Manifest) -> int:
    """Return what the class of a voxel takes."""
    return 1 if len(manifest.labels.values) <= MAX_UINT8_CLASSES else 2


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one configuration takes, fields as of `Demand`."""

    prepared: int
    preparing: int
    telling: int
    tiles: int
    sums: int
    slabs: int


def share_of(
    item: Configuration,
    manifest: Manifest,
    shape: Sequence[int],
    spacing: Sequence[float],
    effort: Effort,
) -> Share:
    """Return what one configuration takes of the memory for an image (*S)."""
    recipe, classes, channels = item.recipe, num_outputs(manifest), len(manifest.channels)
    tiling = make_tiling(item, np.zeros(channels, np.float32), effort)
    old = [shape[axis] for axis in recipe.transpose]
    new = recipe_change(old, spacing, recipe).new_shape
    tile = tile_shape(len(old), item.patch_size, tiling)
    full = [max(n, size) for n, size in zip(new, tile, strict=True)]
    margins = (0,) * (len(old) - len(tiling.margins)) + tiling.margins
    filled = tuple(n + 2 * m for n, m in zip(full, margins, strict=True))
    stored = math.prod(new) + (math.prod(filled) if filled != new else 0)
    carried = CARRIED_ROWS * classes * math.prod(full[1:]) if new[0] != old[0] else 0
    slab = min(max(SLAB_VOXELS, math.prod(old[1:])), math.prod(old))
    kept = classes * math.prod(tile) * FLOAT
    is_told = item.previous is not None
    # Tiles with labels are copies, stacked as they are and then with a channel for each class.
    seen = 3 * channels + 2 + classes - 1 if is_told else channels
    return Share(
        prepared=stored * (channels * FLOAT + (label_bytes(manifest) if is_told else 0)),
        preparing=_preparing(old, new, recipe),
        telling=LABEL_GRID_BYTES * min(LABEL_SLAB, max(math.prod(old), math.prod(new)))
        if is_told
        else 0,
        tiles=_batch_bytes(item.patch_size, tile, seen, classes, tiling.batch_size)
        + (kept if kept <= MAX_KEPT_BYTES else 0),
        sums=classes * row_depth(full, tile) * math.prod(full[1:]) * FLOAT,
        slabs=(slab * SLAB_ARRAYS + carried) * FLOAT,
    )


def _batch_bytes(
    patch_size: Sequence[int], tile: Sequence[int], channels: int, classes: int, batch_size: int
) -> int:
    """Return what a batch takes: what the network reads and writes, and weighing one class."""
    seen = batch_size * channels * math.prod(patch_size)
    # A tile's weights, and a class times them.
    written = math.prod(tile) * (batch_size * classes + 2)
    return (seen + written) * FLOAT


def _preparing(old: Sequence[int], new: Sequence[int], recipe: Recipe) -> int:
    """Return what is needed besides the image and the prepared array, shapes in prepared order."""
    voxels = math.prod(old)
    masked = any(channel.use_mask for channel in recipe.channels)
    if tuple(old) == tuple(new) and recipe.order == "resample-normalise" and not masked:
        return 0
    depth = row_slices(new)[0].stop
    rows = math.ceil(depth * old[0] / new[0]) + (2 * REACH if old[0] != new[0] else 0)
    row = max(math.prod(old[1:]), math.prod(new[1:]))
    part = max(depth, min(old[0], rows)) * row * ROW_ARRAYS * FLOAT
    if not masked:
        return part
    # What finds the region is gone before anything is resampled; the region stays.
    found = voxels * MASK_BYTES - math.prod(new) * len(recipe.channels) * FLOAT
    return max(found, voxels + depth * row * LABEL_GRID_BYTES + part)
