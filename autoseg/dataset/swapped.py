"""Images and masks that were exchanged: the "masks" have hundreds of values, the "images" few."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.files import read_image_files, read_label_files
from autoseg.dataset.fixes import grey_threshold
from autoseg.dataset.formats.peek import sample
from autoseg.dataset.formats.registry import find_format
from autoseg.errors import AutosegError
from autoseg.runtime.images import LOSSY_FORMATS, read_mask

NUM_LOOKED = 4
"""Cases that are looked at: all of them must look exchanged."""
FEW = 16
"""Different whole numbers in a mask that is taken for an image, at most ..."""
MANY = 64
"""... and in an image that is taken for a mask, at least."""
EQUAL = 0.45
"""Numbers of instances: so many voxels, of those that differ from the commonest value, have the
value of the next one along the last axis (measured: at most 0.42 in scans and micrographs)."""


def swapped_finding(dataset: Dataset) -> Finding | None:
    """Return an error about a data set whose images look like masks and whose masks like images."""
    known = find_format(dataset.layout)
    cases = [case for case in dataset.cases if len(case.images) == len(case.labels) == 1]
    is_plain = known.read_image is read_image_files and known.read_labels is read_label_files
    if not is_plain or len(cases) < len(dataset.cases):
        return None
    counts = [_num_values(dataset, case) for case in sample(cases, NUM_LOOKED)]
    if any(count is None or count[0] > FEW or count[1] < MANY for count in counts):
        return None
    images, labels = zip(*(count for count in counts if count is not None), strict=True)
    if max(images) < 2:
        return None  # empty images tell nothing
    return Finding(
        severity="error",
        files=(cases[0].images[0], cases[0].labels[0]),
        found=f"images with up to {max(images)} different values and masks with {min(labels)} or "
        "more: they seem to be exchanged",
        expected="masks with one value a class, and images with many",
        remedy=_remedy(dataset, cases),
    )


def _num_values(dataset: Dataset, case: Case) -> tuple[int, int] | None:
    """Return how many different values image and mask hold; None if they are not exchanged."""
    (image,), (label,) = dataset.image_paths(case), dataset.label_paths(case)
    if image.name.lower().endswith(LOSSY_FORMATS):
        return None
    try:
        first, second = read_mask(image).array, read_mask(label).array
    except AutosegError:
        return None
    if first.dtype.kind == "f" and not (first == np.rint(first)).all():
        return None
    values, counts = np.unique(second, return_counts=True)
    if len(second) == 1 and _is_mask(second[0], values, counts):
        return None
    return len(np.unique(first)), len(values)


def _is_mask(array: NDArray, values: NDArray, counts: NDArray) -> bool:
    """Return whether (*S) with many values numbers instances, or is a smoothed binary mask."""
    if array.dtype.kind != "f" and grey_threshold(values, counts) is not None:
        return True
    is_inside = array[..., :-1] != values[counts.argmax()]
    is_equal = (array[..., :-1] == array[..., 1:]) & is_inside
    return int(is_equal.sum()) > EQUAL * int(is_inside.sum())


def _remedy(dataset: Dataset, cases: Iterable[Case]) -> str:
    """Return what to declare, where one pattern fits all names; else what to rename."""
    cases = list(cases)
    images = _pattern(cases, [case.images[0] for case in cases])
    masks = _pattern(cases, [case.labels[0] for case in cases])
    folders = [Path(name).parent.as_posix() for name in (cases[0].images[0], cases[0].labels[0])]
    rename = f"exchange the folders {folders[0]} and {folders[1]}"
    if folders[0] == folders[1]:
        rename = "exchange the names of images and masks"
    if images is None or masks is None:
        return rename
    spec: dict[str, object] = {"images": [masks], "masks": images}
    if dataset.labels_declared and not dataset.labels.regions:
        pairs = zip(dataset.labels.names, dataset.labels.values, strict=True)
        spec |= {"labels": dict(pairs)}
        spec |= {} if dataset.labels.ignore is None else {"ignore": dataset.labels.ignore}
    return f"declare in the spec {json.dumps(spec)}; or {rename}"


def _pattern(cases: Iterable[Case], names: Iterable[str]) -> str | None:
    """Return the pattern with {case} that all names have, if there is one."""
    found = set()
    for case, name in zip(cases, names, strict=True):
        before, separator, after = name.rpartition(case.id)
        found.add(f"{before}{{case}}{after}" if separator else None)
    return found.pop() if len(found) == 1 else None
