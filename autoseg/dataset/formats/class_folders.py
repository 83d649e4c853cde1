"""One folder a class, with images and masks of one name: the folder's name is what masks show."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.dataset.formats.format import Format, FoundCase, Layout
from autoseg.dataset.formats.listed import SPLITS
from autoseg.dataset.formats.naming import image_files, subfolders
from autoseg.dataset.formats.peek import are_empty, binary_threshold, find_class_map
from autoseg.dataset.formats.stems import (
    StemCase,
    Stems,
    case_names,
    channel_names,
    channel_words,
    home,
    lone_problems,
    pair_stems,
)
from autoseg.dataset.label_values import MAX_UNDECLARED, declared_labels, listing, spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import case_stem
from autoseg.runtime.recipe import Labels

HEALTHY = re.compile(
    r"(?<![a-z])(?:no|non|none|free|normal|good|healthy|background|negative)(?![a-z])",
    re.IGNORECASE,
)
"""Names of folders whose images show nothing, where their masks are empty or missing."""
FAULTY = re.compile(
    r"defect|damage|crack|scratch|dent|hole|break|broken|stain|rust|anomal|lesion|tumou?r|polyp"
    r"|benign|malign|cancer|disease",
    re.IGNORECASE,
)
"""Names of folders after what their masks show."""
NUMBERED = re.compile(r"class|type|grade|stage|label|category", re.IGNORECASE)
"""Words that make a class of a name with a number: other names with numbers are of patients."""


def is_found(root: Path) -> bool:
    """Return whether there are a few folders named after classes, which hold pairs of files.

    Folders with other names may be of patients or hospitals.
    """
    folders = subfolders(root)
    if not 2 <= len(folders) < MAX_UNDECLARED or image_files(root):
        return False
    names = [folder.name for folder in folders]
    if not any(word.search(name) for name in names for word in (HEALTHY, FAULTY, NUMBERED)):
        return False
    if any(name.lower() in SPLITS for name in names):
        return False
    found = [pair_stems(image_files(home(folder))) for folder in folders]
    is_fitting = [
        2 * len(stems.alone) <= len(stems.cases) or bool(HEALTHY.search(name) and stems.alone)
        for stems, name in zip(found, names, strict=True)
    ]
    counts = [len(stems.cases) for stems in found]
    return all(is_fitting) and sum(count > 0 for count in counts) > 1 and max(counts) > 1


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the pairs of all folders; each folder is a class, by rising name.

    A folder with a name like "normal" and empty masks is none: its images are background.

    Raises
    ------
    DatasetError
        Masks hold several classes themselves, or `spec` declares others than the folders.
    """
    found = {home(folder): _pairs(folder) for folder in subfolders(root)}
    found = {folder: stems for folder, stems in found.items() if stems.cases or stems.alone}
    masks = _masks(found.values())
    _refuse_class_maps(root, masks, spec)
    labels, values = _labels(root, found, spec)
    names = case_names(root, found)
    words, problems = channel_words(root, found.values(), spec)
    cases = []
    for folder, stems in found.items():
        problems += lone_problems(root, stems)
        # The value of no class for a folder that is none: refused if a mask shows something.
        value = values.get(_class_of(root, folder), 1 + max(labels.values))
        cases += [
            FoundCase(
                names[folder, case.stem],
                tuple(case.images[word] for word in words),
                case.masks,
                paint=(value,) * len(case.masks),
            )
            for case in stems.cases
            if set(case.images) == set(words)
        ]
    by_folder = {_class_of(root, folder): _masks([stems]) for folder, stems in found.items()}
    threshold = binary_threshold(by_folder) if spec.threshold is None else None
    return Layout(
        cases=tuple(cases),
        problems=tuple(problems),
        channels=spec.channels or channel_names(words),
        labels=labels,
        reading=Reading(masks="binaries", threshold=threshold),
    )


def _pairs(folder: Path) -> Stems:
    """Return the pairs of a folder; images alone are cases where the folder says so."""
    stems = pair_stems(image_files(home(folder)))
    if stems.cases or not HEALTHY.search(folder.name):
        return stems
    return Stems(tuple(StemCase(case_stem(path), {"": path}, ()) for path in stems.alone), ())


def _masks(found: Iterable[Stems]) -> list[Path]:
    return [mask for stems in found for case in stems.cases for mask in case.masks]


def _class_of(root: Path, folder: Path) -> str:
    return folder.relative_to(root).parts[0]


def _labels(
    root: Path, found: Mapping[Path, Stems], spec: DatasetSpec
) -> tuple[Labels, dict[str, int]]:
    """Return the classes, and the value of each folder that is one."""
    folders = {_class_of(root, folder): _masks([stems]) for folder, stems in found.items()}
    names = [
        name
        for name, masks in sorted(folders.items())
        if not (HEALTHY.search(name) and are_empty(masks))
    ]
    given = spec_labels(spec)
    if given is None:
        numbers = {name: index + 1 for index, name in enumerate(names)}
        return declared_labels({"background": 0, **numbers}, spec.ignore), numbers
    numbers = {k: v for k, v in (spec.labels or {}).items() if isinstance(v, int)}
    missing = [name for name in names if name not in numbers]
    if missing:
        raise DatasetError(
            found=f"folders {', '.join(missing)}, which the labels of the spec do not name",
            expected="a label for every folder: its name is the class of its masks",
            fix="add them to the labels in the spec, or declare the images and masks by patterns",
        )
    return given, {name: numbers[name] for name in folders if name in numbers}


def _refuse_class_maps(root: Path, masks: Sequence[Path], spec: DatasetSpec) -> None:
    found = None if spec.threshold is not None else find_class_map(masks)
    if found is None:
        return
    path, values = found
    raise DatasetError(
        found=f"{path.relative_to(root)}: values {listing(values)} in a folder that is one class",
        expected="masks of foreground and background: the name of the folder is the class",
        fix='if masks hold classes and folders mean something else, declare "layout": "stems" '
        "in a spec",
    )


FORMAT = Format(
    name="class_folders",
    expects="one folder a class, with images and masks of one name in each",
    is_found=is_found,
    find_cases=find_cases,
)
