"""One pass over one case: everything the fingerprint needs of it.

Letters in shapes: C channels, S spatial axes (ZYX or YX), N sampled voxels.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.runtime.crop import nonzero_box
from autoseg.runtime.images import Image
from autoseg.seeds import stream

MAX_SAMPLES = 5_000_000
"""Foreground voxels of the whole data set whose intensities are kept, a channel: 20 MB."""
MAX_CASE_SAMPLES = 100_000
"""The same for one case: more do not move its percentiles."""
SEED = 1234
"""The fingerprint is a property of the data: no seed of a plan changes it."""


@dataclass(frozen=True)
class Measured:
    """What one case adds to the fingerprint."""

    stats: CaseStats | None
    """None: the case has an error, see `findings`."""
    samples: NDArray[np.float32]
    """Intensities (C, N) of the foreground, all of them where they are few."""
    unit: str
    findings: tuple[Finding, ...]


def measure_case(dataset: Dataset, case: Case) -> Measured:
    """Return what one case adds to the fingerprint; problems are returned, not raised."""
    image, classes, findings = inspect_case(dataset, case)
    if image is None or classes is None:
        nothing = np.zeros((len(dataset.channels), 0), np.float32)
        return Measured(None, nothing, "", tuple(findings))
    box = nonzero_box(image.array)
    num_classes = len(dataset.labels.names)
    limit = min(MAX_CASE_SAMPLES, MAX_SAMPLES // len(dataset.cases))
    samples = sample_foreground(image.array, classes, limit, stream(SEED, "fingerprint", case.id))
    stats = CaseStats(
        case_id=case.id,
        shape=image.shape,
        shape_after_crop=tuple(stop - start for start, stop in box),
        spacing=image.geometry.spacing,
        dtype=image.array.dtype.name,
        orientation=image.geometry.orientation,
        content_hash=content_hash(image, classes),
        class_voxels=tuple(int((classes == index).sum()) for index in range(num_classes)),
        class_components=count_components(classes, num_classes),
        foreground_means=tuple(
            float(channel.mean(dtype=float)) for channel in samples if len(channel)
        ),
    )
    return Measured(stats, samples, image.geometry.unit, tuple(findings))


def content_hash(image: Image, classes: NDArray) -> str:
    """Return the SHA-256 over decoded image and labels, whatever the files' names and headers."""
    digest = hashlib.sha256()
    for array in (image.array, classes):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def count_components(classes: NDArray, num_classes: int) -> tuple[int, ...]:
    """Return the number of components (connected by faces) of each class, 0 for the background."""
    import cc3d

    foreground = classes > 0
    counts = np.zeros(num_classes, np.int64)
    box = nonzero_box(foreground[None])
    if foreground.any():
        inside = np.maximum(classes[tuple(slice(*bounds) for bounds in box)], 0)
        faces = 6 if inside.ndim == 3 else 4
        components, count = cc3d.connected_components(inside, connectivity=faces, return_N=True)
        class_of = np.zeros(int(count) + 1, inside.dtype)
        class_of[components] = inside  # all voxels of a component have one class
        counts += np.bincount(class_of[1:], minlength=num_classes)
    counts[0] = 0
    return tuple(int(count) for count in counts)


def sample_foreground(
    array: NDArray, classes: NDArray, limit: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return (C, N) intensities of foreground voxels: all, or `limit` drawn ones."""
    places = np.flatnonzero(classes > 0)
    if len(places) > limit:
        places = places[rng.integers(0, len(places), limit)]
    flat = array.reshape(len(array), -1)
    return flat[:, places].astype(np.float32)
