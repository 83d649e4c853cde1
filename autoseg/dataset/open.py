"""From a folder to a `Dataset`: layout, pairs of files, channels, classes and groups."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from autoseg.dataset.case import as_error, error_finding, inspect_case, read_values
from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Finding, Reading
from autoseg.dataset.formats.format import Format, FoundCase, Layout
from autoseg.dataset.formats.registry import find_format, formats
from autoseg.dataset.label_values import MAX_UNDECLARED, found_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import FORMATS, file_ending
from autoseg.runtime.recipe import Labels

NUM_READERS = 4
"""Threads that look through masks without declared labels: decoding leaves Python's lock."""
OTHER_ENDING = ".nii.gz"
"""Of label maps for images that are no files: DICOM series, Zarr arrays."""


class _Values(NamedTuple):
    """What one case's labels hold."""

    values: tuple[int, ...]
    problem: AutosegError | None


def open_dataset(root: Path, spec: DatasetSpec | None, group_by: str | None) -> Dataset:
    """Return the data set in a folder; `spec` and `group_by` go before what is found there.

    Files are paired by name and not read, except the first image where channels are not declared,
    and all masks where labels are not.

    Raises
    ------
    DatasetError
        The folder has no known layout, or files do not pair: all problems at once.
    """
    spec = spec or DatasetSpec()
    root = root.resolve()
    found_format, layout = _find(root, spec)
    layout = _without(layout, spec.exclude or {})
    pattern = group_by or spec.group_by
    if layout.problems or not layout.cases:
        raise as_error(_everything_wrong(root, spec, found_format, layout, pattern))
    return _assemble(root, spec, found_format, layout, pattern)


def _assemble(
    root: Path, spec: DatasetSpec, found_format: Format, layout: Layout, pattern: str | None
) -> Dataset:
    """Return the data set of all files that pair."""
    groups = _groups(layout.cases, pattern)
    endings = Counter(_ending(found.images[0]) for found in layout.cases)
    dataset = Dataset(
        name=spec.name or root.name,
        root=root,
        layout=found_format.name,
        channel_files="suffix" if layout.has_suffix else "single",
        channels=layout.channels or (),
        labels=layout.labels or Labels(names=("background",), values=(0,)),
        labels_declared=layout.labels is not None,
        file_ending=endings.most_common(1)[0][0],
        reading=_reading(layout.reading, spec),
        cases=tuple(
            Case(
                id=found.case_id,
                images=tuple(_name(path, root) for path in found.images),
                labels=tuple(_name(path, root) for path in found.labels),
                paint=found.paint,
                part=found.part,
                group=group,
                site=found.site,
                split=found.split,
            )
            for found, group in zip(layout.cases, groups, strict=True)
        ),
        excluded=spec.exclude or {},
    )
    if not dataset.channels:
        dataset = dataset.revised(channels=_find_channels(dataset, found_format))
    if layout.labels is None:
        dataset = dataset.revised(labels=_find_labels(dataset, spec.ignore))
    return dataset


