"""From a folder to a `Dataset`: layout, pairs of files, channels, classes and groups."""

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.annotated import with_annotated
from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import BROKEN, GONE, Case, Dataset, DatasetSpec, Finding, Reading
from autoseg.dataset.files import refuse_meaningless
from autoseg.dataset.formats import patterns
from autoseg.dataset.formats.format import Format, Layout
from autoseg.dataset.formats.masks import as_declared
from autoseg.dataset.formats.registry import find_format, formats
from autoseg.dataset.groups import infer_groups, join_visits
from autoseg.dataset.label_values import renamed
from autoseg.dataset.official import declared_parts
from autoseg.dataset.problems import DatasetProblems, as_error, error_finding
from autoseg.dataset.undeclared import find_channels, find_labels
from autoseg.dataset.unknown import unknown_folder
from autoseg.dataset.unpaired import pairing_findings
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import FORMATS, file_ending, is_image
from autoseg.runtime.recipe import Labels

OTHER_ENDING = ".nii.gz"
"""Of label maps for images that are no files: DICOM series, Zarr arrays."""


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
    if group_by:
        spec = spec.revised(group_by=group_by)
    root = root.resolve()
    found_format, layout = _find(root, spec)
    layout, spec = _without(layout, spec)
    if layout.problems or not layout.cases:
        raise as_error(_everything_wrong(root, spec, found_format, layout))
    try:
        return _assemble(root, spec, found_format, layout)
    except DatasetProblems as error:
        dataset = _listed(root, spec, found_format, layout)
        raise as_error(_with_unreadable(error.findings, dataset, found_format)) from None


def list_dataset(
    root: Path, spec: DatasetSpec, group_by: str | None
) -> tuple[Dataset | None, list[Finding]]:
    """Return the data set by the names of its files, and what does not pair; no image is read.

    Channels and labels that are not declared stay unknown: `()` and the background alone. None in
    place of a data set without cases.

    Raises
    ------
    DatasetError
        The folder has no known layout, or the layout makes no sense.
    """
    root, spec = root.resolve(), spec.revised(group_by=group_by or spec.group_by)
    found_format, layout = _find(root, spec)
    layout, spec = _without(layout, spec)
    problems = pairing_findings(root, layout)
    if not layout.cases:
        return None, problems
    return _listed(root, spec, found_format, layout), problems


def _assemble(root: Path, spec: DatasetSpec, found_format: Format, layout: Layout) -> Dataset:
    """Return the data set of all files that pair."""
    layout = as_declared(layout, root, spec)
    refuse_meaningless(layout.reading, layout.labels, spec)
    dataset = _listed(root, spec, found_format, layout)
    if not dataset.channels:
        dataset = dataset.revised(channels=find_channels(dataset, found_format))
    if layout.labels is None:
        labels = renamed(find_labels(dataset, spec.ignore), layout.label_names)
        dataset = dataset.revised(labels=labels)
    return with_annotated(dataset, spec)


def _listed(root: Path, spec: DatasetSpec, found_format: Format, layout: Layout) -> Dataset:
    """Return the data set of all files that pair, as far as names and declarations tell."""
    if spec.split is not None and not layout.problems:
        layout = _with_split(layout, spec)
    groups, groups_inferred = _groups(layout, spec.group_by)
    sites = _sites(layout, spec.site_by)
    endings = Counter(_ending(found.images[0]) for found in layout.cases)
    return Dataset(
        name=spec.name or root.name,
        root=root,
        layout=found_format.name,
        channel_files="suffix" if layout.has_suffix or _has_several(layout) else "single",
        channels=layout.channels or (),
        labels=layout.labels or Labels(names=("background",), values=(0,)),
        labels_declared=layout.labels is not None,
        file_ending=layout.file_ending or endings.most_common(1)[0][0],
        reading=_reading(layout.reading, spec),
        cases=tuple(
            Case(
                id=found.case_id,
                images=tuple(_name(path, root) for path in found.images),
                labels=tuple(_name(path, root) for path in found.labels),
                paint=found.paint,
                part=found.part,
                group=group,
                site=site,
                split=found.split,
                fold=found.fold,
            )
            for found, group, site in zip(layout.cases, groups, sites, strict=True)
        ),
        excluded=spec.exclude or {},
        groups_inferred=groups_inferred,
        groups_declared=spec.group_by is not None,
        sites_inferred=layout.has_inferred_sites,
    )


def _has_several(layout: Layout) -> bool:
    """Return whether cases have an image file for each channel."""
    return any(
        len(found.images) > 1 and all(is_image(path) for path in found.images)
        for found in layout.cases
    )


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


