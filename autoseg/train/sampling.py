"""Training batches: which case, which place, which changes; each batch a pure function of its step.

Cases and places follow nnU-Net: cases uniformly with replacement; the last samples of each batch
around a random voxel of a random class that is present, the others anywhere.

Letters in shapes: B batch, C channels, P patch axes; D image axes, the last of them the patch's.
"""

import math
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augment.augment import draw_augmentation
from autoseg.augment.padding import Stored, read_image, read_labels
from autoseg.errors import TrainingError
from autoseg.plan.plan import ConfigurationPlan
from autoseg.preprocess.store import CaseStore
from autoseg.runtime.recipe import Labels
from autoseg.seeds import stream

ANNOTATED = 0
"""Where the store keeps the locations of any annotated voxel, in place of the background's."""

BATCHES_AHEAD = 1
"""Finished batches that wait for the trainer, besides those being made."""


@final
@dataclass(frozen=True)
class Batch:
    """Patches as the network sees them, and their class indices."""

    images: torch.Tensor
    """(B, C, *P) float32."""
    labels: torch.Tensor
    """(B, *P) int16; -1 where nothing is known."""


@final
@dataclass(frozen=True)
class Place:
    """Where one sample is cut."""

    case_id: str
    start: tuple[int, ...]
    """(D,) first voxel before any change; negative where the patch overhangs the image."""


@final
class Batches:
    """The batches of one fold.

    Parameters
    ----------
    store
        The configuration's prepared cases.
    case_ids
        Cases to train on.
    configuration, labels
        Of the plan.
    seed
        The plan's.
    fold
        Its name.
    cache_bytes
        Memory for cases that are kept decompressed.
    """

    def __init__(
        self,
        store: CaseStore,
        case_ids: Sequence[str],
        configuration: ConfigurationPlan,
        *,
        labels: Labels,
        seed: int,
        fold: str,
        cache_bytes: int,
    ) -> None:
        self._cases = _Cases(store, cache_bytes)
        self._case_ids = tuple(case_ids)
        self._configuration = configuration
        self._labels = labels
        self._place = (seed, "batch", configuration.name, fold)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: the same for every call, order and number of threads."""
        size, patch = self._configuration.batch_size, self._configuration.patch_size
        channels = len(self._configuration.recipe.channels)
        images = np.empty((size, channels, *patch), np.float32)
        labels = np.empty((size, *patch), np.int16)
        for index in range(size):
            images[index], labels[index] = self._sample(step, index)
        return Batch(torch.from_numpy(images), torch.from_numpy(labels))

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[Batch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1, made ahead by threads.

        No threads (0) make each batch when it is asked for. Closing the generator ends the threads.
        """
        if num_workers == 0:
            for now in range(step, num_steps):
                yield self.batch(now)
            return
        pool = ThreadPoolExecutor(num_workers, thread_name_prefix="batches")
        waiting: deque[Future[Batch]] = deque()
        try:
            for following in range(step, num_steps):
                waiting.append(pool.submit(self.batch, following))
                if len(waiting) > num_workers + BATCHES_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _sample(self, step: int, index: int) -> tuple[NDArray[np.float32], NDArray]:
        """Return the image (C, *P) and the labels (*P) of one sample."""
        rng = stream(*self._place, step, index)
        case_id = self._case_ids[int(rng.integers(len(self._case_ids)))]
        try:
            return self._cut(rng, case_id, index)
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                found=f"case {case_id!r} cannot be read while training: {error}",
                expected="the prepared case as it was written",
                fix="delete the prepared cases and run `autoseg preprocess`, then train again",
            ) from error
        except Exception as error:
            error.add_note(f"in sample {index} of step {step}, case {case_id!r}")
            raise

    def _cut(
        self, rng: np.random.Generator, case_id: str, index: int
    ) -> tuple[NDArray[np.float32], NDArray]:
        """Return one sample of a case: draw where and how, read that box, apply."""
        plan = self._configuration
        recipe = plan.recipe
        place = self._draw_place(rng, case_id, index)
        leading = len(place.start) - len(plan.patch_size)
        augmentation = draw_augmentation(
            rng,
            plan.training.augmentation,
            (len(recipe.channels), *plan.patch_size),
            mirror_axes=recipe.mirror_axes,
        )
        box = augmentation.source_box(place.start[leading:], plan.patch_size)
        slices = tuple((first, first + 1) for first in place.start[:leading])
        image, labels = self._cases.arrays(case_id)
        size = [high - low for low, high in box]
        return augmentation.apply(
            read_image(image, slices + box, padding=recipe.padding).reshape(-1, *size),
            read_labels(labels, slices + box).reshape(size),
            plan.patch_size,
            masked_channels=[i for i, item in enumerate(recipe.channels) if item.use_mask],
        )

    def _draw_place(self, rng: np.random.Generator, case_id: str, index: int) -> Place:
        """Draw where a sample of a case lies."""
        plan = self._configuration
        info = self._cases.store.info(case_id)
        shape = info.shape[1:]
        size = (1,) * (len(shape) - len(plan.patch_size)) + plan.patch_size
        if is_forced(index, plan.batch_size, plan.training.foreground_fraction):
            classes = np.arange(1, len(self._labels.names))
        elif self._labels.ignore is not None:
            classes = np.array([ANNOTATED])
        else:
            classes = np.array([], int)
        present = classes[np.diff(info.location_offsets)[classes] > 0]
        if not present.size:
            return Place(case_id, draw_start(rng, shape, size, None))
        drawn = int(present[rng.integers(present.size)])
        locations = self._cases.store.flat_locations(case_id, drawn)
        voxel = np.unravel_index(int(locations[rng.integers(locations.size)]), shape)
        return Place(case_id, draw_start(rng, shape, size, voxel))


