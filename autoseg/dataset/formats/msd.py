"""Medical Segmentation Decathlon: dataset.json that lists pairs of files under "training"."""

import json
from pathlib import Path
from typing import Any

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.listed import stem_of
from autoseg.dataset.formats.nnunet import DESCRIPTION, LISTED, parse_channels, parse_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import case_stem, is_image

FIRST_CHANNEL = "_0000"
NUM_LOOKED_AT = 20
"""Entries whose files are looked for to tell this layout from nnU-Net's."""


def is_found(root: Path) -> bool:
    """Return whether dataset.json lists pairs, and the images are there under these names.

    Old dataset.json files of nnU-Net list pairs too, but their images end in `_0000`.
    """
    entries = _entries(_description(root))
    names = [_file(root, entry["image"]) for entry in entries[:NUM_LOOKED_AT]]
    if not names:
        return False
    return any(path.exists() for path in names) or not any(
        _with_channel(path).exists() for path in names if is_image(path)
    )


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the pairs that dataset.json lists, with its channels and labels unless `spec` has any.

    Raises
    ------
    DatasetError
        dataset.json is missing, lists no pairs, or its channels or labels make no sense.
    """
    description = _description(root)
    entries = _entries(description)
    if not entries:
        raise DatasetError(
            found=f"no training cases in {root / DESCRIPTION}",
            expected=f'{DESCRIPTION} with "training": [{{"image": "...", "label": "..."}}, ...]',
            fix=f"correct {DESCRIPTION}, or declare another layout in a spec",
        )
    cases: dict[str, FoundCase] = {}
    problems = _count_problems(description, len(entries))
    for entry in entries:
        image, label = _file(root, entry["image"]), _file(root, entry["label"])
        if image.name.startswith("._"):  # what macOS leaves beside each file
            continue
        wrong = _entry_problems(root, image, label)
        if not wrong and case_stem(image) in cases:
            found = f"two training cases are called {case_stem(image)}"
            remedy = f"rename the files of one, {LISTED}"
            wrong = [Problem.of(DESCRIPTION, found, case_stem(image), remedy=remedy)]
        problems += wrong
        if not wrong:
            cases[case_stem(image)] = FoundCase(case_stem(image), (image,), (label,))
    return Layout(
        cases=tuple(cases[case_id] for case_id in sorted(cases)),
        problems=tuple(problems),
        channels=spec.channels or parse_channels(description),
        labels=parse_labels(description, spec),
    )


def _description(root: Path) -> dict[str, Any]:
    """Return the content of dataset.json, empty where there is none."""
    try:
        content = json.loads((root / DESCRIPTION).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _entries(description: dict[str, Any]) -> list[dict[str, str]]:
    """Return the pairs that are listed, none unless the file describes channels and labels too."""
    listed = description.get("training")
    has_channels = "modality" in description or "channel_names" in description
    if not (has_channels and "labels" in description) or not isinstance(listed, list):
        return []
    is_pair = [
        isinstance(entry, dict)
        and isinstance(entry.get("image"), str)
        and isinstance(entry.get("label"), str)
        for entry in listed
    ]
    return listed if all(is_pair) else []


def _file(root: Path, name: str) -> Path:
    return root / name.removeprefix("./")


def _with_channel(path: Path) -> Path:
    return path.with_name(case_stem(path) + FIRST_CHANNEL + path.name[len(case_stem(path)) :])


def _count_problems(description: dict[str, Any], count: int) -> list[Problem]:
    declared = description.get("numTraining", count)
    if declared == count:
        return []
    found = f'numTraining is {declared}, but "training" lists {count} cases'
    remedy = f"correct the number or the list in {DESCRIPTION}"
    return [Problem.of(DESCRIPTION, found, expected="the number of cases listed", remedy=remedy)]


def _entry_problems(root: Path, image: Path, label: Path) -> list[Problem]:
    problems = []
    for path in (image, label):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        if not is_image(path):
            found, remedy = f"{name} is no image of a known format", f"convert it, {LISTED}"
            problems.append(Problem.of(DESCRIPTION, found, stem_of(image), remedy=remedy))
        elif not path.exists():
            found = f"listed in {DESCRIPTION}, but there is no such file"
            remedy = f"add it, {LISTED}"
            problems.append(Problem.of(name, found, stem_of(image), remedy=remedy))
    return problems


FORMAT = Format(
    name="msd",
    expects='dataset.json with "training": [{"image": ..., "label": ...}] (MSD)',
    is_found=is_found,
    find_cases=find_cases,
)
