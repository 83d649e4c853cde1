"""BIDS: sub-*/anat/sub-*_T1w.nii.gz and so on, with masks of the same names under derivatives/.

Masks named `dseg` are maps of values, which `*_dseg.tsv` may name; all others are binary.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.bids_files import (
    DERIVATIVES,
    MANUAL,
    SUBJECTS,
    SUFFIXES,
    Images,
    Mask,
    find_images,
    find_masks,
)
from autoseg.dataset.formats.bids_labels import find_names
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.nesting import NUM_LOOKED_AT, Painting, painting
from autoseg.dataset.formats.peek import binary_threshold, by_class
from autoseg.dataset.formats.table import Table, read_table
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import read_extent, same_spacing

PARTICIPANTS, NOT_KNOWN = "participants.tsv", "n/a"
SITES = ("site", "site_id", "institution", "institution_id", "centre", "center")

Chosen = dict[str, dict[str, Mask]]
"""The masks of each case by class."""


def is_found(root: Path) -> bool:
    """Return whether a folder has subjects and derivatives."""
    return (root / DERIVATIVES).is_dir() and any(path.is_dir() for path in root.glob(SUBJECTS))


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return a case for each subject, session and run.

    `spec.channels` chooses among the images ("T1w"), `spec.masks` (class: name of the mask) or the
    names of `spec.labels` among the masks.

    Raises
    ------
    DatasetError
        There are no masks, or the spec names unknown ones. Problems of single files are returned.
    """
    images, problems = find_images(root)
    masks, lost = find_masks(root, images)
    if not masks:
        raise _no_masks(root)
    kinds, unclear = _choose_kinds(images, masks, spec)
    if unclear:
        return Layout(cases=(), problems=(*problems, *lost, *unclear))
    chosen, twice = _choose_masks(root, masks, kinds, spec)
    threshold = _threshold(chosen, spec)
    painted = _painting(chosen, spec, threshold)
    complete = {case: found for case, found in images.items() if set(kinds) <= set(found)}
    problems += [*lost, *twice, *_missing(complete, kinds, chosen)]
    people = _read_people(root)
    cases = [
        _found(case, tuple(found[kind] for kind in kinds), chosen[case], painted)
        for case, found in complete.items()
        if case in chosen
    ]
    return Layout(
        cases=_with_people(cases, people, spec),
        problems=(*problems, *(painted.problems if painted else ())),
        channels=kinds if spec.channels is None or len(kinds) > 1 else spec.channels,
        labels=painted.labels if painted else spec_labels(spec),
        label_names={} if painted else _names(root, chosen),
        reading=Reading(masks="binaries", threshold=threshold) if painted else Reading(),
        has_suffix=len(kinds) > 1,
        columns=people.columns if people else (),
    )


