"""Channels and classes that nobody declared, as the files show them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.big import count_numbers, count_values, open_image
from autoseg.dataset.case import inspect_image, read_values
from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.fixes import grey_threshold, label_finding, with_fix
from autoseg.dataset.formats.format import Format
from autoseg.dataset.formats.masks import suggested_labels
from autoseg.dataset.label_values import MAX_UNDECLARED, found_labels
from autoseg.dataset.problems import as_error, error_finding
from autoseg.dataset.swapped import swapped_finding
from autoseg.errors import AutosegError, DatasetError, counted
from autoseg.runtime.geometry import Geometry
from autoseg.runtime.recipe import Labels

NUM_READERS = 4
"""Threads that look through masks without declared labels: decoding leaves Python's lock."""
WHITE = 255
"""Foreground in masks of 8 bits that are made to be looked at."""


class _Values(NamedTuple):
    """What one case's labels hold."""

    counts: Mapping[int, int]
    """Voxels of each value, rising."""
    problem: AutosegError | None


def find_channels(dataset: Dataset, found_format: Format) -> tuple[str, ...]:
    """Return names for the channels of images without declared ones, by the first one readable.

    Raises
    ------
    DatasetProblems
        No image can be read.
    """
    problems = []
    for case in dataset.training_cases or dataset.cases:
        try:
            image = open_image(dataset, case)
            if image is not None:
                return _channel_names(image.num_channels, image.shape, image.geometry)
            image = found_format.read_image(dataset, case)
            return _channel_names(len(image.array), image.shape, image.geometry)
        except AutosegError as error:
            problems.append(error_finding(error, case.images, case.id))
    raise as_error(problems)


def find_labels(dataset: Dataset, ignore: int | None) -> Labels:
    """Return the classes that stand in masks without declared labels; no test case tells any.

    Raises
    ------
    DatasetError
        Masks are broken, smoothed, in colours, of one value, or of too many.
    """
    cases = dataset.training_cases or dataset.cases
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = list(pool.map(lambda case: _values(dataset, case), cases))
    _refuse_swapped(dataset, found)
    problems = [
        label_finding(dataset, case, entry.problem)
        for case, entry in zip(cases, found, strict=True)
        if entry.problem is not None
    ]
    if problems:
        suggestion = suggested_labels(dataset)
        if suggestion is not None:
            raise suggestion
        raise as_error([*problems, *_image_problems(dataset)])
    richest = max(range(len(found)), key=lambda index: len(found[index].counts))
    _refuse_grey(cases[richest], [entry.counts for entry in found])
    _refuse_mixed(dataset.cases, [{*entry.counts} - {ignore} for entry in found])
    try:
        return found_labels({value for entry in found for value in entry.counts}, ignore)
    except DatasetError as error:
        name = ", ".join(cases[richest].labels)
        number = len(found[richest].counts)
        where = f"{name} has {counted(number, 'value')}"
        raise DatasetError(
            found=f"{error.found}; {where}", expected=error.expected, fix=error.fix
        ) from None


def _channel_names(count: int, shape: tuple[int, ...], geometry: Geometry) -> tuple[str, ...]:
    if count == 3 and geometry.unit == "pixel" and len(shape) > 1:
        return ("red", "green", "blue")
    return ("image",) if count == 1 else tuple(f"channel_{index}" for index in range(count))


def _image_problems(dataset: Dataset) -> list[Finding]:
    """Return what is wrong with the images of a data set that is refused anyway."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda case: inspect_image(dataset, case)[1], dataset.cases)
        return [f for findings in found for f in findings if f.severity == "error"]


def _refuse_swapped(dataset: Dataset, found: Sequence[_Values]) -> None:
    """Raise an error if what should be masks holds images, and the other way round."""
    if any(entry.problem is None and len(entry.counts) <= MAX_UNDECLARED for entry in found):
        return
    swapped = swapped_finding(dataset)
    if swapped is not None:
        raise as_error([swapped])


def _refuse_grey(case: Case, counts: Sequence[Mapping[int, int]]) -> None:
    """Raise an error if masks without declared labels are smoothed or compressed binary ones."""
    total: Counter[int] = Counter()
    for one in counts:
        total.update(one)
    values = sorted(total)
    cut = grey_threshold(np.array(values), np.array([total[value] for value in values]))
    if cut is None:
        return
    fix = {"threshold": cut}
    remedy = "declare the labels if they are classes; else export the masks without smoothing"
    raise as_error(
        [
            Finding(
                severity="error",
                files=case.labels,
                found=f"masks with {len(values)} grey values from 0 to {values[-1]}, most of them "
                "near either end: binary masks that were smoothed, resized or stored as JPEG",
                expected="two values, or one for each class",
                remedy=with_fix(remedy, fix),
                fix=fix,
            )
        ]
    )


def _refuse_mixed(cases: Sequence[Case], found: Sequence[set[int]]) -> None:
    """Raise an error if binary masks have 0 and 1 in some cases, 0 and 255 in others."""
    if set().union(*found) != {0, 1, WHITE} or any({1, WHITE} <= values for values in found):
        return
    white = tuple(
        name for case, v in zip(cases, found, strict=True) if WHITE in v for name in case.labels
    )
    fix = {"label_map": {str(WHITE): 1}}
    classes = json.dumps({"labels": {"background": 0, "class_1": 1, "class_255": WHITE}})
    raise as_error(
        [
            Finding(
                severity="error",
                files=white,
                found=f"{len(white)} masks with {WHITE} as foreground, the others with 1, none "
                "with both: most likely one class, stored in two ways",
                expected="the same value for a class in all masks",
                remedy=with_fix(f"if these are two classes, declare {classes} in the spec", fix),
                fix=fix,
            )
        ]
    )


def _values(dataset: Dataset, case: Case) -> _Values:
    try:
        counted = count_values(dataset, case)
        if counted is not None:
            return _first_values(*counted)
        mask = read_values(dataset, case, None)
    except AutosegError as error:
        return _Values({}, error)
    if mask is None:
        return _Values({0: 1}, None)
    return _first_values(*count_numbers(mask.array))


def _first_values(values: NDArray, counts: NDArray) -> _Values:
    most = 16 * MAX_UNDECLARED
    return _Values(dict(zip(values[:most].tolist(), counts[:most].tolist(), strict=True)), None)