def _name(path: Path, root: Path) -> str:
    """Return a path as the data set stores it: relative where it lies inside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _ending(path: Path) -> str:
    return file_ending(path) if path.name.lower().endswith(FORMATS) else OTHER_ENDING


def _reading(reading: Reading, spec: DatasetSpec) -> Reading:
    """Return how a format reads masks, with what the spec says about them."""
    changes: dict = {"fixes": spec.fixes}
    if spec.threshold is not None:
        changes["threshold"] = spec.threshold
    if spec.label_map is not None:
        changes["label_map"] = tuple(_pair(*item) for item in spec.label_map.items())
    return reading.revised(**changes)


def _pair(found: str, meant: int) -> tuple[int, int]:
    try:
        return int(found), meant
    except ValueError:
        raise DatasetError(
            found=f"label_map: {found!r}",
            expected='whole numbers as keys: {"255": 1}',
            fix="correct label_map in the spec",
        ) from None


def _without(layout: Layout, exclude: Mapping[str, str]) -> Layout:
    """Return a layout without the excluded cases."""
    unknown = [case_id for case_id in exclude if case_id not in {c.case_id for c in layout.cases}]
    if unknown and not layout.problems:
        raise DatasetError(
            found=f"exclude: {', '.join(unknown)}, which is no case",
            expected="ids of cases of this data set",
            fix="correct exclude in the spec",
        )
    kept = tuple(found for found in layout.cases if found.case_id not in exclude)
    return replace(layout, cases=kept)


def _everything_wrong(
    root: Path, spec: DatasetSpec, found_format: Format, layout: Layout, pattern: str | None
) -> list[Finding]:
    """Return the problems of pairing, and those inside the files that do pair.

    The files are read only now that the data set is refused anyway: so that all is told at once.
    """
    findings = [
        Finding(
            severity="error",
            found=problem,
            expected="for each case one image (or one a channel) and one label map of its name",
            remedy="add, rename or remove the files listed, then run it again",
        )
        for problem in layout.problems or [f"no cases in {root}"]
    ]
    if not layout.cases:
        return findings
    try:
        dataset = _assemble(root, spec, found_format, layout, pattern)
    except DatasetError as error:
        return [*findings, error_finding(error, ())]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda case: inspect_case(dataset, case)[2], dataset.cases)
        return [*findings, *(f for case in found for f in case if f.severity == "error")]


def _find(root: Path, spec: DatasetSpec) -> tuple[Format, Layout]:
    """Return the format, and what it found."""
    if not root.is_dir():
        raise DatasetError(
            found=f"no folder {root}", expected="a folder with a data set", fix="correct the path"
        )
    if spec.layout is not None:
        chosen = find_format(spec.layout)
        return chosen, chosen.find_cases(root, spec)
    for entry in formats():
        if entry.is_found(root):
            return entry, entry.find_cases(root, spec)
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(entries[:10]) + (", ..." if len(entries) > 10 else "")
    known = "\n".join(f"{entry.name}: {entry.expects}" for entry in formats())
    raise DatasetError(
        found=f"{root} holds {shown or 'nothing'}",
        expected=f"one of these layouts:\n{known}",
        fix="point to the folder that holds the data set, name its folders so, "
        "or declare with --spec where images and masks are",
    )


def _groups(cases: Sequence[FoundCase], pattern: str | None) -> list[str]:
    """Return the group of each case: the pattern's, else the layout's, else its id."""
    if pattern is None:
        return [found.group or found.case_id for found in cases]
    return match_groups([found.case_id for found in cases], pattern)


def match_groups(case_ids: Sequence[str], pattern: str) -> list[str]:
    """Return what the first group of a regular expression finds in each id.

    Raises
    ------
    DatasetError
        The expression is none, or does not match some ids.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DatasetError(
            found=f"--group-by {pattern!r}: {error}",
            expected=r"a regular expression, e.g. '(patient\d+)'",
            fix="correct the expression",
        ) from None
    matches = [expression.search(case_id) for case_id in case_ids]
    missing = [i for i, match in zip(case_ids, matches, strict=True) if match is None]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise DatasetError(
            found=f"{len(missing)} of {len(case_ids)} cases do not match {pattern!r}: {shown}",
            expected="an expression that finds a group in the id of every case",
            fix="correct --group-by",
        )
    return [(m[1] if expression.groups else m[0]) or m[0] for m in matches if m is not None]


def _find_channels(dataset: Dataset, found_format: Format) -> tuple[str, ...]:
    """Return names for the channels of images without declared ones, by the first image."""
    try:
        image = found_format.read_image(dataset, dataset.cases[0])
    except AutosegError as error:
        raise DatasetError(found=error.found, expected=error.expected, fix=error.fix) from error
    count = len(image.array)
    if count == 3 and image.geometry.unit == "pixel":
        return ("red", "green", "blue")
    return ("image",) if count == 1 else tuple(f"channel_{index}" for index in range(count))


def _find_labels(dataset: Dataset, ignore: int | None) -> Labels:
    """Return the classes that stand in masks without declared labels."""
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = list(pool.map(lambda case: _values(dataset, case), dataset.cases))
    problems = [
        error_finding(entry.problem, case.labels)
        for case, entry in zip(dataset.cases, found, strict=True)
        if entry.problem is not None
    ]
    if problems:
        raise as_error(problems)
    try:
        return found_labels({value for entry in found for value in entry.values}, ignore)
    except DatasetError as error:
        richest = max(range(len(found)), key=lambda index: len(found[index].values))
        name = ", ".join(dataset.cases[richest].labels)
        where = f"{name} has {len(found[richest].values)} values"
        raise DatasetError(
            found=f"{error.found}; {where}", expected=error.expected, fix=error.fix
        ) from None


def _values(dataset: Dataset, case: Case) -> _Values:
    try:
        mask = read_values(dataset, case, None)
    except AutosegError as error:
        return _Values((), error)
    values = np.array([0]) if mask is None else np.unique(mask.array)
    return _Values(tuple(int(value) for value in values[: 16 * MAX_UNDECLARED]), None)
