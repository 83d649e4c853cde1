"""Zarr arrays and OME-Zarr images: images/<case>.zarr with labels/<case>.zarr, or labels inside.

Letters in shapes: C channels, S spatial axes (ZYX, YX or X).
"""

from itertools import islice
from pathlib import Path

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.dataset.files import read_label_files, values_of
from autoseg.dataset.formats.extras import load_package
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.formats.zarr_levels import extent_of, open_finest, read_finest
from autoseg.dataset.label_values import spec_labels
from autoseg.runtime.big_pictures import open_indices
from autoseg.runtime.images import Extent, Image, case_stem, is_image
from autoseg.runtime.images import read_extent as file_extent
from autoseg.runtime.voxels import Voxels

IMAGES = "images"
LABELS = ("labels", "masks")
INSIDE = "labels"
"""Group of an OME-Zarr image that holds its labels."""
ENDINGS = (".ome.zarr", ".zarr")
MAX_FILES = 100
"""So many names are looked at to tell whether a folder holds arrays."""


def is_found(root: Path) -> bool:
    """Return whether a folder, or images/ in it, holds .zarr folders."""
    return any(_has_stores(folder) for folder in (root / IMAGES, root))


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the stores as cases; a spec's `masks` may name the label image inside of them.

    Raises
    ------
    DatasetError
        The package zarr is missing. Images without labels are returned as problems.
    """
    load_package("zarr", "zarr")
    folder = root / IMAGES if _has_stores(root / IMAGES) else root
    images = _by_stem(folder)
    labels: dict[str, Path] = {}
    for name in LABELS if folder != root else ():
        labels |= _by_stem(root / name)
    wanted = spec.masks.rsplit("/", 1)[-1] if isinstance(spec.masks, str) else None
    cases, problems = [], []
    for case_id, path in images.items():
        inside = _labels_inside(path, wanted)
        found = [labels[case_id]] if case_id in labels else inside
        where = path.relative_to(root).as_posix()
        if not found:
            what = f"no labels {LABELS[0]}/{case_id}.zarr, and none inside"
            problems.append(Problem.of(where, what, case_id))
        elif len(found) > 1:
            what = f"several label images ({', '.join(item.name for item in found)})"
            remedy = f'name one in a file given with --spec: {{"masks": "{found[0].name}"}}'
            problems.append(Problem.of(where, what, case_id, remedy=remedy))
        else:
            cases.append(FoundCase(case_id, (path,), (found[0],)))
    problems += [
        Problem.of(
            labels[case_id].relative_to(root).as_posix(),
            f"no image {IMAGES}/{case_id}.zarr",
            case_id,
        )
        for case_id in sorted(set(labels) - set(images))
    ]
    return Layout(
        cases=tuple(cases),
        problems=tuple(problems),
        channels=spec.channels,
        labels=spec_labels(spec),
    )


def read_image(dataset: Dataset, case: Case) -> Image:
    """Return the finest level of an image, (C, *S).

    Raises
    ------
    AutosegError
        It is missing, unreadable, or has several time points.
    """
    return read_finest(dataset.image_paths(case)[0])


def read_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large an image is, from its metadata."""
    return extent_of(dataset.image_paths(case)[0])


def read_label_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large a label image is, from its metadata or header."""
    path = dataset.label_paths(case)[0]
    return file_extent([path]) if is_image(path) and not path.is_dir() else extent_of(path)


def read_labels(dataset: Dataset, case: Case) -> Image:
    """Return the values of a label image, (1, *S).

    Raises
    ------
    AutosegError
        It is missing, unreadable, or does not hold whole numbers.
    """
    path = dataset.label_paths(case)[0]
    if is_image(path) and not path.is_dir():
        return read_label_files(dataset, case)
    return values_of(dataset, path, read_finest(path))


def open_image(dataset: Dataset, case: Case) -> Voxels:
    """Return an image whose chunks are read when they are needed."""
    return open_finest(dataset.image_paths(case)[0])


def open_labels(dataset: Dataset, case: Case) -> Voxels | None:
    """Return the same of a label image; of a file, only where it is a TIFF."""
    path = dataset.label_paths(case)[0]
    return open_indices(path) if is_image(path) and not path.is_dir() else open_finest(path)


def _has_stores(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return any(path.suffix == ".zarr" for path in islice(folder.iterdir(), MAX_FILES))


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return stores, or else image files, by their names without ending."""
    if not folder.is_dir():
        return {}
    found = {}
    for path in sorted(folder.iterdir(), reverse=True):
        ending = next((end for end in ENDINGS if path.name.endswith(end)), None)
        if ending is not None and not path.name.startswith("."):
            found[path.name[: -len(ending)]] = path
        elif is_image(path) and folder.name in LABELS:
            found.setdefault(case_stem(path), path)
    return dict(sorted(found.items()))


def _labels_inside(path: Path, wanted: str | None) -> list[Path]:
    """Return the label images in an OME-Zarr image, or only the one that is wanted."""
    folder = path / INSIDE
    if not folder.is_dir():
        return []
    found = sorted(item for item in folder.iterdir() if item.is_dir())
    chosen = [item for item in found if item.name == wanted]
    return chosen or found


FORMAT = Format(
    name="zarr",
    expects="images/ with .zarr folders and labels/ or masks/, or OME-Zarr images with labels "
    "inside",
    is_found=is_found,
    find_cases=find_cases,
    read_image=read_image,
    read_labels=read_labels,
    read_extent=read_extent,
    read_label_extent=read_label_extent,
    open_image=open_image,
    open_labels=open_labels,
)
