"""Training batches: which case, which place, which changes; each batch a pure function of its step.

Cases and places follow nnU-Net: cases uniformly with replacement; the last samples of each batch
around a random voxel of a random class that is present, the others anywhere.

Letters in shapes: B batch, C channels, P patch axes; D image axes, the last of them the patch's.
"""

import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.augment.augment import Augmentation, Sample, draw_augmentation
from autoseg.augment.mixing import Donor, Mix
from autoseg.augment.padding import read_image, read_labels
from autoseg.augment.spatial import Box
from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.plan.plan import ConfigurationPlan
from autoseg.runtime.cascade import one_hot
from autoseg.runtime.recipe import Labels
from autoseg.seeds import stream
from autoseg.train.ahead import ahead
from autoseg.train.kept_cases import KeptCases

ANNOTATED = 0
"""Where the store keeps the locations of any annotated voxel, in place of the background's."""


@final
@dataclass(frozen=True)
class Batch:
    """Patches as the network sees them, and their class indices."""

    images: torch.Tensor
    """(B, C, *P) float32."""
    labels: torch.Tensor
    """(B, *P) int16; -1 where nothing is known."""
    annotated: torch.Tensor | None = None
    """(B, K) bool, which classes each patch annotates; None: all."""

    def on(self, execution: Execution) -> "Batch":
        """Return the batch on a device."""
        annotated = None if self.annotated is None else execution.send(self.annotated)
        return Batch(execution.send(self.images), execution.send(self.labels), annotated)


@final
@dataclass(frozen=True)
class Place:
    """Where one sample is cut."""

    case_id: str
    start: tuple[int, ...]
    """(D,) first voxel before any change; negative where the patch overhangs the image."""

    def whole_box(self, box: Box) -> Box:
        """Return a box of the network's axes along all axes: one slice of each leading one."""
        leading = self.start[: len(self.start) - len(box)]
        return (*((first, first + 1) for first in leading), *box)


@final
@dataclass(frozen=True)
class Drawn:
    """One sample before it is read."""

    place: Place
    box: Box
    """What is read there, along the network's axes."""
    augmentation: Augmentation
    donors: tuple[Donor | None, ...]
    """One for each of the augmentation's `mixes`."""
    case_ids: tuple[str, ...]
    """Its case, then those of its donors."""


@final
@dataclass(frozen=True)
class ReadSample:
    """One sample as it is read."""

    sample: Sample
    case_ids: tuple[str, ...]
    """Its case, then those of its donors."""


