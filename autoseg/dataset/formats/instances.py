"""One folder a case, with images/ and masks/ in it: one mask an object."""

from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.naming import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    image_files,
    plain_name,
    subfolders,
)
from autoseg.dataset.formats.peek import binary_threshold
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.recipe import Labels

OBJECT = "object"
NUM_LOOKED_AT = 5
"""Folders that tell whether all look so."""


def is_found(root: Path) -> bool:
    """Return whether the first folders hold a folder with one image, and one with masks."""
    folders = subfolders(root)[:NUM_LOOKED_AT]
    return bool(folders) and all(_is_case(folder) for folder in folders)


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return one case a folder; all objects are one class.

    Raises
    ------
    DatasetError
        `spec` declares more classes than the one that the masks show.
    """
    labels = object_labels(spec)
    cases, problems = [], []
    for folder in subfolders(root):
        images, masks = _inside(folder, IMAGE_FOLDERS), _inside(folder, LABEL_FOLDERS)
        if images is None or masks is None or len(images) != 1:
            problems.append(_problem(folder, images, masks))
            continue
        paint = (labels.values[1],) * len(masks)
        cases.append(FoundCase(folder.name, tuple(images), tuple(masks), paint=paint))
    threshold = None
    if spec.threshold is None:
        threshold = binary_threshold({OBJECT: [case.labels[0] for case in cases if case.labels]})
    return Layout(
        cases=tuple(cases),
        problems=tuple(problems),
        channels=spec.channels,
        labels=labels,
        reading=Reading(masks="binaries", threshold=threshold),
    )


def object_labels(spec: DatasetSpec) -> Labels:
    """Return the background and the one class of all objects.

    Raises
    ------
    DatasetError
        `spec` declares more classes.
    """
    labels = spec_labels(spec) or Labels(names=("background", OBJECT), values=(0, 1))
    if len(labels.values) != 2:
        raise DatasetError(
            found=f"labels {', '.join(labels.names)} for cases of several masks each",
            expected="a background and one class: each mask shows one object, and not of what kind",
            fix="declare two labels in the spec, or one mask a case: by patterns, where masks of "
            "other names lie",
        )
    return labels


def _is_case(folder: Path) -> bool:
    images = _inside(folder, IMAGE_FOLDERS)
    return images is not None and len(images) == 1 and _inside(folder, LABEL_FOLDERS) is not None


def _inside(folder: Path, names: frozenset[str]) -> list[Path] | None:
    """Return the image files in the one folder of such a name; None where there is none."""
    found = [path for path in subfolders(folder) if plain_name(path.name) in names]
    return image_files(found[0]) if len(found) == 1 else None


def _problem(folder: Path, images: list[Path] | None, masks: list[Path] | None) -> Problem:
    if images is None or masks is None:
        missing = "images/" if images is None else "masks/"
        found = f"no folder {missing}, or more than one"
    else:
        found = f"{len(images)} images, and not one"
    expected = "one image in images/ and the masks of its objects in masks/"
    remedy = "add what is missing, or remove what is too many"
    return Problem.of(f"{folder.name}/", found, folder.name, expected=expected, remedy=remedy)


FORMAT = Format(
    name="instances",
    expects="one folder a case, with one image in images/ and one mask an object in masks/",
    is_found=is_found,
    find_cases=find_cases,
)
