"""MONAI's data lists: a JSON file with the images, labels and folds of all cases."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format, Layout, Problem
from autoseg.dataset.formats.listed import (
    LABELS,
    SPLITS,
    Entry,
    SplitName,
    count_problems,
    find_listed,
    has_channel_suffix,
)
from autoseg.dataset.formats.nnunet import parse_channels, parse_labels
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError

OTHERS = "dataset.json"
"""Name of nnU-Net's and MSD's descriptions, which have lists too."""
MAX_LISTS = 10
"""More JSON files than this in one folder are annotations of images."""
MAX_BYTES = 1 << 26
"""No list of cases is larger."""
FORM = '{"training": [{"image": path or [paths], "label": path, "fold": 0}, ...]}'
CORRECT = {"expected": FORM, "remedy": "correct the entry, or take it out of the list"}


def is_found(root: Path) -> bool:
    """Return whether a folder holds one list of cases."""
    return len(_lists(root)) == 1


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases of the list that `spec` names, or of the only one in the folder.

    Raises
    ------
    DatasetError
        There is no list, or more than one; or it is of another form. Problems of single cases are
        returned.
    """
    path = _path(root, spec)
    content = _read(path)
    entries, problems = [], []
    for key, listed in _parts(path, content):
        for index, item in enumerate(listed):
            entry = _entry(f"{path.name}: {key}[{index}]", SPLITS[key.casefold()], item)
            if isinstance(entry, Problem):
                problems.append(entry)
            elif entry is not None:
                entries.append(entry)
    if all(entry.split == "train" for entry in entries):
        entries = [replace(entry, split=None) for entry in entries]  # no split is told
    cases, missing = find_listed(entries, (path.parent, root))
    channels = _channels(content, spec)
    problems += [*missing, *count_problems(cases, channels)]
    if channels is None and cases and len(cases[0].images) > 1:
        channels = tuple(f"channel_{index}" for index in range(len(cases[0].images)))
    return Layout(
        cases=tuple(case.found((case.masks[LABELS],)) for case in cases),
        problems=tuple(problems),
        channels=channels,
        labels=parse_labels(content, spec) if "labels" in content else spec_labels(spec),
        has_suffix=has_channel_suffix(cases),
        has_listed_groups=True,
    )


def _lists(root: Path) -> list[Path]:
    files = sorted(path for path in root.glob("*.json") if path.name != OTHERS)
    if len(files) > MAX_LISTS:
        return []
    return [path for path in files if path.stat().st_size <= MAX_BYTES and _is_list(path)]


def _is_list(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    listed = content.get("training") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not listed:
        return False
    return any(isinstance(item, dict) and "image" in item for item in listed[:10])


def _path(root: Path, spec: DatasetSpec) -> Path:
    if spec.table is not None:
        return root / spec.table
    found = _lists(root)
    if len(found) == 1:
        return found[0]
    names = ", ".join(path.name for path in found)
    raise DatasetError(
        found=f"{names or 'no list of cases (JSON)'} in {root}",
        expected=f"one list of cases, {FORM}",
        fix='name it under "table" in a file given with --spec',
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(
            found=f"{path} cannot be read: {error.strerror}",
            expected="a JSON file with a list of cases",
            fix="correct the path, which is relative to the folder of the data set",
        ) from None
    except ValueError as error:
        raise DatasetError(
            found=f"{path} is no JSON: {error}", expected=FORM, fix="correct the file"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise DatasetError(
            found=f'{path} without a list "training"', expected=FORM, fix="correct the file"
        )
    return content


def _parts(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, list]]:
    """Return the lists of cases, the training cases first."""
    keys = sorted((key for key in content if key.casefold() in SPLITS), key=_is_not_training)
    for key in keys:
        if not isinstance(content[key], list):
            raise DatasetError(
                found=f"{path.name}: {key!r} is no list", expected=FORM, fix="correct the file"
            )
        yield key, content[key]


def _is_not_training(key: str) -> bool:
    return key != "training"


def _entry(where: str, split: SplitName, item: object) -> Entry | Problem | None:
    """Return a listed case, what is wrong with it, or None for a test case without labels."""
    if split == "test" and (not isinstance(item, dict) or item.get("label") is None):
        return None
    images = item.get("image") if isinstance(item, dict) else None
    images = [images] if isinstance(images, str) else images
    if not isinstance(item, dict) or not _are_paths(images):
        return Problem.of(where, 'no "image" with a path or a list of paths', **CORRECT)
    label, fold = item.get("label"), item.get("fold")
    label = label[0] if isinstance(label, list) and len(label) == 1 else label
    if not isinstance(label, str):
        return Problem.of(where, 'no "label" with one path', **CORRECT)
    if fold is not None and (type(fold) is not int or fold < 0):
        return Problem.of(where, f'"fold" is {fold!r}, expected 0, 1, ...', **CORRECT)
    return Entry(
        where=where,
        images=tuple(images or ()),
        masks={LABELS: label},
        case_id=_text(item, "id", "case_id", "case"),
        group=_text(item, "group", "patient", "patient_id", "subject", "subject_id"),
        site=_text(item, "site"),
        split=split,
        fold=fold,
    )


def _are_paths(images: object) -> bool:
    return (
        isinstance(images, list) and bool(images) and all(isinstance(path, str) for path in images)
    )


def _text(item: Mapping[str, Any], *keys: str) -> str | None:
    """Return the first of some entries that is there, as text."""
    return next((str(item[key]) for key in keys if isinstance(item.get(key), (str, int))), None)


def _channels(content: dict, spec: DatasetSpec) -> tuple[str, ...] | None:
    if spec.channels is not None:
        return spec.channels
    is_told = any(isinstance(content.get(key), dict) for key in ("channel_names", "modality"))
    return parse_channels(content) if is_told else None


FORMAT = Format(
    name="datalist",
    expects=f"one JSON file {FORM} (MONAI)",
    is_found=is_found,
    find_cases=find_cases,
)
