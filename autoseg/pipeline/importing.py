"""A look at a data set: what was understood, a spec that says it, and what only the user knows."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Finding
from autoseg.dataset.fixes import with_fixes
from autoseg.dataset.formats.registry import formats
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.dataset.spec import spec_json
from autoseg.errors import AutosegError, DatasetError, WorkspaceError
from autoseg.pipeline.proposals import unknown_layout
from autoseg.workspace import write_text

MAX_LOOKED_AT = 50
"""Cases whose pixels are read; of larger data sets, this many at equal distances."""
NUM_READERS = 2
"""Threads that read cases: each holds a whole one."""
NUM_PICTURED = 3


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What a user may ask of an import."""

    dataset: Path
    spec: Path | None = None
    """Written here; None: <name>.json in the current directory."""
    picture: Path | None = None
    """Drawn here; None: beside the spec."""
    start: DatasetSpec | None = None
    """What the user declares already."""
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the pixels of one case told."""

    case: Case
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    unit: str = ""
    dtype: str = ""
    orientation: str | None = None
    class_voxels: tuple[int, ...] = ()
    """Voxels of each class, background first; empty where the case cannot be read."""
    ignored_voxels: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A data set as understood, and where that was written."""

    dataset: Dataset
    spec: DatasetSpec
    looks: tuple[Look, ...]
    spec_path: Path
    picture_path: Path | None
    """None: no case can be read."""


def import_dataset(
    options: ImportOptions, on_case: Callable[[str, int, int], None] = lambda *_: None
) -> Imported:
    """Look at a folder, write a spec that says what was understood, and draw three cases.

    Raises
    ------
    AutosegError
        The layout is unknown (the message proposes patterns), files do not pair, or a file that is
        to be written exists. Nothing is written then.
    """
    start = options.start or DatasetSpec()
    spec_path = picture_path = None
    if options.spec is not None:  # refused before any work where the name is known
        spec_path, picture_path = _outputs(options, options.spec.stem)
    _require_layout(options.dataset, start)
    dataset, start = open_repaired(options.dataset, start)
    if spec_path is None or picture_path is None:
        spec_path, picture_path = _outputs(options, dataset.name)
    looks = look_at(dataset, on_case)
    repaired = with_fixes(start, [finding for look in looks for finding in look.findings])
    if repaired != start:
        dataset, start = open_dataset(options.dataset, repaired, None), repaired
        looks = look_at(dataset, on_case)
    spec = find_spec(dataset, start)
    cases = choose_cases([look for look in looks if look.class_voxels])
    write_text(spec_path, spec_json(spec))
    if cases:
        from autoseg.report.first_look import draw_cases

        draw_cases(dataset, cases, picture_path)
    return Imported(
        dataset=dataset,
        spec=spec,
        looks=looks,
        spec_path=spec_path,
        picture_path=picture_path if cases else None,
    )


def open_repaired(root: Path, start: DatasetSpec) -> tuple[Dataset, DatasetSpec]:
    """Return a data set and its declaration, with what masks need that can be told by looking.

    Smoothed masks need a threshold, masks in colours or channels the names of these.

    Raises
    ------
    DatasetError
        Something is wrong that no declaration removes.
    """
    try:
        return open_dataset(root, start, None), start
    except DatasetProblems as error:
        repaired = with_fixes(start, error.findings)
        if repaired == start:
            raise
    except DatasetError as error:
        labels = _suggested(error)
        if start.labels is not None or labels is None:
            raise
        repaired = start.revised(labels=labels)
    return open_dataset(root, repaired, None), repaired


def find_spec(dataset: Dataset, start: DatasetSpec) -> DatasetSpec:
    """Return a declaration that reads a folder to the same data set, as complete as possible.

    Formats differ in what a declaration changes, so what was understood is tried and compared: the
    most telling declaration that leads to the same cases, classes and reading is returned.
    """
    least = start.revised(name=dataset.name, layout=dataset.layout)
    reading = dataset.reading
    most = least.revised(
        channels=dataset.channels,
        threshold=reading.threshold,
        label_map={str(found): meant for found, meant in reading.label_map} or None,
        ignore=dataset.labels.ignore,
        labels=start.labels or declared(dataset),
        fixes=reading.fixes,
    )
    unlabelled = most.revised(labels=start.labels, ignore=start.ignore)
    for spec in (most, unlabelled, least.revised(channels=dataset.channels)):
        if _reads_alike(spec, dataset):
            return spec
    return least


def are_alike(first: Dataset, second: Dataset) -> bool:
    """Return whether two data sets have the same cases, channels, classes and reading."""
    return _essence(first) == _essence(second)