def _without(layout: Layout, spec: DatasetSpec) -> tuple[Layout, DatasetSpec]:
    """Return a layout without the excluded cases, and without the problems of their files.

    The spec says which cases are gone that were left out because they were broken.
    """
    problems = tuple(p for p in layout.problems if not spec.excludes(p.case_id or ""))
    known = {found.case_id for found in layout.cases} | {p.case_id for p in layout.problems}
    names = [name for name in spec.exclude or {} if not set(name) & set("*?")]
    exclude = dict(spec.exclude or {})
    gone = [n for n in names if n not in known and exclude[n].startswith(BROKEN)]
    unknown = [name for name in names if name not in known and name not in gone]
    if unknown and not problems:
        raise DatasetError(
            found=f"exclude: {', '.join(unknown)}, which is no case",
            expected="ids of cases of this data set",
            fix="correct exclude in the spec",
        )
    kept = tuple(found for found in layout.cases if not spec.excludes(found.case_id))
    if gone:
        spec = spec.revised(exclude={**exclude, **{n: f"{GONE}{exclude[n]}" for n in gone}})
    return replace(layout, cases=kept, problems=problems), spec


def _with_split(layout: Layout, spec: DatasetSpec) -> Layout:
    """Return a layout whose cases stand where the spec's official split has them."""
    parts = declared_parts([found.case_id for found in layout.cases], spec)
    cases = tuple(replace(found, split=parts[found.case_id], fold=None) for found in layout.cases)
    return replace(layout, cases=cases)


def _everything_wrong(
    root: Path, spec: DatasetSpec, found_format: Format, layout: Layout
) -> list[Finding]:
    """Return the problems of pairing, and those inside the files that do pair.

    The files are read only now that the data set is refused anyway: so that all is told at once.
    """
    findings = pairing_findings(root, layout)
    if not layout.cases:
        return findings
    try:
        dataset = _assemble(root, spec, found_format, layout)
    except DatasetError as error:
        told = error.findings if isinstance(error, DatasetProblems) else [error_finding(error, ())]
        dataset = _listed(root, spec, found_format, layout)
        return _with_unreadable([*findings, *told], dataset, found_format)
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda case: inspect_case(dataset, case)[2], dataset.cases)
        return [*findings, *(f for case in found for f in case if f.severity == "error")]


def _with_unreadable(
    findings: Sequence[Finding], dataset: Dataset, found_format: Format
) -> list[Finding]:
    """Return findings, and those of images that cannot be read and are not told yet."""
    told = {name for finding in findings for name in finding.files}

    def problem(case: Case) -> Finding | None:
        try:
            found_format.read_image(dataset, case)
        except AutosegError as error:
            return error_finding(error, case.images, case.id)
        return None

    cases = [case for case in dataset.cases if not told & set(case.images)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(problem, cases))
    return [*findings, *(finding for finding in found if finding is not None)]


def _find(root: Path, spec: DatasetSpec) -> tuple[Format, Layout]:
    """Return the format, and what it found."""
    if not root.is_dir():
        raise DatasetError(
            found=f"{root} is a file" if root.exists() else f"no folder {root}",
            expected="a folder with a data set",
            fix="give the folder that holds it" if root.exists() else "correct the path",
        )
    name = spec.layout
    if name is None and spec.table is not None:
        name = "datalist" if spec.table.lower().endswith(".json") else "table"
    if name is None and patterns.are_declared(spec):
        name = patterns.FORMAT.name
    if name is not None:
        chosen = find_format(name)
        return chosen, chosen.find_cases(root, spec)
    for entry in formats():
        if entry.is_found(root):
            return entry, entry.find_cases(root, spec)
    raise unknown_folder(root)


def _groups(layout: Layout, pattern: str | None) -> tuple[list[str], bool]:
    """Return the group of each case, and whether only names tell that cases belong together.

    The pattern's; else the layout's, where two are joined whose names tell visits of one patient;
    else what the ids tell; else the id.
    """
    told = [found.group or found.case_id for found in layout.cases]
    if pattern is not None and pattern not in layout.columns:
        return match_groups([found.case_id for found in layout.cases], pattern, "group_by"), False
    if pattern is not None:
        return told, False
    is_told = any(found.group is not None for found in layout.cases)
    if is_told and layout.has_listed_groups:
        return told, False
    inferred = join_visits(told) if is_told else infer_groups(told)
    return [inferred.get(group, group) for group in told], bool(inferred)


def _sites(layout: Layout, pattern: str | None) -> list[str | None]:
    """Return the site of each case: the pattern's, else the layout's."""
    if pattern is None or pattern in layout.columns:
        return [found.site for found in layout.cases]
    return [*match_groups([found.case_id for found in layout.cases], pattern, "site_by")]


def match_groups(case_ids: Sequence[str], pattern: str, field: str) -> list[str]:
    """Return what the first group of a regular expression, a field of a spec, finds in each id.

    Raises
    ------
    DatasetError
        The expression is none, or does not match some ids.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise DatasetError(
            found=f"{field} {pattern!r}: {error}",
            expected=r"a regular expression, e.g. '(patient\d+)'",
            fix=f"correct {field} in the spec",
        ) from None
    matches = [expression.search(case_id) for case_id in case_ids]
    missing = [i for i, match in zip(case_ids, matches, strict=True) if match is None]
    if missing:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise DatasetError(
            found=f"{len(missing)} of {len(case_ids)} cases do not match {pattern!r}: {shown}",
            expected="an expression that finds a group in the id of every case",
            fix=f"correct {field} in the spec",
        )
    return [(m[1] if expression.groups else m[0]) or m[0] for m in matches if m is not None]
