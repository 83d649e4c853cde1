"""What predicting an image takes, known beforehand.

Letters in shapes: C channels, K classes, S axes of the image, S' of the prepared array.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .batches import MAX_KEPT_BYTES
from .blend import row_depth, tile_shape
from .manifest import Configuration, Manifest
from .model import BALANCED, Effort, make_tiling
from .prepare import recipe_change
from .recipe import Recipe
from .restore import CHANCES, SLAB_VOXELS

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
ALLOCATOR = 1 << 26
"""Freed memory that the C library keeps (measured with glibc), at most as much as is used."""
COMPONENT_BYTES = 7
"""A voxel, while components are looked for: their numbers, masks and a copy of the labels."""
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
        kept = self.image + self.labels + chances
        peak = max(
            self.reading,
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
    items = [_one(item, manifest, shape, spacing, effort) for item in manifest.configurations]
    voxels, several = math.prod(shape), len(items) > 1
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
        labels=voxels * (1 if len(manifest.labels.values) <= 256 else 2),
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


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What one configuration takes, fields as of `Demand`."""

    prepared: int
    preparing: int
    tiles: int
    sums: int
    slabs: int


def _one(
    item: Configuration,
    manifest: Manifest,
    shape: Sequence[int],
    spacing: Sequence[float],
    effort: Effort,
) -> _Share:
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
    return _Share(
        prepared=stored * channels * FLOAT,
        preparing=_preparing(old, new, recipe),
        tiles=_batch_bytes(item.patch_size, tile, channels, classes, tiling.batch_size)
        + (kept if kept <= MAX_KEPT_BYTES else 0),
        sums=classes * row_depth(full, tile) * math.prod(full[1:]) * FLOAT,
        slabs=(slab * SLAB_ARRAYS + carried) * FLOAT,
    )


def _batch_bytes(
    patch_size: Sequence[int], tile: Sequence[int], channels: int, classes: int, batch_size: int
) -> int:
    """Return what a batch takes: what the network reads and writes, and weighing one class."""
    seen = batch_size * channels * math.prod(patch_size)
    # A backend's own copy of its output, and ours; a tile's weights, and a class times them.
    written = math.prod(tile) * (2 * batch_size * classes + 2)
    return (seen + written) * FLOAT


def _preparing(old: Sequence[int], new: Sequence[int], recipe: Recipe) -> int:
    """Return what is needed besides the image and the prepared array, shapes in prepared order."""
    voxels, more = math.prod(old), 0
    if tuple(old) != tuple(new):
        # Axes are resampled one by one: the arrays before and after the largest step.
        sizes, shape = [voxels], list(old)
        for axis in sorted(range(len(old)), key=lambda axis: new[axis] / old[axis]):
            shape[axis] = new[axis]
            sizes.append(math.prod(shape))
        pairs = [a + b for a, b in itertools.pairwise(sizes) if a != b]
        one = len(recipe.channels) == 1
        more += max(pairs) * FLOAT - (sizes[-1] * FLOAT if one else 0)
    if recipe.order == "normalise-resample":
        more += voxels * len(recipe.channels) * FLOAT
    if any(channel.use_mask for channel in recipe.channels):
        more += voxels * MASK_BYTES + math.prod(new) * len(recipe.channels) * FLOAT
    return more