def _choose_kinds(
    images: Images, masks: Sequence[Mask], spec: DatasetSpec
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the kinds of images that are the channels, or why this cannot be told."""
    annotated = {mask.case_id: images[mask.case_id] for mask in masks}
    known = {kind for found in annotated.values() for kind in found}
    if spec.channels is not None and set(spec.channels) <= known:
        return spec.channels, []
    drawn_on = sorted({mask.kind for mask in masks if mask.kind is not None})
    folders = {
        path.parent.name
        for found in annotated.values()
        for kind, path in found.items()
        if kind in drawn_on or not drawn_on
    }
    kinds = sorted(
        {
            kind
            for found in annotated.values()
            for kind, path in found.items()
            if path.parent.name in folders
        }
    )
    if spec.channels is not None and not len(spec.channels) == len(kinds) == 1:
        raise DatasetError(
            found=f"channels {', '.join(spec.channels)}",
            expected=f"some of the images {', '.join(kinds)}",
            fix="correct the channels in the spec",
        )
    problems = []
    if len(drawn_on) > 1:
        problems.append(f"masks of {' and of '.join(drawn_on)}")
    for kind in kinds:
        lacking = [case for case, found in annotated.items() if kind not in found]
        if lacking:
            count = f"{len(lacking)} of {len(annotated)} cases"
            problems.append(f"no {kind} in {count}, the first is {lacking[0]}")
    if len(kinds) > 1 and not problems:
        problems += _grid_problems(annotated, kinds)
    example = json.dumps({"channels": drawn_on[:1] or kinds[:1]})
    remedy = f"choose images in a file given with --spec: {example}"
    expected = "the same images in each case, on one grid"
    return tuple(kinds), [Problem(text, expected=expected, remedy=remedy) for text in problems]


def _grid_problems(images: Images, kinds: Sequence[str]) -> list[str]:
    """Return which images of the first cases lie on another grid than the first of their case."""
    problems = []
    for case, found in list(images.items())[:NUM_LOOKED_AT]:
        try:
            extents = [read_extent([found[kind]]) for kind in kinds]
        except AutosegError:
            continue  # a broken file is reported when it is read
        problems += [
            f"{case}: {kinds[0]} and {kind} lie on different grids"
            for kind, extent in zip(kinds[1:], extents[1:], strict=True)
            if extent.shape != extents[0].shape
            or not same_spacing(extent.spacing, extents[0].spacing)
        ]
    return problems[:1]


def _choose_masks(
    root: Path, masks: Sequence[Mask], kinds: Sequence[str], spec: DatasetSpec
) -> tuple[Chosen, list[Problem]]:
    """Return the masks that the spec chooses, or all: those on the first annotated channel.

    Of two with the same name the manual one counts.
    """
    drawn_on = next((kind for kind in kinds if any(mask.kind == kind for mask in masks)), None)
    usable = [mask for mask in masks if mask.kind in (None, drawn_on)]
    classes = _classes({mask.name: mask.is_map for mask in usable}, spec)
    chosen: Chosen = {}
    problems = []
    for mask in sorted(usable, key=lambda mask: not mask.is_manual):
        if mask.name not in classes:
            continue
        first = chosen.setdefault(mask.case_id, {}).setdefault(classes[mask.name], mask)
        if first.path != mask.path and first.is_manual == mask.is_manual:
            files = tuple(path.relative_to(root).as_posix() for path in (first.path, mask.path))
            found = f"two masks {mask.name} of {mask.case_id}"
            problems.append(Problem(found, files, mask.case_id, remedy="keep one of the two"))
    return dict(sorted(chosen.items())), problems


def _classes(is_map: Mapping[str, bool], spec: DatasetSpec) -> dict[str, str]:
    """Return the class of each mask that is used; `is_map` has all masks.

    Raises
    ------
    DatasetError
        The spec names a mask that is not there, or maps and binary masks are mixed.
    """
    if isinstance(spec.masks, dict):
        classes = {name.removesuffix(MANUAL): label for label, name in spec.masks.items()}
    elif spec.masks is not None:
        classes = {spec.masks.removesuffix(MANUAL): spec.masks}
    else:
        declared = [name for name in spec.labels or {} if name in is_map]
        classes = {name: name for name in declared or is_map}
    names = list(is_map)
    unknown = [name for name in classes if name not in names]
    maps = [name for name in classes if is_map.get(name)]
    if not unknown and (not maps or len(classes) == 1):
        return classes
    found = f"masks {', '.join(unknown)}, which are not there"
    if not unknown:
        found = f"maps of values ({', '.join(maps)}) among the masks {', '.join(classes)}"
    example = json.dumps({"layout": FORMAT.name, "masks": {names[0]: names[0]}})
    raise DatasetError(
        found=found,
        expected=f"one map of values, or binary masks, of {', '.join(names)}",
        fix=f"name those to use in a file given with --spec: {example}",
    )


def _threshold(chosen: Chosen, spec: DatasetSpec) -> float | None:
    """Return where binary masks are cut, None where they need no cut, or are maps of values."""
    if spec.threshold is not None or _has_maps(chosen):
        return spec.threshold
    paths = ({name: mask.path for name, mask in found.items()} for found in chosen.values())
    return binary_threshold(by_class(paths))


def _has_maps(chosen: Chosen) -> bool:
    return any(mask.is_map for found in chosen.values() for mask in found.values())


def _painting(chosen: Chosen, spec: DatasetSpec, threshold: float | None) -> Painting | None:
    """Return how binary masks are painted; None for a map of values."""
    if _has_maps(chosen):
        return None
    names = tuple(dict.fromkeys(name for found in chosen.values() for name in found))
    paths = [{name: mask.path for name, mask in found.items()} for found in chosen.values()]
    whole = [masks for masks in paths if len(masks) == len(names)]  # others are told as problems
    return painting(names, whole or paths, spec, threshold)


def _names(root: Path, chosen: Chosen) -> dict[int, str]:
    """Return the names of the values of the first map."""
    first = next((mask for found in chosen.values() for mask in found.values()), None)
    return find_names(root, first.path) if first is not None else {}


def _missing(complete: Images, kinds: Sequence[str], chosen: Chosen) -> list[Problem]:
    """Return which images have no mask, which masks no image, and which cases not all masks."""
    names = dict.fromkeys(name for found in chosen.values() for name in found)
    problems = [
        Problem.of(found[kinds[0]].name, f"no mask of {case} in {DERIVATIVES}/", case)
        for case, found in complete.items()
        if case not in chosen
    ]
    problems += [
        Problem.of(
            next(iter(found.values())).path.name, f"no image {' or '.join(kinds)} of {case}", case
        )
        for case, found in chosen.items()
        if case not in complete
    ]
    return problems + [
        Problem.of(complete[case][kinds[0]].name, f"no mask {name} in {DERIVATIVES}/", case)
        for case, found in chosen.items()
        for name in names
        if name not in found and case in complete
    ]


def _no_masks(root: Path) -> DatasetError:
    return DatasetError(
        found=f"no masks under {root / DERIVATIVES}",
        expected=f"masks sub-*_<name>{MANUAL}.nii.gz or sub-*_<suffix>.nii.gz with one of the "
        f"suffixes {', '.join(SUFFIXES)}",
        fix="rename the masks so, or declare with --spec where images and masks are",
    )


def _found(
    case_id: str, images: tuple[Path, ...], masks: Mapping[str, Mask], painted: Painting | None
) -> FoundCase:
    values = painted.values if painted else {}
    order = [name for name in values or masks if name in masks]
    paint = tuple(values[name] for name in order if values)
    return FoundCase(case_id, images, tuple(masks[name].path for name in order), paint)


def _read_people(root: Path) -> Table | None:
    path = root / PARTICIPANTS
    return read_table(path) if path.is_file() else None


def _with_people(
    cases: Sequence[FoundCase], people: Table | None, spec: DatasetSpec
) -> tuple[FoundCase, ...]:
    """Return the cases with their subjects, or what the table of participants says instead."""
    groups = _entries(people, spec.group_by)
    sites = _entries(people, spec.site_by) or _entries(people, *SITES)
    subjects = [case.case_id.partition("_")[0] for case in cases]
    return tuple(
        replace(case, group=groups.get(subject, subject), site=sites.get(subject))
        for case, subject in zip(cases, subjects, strict=True)
    )


def _entries(people: Table | None, *names: str | None) -> dict[str, str]:
    """Return the entries of each subject in the first column of one of some names."""
    key = people.column("participant_id") if people else None
    column = people.column(*(name.casefold() for name in names if name)) if people else None
    if people is None or key is None or column is None:
        return {}
    return {
        f"sub-{row[key].removeprefix('sub-')}": row[column]
        for _, row in people.rows
        if key in row and row.get(column, NOT_KNOWN) != NOT_KNOWN
    }


FORMAT = Format(
    name="bids",
    expects=f"sub-*/ and {DERIVATIVES}/ with masks of the same names (BIDS)",
    is_found=is_found,
    find_cases=find_cases,
)
