"""The contract of a format: what `autoseg.testing.contracts.check_format` requires.

Letters in shapes: C channels, S spatial axes.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.registry import find_format, formats
from autoseg.dataset.open import open_dataset
from autoseg.errors import AutosegError
from autoseg.runtime.images import Image

MAX_ID_BYTES = 200
"""Ids become names of files, whose endings need some room too."""

Maker = Callable[[Path], object]
"""Writes a small data set into a folder that exists and is empty."""


@dataclass(frozen=True)
class Subject:
    """A format with a folder that it must read."""

    entry: Format
    root: Path
    spec: DatasetSpec

    def find(self, root: Path | None = None) -> Layout:
        """Return what the format finds in its folder, or in a copy of it."""
        return self.entry.find_cases(root or self.root, self.spec)


def check_finding(subject: Subject, others: Mapping[str, Maker]) -> None:
    """Require that the format finds its folder, no empty one, and no folder of another format."""
    entry, root = subject.entry, subject.root
    if subject.spec.layout is None:
        found = entry.is_found(root)
        assert found is True, f"{entry.name}: is_found gave {found!r} for its own folder"
        first = next(other.name for other in formats() if other.is_found(root))
        assert first == entry.name, f"{entry.name}: {first} claims the folder before it"
    order = [other.name for other in formats()]
    is_ours = entry.name in others
    for name, make in others.items():
        if name not in order or (is_ours and order.index(name) <= order.index(entry.name)):
            continue  # ours are tried in an order: what comes before has its folders already
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
            assert not entry.is_found(Path(folder)), f"{entry.name} claims a folder of {name}"
    with tempfile.TemporaryDirectory() as folder:
        found = entry.is_found(Path(folder))
        assert found is False, f"{entry.name}: is_found gave {found!r} for an empty folder"


def check_layout(subject: Subject) -> Layout:
    """Require cases without problems, the same each time, with usable ids and existing files."""
    name = subject.entry.name
    layout = subject.find()
    assert not layout.problems, f"{name}: problems in a whole folder: {layout.problems}"
    assert len(layout.cases) >= 2, f"{name}: {len(layout.cases)} cases; the folder needs two"
    assert subject.find() == layout, f"{name}: find_cases gave something else the second time"
    for what in ("labels", "channels"):
        is_ignored = getattr(subject.spec, what) is not None and getattr(layout, what) is None
        assert not is_ignored, f"{name}: {what} that the spec declares are not in the layout"
    ids = [found.case_id for found in layout.cases]
    assert len({case_id.casefold() for case_id in ids}) == len(ids), f"{name}: ids twice: {ids}"
    for found in layout.cases:
        _check_id(name, found.case_id)
        _check_files(name, found)
    return layout


def check_reading(dataset: Dataset, entry: Format) -> None:
    """Require images and labels of every case that fit each other and the data set."""
    for case in dataset.cases:
        image = entry.read_image(dataset, case)
        _check_image(f"{entry.name}: {case.id}: image", image)
        count, expected = len(image.array), len(dataset.channels)
        assert count == expected, f"{case.id}: {count} channels, {expected} in the data set"
        _check_again(entry, dataset, case, image)
        _check_extent(entry, dataset, case, image)
        if case.labels:
            _check_labels(dataset, case, image, entry.read_labels(dataset, case))
        findings = inspect_case(dataset, case)[2]
        errors = [finding for finding in findings if finding.severity == "error"]
        assert not errors, f"{case.id}: {errors}"


def check_unreadable(subject: Subject, dataset: Dataset) -> None:
    """Require an `AutosegError` about an image that is gone, and about one that is cut short.

    One that is cut short may be read all the same, if its end does not matter.
    """
    entry, case = subject.entry, dataset.cases[0]
    for what, damage in (("gone", _delete), ("cut short", _cut)):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve() / subject.root.name
            shutil.copytree(subject.root, root)
            damage(root / case.images[0])
            try:
                entry.read_image(dataset.revised(root=root), case)
            except AutosegError:
                continue
            except Exception as error:
                raise AssertionError(
                    f"{entry.name}: {type(error).__name__} about an image that is {what}: raise "
                    f"a DatasetError with found, expected and fix; it was: {error}"
                ) from error
            assert what != "gone", (
                f"{entry.name}: {case.images[0]} is gone, and was read: from where?"
            )


def check_missing_labels(subject: Subject, dataset: Dataset) -> None:
    """Require that a deleted label file is named, or that its case visibly has fewer masks."""
    case = next((case for case in dataset.cases if case.labels), None)
    assert case is not None, f"{subject.entry.name}: no case of the folder has labels"
    for name in dict.fromkeys(case.labels):
        if name in case.images:
            continue  # a file that holds both: without it, there is no case
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / subject.root.name
            shutil.copytree(subject.root, root)
            _delete(root / name)
            told = _told(subject, root, case)
        is_named = any(word in told for word in (Path(name).name, case.id))
        message = f"{subject.entry.name}: {name} was deleted, and nothing names it: {told!r}"
        assert is_named, message


def tree_hash(root: Path) -> str:
    """Return a digest of names, contents and times of change of everything in a folder."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        digest.update(path.relative_to(root).as_posix().encode())
        if path.is_file():
            digest.update(str(path.stat().st_mtime_ns).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def check_registered(entry: Format) -> None:
    """Require that the format is found by its name, as the rest of autoseg does."""
    try:
        registered = find_format(entry.name)
    except AutosegError:
        registered = None
    message = f"{entry.name} is not registered: declare it as an entry point of autoseg.formats"
    assert registered is entry, message


def open_with(subject: Subject) -> Dataset:
    """Return the data set as the rest of autoseg sees it."""
    entry = subject.entry
    return open_dataset(subject.root, subject.spec.revised(layout=entry.name), None)


def _check_id(name: str, case_id: str) -> None:
    """Require an id that can be a file's name."""
    is_usable = (
        case_id == case_id.strip()
        and case_id.isprintable()
        and not case_id.startswith(".")
        and not set(case_id) & set("/\\")
        and 0 < len(case_id.encode()) <= MAX_ID_BYTES
    )
    assert is_usable, f"{name}: the id {case_id!r} cannot be the name of a file"


def _check_files(name: str, found: FoundCase) -> None:
    """Require that files exist and that masks that are painted have a value each."""
    assert found.images, f"{name}: {found.case_id} has no image"
    for path in (*found.images, *found.labels):
        assert path.is_absolute(), f"{name}: {path} is not absolute"
        assert path.exists(), f"{name}: {path} does not exist, and no problem says so"
    if found.paint:
        assert len(found.paint) == len(found.labels), f"{name}: {found.case_id}: paint per mask"


def _check_image(what: str, image: Image) -> None:
    """Require finite numbers (C, *S) with a geometry of as many axes."""
    array, geometry = image.array, image.geometry
    assert array.ndim >= 2, f"{what} has shape {array.shape}: channels come first"
    assert array.size, f"{what} is empty"
    assert array.dtype.kind in "iuf", f"{what} has type {array.dtype}"
    assert np.isfinite(array).all(), f"{what} has NaN or infinite values"
    dims = array.ndim - 1
    assert len(geometry.spacing) == dims, f"{what}: {dims} axes, spacing {geometry.spacing}"
    assert all(step > 0 for step in geometry.spacing), f"{what}: spacing {geometry.spacing}"
    assert len(geometry.origin) in (0, dims), f"{what}: origin {geometry.origin}"
    assert len(geometry.direction) in (0, dims**2), f"{what}: direction {geometry.direction}"


def _check_labels(dataset: Dataset, case: Case, image: Image, labels: Image) -> None:
    """Require whole numbers (1, *S) on the image's grid, and only those of classes."""
    what = f"{dataset.layout}: {case.id}: labels"
    _check_image(what, labels)
    assert labels.array.shape == (1, *image.shape), f"{what}: {labels.array.shape}, {image.shape}"
    assert labels.array.dtype.kind in "iu", f"{what} have type {labels.array.dtype}"
    known = {*dataset.labels.values, dataset.labels.ignore}
    unknown = {int(value) for value in np.unique(labels.array)} - known
    assert not unknown, f"{what}: values {sorted(unknown)}, which no class has"


def _check_excluded(subject: Subject, root: Path, case: Case) -> None:
    """Require that a spec can leave out a case whose labels are missing."""
    spec = subject.spec.revised(layout=subject.entry.name, exclude={case.id: "no labels"})
    try:
        open_dataset(root, spec, None)
    except AutosegError as error:
        raise AssertionError(
            f"{subject.entry.name}: {case.id} lacks its labels and cannot be left out: give its "
            f"`Problem` the case_id {case.id!r}; {error}"
        ) from None


def _check_again(entry: Format, dataset: Dataset, case: Case, image: Image) -> None:
    """Require the same image again, also where somebody has changed the first one."""
    before = image.array.copy()
    if image.array.flags.writeable:
        image.array[...] = 0
    is_same = np.array_equal(before, entry.read_image(dataset, case).array)
    if image.array.flags.writeable:
        image.array[...] = before
    assert is_same, f"{case.id}: another image the second time"


def _check_extent(entry: Format, dataset: Dataset, case: Case, image: Image) -> None:
    """Require that what is told without reading voxels is so, if it can be told at all."""
    try:
        extent = entry.read_extent(dataset, case)
    except AutosegError:
        return
    told = extent.num_channels, tuple(extent.shape), tuple(extent.spacing)
    real = len(image.array), tuple(image.shape), tuple(image.geometry.spacing)
    is_so = told[:2] == real[:2] and np.allclose(told[2], real[2], rtol=1e-3)
    assert is_so, f"{entry.name}: {case.id}: read_extent told {told}, the image has {real}"


def _cut(path: Path) -> None:
    """Cut the second half off a file, or off the largest one in a folder."""
    if path.is_dir():
        path = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _told(subject: Subject, root: Path, before: Case) -> str:
    """Return what finding or reading says about a folder that lacks a file."""
    if subject.spec.layout is None and not subject.entry.is_found(root):
        return f"{before.id}: the folder is no longer found"
    try:
        layout = subject.find(root)
    except AutosegError as error:
        return str(error)
    texts = [problem for problem in layout.problems if not isinstance(problem, Problem)]
    assert not texts, f"{subject.entry.name}: problems that are no records of `Problem`: {texts}"
    if layout.problems:
        _check_excluded(subject, root, before)
        return "\n".join(f"{problem} {problem.case_id}" for problem in layout.problems)
    found = next((case for case in layout.cases if case.case_id == before.id), None)
    if found is not None and layout.reading.masks == "binaries":
        has_fewer = len(found.labels) < len(before.labels)
        return f"{before.id}: one mask less" if has_fewer else ""
    return ""