def is_forced(index: int, batch_size: int, foreground_fraction: float) -> bool:
    """Return whether a sample lies around foreground: the last of a batch do, as in nnU-Net."""
    return index >= round(batch_size * (1 - foreground_fraction))


def draw_start(
    rng: np.random.Generator,
    shape: Sequence[int],
    size: Sequence[int],
    centre: Sequence[np.integer | int] | None,
) -> tuple[int, ...]:
    """Return where a patch of `size` begins in an image of `shape`: around `centre`, or anywhere.

    As when predicting, a patch overhangs only an image that is smaller, and then by as little as
    possible. nnU-Net lets patches around foreground overhang the upper ends, where nothing is to be
    learnt, and centres smaller images; here they lie anywhere in the patch.
    """
    low = [min(0, n - p) for n, p in zip(shape, size, strict=True)]
    high = [max(0, n - p) for n, p in zip(shape, size, strict=True)]
    if centre is None:
        return tuple(int(rng.integers(a, b + 1)) for a, b in zip(low, high, strict=True))
    around = [int(c) - p // 2 for c, p in zip(centre, size, strict=True)]
    return tuple(min(max(s, a), b) for s, a, b in zip(around, low, high, strict=True))


@final
class _Cases:
    """A store whose first cases are kept in memory, as far as they fit."""

    def __init__(self, store: CaseStore, cache_bytes: int) -> None:
        self.store = store
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[NDArray, NDArray]] = {}

    def arrays(self, case_id: str) -> tuple[Stored, Stored]:
        """Return image (C, *S) and labels (*S), from memory or opened anew for this thread."""
        kept = self._kept.get(case_id)
        if kept is not None:
            return kept
        image, labels = self.store.image(case_id), self.store.labels(case_id)
        num_bytes = _num_bytes(image) + _num_bytes(labels)
        with self._lock:
            if case_id not in self._kept and num_bytes <= self._free_bytes:
                self._kept[case_id] = (np.asarray(image[:]), np.asarray(labels[:]))
                self._free_bytes -= num_bytes
            return self._kept.get(case_id, (image, labels))


def _num_bytes(stored: Stored) -> int:
    return math.prod(stored.shape) * stored.dtype.itemsize
