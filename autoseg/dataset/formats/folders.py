"""Two folders, such as images/ and masks/ or labels/, paired by the names of their files."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format, Layout, Problem
from autoseg.dataset.formats.listed import SPLITS, SplitName
from autoseg.dataset.formats.naming import IMAGE_FOLDERS, LABEL_FOLDERS, plain_name, subfolders
from autoseg.dataset.formats.pairing import (
    Pairing,
    as_layout,
    check_channels,
    pair_files,
    pair_related,
)
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import is_image

LOG = logging.getLogger("autoseg")
MANUAL = frozenset(("1stmanual", "manual", "manual1"))
FIELD_OF_VIEW = frozenset(("mask", "masks"))
"""Beside manual annotations, these show where there is an image at all."""


def is_found(root: Path) -> bool:
    """Return whether a folder, or one for training in it, has this layout."""
    return _is_pair(root) or any(
        split == "train" and _is_pair(part) for part, split in _parts(root)
    )


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases of two folders, with the channels and labels that `spec` declares.

    Folders such as train/ and val/ that hold two each are the official split.

    Raises
    ------
    DatasetError
        There is no folder of images or labels, or more than one that may be meant. Problems of
        pairing are returned.
    """
    parts = [] if _is_pair(root) else _parts(root)
    if not any(_is_pair(part) for part, _ in parts):
        return _layout(root, spec, _labels_folder(root, spec))
    first = next(part for part, split in parts if split == "train" and _is_pair(part))
    labels = _labels_folder(first, spec)
    layouts = {}
    for part, split in parts:
        if (part / labels).is_dir():
            layouts[part.name, split] = _layout(part, spec, labels)
        else:
            LOG.info("%s: left aside, without %s/ there is nothing to compare with", part, labels)
    return _together(layouts)


def _is_pair(root: Path) -> bool:
    folders = subfolders(root)
    return bool(_named(folders, IMAGE_FOLDERS)) and bool(_label_folders(folders))


def _parts(root: Path) -> list[tuple[Path, SplitName]]:
    """Return the folders named after a part of an official split, that for training first."""
    found: list[tuple[Path, SplitName]] = [
        (path, SPLITS[path.name.lower()])
        for path in subfolders(root)
        if path.name.lower() in SPLITS
    ]
    return sorted(found, key=lambda item: item[1] != "train")


def _together(layouts: Mapping[tuple[str, SplitName], Layout]) -> Layout:
    """Return one layout of all parts; ids that come twice have the part's name in front."""
    ids = [case_id for layout in layouts.values() for case_id in _ids(layout)]
    is_unique = len(set(ids)) == len(ids)
    cases, problems = [], []
    for (name, split), layout in layouts.items():
        for problem in layout.problems:
            case_id = problem.case_id if is_unique else _prefixed(name, problem.case_id)
            problems.append(replace(_in_part(name, problem), case_id=case_id))
        for found in layout.cases:
            case_id = found.case_id if is_unique else f"{name}_{found.case_id}"
            cases.append(replace(found, case_id=case_id, split=split))
    return replace(next(iter(layouts.values())), cases=tuple(cases), problems=tuple(problems))


def _ids(layout: Layout) -> set[str]:
    """Return the ids of all cases, also of those that lack a file."""
    told = {problem.case_id for problem in layout.problems}
    return {found.case_id for found in layout.cases} | {case_id for case_id in told if case_id}


def _in_part(name: str, problem: Problem) -> Problem:
    """Return a problem whose files are named from the folder that holds the part."""
    files = tuple(f"{name}/{file}" for file in problem.files)
    found, remedy = problem.found, problem.remedy
    for file, whole in zip(problem.files, files, strict=True):
        found, remedy = found.replace(file, whole), remedy.replace(file, whole)
    return replace(problem, files=files, found=found, remedy=remedy)


def _prefixed(name: str, case_id: str | None) -> str | None:
    return case_id and f"{name}_{case_id}"


