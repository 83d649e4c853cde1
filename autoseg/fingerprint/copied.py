"""Images that are nothing but their masks.

Letters in shapes: C channels, S spatial axes (ZYX, YX, or X for signals).
"""

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.label_values import IGNORE

NUM_LOOKED = 4096
"""Voxels that tell at once that nearly every image is none."""
WHITE = 255


def copied_mask(dataset: Dataset, case: Case, image: NDArray, classes: NDArray) -> list[Finding]:
    """Return a warning if an image (C, *S) holds the numbers of its classes (*S), and no others."""
    num_classes = len(dataset.labels.names)
    flat = image.reshape(len(image), -1)
    few = flat[:, :: max(1, flat.shape[1] // NUM_LOOKED)]
    if len(np.unique(few)) > num_classes or not _is_copy(dataset, image, classes):
        return []
    return [copy_finding(case)]


def copy_finding(case: Case) -> Finding:
    """Return the warning about a case whose image is a copy of its mask."""
    return Finding(
        severity="warning",
        files=(*case.images, *case.labels),
        case=case.id,
        found="the image holds the same numbers as its mask: one is a copy of the other",
        expected="an image that shows something else than its mask",
        remedy="put the right image there, or leave the case out (exclude in the spec)",
    )


def copy_tables(dataset: Dataset) -> list[NDArray]:
    """Return the numbers, by class, that a copy of a mask may hold."""
    values = np.array(dataset.labels.values)
    tables = [values, np.arange(len(values))]
    return [*tables, np.array([0, WHITE])] if len(values) == 2 else tables


def is_copy(image: NDArray, classes: NDArray, table: NDArray) -> bool:
    """Return whether every channel (C, *S) has the number of each voxel's class."""
    return all(bool((channel == table[classes]).all()) for channel in image)


def _is_copy(dataset: Dataset, image: NDArray, classes: NDArray) -> bool:
    """Return whether every channel has the value, or the number, of each voxel's class."""
    if not (classes > 0).any() or (classes == IGNORE).any():
        return False
    return any(is_copy(image, classes, table) for table in copy_tables(dataset))
