"""One big case prepared and stored block by block, in bounded memory, whatever its size.

Letters in shapes: C channels, K classes, S' spatial axes of the prepared array, B of a block.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.preprocess.store import (
    ARRAY_SUFFIXES,
    MAX_HALF,
    MAX_HALF_ERROR,
    CaseStore,
    Draft,
    StoredArray,
)
from autoseg.runtime.crop import Box, box_slices
from autoseg.runtime.normalise import moments
from autoseg.runtime.voxels import Voxels, blocks, slabs

BLOCK_VALUES = 1 << 24
"""Numbers of a block, in all channels: 64 MB in single precision."""
IMAGE, LABELS, _ = ARRAY_SUFFIXES


@dataclass(frozen=True)
class LabelDraft:
    """Class indices on disk, and how many voxels each class has."""

    draft: Draft
    class_voxels: NDArray[np.int64]
    """(K,)"""


@contextmanager
def image_draft(
    store: CaseStore, case_id: str, image: Voxels, patch_size: Sequence[int]
) -> Iterator[Draft]:
    """Give a prepared image (C, *S') on disk, in half precision where `smallest_float` allows it.

    That shows in the end: where it does not, the image is computed once more.
    """
    shape = (image.num_channels, *image.shape)
    with store.draft(case_id, IMAGE, shape, np.dtype(np.float16), patch_size) as draft:
        if _fill_half(draft, image):
            yield draft
            return
    with store.draft(case_id, IMAGE, shape, np.dtype(np.float32), patch_size) as draft:
        for box in _blocks(draft.array, image):
            draft.array[(slice(None), *box_slices(box))] = image.read(box)
        yield draft


@contextmanager
def label_draft(
    store: CaseStore, case_id: str, labels: Voxels, patch_size: Sequence[int], *, num_classes: int
) -> Iterator[LabelDraft]:
    """Give class indices (1, *S') as an array (*S') on disk."""
    voxels = np.zeros(num_classes, np.int64)
    with store.draft(case_id, LABELS, labels.shape, labels.dtype, patch_size) as draft:
        for box in _blocks(draft.array, labels):
            classes = labels.read(box)[0]
            draft.array[box_slices(box)] = classes
            voxels += np.bincount(classes[classes >= 0], minlength=num_classes)
        yield LabelDraft(draft, voxels)


def draw_big_locations(
    labels: LabelDraft, rng: np.random.Generator, *, limit: int, ignored: bool
) -> list[NDArray[np.integer]]:
    """Return for each class flat indices of up to `limit` voxels, those of `draw_locations`."""
    annotated = int(labels.class_voxels.sum()) if ignored else 0
    counts = [annotated, *(int(count) for count in labels.class_voxels[1:])]
    ranks = [_ranks(count, limit, rng) for count in counts]
    array = labels.draft.array
    dtype = np.int32 if math.prod(array.shape) <= np.iinfo(np.int32).max else np.int64
    found: list[list[NDArray]] = [[] for _ in ranks]
    seen, start = [0] * len(ranks), 0
    for box in slabs(array.shape, array.chunks, BLOCK_VALUES):
        flat = array[box_slices(box)].reshape(-1)
        for index, wanted in enumerate(ranks):
            if not len(wanted):
                continue
            places = np.flatnonzero(flat >= 0 if index == 0 else flat == index)
            low, high = np.searchsorted(wanted, (seen[index], seen[index] + len(places)))
            found[index].append(places[wanted[low:high] - seen[index]] + start)
            seen[index] += len(places)
        start += len(flat)
    return [
        np.concatenate([np.zeros(0, np.int64), *parts]).astype(dtype, copy=False) for parts in found
    ]


def _ranks(count: int, limit: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """Return, rising, which of a class's voxels are drawn: all where they are few."""
    if count <= limit:
        return np.arange(count)
    return np.sort(rng.choice(count, limit, replace=False, shuffle=False))


def _blocks(array: StoredArray, voxels: Voxels) -> Iterator[Box]:
    """Yield boxes of whole chunks of the stored array."""
    chunks = array.chunks[-len(voxels.shape) :]
    return blocks(voxels.shape, chunks, BLOCK_VALUES // voxels.num_channels)


def _fill_half(draft: Draft, image: Voxels) -> bool:
    """Fill an array in half precision; return whether that is precise enough."""
    losses = [_Loss() for _ in range(image.num_channels)]
    for box in _blocks(draft.array, image):
        array = image.read(box)
        half = np.empty(array.shape, np.float16)
        for loss, channel, rounded in zip(losses, array, half, strict=True):
            if max(-channel.min(), channel.max()) >= MAX_HALF:
                return False
            loss.add(channel, rounded)
        draft.array[(slice(None), *box_slices(box))] = half
    return all(loss.is_small for loss in losses)


@dataclass
class _Loss:
    """What half precision loses of a channel, and how much its values vary."""

    count: int = 0
    error: float = 0.0
    """Sum of the squared rounding errors."""
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    def add(self, values: NDArray[np.float32], rounded: NDArray[np.float16]) -> None:
        """Write (*B) values to `rounded`, and take what is lost into account."""
        for line, target in zip(values, rounded, strict=True):  # parts that stay in the cache
            target[...] = line
            error = target.astype(np.float32)
            error -= line
            self.error += float(np.square(error, out=error).sum())
        mean, std = moments(values)
        total, step = self.count + values.size, mean - self.mean
        self.squares += std * std * values.size + step * step * self.count * values.size / total
        self.mean += step * values.size / total
        self.count = total

    @property
    def is_small(self) -> bool:
        """Whether half precision is enough, see `smallest_float`."""
        rms, std = math.sqrt(self.error / self.count), math.sqrt(self.squares / self.count)
        return rms == 0 or rms < MAX_HALF_ERROR * std