def _layout(root: Path, spec: DatasetSpec, labels: str) -> Layout:
    """Return the cases of the folder of images and that of labels."""
    pairing = _pair(root, _images_folder(root), labels)
    channels = spec.channels
    if pairing.has_suffix and channels is None:
        count = 1 + max(pairing.channels, default=0)
        channels = tuple(f"channel_{index}" for index in range(count)) if count > 1 else None
    if channels is not None:
        pairing = check_channels(pairing, channels)
    return as_layout(pairing, channels, spec_labels(spec))


def _images_folder(root: Path) -> str:
    images = _named(subfolders(root), IMAGE_FOLDERS)
    if len(images) != 1:
        raise _unclear(root, "images", images, of=images[0] if images else "images")
    return images[0]


def _labels_folder(root: Path, spec: DatasetSpec) -> str:
    """Return the folder of labels: the only one, the manual one, or the only one that pairs."""
    names = _candidates(root, subfolders(root), spec)
    images = _images_folder(root)
    if len(names) == 1:
        return names[0]
    manual = [name for name in names if plain_name(name) in MANUAL]
    others = [name for name in names if name not in manual]
    if len(manual) == 1 and all(plain_name(name) in FIELD_OF_VIEW for name in others):
        left = ", ".join(f"{name}/" for name in others)
        LOG.info("%s: labels are taken from %s/, not from %s", root, manual[0], left)
        return manual[0]
    pairings = {name: _pair(root, images, name) for name in names}
    pairing = [name for name in names if pairings[name].files]
    if len(pairing) == 1 and not pairings[pairing[0]].problems:
        return pairing[0]
    raise _unclear(root, "labels", names, of=images)


def _named(folders: list[Path], names: frozenset[str]) -> list[str]:
    return [path.name for path in folders if plain_name(path.name) in names]


def _label_folders(folders: list[Path]) -> list[str]:
    """Return the folders named so; none that hold only files of other kinds, such as JSON."""
    found = []
    for path in folders:
        if plain_name(path.name) in LABEL_FOLDERS:
            files = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
            if not files or any(is_image(path / name) for name in files):
                found.append(path.name)
    return found


def _candidates(root: Path, folders: list[Path], spec: DatasetSpec) -> list[str]:
    """Return the folders that may hold the labels; the one that `spec` names."""
    if not isinstance(spec.masks, str):
        return _label_folders(folders)
    name = spec.masks.rstrip("/")
    if name not in [path.name for path in folders]:
        raise DatasetError(
            found=f"masks: {spec.masks!r}, and no such folder in {root}",
            expected=f"one of {', '.join(f'{path.name}/' for path in folders)}",
            fix="correct masks in the spec",
        )
    return [name]


def _pair(root: Path, images: str, labels: str) -> Pairing:
    """Return the pairs by equal names, or by names made alike where this pairs more."""
    equal = pair_files(root, images, labels, ending=None)
    if not equal.problems:
        return equal
    related = pair_related(root, images, labels)
    return related if len(related.files) > len(equal.files) else equal


def _unclear(root: Path, what: str, names: list[str], *, of: str) -> DatasetError:
    """Return the error about no folder, or several, of images or labels."""
    found = " and ".join(f"{name}/" for name in names) or f"no folder of {what}"
    if what == "labels" and names:
        fix = f'name the folder of labels in a spec: {{"masks": "{names[0]}"}}'
    else:
        example = f'{{"images": ["{of}/{{case}}.*"], "masks": "masks/{{case}}.*"}}'
        fix = f"declare in a spec where they are, such as {example}"
    return DatasetError(
        found=f"{found} in {root}",
        expected=f"one folder of {what}"
        + (f" with a file for every image in {of}/" if what == "labels" else ""),
        fix=f"{fix}, or rename the other folders",
    )


FORMAT = Format(
    name="folders",
    expects="images/ and labels/ or masks/ with files of equal or similar names",
    is_found=is_found,
    find_cases=find_cases,
)
