"""One pass over one case: everything the fingerprint needs of it.

Letters in shapes: C channels, S spatial axes (ZYX, YX, or X for signals), N sampled voxels.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import big
from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.fingerprint.copied import copied_mask
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.fingerprint.thumbnail import thumbnail
from autoseg.fingerprint.tubes import tube_facts
from autoseg.runtime.crop import box_slices, nonzero_box
from autoseg.runtime.images import Image, Unit
from autoseg.seeds import stream

MAX_SAMPLES = 5_000_000
"""Foreground voxels of the whole data set whose intensities are kept, a channel: 20 MB."""
MAX_CASE_SAMPLES = 100_000
"""The same for one case: more do not move its percentiles."""
SEED = 1234
"""The fingerprint is a property of the data: no seed of a plan changes it."""
PADDED = 0.5
"""One value on this part of the image's faces is no anatomy: it fills what was not recorded."""
DIGITS = 4
"""Decimals of fractions: finer ones say nothing and fill the file."""


@dataclass(frozen=True)
class Measured:
    """What one case adds to the fingerprint."""

    stats: CaseStats | None
    """None: the case has an error, see `findings`."""
    samples: NDArray[np.float32]
    """Intensities (C, N) of the foreground, all of them where they are few."""
    unit: Unit
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class ClassFacts:
    """What the labels of one case hold, by class."""

    voxels: tuple[int, ...]
    components: tuple[int, ...]
    centres: tuple[tuple[float, ...], ...]
    widths: tuple[float, ...] = ()
    lengths: tuple[float, ...] = ()


def measure_case(dataset: Dataset, case: Case) -> Measured:
    """Return what one case adds to the fingerprint; problems are returned, not raised."""
    image, classes, findings = inspect_case(dataset, case)
    if image is None or classes is None:
        nothing = np.zeros((len(dataset.channels), 0), np.float32)
        return Measured(None, nothing, "pixel", tuple(findings))
    box = nonzero_box(image.array)
    rng = stream(SEED, "fingerprint", case.id)
    samples = sample_foreground(image.array, classes, sample_limit(dataset), rng)
    facts = class_facts(classes, len(dataset.labels.names))
    highest = [channel.max() for channel in image.array]
    stats = CaseStats(
        case_id=case.id,
        shape=image.shape,
        shape_after_crop=tuple(stop - start for start, stop in box),
        spacing=image.geometry.spacing,
        dtype=image.array.dtype.name,
        orientation=image.geometry.orientation,
        content_hash=content_hash(image, classes),
        class_voxels=facts.voxels,
        class_components=facts.components,
        foreground_means=tuple(
            float(channel.mean(dtype=float)) for channel in samples if len(channel)
        ),
        class_centres=facts.centres,
        class_widths=facts.widths,
        class_lengths=facts.lengths,
        border_foreground=_border_foreground(classes),
        padding=_padding(image.array),
        brightest=tuple(
            float(np.round(np.count_nonzero(channel == top) / channel.size, DIGITS))
            for channel, top in zip(image.array, highest, strict=True)
        ),
        thumbnail=thumbnail(image.array),
    )
    findings += _constant_channels(dataset, case, image.array)
    findings += copied_mask(dataset, case, image.array, classes)
    return Measured(stats, samples, image.geometry.unit, tuple(findings))


def sample_limit(dataset: Dataset) -> int:
    """Return how many foreground voxels of one case are kept.

    It falls by half where all cases would have too many, and not a little with each case: what was
    measured stays valid when a few cases are added or left out.
    """
    limit = MAX_CASE_SAMPLES
    while limit > 1 and limit * len(dataset.training_cases) > MAX_SAMPLES:
        limit //= 2
    return limit


class SlabHash:
    """The SHA-256 of a big case from that of each channel and of the labels, slab by slab."""

    def __init__(self, num_channels: int) -> None:
        self._digests = [hashlib.sha256() for _ in range(num_channels + 1)]

    def add(self, array: NDArray, classes: NDArray) -> None:
        """Take slabs (C, *S) and (*S) along the first spatial axis into account, in order."""
        for digest, part in zip(self._digests, (*array, classes), strict=True):
            digest.update(np.ascontiguousarray(part).data)

    def result(self, *about: object) -> str:
        """Return the hash of all slabs and of what else the case is told apart by."""
        whole = hashlib.sha256(repr(about).encode())
        for digest in self._digests:
            whole.update(digest.digest())
        return whole.hexdigest()


