"""nnU-Net's raw folders: dataset.json, imagesTr/<case>_0000.ext, labelsTr/<case>.ext."""

import json
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.pairing import as_layout, check_channels, pair_files
from autoseg.dataset.label_values import declared_labels, spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.recipe import Labels

DESCRIPTION = "dataset.json"
IMAGES, LABELS = "imagesTr", "labelsTr"
LISTED = f"or take the case out of {DESCRIPTION}"


def is_found(root: Path) -> bool:
    """Return whether a folder has this layout."""
    if (root / IMAGES).is_dir():
        return True
    if not (root / DESCRIPTION).is_file():
        return False
    return (root / LABELS).is_dir() or _lists_cases(root / DESCRIPTION)


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases, channels and labels of a raw folder; what `spec` declares goes first.

    Raises
    ------
    DatasetError
        dataset.json is missing or makes no sense, or has regions. Problems of pairing are returned.
    """
    description = _read_description(root / DESCRIPTION)
    channels = spec.channels or parse_channels(description)
    labels = parse_labels(description, spec)
    ending = description.get("file_ending")
    if ending is not None and not isinstance(ending, str):
        raise _refusal("file_ending", ending, 'an ending such as ".nii.gz"')
    if "dataset" in description:
        return _listed(root, description["dataset"], channels, labels)
    pairing = pair_files(root, IMAGES, LABELS, ending=ending)
    return as_layout(check_channels(pairing, channels), channels, labels)


def _lists_cases(path: Path) -> bool:
    """Return whether dataset.json names the files of each case."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    cases = content.get("dataset") if isinstance(content, dict) else None
    return isinstance(cases, dict) and any(map(_is_listed_case, cases.values()))


def _is_listed_case(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("label"), str):
        return False
    images = entry.get("images")
    return isinstance(images, list) and all(isinstance(name, str) for name in images)


def _listed(root: Path, listed: object, channels: tuple[str, ...], labels: Labels) -> Layout:
    """Return the cases whose files dataset.json names, relative to its folder or absolute."""
    form = 'an object {case: {"images": [one a channel], "label": file}, ...}'
    if not isinstance(listed, dict) or not all(map(_is_listed_case, listed.values())):
        raise _refusal("dataset", listed, form)
    cases, problems = [], []
    for case_id, entry in sorted(listed.items()):
        images = tuple(root / name for name in entry["images"])
        label = root / entry["label"]
        missing = [path for path in (*images, label) if not path.exists()]
        problems += [
            Problem.of(
                str(path),
                f"no such file, {DESCRIPTION} has it for {case_id}",
                case_id,
                remedy=f"add it, {LISTED}",
            )
            for path in missing
        ]
        if "/" in case_id:
            found = f"dataset: {case_id}: an id that is no name of a file"
            problems.append(Problem.of(DESCRIPTION, found, case_id, remedy=f"change it, {LISTED}"))
        elif len(images) not in (1, len(channels)):
            found = f"dataset: {case_id}: {len(images)} images for {len(channels)} channels"
            problems.append(Problem.of(DESCRIPTION, found, case_id, remedy=f"correct it, {LISTED}"))
        elif not missing:
            cases.append(FoundCase(case_id, images, (label,)))
    return Layout(cases=tuple(cases), problems=tuple(problems), channels=channels, labels=labels)


def _refusal(key: str, found: object, expected: str) -> DatasetError:
    text = json.dumps(found)
    text = text if len(text) < 200 else text[:197] + "..."
    return DatasetError(
        found=f"{DESCRIPTION}: {key}: {text}",
        expected=expected,
        fix=f"correct {key!r} in {DESCRIPTION}",
    )


def _read_description(path: Path) -> dict:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DatasetError(
            found=f"{IMAGES}/ but no {DESCRIPTION} in {path.parent}",
            expected=f"nnU-Net's {DESCRIPTION} with channel_names, labels and file_ending",
            fix=f"write {DESCRIPTION}, or rename the folders to images/ and labels/",
        ) from None
    except ValueError as error:
        raise DatasetError(
            found=f"{path} is no JSON: {error}", expected="a JSON object", fix="correct the file"
        ) from None
    if not isinstance(content, dict):
        raise DatasetError(
            found=f"{path} holds no JSON object",
            expected="an object with channel_names, labels and file_ending",
            fix="correct the file",
        )
    return content


def parse_channels(description: dict) -> tuple[str, ...]:
    """Return the names of the channels in the content of dataset.json, new style or old.

    Raises
    ------
    DatasetError
        They are missing or misnumbered.
    """
    key = "channel_names" if "channel_names" in description else "modality"
    names = description.get(key)
    form = 'an object {"0": name, "1": name, ...} with the numbers from 0 without gaps'
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
        raise _refusal("channel_names", names, form)
    if not names or not all(isinstance(name, str) for name in names.values()):
        raise _refusal(key, names, form)
    return tuple(names[str(i)] for i in range(len(names)))


def parse_labels(description: dict, spec: DatasetSpec) -> Labels:
    """Return the classes in the content of dataset.json, new style or old, unless `spec` has them.

    Raises
    ------
    DatasetError
        They are missing, or no whole numbers.
    """
    given = spec_labels(spec)
    if given is not None:
        return given
    values: Any = description.get("labels")
    if not isinstance(values, dict) or not values:
        raise _refusal("labels", values, 'an object {"background": 0, "name": value, ...}')
    if all(isinstance(name, str) for name in values.values()):  # the old style: value -> name
        values = {name: _number(value) for value, name in values.items()}
    declared: dict[str, int | list[int]] = {}
    for name, value in values.items():
        numbers = value if isinstance(value, list) else [value]
        if not numbers or not all(type(entry) is int for entry in numbers):
            expected = "a whole number for every class, or a list of them for a region"
            raise _refusal("labels", values, expected)
        declared[str(name)] = value
    ignore = declared.pop("ignore", spec.ignore)
    if isinstance(ignore, list):
        raise _refusal("ignore", ignore, "one whole number")
    labels = declared_labels(declared, ignore)
    _check_order(description.get("regions_class_order"), labels)
    return labels


def _check_order(order: object, labels: Labels) -> None:
    """Refuse values of regions that do not fit; which they are, the values of files tell."""
    if order is None or not labels.regions:
        return
    is_list = isinstance(order, list) and all(type(value) is int for value in order)
    if not is_list or len(order) != len(labels.regions):  # type: ignore[arg-type]
        form = f"a whole number for each of the {len(labels.regions)} classes and regions"
        raise _refusal("regions_class_order", order, form)


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdecimal() else text


FORMAT = Format(
    name="nnunet",
    expects="imagesTr/, labelsTr/ and dataset.json (nnU-Net)",
    is_found=is_found,
    find_cases=find_cases,
)
