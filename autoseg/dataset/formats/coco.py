"""COCO: JSON files with images, categories and annotations, which are polygons or run lengths.

Letters in shapes: Y, X axes of a picture.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec, Reading
from autoseg.dataset.files import mapped
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.listed import SPLITS, SplitName, case_names
from autoseg.dataset.formats.naming import LABEL_FOLDERS, plain_name, subfolders
from autoseg.dataset.formats.polygons import (
    paint_polygons,
    paint_runs,
    polygon_area,
    run_lengths,
)
from autoseg.dataset.label_values import declared_labels, spec_labels
from autoseg.errors import DatasetError
from autoseg.runtime.images import (
    Extent,
    Geometry,
    Image,
    is_image,
    read_extent,
    smallest_type,
)
from autoseg.runtime.recipe import Labels

PLACES = ("annotations/*.json", "*.json", "*/*.json")
PREFERRED = "instances"
"""COCO's own folder has other annotations of the same images beside these."""
MAX_FILES = 20
"""More JSON files than this in one place have annotations of one image each, in other forms."""
HEAD = 1 << 16
KEY = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')
"""What stands among the first `HEAD` bytes of a file."""
KEYS = ("images", "annotations", "categories")
FORM = 'a JSON object with "images", "categories" and "annotations" with polygons (COCO)'
NUM_CACHED = 4
"""Files whose content is kept for the next case."""

Entry = Mapping[str, Any]


class _Content(NamedTuple):
    """What one file holds."""

    categories: tuple[tuple[int, str], ...]
    """Id and name, by rising id."""
    images: dict[str, Entry]
    """By id, as text."""
    annotations: dict[str, list[Entry]]
    """By the id of their image."""


def is_found(root: Path) -> bool:
    """Return whether a folder holds annotations in this form, and no masks beside them."""
    labels = [path for path in subfolders(root) if plain_name(path.name) in LABEL_FOLDERS]
    has_masks = any(is_image(path) for folder in labels for path in folder.iterdir())
    return not has_masks and bool(_files(root))


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return a case for each image that is listed; the category of an annotation is its class.

    Raises
    ------
    DatasetError
        A file makes no sense, or files differ in their categories. Problems of single images and
        annotations are returned.
    """
    paths = [root / spec.table] if spec.table is not None else _files(root)
    contents = {path: _load(path) for path in paths}
    labels, label_map = _labels(_categories(contents), spec)
    listed = [
        (path, number, file)
        for path, content in contents.items()
        for number, file in _image_files(root, path, content)
    ]
    names = case_names([file for _, _, file in listed])
    problems = [item for path, content in contents.items() for item in _wrong(path, content)]
    first: dict[Path, Path] = {}
    for (path, _, file), name in zip(listed, names, strict=True):
        if not file.is_file() or not is_image(file):
            found = f"no such image in {root.name}/, listed in {path.name}"
            remedy = f"add it, or take it out of {path.name}"
            problems.append(Problem.of(file.name, found, name, remedy=remedy))
        elif file in first:
            found = f"listed in {first[file].name} and again in {path.name}"
            problems.append(Problem.of(file.name, found, name, remedy="list it once"))
        first.setdefault(file, path)
    splits: dict[Path, SplitName | None] = {path: _split(path, root) for path in paths}
    if len(set(splits.values())) == 1:
        splits = dict.fromkeys(paths)  # no split is told
    return Layout(
        cases=tuple(
            FoundCase(name, (file,), (path,), part=part, split=splits[path])
            for (path, part, file), name in zip(listed, names, strict=True)
            if file.is_file()
        ),
        problems=tuple(problems),
        channels=spec.channels,
        labels=labels,
        reading=Reading(label_map=label_map),
    )


def read_labels(dataset: Dataset, case: Case) -> Image:
    """Return the annotations of an image, painted: the largest first, smaller ones on top.

    Values are the ranks of the categories by rising id, from 1, by `Reading.label_map`.

    Raises
    ------
    DatasetError
        An annotation does not fit its image.
    """
    path = dataset.label_paths(case)[0]
    content = _load(path)
    part = case.part or ""
    shape = read_label_extent(dataset, case).shape
    ranks = {number: rank + 1 for rank, (number, _) in enumerate(content.categories)}
    values = np.zeros(shape, smallest_type(np.array([len(ranks)])))
    annotation: Entry = {}
    try:
        for annotation in sorted(content.annotations.get(part, []), key=_area, reverse=True):
            _paint(values, annotation["segmentation"], ranks[annotation["category_id"]])
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            found=f"{path}: an annotation of {case.images[0]} (id {annotation.get('id')}): {error}",
            expected=f"polygons or runs in a picture of {shape[0]} x {shape[1]} pixels",
            fix="correct or remove the annotation",
        ) from None
    values = mapped(values[None], dataset.reading.label_map)
    return Image(values, Geometry((1.0, 1.0), unit="pixel"))


def read_label_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large the annotated image is, as it is listed; else as its own header says."""
    image = _load(dataset.label_paths(case)[0]).images.get(case.part or "", {})
    shape = (int(image.get("height") or 0), int(image.get("width") or 0))
    if not all(shape):
        return read_extent(dataset.image_paths(case))
    return Extent(1, shape, (1.0, 1.0), "pixel")