@final
class Batches:
    """The batches of one fold.

    Parameters
    ----------
    cases
        The configuration's prepared cases. With what its previous stage found in them, images have
        further channels, one for each class but the background.
    case_ids
        Cases to train on.
    configuration, labels
        Of the plan.
    seed
        The plan's.
    fold
        Its name.
    known
        Of cases that annotate only some classes, the background first: which.

    Raises
    ------
    ValueError
        Only one of `cases` and `configuration` has a previous stage.
    """

    def __init__(
        self,
        cases: KeptCases,
        case_ids: Sequence[str],
        configuration: ConfigurationPlan,
        *,
        labels: Labels,
        seed: int,
        fold: str,
        known: Mapping[str, Sequence[bool]] = MappingProxyType({}),
    ) -> None:
        if cases.has_previous != (configuration.previous_stage is not None):
            raise ValueError(f"{configuration.name} and its cases differ in their previous stage")
        self._known = {
            case_id: np.array(known[case_id]) for case_id in case_ids if case_id in known
        }
        self._cases = cases
        self._case_ids = tuple(case_ids)
        self._configuration = configuration
        self._labels = labels
        self._place = (seed, "batch", configuration.name, fold)
        self._at_work: dict[int, str] = {}
        """By thread."""

    @property
    def configuration(self) -> ConfigurationPlan:
        """What the batches are for."""
        return self._configuration

    @property
    def masked_channels(self) -> tuple[int, ...]:
        """Channels in which zero means outside the image's nonzero region."""
        channels = self._configuration.recipe.channels
        return tuple(index for index, channel in enumerate(channels) if channel.use_mask)

    @property
    def num_previous(self) -> int:
        """Channels that say what a previous stage found; 0 where there is none."""
        return len(self._labels.names) - 1 if self._cases.has_previous else 0

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: the same for every call, order and number of threads."""
        size, patch = self._configuration.batch_size, self._configuration.patch_size
        channels, further = len(self._configuration.recipe.channels), self.num_previous
        images = np.empty((size, channels + further, *patch), np.float32)
        labels = np.empty((size, *patch), np.int16)
        case_ids = []
        for index in range(size):
            read = self.sample(step, index)
            case_ids.append(read.case_ids)
            with self.named(step, index, read.case_ids[0]):
                image, known = read.sample.augmentation.apply(
                    read.sample.image,
                    read.sample.labels,
                    patch,
                    masked_channels=self.masked_channels,
                    donors=read.sample.donors,
                )
                images[index, :channels] = image
                if further:
                    images[index, channels:] = one_hot(known[1], further + 1)
                labels[index] = known[0] if further else known
        return Batch(torch.from_numpy(images), torch.from_numpy(labels), self.annotated(case_ids))

    def relieve(self) -> bool:
        """Return whether memory of the device was freed that training can do without: none is."""
        return False

    def at_work(self) -> tuple[str, ...]:
        """Return the cases that are being read or changed now, each once."""
        return tuple(dict.fromkeys(self._at_work.copy().values()))

    @contextmanager
    def named(self, step: int, index: int, case_id: str) -> Iterator[None]:
        """Note that a case is at work, and say of an error which sample of it it is about."""
        self._at_work[threading.get_ident()] = case_id
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise TrainingError(
                found=f"case {case_id!r} cannot be read while training: {error}",
                expected="the prepared case as it was written",
                fix="delete the prepared cases and run `autoseg preprocess`, then train again",
            ) from error
        except Exception as error:
            error.add_note(f"in sample {index} of step {step}, case {case_id!r}")
            raise
        finally:
            del self._at_work[threading.get_ident()]

    def annotated(self, case_ids: Sequence[Sequence[str]]) -> torch.Tensor | None:
        """Return (B, K) bool, the classes that all cases of a sample annotate; None: all."""
        if not self._known:
            return None
        everything = np.ones(len(self._labels.names), np.bool_)
        known = [
            np.logical_and.reduce([self._known.get(case_id, everything) for case_id in row])
            for row in case_ids
        ]
        return torch.from_numpy(np.stack(known))

    def stream_from(
        self, step: int, num_steps: int, num_workers: int
    ) -> Generator[Batch, None, None]:
        """Yield the batches of steps `step` to `num_steps` - 1 (see `ahead`)."""
        return ahead(self.batch, step, num_steps, num_workers, self.at_work)

    def sample(self, step: int, index: int) -> ReadSample:
        """Return one sample, drawn and read but not changed: the same for every call."""
        return self.read(step, index, self.drawn(step, index))

    def drawn(self, step: int, index: int) -> Drawn:
        """Return one sample before it is read, but for what it takes of other cases."""
        rng = stream(*self._place, step, index)
        case_id = self._case_ids[int(rng.integers(len(self._case_ids)))]
        with self.named(step, index, case_id):
            return self._draw(rng, case_id, index)

    def read(self, step: int, index: int, drawn: Drawn) -> ReadSample:
        """Return a drawn sample, read but not changed."""
        with self.named(step, index, drawn.place.case_id):
            image, labels = self._read(drawn.place, drawn.box)
        sample = Sample(drawn.augmentation, image, labels, donors=drawn.donors)
        return ReadSample(sample, drawn.case_ids)

    def _draw(self, rng: np.random.Generator, case_id: str, index: int) -> Drawn:
        """Return where and how a sample of a case is made."""
        plan = self._configuration
        recipe = plan.recipe
        place = self._draw_place(rng, case_id, index)
        leading = len(place.start) - len(plan.patch_size)
        augmentation = draw_augmentation(
            rng,
            plan.training.augmentation,
            (len(recipe.channels), *plan.patch_size),
            mirror_axes=recipe.mirror_axes,
            num_classes=len(self._labels.names),
        )
        mixed = [self._donor(rng, mix, case_id, index) for mix in augmentation.mixes]
        return Drawn(
            place=place,
            box=augmentation.source_box(place.start[leading:], plan.patch_size),
            augmentation=augmentation,
            donors=tuple(None if other is None else other[1] for other in mixed),
            case_ids=(case_id, *(other[0].case_id for other in mixed if other is not None)),
        )

    def _read(self, place: Place, box: Box) -> tuple[NDArray[np.float32], NDArray]:
        """Return image (C, *S) and labels (*S) of a box of the network's axes at a place.

        With what a previous stage found, labels (2, *S).
        """
        image, *masks = self._cases.arrays(place.case_id)
        whole_box, size = place.whole_box(box), [high - low for low, high in box]
        padding = self._configuration.recipe.padding
        read = [read_labels(mask, whole_box).reshape(size) for mask in masks]
        return (
            read_image(image, whole_box, padding=padding).reshape(-1, *size),
            np.stack(read) if self._cases.has_previous else read[0],
        )

    def _donor(
        self, rng: np.random.Generator, mix: Mix, case_id: str, index: int
    ) -> tuple[Place, Donor] | None:
        """Return a patch of another case with one of the classes that a mix wants, if any has."""
        others = [other for other in self._case_ids if other != case_id]
        if mix.wanted is None:
            if not others:
                return None
            place = self._draw_place(rng, others[int(rng.integers(len(others)))], index)
        else:
            found = self._draw_object(rng, mix.wanted, others)
            if found is None:
                return None
            place = found
        patch = self._configuration.patch_size
        starts = place.start[len(place.start) - len(patch) :]
        box = tuple((start, start + n) for start, n in zip(starts, patch, strict=True))
        return place, Donor(*self._read(place, box))

    def _draw_object(
        self, rng: np.random.Generator, wanted: Sequence[int], case_ids: Sequence[str]
    ) -> Place | None:
        """Draw a place around a voxel of the first wanted class that a case has, None if none."""
        patch = self._configuration.patch_size
        for wanted_class in wanted:
            for index in rng.permutation(len(case_ids)):
                case_id = case_ids[int(index)]
                info = self._cases.store.info(case_id)
                first, last = info.location_offsets[wanted_class : wanted_class + 2]
                if first < last:
                    shape = info.shape[1:]
                    size = (1,) * (len(shape) - len(patch)) + patch
                    voxel = self._voxel(rng, case_id, wanted_class)
                    return Place(case_id, draw_start(rng, shape, size, voxel))
        return None

    def _draw_place(self, rng: np.random.Generator, case_id: str, index: int) -> Place:
        """Draw where a sample of a case lies: what is predicted of it, then its margins around."""
        plan = self._configuration
        shape = self._cases.store.info(case_id).shape[1:]
        slices = len(shape) - len(plan.patch_size)
        margins = (0,) * slices + plan.network.output_margin
        inner = self._draw_inner(rng, case_id, index, (1,) * slices + plan.output_size)
        starts = zip(inner, margins, strict=True)
        return Place(case_id, tuple(start - margin for start, margin in starts))

    def _draw_inner(
        self, rng: np.random.Generator, case_id: str, index: int, size: Sequence[int]
    ) -> tuple[int, ...]:
        """Draw where the part of a sample begins that is predicted."""
        plan = self._configuration
        info = self._cases.store.info(case_id)
        shape = info.shape[1:]
        if is_forced(index, plan.batch_size, plan.training.foreground_fraction):
            classes = np.arange(1, len(self._labels.names))
        elif self._labels.ignore is not None:
            classes = np.array([ANNOTATED])
        else:
            classes = np.array([], int)
        present = classes[np.diff(info.location_offsets)[classes] > 0]
        if not present.size:
            return draw_start(rng, shape, size, None)
        drawn = int(present[rng.integers(present.size)])
        return draw_start(rng, shape, size, self._voxel(rng, case_id, drawn))

    def _voxel(
        self, rng: np.random.Generator, case_id: str, class_index: int
    ) -> tuple[np.integer, ...]:
        """Draw a voxel of a class that a case has."""
        locations = self._cases.store.flat_locations(case_id, class_index)
        shape = self._cases.store.info(case_id).shape[1:]
        return np.unravel_index(int(locations[rng.integers(locations.size)]), shape)


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
