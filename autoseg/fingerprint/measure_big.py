"""One case that need not fit into memory, measured slab by slab: the facts of `measure_case`.

Two passes: over the labels, which tell how many voxels of foreground there are to draw from, then
over image and labels together.
Letters in shapes: C channels, S spatial axes (ZYX or YX), B those of a slab, N sampled voxels.
"""

import math

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.big import BigCase, big_slabs, open_big
from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.label_values import IGNORE
from autoseg.fingerprint.components import SlabComponents
from autoseg.fingerprint.copied import copy_finding, copy_tables, is_copy
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.fingerprint.measure import (
    DIGITS,
    PADDED,
    SEED,
    Measured,
    SlabHash,
    constant_finding,
    measure_case,
    sample_limit,
)
from autoseg.fingerprint.thumbnail import sampling_steps, thumbnail
from autoseg.runtime.crop import Box
from autoseg.runtime.prepare_blocks import NonzeroSpans
from autoseg.runtime.voxels import Voxels
from autoseg.seeds import stream


def measure(dataset: Dataset, case: Case) -> Measured:
    """Return what one case adds to the fingerprint, read at once or, if it is big, in slabs."""
    big = open_big(dataset, case)
    return measure_case(dataset, case) if big is None else measure_big(dataset, case, big)


def measure_big(dataset: Dataset, case: Case, big: BigCase) -> Measured:
    """Return what one big case adds to the fingerprint."""
    image, classes, findings = big.image, big.classes, list(big.findings)
    if image is None or classes is None:
        nothing = np.zeros((len(dataset.channels), 0), np.float32)
        return Measured(None, nothing, "pixel", tuple(findings))
    labels = _Labels(classes.shape, len(dataset.labels.names))
    pixels = _Pixels(image, dataset)
    for box in big_slabs(image):
        labels.add(box, classes.read(box)[0])
    rng = stream(SEED, "fingerprint", case.id)
    ranks = _ranks(labels.num_foreground, sample_limit(dataset), rng)
    samples = _Samples(ranks, image.num_channels)
    for box in big_slabs(image):
        array, inside = image.read(box), classes.read(box)[0]
        pixels.add(box, array, inside)
        samples.add(array, inside)
    kept = pixels.nonzero.box
    stats = CaseStats(
        case_id=case.id,
        shape=image.shape,
        shape_after_crop=tuple(stop - start for start, stop in kept),
        spacing=image.geometry.spacing,
        dtype=image.dtype.name,
        orientation=image.geometry.orientation,
        content_hash=pixels.hash.result(image.shape, image.dtype.name, classes.dtype.name),
        class_voxels=labels.voxels,
        class_components=tuple(int(count) for count in labels.components.counts()),
        foreground_means=tuple(
            float(channel.mean(dtype=float)) for channel in samples.values if len(channel)
        ),
        class_centres=labels.centres,
        border_foreground=labels.border,
        padding=pixels.padding,
        brightest=pixels.brightest,
        thumbnail=thumbnail(pixels.small),
    )
    findings += [
        constant_finding(case, index, name, float(low))
        for index, (name, low, high) in enumerate(
            zip(dataset.channels, pixels.lowest, pixels.highest, strict=True)
        )
        if low == high
    ]
    if pixels.copies and labels.num_foreground and not labels.num_ignored:
        findings.append(copy_finding(case))
    return Measured(stats, samples.values, image.geometry.unit, tuple(findings))


class _Labels:
    """What slabs of class indices add up to."""

    def __init__(self, shape: tuple[int, ...], num_classes: int) -> None:
        self.components = SlabComponents(num_classes)
        self.num_ignored = 0
        self._shape = shape
        self._voxels = np.zeros(num_classes, np.int64)
        self._sums = np.zeros((num_classes, len(shape)))
        """Of the coordinates of each class's voxels."""
        self._faces = [0, 0]
        """Foreground voxels on the image's faces, and all voxels there."""

    def add(self, box: Box, classes: NDArray) -> None:
        """Take (*B) into account."""
        import cc3d

        self.num_ignored += int(np.count_nonzero(classes == IGNORE))
        self._voxels[0] += np.count_nonzero(classes == 0)
        for face in _outer_faces(classes, box, self._shape):
            self._faces[0] += int(np.count_nonzero(face > 0))
            self._faces[1] += face.size
        self.components.add(classes)
        if not (classes > 0).any():
            return
        inside = np.maximum(classes, 0)
        measured = cc3d.statistics(inside.view(inside.dtype.str.replace("i", "u")))
        counts = measured["voxel_counts"]
        places = measured["centroids"][:, -classes.ndim :] + np.array([start for start, _ in box])
        for index in np.flatnonzero(counts[1:]) + 1:
            self._voxels[index] += counts[index]
            self._sums[index] += places[index] * float(counts[index])

    @property
    def voxels(self) -> tuple[int, ...]:
        """Voxels of each class."""
        return tuple(int(count) for count in self._voxels)

    @property
    def num_foreground(self) -> int:
        """Voxels of all classes but the background."""
        return sum(self.voxels[1:])

    @property
    def centres(self) -> tuple[tuple[float, ...], ...]:
        """Centre of each class as fractions of the shape."""
        found: list[tuple[float, ...]] = [()] * len(self._voxels)
        for index in np.flatnonzero(self._voxels[1:]) + 1:
            place = (self._sums[index] / self._voxels[index] + 0.5) / self._shape
            found[index] = tuple(round(float(n), DIGITS) for n in place)
        return tuple(found)

    @property
    def border(self) -> float | None:
        """Part of the voxels on the image's faces that are foreground."""
        return round(self._faces[0] / self._faces[1], DIGITS) if self._faces[1] else None


