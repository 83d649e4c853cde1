"""From a folder to a `Dataset`: layout, pairs of files, channels, classes and groups."""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from autoseg.dataset.case import as_error, error_finding, inspect_case
from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Finding
from autoseg.dataset.formats import folders, nnunet
from autoseg.dataset.formats.pairing import CaseFiles, Layout
from autoseg.dataset.label_values import MAX_UNDECLARED, found_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import file_ending, read_image, read_labels
from autoseg.runtime.recipe import Labels

FORMATS: dict[str, ModuleType] = {"nnunet": nnunet, "folders": folders}
LAYOUTS = "imagesTr/, labelsTr/ and dataset.json (nnU-Net), or images/ and labels/ or masks/"
NUM_READERS = 4
"""Threads that look through masks without declared labels: decoding leaves Python's lock."""


class _Values(NamedTuple):
    """What one mask holds."""

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
    name, layout = _find(root, spec)
    pattern = group_by or spec.group_by
    if layout.pairing.problems or not layout.pairing.files:
        raise as_error(_everything_wrong(root, spec, name, layout, pattern))
    return _assemble(root, spec, name, layout, pattern)


def _assemble(
    root: Path, spec: DatasetSpec, name: str, layout: Layout, pattern: str | None
) -> Dataset:
    """Return the data set of all files that pair."""
    pairing = layout.pairing
    groups = _groups([files.case_id for files in pairing.files], pattern)
    endings = Counter(file_ending(files.images[0]) for files in pairing.files)
    return Dataset(
        name=spec.name or root.name,
        root=root,
        layout="nnunet" if name == "nnunet" else "folders",
        channel_files="suffix" if pairing.has_suffix else "single",
        channels=layout.channels or _find_channels(pairing.files[0]),
        labels=layout.labels or _find_labels(root, pairing.files, spec.ignore),
        labels_declared=layout.labels is not None,
        file_ending=endings.most_common(1)[0][0],
        cases=tuple(
            Case(
                id=files.case_id,
                images=tuple(path.relative_to(root).as_posix() for path in files.images),
                labels=files.labels.relative_to(root).as_posix(),
                group=group,
            )
            for files, group in zip(pairing.files, groups, strict=True)
        ),
    )


def _everything_wrong(
    root: Path, spec: DatasetSpec, name: str, layout: Layout, pattern: str | None
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
        for problem in layout.pairing.problems or [f"no cases in {root}"]
    ]
    if not layout.pairing.files:
        return findings
    try:
        dataset = _assemble(root, spec, name, layout, pattern)
    except DatasetError as error:
        return [*findings, error_finding(error, ())]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda case: inspect_case(dataset, case)[2], dataset.cases)
        return [*findings, *(f for case in found for f in case if f.severity == "error")]


def _find(root: Path, spec: DatasetSpec) -> tuple[str, Layout]:
    """Return the layout's name and what it found."""
    if not root.is_dir():
        raise DatasetError(
            found=f"no folder {root}", expected="a folder with a data set", fix="correct the path"
        )
    for name, layout in FORMATS.items():
        if spec.layout == name or (spec.layout is None and layout.is_found(root)):
            return name, layout.find_cases(root, spec)
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(entries[:10]) + (", ..." if len(entries) > 10 else "")
    raise DatasetError(
        found=f"{root} holds {shown or 'nothing'}",
        expected=LAYOUTS,
        fix="name the folders so, or point to the folder that contains them",
    )


def _groups(case_ids: Sequence[str], pattern: str | None) -> list[str]:
    """Return the group of each case: what the pattern's first group matches, else its id."""
    if pattern is None:
        return list(case_ids)
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


def _find_channels(files: CaseFiles) -> tuple[str, ...]:
    """Return names for the channels of an image without declared ones."""
    try:
        image = read_image(files.images)
    except AutosegError as error:
        raise DatasetError(found=error.found, expected=error.expected, fix=error.fix) from error
    count = len(image.array)
    if count == 3 and image.geometry.unit == "pixel":
        return ("red", "green", "blue")
    return ("image",) if count == 1 else tuple(f"channel_{index}" for index in range(count))


def _find_labels(root: Path, files: Sequence[CaseFiles], ignore: int | None) -> Labels:
    """Return the classes that stand in masks without declared labels."""
    with ThreadPoolExecutor(NUM_READERS) as pool:
        found = list(pool.map(lambda entry: _values(entry.labels), files))
    problems = [
        error_finding(entry.problem, (names.labels.relative_to(root).as_posix(),))
        for names, entry in zip(files, found, strict=True)
        if entry.problem is not None
    ]
    if problems:
        raise as_error(problems)
    try:
        return found_labels({value for entry in found for value in entry.values}, ignore)
    except DatasetError as error:
        richest = max(range(len(files)), key=lambda index: len(found[index].values))
        where = f"{files[richest].labels.relative_to(root)} has {len(found[richest].values)} values"
        raise DatasetError(
            found=f"{error.found}; {where}", expected=error.expected, fix=error.fix
        ) from None


def _values(path: Path) -> _Values:
    try:
        array = read_labels(path).array
    except AutosegError as error:
        return _Values((), error)
    values = np.unique(array)
    return _Values(tuple(int(value) for value in values[: 16 * MAX_UNDECLARED]), None)