def _paint(values: NDArray, segmentation: object, value: int) -> None:
    """Paint an annotation into (Y, X) values."""
    if isinstance(segmentation, Mapping):
        paint_runs(values, run_lengths(segmentation["counts"]), value)
    elif isinstance(segmentation, Sequence):
        paint_polygons(values, segmentation, value)


def _area(annotation: Entry) -> float:
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, Mapping):
        return sum(run_lengths(segmentation["counts"])[1::2])
    return polygon_area(segmentation)


def _files(root: Path) -> list[Path]:
    """Return the files with annotations, from the first place that has some."""
    for place in PLACES:
        paths = sorted(path for path in root.glob(place) if path.is_file())
        found = [path for path in paths if _is_coco(path)] if len(paths) <= MAX_FILES else []
        preferred = [path for path in found if path.name.startswith(PREFERRED)]
        if found:
            return preferred or found
    return []


def _is_coco(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") or not KEY.search(head):
        return False
    try:
        status = path.stat()
        content = _parse_json(path, status.st_mtime_ns, status.st_size)
    except ValueError:
        return True  # it looks so; reading it says what is wrong
    return all(isinstance(content.get(key), list) for key in KEYS)


@lru_cache(maxsize=NUM_CACHED)
def _parse_json(path: Path, time_ns: int, size: int) -> Any:  # noqa: ANN401, ARG001 tell of changes
    return json.loads(path.read_bytes())


def _load(path: Path) -> _Content:
    try:
        status = path.stat()
        return _parse(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise DatasetError(
            found=f"{path} cannot be read: {error.strerror}", expected=FORM, fix="correct the path"
        ) from None


@lru_cache(maxsize=NUM_CACHED)
def _parse(path: Path, time_ns: int, size: int) -> _Content:
    fix = "export the annotations again"
    try:
        content = _parse_json(path, time_ns, size)
        categories = sorted((int(item["id"]), str(item["name"])) for item in content["categories"])
        images = {str(item["id"]): item for item in content["images"]}
        annotations: dict[str, list[Entry]] = {}
        for item in content["annotations"]:
            annotations.setdefault(str(item["image_id"]), []).append(item)
    except (KeyError, TypeError) as error:
        found = f"{path} is of another form: {error}"
        raise DatasetError(found=found, expected=FORM, fix=fix) from None
    except ValueError as error:
        raise DatasetError(found=f"{path} is no JSON: {error}", expected=FORM, fix=fix) from None
    if len(images) < len(content["images"]) or len(dict(categories)) < len(categories):
        found = f"{path}: ids of images or categories that are there twice"
        raise DatasetError(found=found, expected="an id of its own for each", fix=fix)
    return _Content(tuple(categories), images, annotations)


def _categories(contents: Mapping[Path, _Content]) -> tuple[str, ...]:
    """Return the names of all files' categories, by rising id; the id is added where two agree."""
    first = next(iter(contents.values())).categories
    for path, content in contents.items():
        if content.categories != first:
            others = next(iter(contents))
            raise DatasetError(
                found=f"{path.name} and {others.name} with different categories",
                expected="the same ids and names in all files with annotations",
                fix='export them together, or name one under "table" in a file given with --spec, '
                'with "layout": "coco"',
            )
    counts = Counter(name for _, name in first)
    return tuple(name if counts[name] == 1 else f"{name} ({number})" for number, name in first)


def _labels(names: Sequence[str], spec: DatasetSpec) -> tuple[Labels, tuple[tuple[int, int], ...]]:
    """Return the classes, and what each rank of a category is read as.

    Raises
    ------
    DatasetError
        The spec declares some categories, but not all.
    """
    declared = spec_labels(spec)
    if declared is None:
        numbers = {name: rank + 1 for rank, name in enumerate(names)}
        same = [(rank, 0) for name, rank in numbers.items() if name.casefold() == "background"]
        others = {name: rank for name, rank in numbers.items() if (rank, 0) not in same}
        return declared_labels({"background": 0, **others}, spec.ignore), tuple(same)
    if spec.label_map is not None:
        return declared, ()  # says itself what each rank is read as
    values = {name: value for name, value in (spec.labels or {}).items() if isinstance(value, int)}
    missing = [name for name in names if name not in values]
    if missing:
        ranks = {"background": 0} | {name: rank + 1 for rank, name in enumerate(names)}
        raise DatasetError(
            found=f"labels without the categories {', '.join(missing)}",
            expected="a value for each category; several may have the value of the background",
            fix="write the names as the annotations have them into the labels of the spec; for "
            f'other names, say with "label_map" what each of {json.dumps(ranks)} is read as',
        )
    pairs = [(rank + 1, values[name]) for rank, name in enumerate(names)]
    return declared, ((0, declared.values[0]), *pairs)


def _image_files(root: Path, path: Path, content: _Content) -> Iterator[tuple[str, Path]]:
    """Return the id and the file of each image: in a folder named like the JSON, or near it."""
    below = [folder for place in ("*/", "images/*/") for folder in sorted(root.glob(place))]
    folders = [path.parent, root, *below]
    folders.sort(key=lambda folder: folder == root or folder.name not in path.stem)
    for number, image in content.images.items():
        name = str(image.get("file_name"))
        found = next((folder for folder in folders if (folder / name).is_file()), root)
        yield number, found / name
        if found != folders[0]:  # the next image will lie there, too
            folders.remove(found)
            folders.insert(0, found)


def _split(path: Path, root: Path) -> SplitName | None:
    """Return the part of an official split that the name of a file or its folder tells."""
    name = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    words = re.split(r"[^a-z]+", name.as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _wrong(path: Path, content: _Content) -> list[Problem]:
    """Return what is wrong with annotations: a problem for each kind of fault."""
    known = dict(content.categories)
    faults: dict[str, list[object]] = {}
    for image, annotations in content.annotations.items():
        for item in annotations:
            if image not in content.images:
                faults.setdefault("of images that are not listed", []).append(item.get("id"))
            elif item.get("category_id") not in known:
                faults.setdefault("of unknown categories", []).append(item.get("id"))
            elif not item.get("segmentation"):
                faults.setdefault("without segmentation", []).append(item.get("id"))
    remedy = "correct or remove these annotations"
    return [
        Problem.of(
            path.name,
            f"{len(ids)} annotations {fault}, the first with id {ids[0]}",
            expected=FORM,
            remedy=remedy,
        )
        for fault, ids in faults.items()
    ]


FORMAT = Format(
    name="coco",
    expects="annotations/*.json or *.json with images, annotations and categories (COCO)",
    is_found=is_found,
    find_cases=find_cases,
    read_labels=read_labels,
    read_label_extent=read_label_extent,
)