class _Pixels:
    """What slabs of an image add up to."""

    def __init__(self, image: Voxels, dataset: Dataset) -> None:
        count = image.num_channels
        self.nonzero = NonzeroSpans(image.shape)
        self.hash = SlabHash(count)
        self.copies = copy_tables(dataset)
        """Those with which the image is a copy of its mask as far as it was seen."""
        self._steps = sampling_steps(image.shape)
        small = [math.ceil(n / step) for n, step in zip(image.shape, self._steps, strict=True)]
        self.small = np.zeros((count, *small), image.dtype)
        """The voxels that the thumbnail is made of."""
        self.lowest: list[float] = [math.inf] * count
        self.highest: list[float] = [-math.inf] * count
        self._num_highest = [0] * count
        self._shape = image.shape
        self._corners: list[float] = []
        self._padded, self._faces = [0] * count, 0

    def add(self, box: Box, array: NDArray, classes: NDArray) -> None:
        """Take (C, *B) and (*B) into account."""
        self.nonzero.add(box, array)
        self.hash.add(array, classes)
        self.copies = [table for table in self.copies if is_copy(array, classes, table)]
        self._sample(box, array)
        if not self._corners:
            self._corners = [channel[(0,) * channel.ndim].item() for channel in array]
        for index, channel in enumerate(array):
            low, high = channel.min().item(), channel.max().item()
            self.lowest[index] = min(self.lowest[index], low)
            if high > self.highest[index]:
                self.highest[index], self._num_highest[index] = high, 0
            if high == self.highest[index]:
                self._num_highest[index] += int(np.count_nonzero(channel == high))
            faces = [*_outer_faces(channel, box, self._shape)]
            corner = self._corners[index]
            self._padded[index] += sum(int(np.count_nonzero(face == corner)) for face in faces)
            self._faces += sum(face.size for face in faces) if index == 0 else 0

    def _sample(self, box: Box, array: NDArray) -> None:
        """Keep the voxels that the thumbnail is made of."""
        (start, stop), step = box[0], self._steps[0]
        first = math.ceil(start / step)
        others = tuple(slice(None, None, step) for step in self._steps[1:])
        rows = array[(slice(None), slice(first * step - start, stop - start, step), *others)]
        self.small[:, first : first + rows.shape[1]] = rows

    @property
    def brightest(self) -> tuple[float, ...]:
        """Part of the voxels that have the highest value of their channel."""
        total = math.prod(self._shape)
        return tuple(float(np.round(count / total, DIGITS)) for count in self._num_highest)

    @property
    def padding(self) -> tuple[float, ...]:
        """What fills the image's faces, by channel; empty where that is zero, or nothing does."""
        pairs = zip(self._corners, self._padded, strict=True)
        if any(not corner or count < PADDED * self._faces for corner, count in pairs):
            return ()
        return tuple(float(corner) for corner in self._corners)


class _Samples:
    """Intensities of foreground voxels that are known by their rank among all of them."""

    def __init__(self, ranks: NDArray[np.integer], num_channels: int) -> None:
        self._order = np.argsort(ranks)
        self._ranks = ranks[self._order]
        self._seen = 0
        self.values = np.zeros((num_channels, len(ranks)), np.float32)
        """(C, N), in the order in which they were drawn."""

    def add(self, array: NDArray, classes: NDArray) -> None:
        """Take (C, *B) and (*B) into account."""
        places = np.flatnonzero(classes > 0)
        chosen = slice(*np.searchsorted(self._ranks, (self._seen, self._seen + len(places))))
        flat = array.reshape(len(array), -1)
        self.values[:, self._order[chosen]] = flat[:, places[self._ranks[chosen] - self._seen]]
        self._seen += len(places)


def _ranks(count: int, limit: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """Return which of so many voxels are drawn, as `sample_foreground` draws them."""
    return rng.integers(0, count, limit) if count > limit else np.arange(count)


def _outer_faces(array: NDArray, box: Box, shape: tuple[int, ...]) -> list[NDArray]:
    """Return the parts of an image's outermost slices that lie in a slab (*B) along its first axis.

    Both ends of each axis that is longer than one voxel.
    """
    found = []
    for axis, ((start, stop), size) in enumerate(zip(box, shape, strict=True)):
        ends = [end for end, is_there in ((0, start == 0), (-1, stop == size)) if is_there]
        if size > 1:
            found += [np.asarray(array[(slice(None),) * axis + (end,)]) for end in ends]
    return found