def declared(dataset: Dataset) -> dict[str, int | tuple[int, ...] | str] | None:
    """Return the classes of a data set as a spec declares them; None if it cannot."""
    labels, reading = dataset.labels, dataset.reading
    if reading.masks == "colours":
        names = dict(zip(labels.values, labels.names, strict=True))
        if len({colour[3] for colour in reading.colours}) < len(reading.colours):
            return None  # a class with two colours
        return {names[value]: f"#{r:02x}{g:02x}{b:02x}" for r, g, b, value in reading.colours}
    if not labels.regions:
        return dict(zip(labels.names, labels.values, strict=True))
    content: dict[str, int | tuple[int, ...] | str] = {labels.names[0]: labels.values[0]}
    for region in labels.regions:
        values = tuple(labels.values[index] for index in region.classes)
        content[region.name] = values[0] if len(values) == 1 else values
    return content


def look_at(dataset: Dataset, on_case: Callable[[str, int, int], None]) -> tuple[Look, ...]:
    """Return what the pixels of up to `MAX_LOOKED_AT` cases tell."""
    count = min(len(dataset.cases), MAX_LOOKED_AT)
    places = sorted({int(place) for place in np.linspace(0, len(dataset.cases) - 1, count)})
    done: list[str] = []

    def look(place: int) -> Look:
        result = _look(dataset, dataset.cases[place])
        done.append(result.case.id)
        on_case(result.case.id, len(done), len(places))
        return result

    with ThreadPoolExecutor(NUM_READERS) as pool:
        return tuple(pool.map(look, places))


def choose_cases(looks: Sequence[Look]) -> tuple[Case, ...]:
    """Return `NUM_PICTURED` cases that show as many classes as possible, far from each other."""
    chosen: list[int] = []
    shown: set[int] = set()
    present = [{i for i, n in enumerate(look.class_voxels) if i and n} for look in looks]
    while len(chosen) < min(NUM_PICTURED, len(looks)):
        rest = [place for place in range(len(looks)) if place not in chosen]
        best = max(
            rest,
            key=lambda place: (
                len(present[place] - shown),
                bool(present[place]),
                min((abs(place - other) for other in chosen), default=0),
            ),
        )
        chosen.append(best)
        shown |= present[best]
    return tuple(looks[place].case for place in sorted(chosen))


def _look(dataset: Dataset, case: Case) -> Look:
    """Return what the pixels of a case tell."""
    image, classes, findings = inspect_case(dataset, case)
    if image is None or classes is None:
        return Look(case=case, findings=tuple(findings))
    num_classes = len(dataset.labels.names)
    counts = np.bincount(classes.ravel().astype(np.int32) + 1, minlength=num_classes + 1)
    return Look(
        case=case,
        shape=image.shape,
        spacing=image.geometry.spacing,
        unit=image.geometry.unit,
        dtype=str(image.array.dtype),
        orientation=image.geometry.orientation,
        class_voxels=tuple(int(count) for count in counts[1:]),
        ignored_voxels=int(counts[0]),
        findings=tuple(findings),
    )


def _suggested(error: DatasetError) -> dict[str, int | str] | None:
    """Return the labels in the last line of a remedy that ends with a declaration."""
    try:
        content = json.loads(error.fix.rpartition("\n")[2])
    except ValueError:
        return None
    return content.get("labels") if isinstance(content, dict) else None


def _require_layout(root: Path, start: DatasetSpec) -> None:
    """Require that the folder has a known layout, or that one is declared."""
    is_declared = any((start.layout, start.images, start.masks, start.table))
    if is_declared or not root.is_dir() or any(entry.is_found(root) for entry in formats()):
        return
    raise unknown_layout(root)


def _reads_alike(spec: DatasetSpec, dataset: Dataset) -> bool:
    """Return whether a declaration leads to a data set."""
    try:
        return are_alike(open_dataset(dataset.root, spec, None), dataset)
    except AutosegError:
        return False


def _essence(dataset: Dataset) -> Dataset:
    """Return a data set without what changes nothing: who named its labels, and 1 read as 1."""
    pairs = tuple(pair for pair in dataset.reading.label_map if pair[0] != pair[1])
    return dataset.revised(labels_declared=True, reading=dataset.reading.revised(label_map=pairs))


def _outputs(options: ImportOptions, name: str) -> tuple[Path, Path]:
    """Return where spec and picture are written, after making sure that nothing is in the way."""
    spec = options.spec or Path(f"{name}.json")
    picture = options.picture or spec.with_suffix(".png")
    root = options.dataset.resolve()
    for path, was_named in ((spec, options.spec), (picture, options.picture or options.spec)):
        if was_named is None and path.resolve().is_relative_to(root):
            raise WorkspaceError(
                found=f"{path.resolve()} would lie in the data set's folder",
                expected="a place outside: nothing is written beside your data unasked",
                fix="name a file with -o, or run the command in another folder",
            )
        if path.exists() and not options.overwrite:
            raise WorkspaceError(
                found=f"{path} exists",
                expected="a file that can be made",
                fix="name another one with -o, or add --overwrite",
            )
    return spec, picture
