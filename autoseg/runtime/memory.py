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
from .cascade import SLAB_VOXELS as LABEL_SLAB
from .manifest import Configuration, Manifest
from .model import BALANCED, Effort, make_tiling
from .prepare import recipe_change
from .recipe import Recipe
from .resample import GridChange
from .resample_rows import axis_order, row_slices
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
LABEL_GRID_BYTES = 24
"""A voxel of labels, while they are brought to another grid: shares of classes (measured)."""
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
    """More than both while it is prepared, for one configuration after the other."""
    labels: int
    """Of the image, and those that several stages are told of: else they are gone in time."""
    telling: int
    """While labels are brought to the grid of the stage that is told of them."""
    tiles: int
    """One batch: images, logits and weights; without what happens inside the network."""
    sums: int
    """Weighted sums of the logits of unfinished rows."""
    slabs: int
    """Logits on their way to the image's grid, more than what a network read of a batch."""
    chances: int
    """Probabilities of the whole image."""
    components: int
    """For post-processing."""
    halves: int = 0
    """Probabilities as they are given out, where they are not `chances` themselves."""
    writing: int = 0
    """While probabilities are written, in a format that is not written piece by piece."""
    apart: int = 0
    """Of `prepared`, `tiles`, `sums` and `slabs`: what no configuration needs together."""

    @property
    def peak(self) -> int:
        """Everything in memory."""
        given = (self.halves or self.chances) + self.writing
        return self._peak(self.sums, self.chances, max(self.chances + self.halves, given))

    @property
    def least(self) -> int:
        """Sums and probabilities in files, of which a tile or a slab is in memory."""
        part = min(self.sums + self.chances, self.tiles) + self.apart
        return min(self._peak(part, 0, self.writing), self.peak)

    @property
    def reading(self) -> int:
        """Until it is prepared."""
        return self.image + self.prepared + self.preparing

    @property
    def around(self) -> int:
        """What comes on top of the prepared image, sums, probabilities and the network's tiles."""
        told = self.labels if self.telling else 0  # where the grid is the image's, they stay
        return self.labels + told + self.slabs

    def _peak(self, sums: int, chances: int, given: int) -> int:
        """Return the most at any time; `given` is what probabilities take when all is predicted."""
        kept = self.labels + chances
        peak = max(
            self.reading,
            kept + self.prepared + self.telling,
            kept + self.prepared + self.slabs + self.tiles + sums - self.apart,
            kept + self.components,
            self.labels + given,
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
    told = [item.previous for item in manifest.configurations if item.previous is not None]
    again = len(told) > len(set(told))  # labels that a second follower is told of are kept
    outputs = num_outputs(manifest)
    halves = voxels * outputs * HALF if probabilities else 0
    whole = voxels * outputs * FLOAT if several else 0
    row = voxels // shape[0] * outputs
    working = CHANCE_ARRAYS * max(CHANCES, row) * FLOAT if halves or whole else 0
    steps = manifest.postprocessing or manifest.smallest
    return Demand(
        image=voxels * len(manifest.channels) * voxel_bytes,
        prepared=sum(item.prepared for item in items),
        preparing=_one_by_one(items),
        labels=voxels * label_bytes(manifest) * (2 if again else 1),
        telling=max(item.telling for item in items),
        tiles=max(item.tiles for item in items),
        sums=max(item.sums for item in items),
        slabs=max(item.slabs for item in items) + min(working, outputs * voxels * CHANCE_ARRAYS),
        chances=whole or halves,
        components=voxels * COMPONENT_BYTES if steps else 0,
        halves=halves if whole else 0,
        apart=_apart(items),
    )


def _one_by_one(items: Sequence["Share"]) -> int:
    """Return what preparing takes more than all that is prepared: the later ones are not yet."""
    prepared = list(itertools.accumulate(item.prepared for item in items))
    pairs = zip(items, prepared, strict=True)
    return max(0, *(item.preparing - (prepared[-1] - before) for item, before in pairs))


def _apart(items: Sequence["Share"]) -> int:
    """Return how much less than the most of each is needed at once: what is predicted is gone."""
    left = list(itertools.accumulate(item.prepared for item in reversed(items)))
    most = max(sum(item.parts) + after for item, after in zip(reversed(items), left, strict=True))
    each = [max(values) for values in zip(*(item.parts for item in items), strict=True)]
    return left[-1] + sum(each) - most


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

    @property
    def parts(self) -> tuple[int, int, int]:
        """What is needed to predict it, besides what is prepared and labels."""
        return self.tiles, self.sums, self.slabs


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
    change = recipe_change(old, spacing, recipe)
    new = change.new_shape
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
    copied = channels + 1 if is_told else 0
    read = copied + channels + classes - 1 if is_told else channels
    batch = tiling.batch_size * math.prod(item.patch_size) * FLOAT
    return Share(
        prepared=stored * (channels * FLOAT + (label_bytes(manifest) if is_told else 0)),
        preparing=_preparing(change, recipe),
        telling=LABEL_GRID_BYTES * min(LABEL_SLAB, max(math.prod(old), math.prod(new)))
        if is_told
        else 0,
        tiles=batch * (copied + read)
        + _written(tile, classes, tiling.batch_size)
        + (kept if kept <= MAX_KEPT_BYTES else 0),
        sums=classes * row_depth(full, tile) * math.prod(full[1:]) * FLOAT,
        slabs=max(0, (slab * SLAB_ARRAYS + carried) * FLOAT - batch * read),
    )


def _written(tile: Sequence[int], classes: int, batch_size: int) -> int:
    """Return what the logits of a batch take, and a tile's weights and a class times them."""
    return math.prod(tile) * (batch_size * classes + 2) * FLOAT


def _row_values(change: GridChange, depth: int, read: int) -> int:
    """Return the most numbers held while `depth` new rows are made of `read` old ones.

    Each axis takes what goes in and what comes out. Rows that the next ones need, too, stay.
    """
    old, new = change.old_shape, change.new_shape
    if change.is_identity or change.coarse_axis == 0:
        row = max(math.prod(old[1:]), math.prod(new[1:]))
        return max(depth, read) * row * ROW_ARRAYS
    order = axis_order(change)
    sizes, most, kept = [read, *old[1:]], 0, 0
    for axis in order:
        before = math.prod(sizes)
        sizes[axis] = depth if axis == 0 else new[axis]
        most = max(most, kept + before + math.prod(sizes))
        if axis == 0 and order[0] != 0:  # they were put together before
            most, kept = max(most, 2 * before), before
    return most


def _preparing(change: GridChange, recipe: Recipe) -> int:
    """Return what is needed besides the image and the prepared array, shapes in prepared order."""
    old, new = change.old_shape, change.new_shape
    voxels = math.prod(old)
    masked = any(channel.use_mask for channel in recipe.channels)
    if change.is_identity and recipe.order == "resample-normalise" and not masked:
        return 0
    depth = row_slices(new)[0].stop
    rows = math.ceil(depth * old[0] / new[0]) + (2 * REACH if old[0] != new[0] else 0)
    row = max(math.prod(old[1:]), math.prod(new[1:]))
    part = _row_values(change, min(depth, new[0]), min(old[0], rows)) * FLOAT
    if not masked:
        return part
    # What finds the region is gone before anything is resampled; the region stays.
    found = voxels * MASK_BYTES - math.prod(new) * len(recipe.channels) * FLOAT
    return max(found, voxels + depth * row * LABEL_GRID_BYTES + part)