def content_hash(image: Image, classes: NDArray) -> str:
    """Return the SHA-256 over decoded image and labels, whatever the files' names and headers."""
    if image.array.nbytes >= big.BIG_BYTES:
        slab_hash = SlabHash(len(image.array))
        slab_hash.add(image.array, classes)
        return slab_hash.result(image.shape, image.array.dtype.name, classes.dtype.name)
    digest = hashlib.sha256()
    for array in (image.array, classes):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def class_facts(classes: NDArray, num_classes: int) -> ClassFacts:
    """Return voxels, components (connected by faces) and centre of each class in (*S).

    The background has no components and no centre here.
    """
    import cc3d

    counts, components = np.zeros(num_classes, np.int64), np.zeros(num_classes, np.int64)
    centres: list[tuple[float, ...]] = [()] * num_classes
    counts[0] = np.count_nonzero(classes == 0)
    foreground = classes > 0
    if not foreground.any():
        return ClassFacts(_whole(counts), _whole(components), tuple(centres))
    box = nonzero_box(foreground[None])
    inside = np.maximum(classes[box_slices(box)], 0)
    start = np.array([low for low, _ in box])
    inside = inside if inside.ndim > 1 else inside[None]  # cc3d knows no single axis
    inside = inside.view(inside.dtype.str.replace("i", "u"))  # nor statistics of signed classes,
    room = num_classes if inside.size <= num_classes else 0  # of fewer voxels than classes
    measured = cc3d.statistics(np.pad(inside, [*[(0, 0)] * (inside.ndim - 1), (0, room)]))
    found = len(measured["voxel_counts"])
    counts[1:found] = measured["voxel_counts"][1:]
    for index in range(1, found):
        if counts[index]:
            place = measured["centroids"][index][-classes.ndim :] + start + 0.5
            centres[index] = tuple(round(float(n), DIGITS) for n in place / classes.shape)
    faces = 6 if inside.ndim == 3 else 4
    numbers, count = cc3d.connected_components(inside, connectivity=faces, return_N=True)
    class_of = np.zeros(int(count) + 1, inside.dtype)
    class_of[numbers] = inside  # all voxels of a component have one class
    components += np.bincount(class_of[1:], minlength=num_classes)
    components[0] = 0
    is_signal = classes.ndim == 1
    tubes = ((), ()) if is_signal else tube_facts(inside, num_classes)
    return ClassFacts(_whole(counts), _whole(components), tuple(centres), *tubes)


def sample_foreground(
    array: NDArray, classes: NDArray, limit: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (C, N) intensities of foreground voxels: all, or `limit` drawn ones."""
    places = np.flatnonzero(classes > 0)
    if len(places) > limit:
        places = places[rng.integers(0, len(places), limit)]
    flat = array.reshape(len(array), -1)
    return flat[:, places].astype(np.float32)


def _whole(counts: NDArray[np.integer]) -> tuple[int, ...]:
    return tuple(int(count) for count in counts)


def faces_of(array: NDArray) -> Iterator[NDArray]:
    """Yield the outermost slices of (*S) at both ends of each axis longer than one."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1:
            for end in (0, -1):
                yield array[(slice(None),) * axis + (end,)]


def _border_foreground(classes: NDArray) -> float | None:
    """Return the part of the voxels on the faces of (*S) that are foreground."""
    faces = list(faces_of(classes))
    total = sum(np.size(face) for face in faces)
    if not total:
        return None
    return round(sum(int(np.count_nonzero(face > 0)) for face in faces) / total, DIGITS)


def _padding(array: NDArray) -> tuple[float, ...]:
    """Return the value other than zero that fills the faces of each channel; empty if none does."""
    values = []
    if array.ndim == 2:
        return ()  # the ends of a signal are two samples
    for channel in array:
        corner = channel[(0,) * channel.ndim]
        faces = list(faces_of(channel))
        total = sum(np.size(face) for face in faces)
        if not corner or sum(np.count_nonzero(face == corner) for face in faces) < PADDED * total:
            return ()
        values.append(float(corner))
    return tuple(values)


def _constant_channels(dataset: Dataset, case: Case, array: NDArray) -> list[Finding]:
    """Return a warning for each channel that has the same value everywhere."""
    return [
        constant_finding(case, index, name, float(channel.flat[0]))
        for index, (name, channel) in enumerate(zip(dataset.channels, array, strict=True))
        if channel.flat[0] == channel.flat[-1] and (channel == channel.flat[0]).all()
    ]


def constant_finding(case: Case, index: int, name: str, value: float) -> Finding:
    """Return the warning about a channel that has the same value everywhere."""
    return Finding(
        severity="warning",
        files=case.images if len(case.images) == 1 else (case.images[index],),
        case=case.id,
        found=f"the channel {name} is {value:g} in every voxel",
        expected="an image that shows something",
        remedy="export the file again, or leave the case out",
    )
