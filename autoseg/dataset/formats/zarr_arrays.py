"""Zarr arrays and OME-Zarr images: images/<case>.zarr with labels/<case>.zarr, or labels inside.

Letters in shapes: C channels, S spatial axes (ZYX, YX or X).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.dataset.files import read_label_files, values_of
from autoseg.dataset.formats.extras import load_package
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.big_pictures import open_indices
from autoseg.runtime.crop import Box
from autoseg.runtime.images import Extent, Geometry, Image, case_stem, is_image
from autoseg.runtime.images import read_extent as file_extent
from autoseg.runtime.voxels import Voxels

IMAGES = "images"
LABELS = ("labels", "masks")
INSIDE = "labels"
"""Group of an OME-Zarr image that holds its labels."""
ENDINGS = (".ome.zarr", ".zarr")
MAX_FILES = 100
"""So many names are looked at to tell whether a folder holds arrays."""
AXES = {1: "x", 2: "yx", 3: "zyx", 4: "czyx"}
"""Axes of a plain array by their number."""
MILLIMETRES = {
    "angstrom": 1e-7,
    "nanometer": 1e-6,
    "micrometer": 1e-3,
    "micron": 1e-3,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "meter": 1000.0,
}
"""Length of OME-Zarr's units."""


@dataclass(frozen=True)
class _Axis:
    name: str
    kind: str
    """"time", "channel" or "space"."""
    step: float
    """In `unit`."""
    unit: str | None


@dataclass(frozen=True)
class _Level:
    """The finest resolution of an image: an array whose voxels are not read yet."""

    array: Any
    axes: tuple[_Axis, ...]

    @property
    def channel_axis(self) -> int | None:
        """Which axis is channels."""
        return next((i for i, axis in enumerate(self.axes) if axis.kind == "channel"), None)

    @property
    def space(self) -> tuple[int, ...]:
        """Which axes are spatial; a depth of one slice is none."""
        found = [i for i, axis in enumerate(self.axes) if axis.kind == "space"]
        return tuple(found[1:] if len(found) == 3 and self.array.shape[found[0]] == 1 else found)


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
    return _read(dataset.image_paths(case)[0])


def read_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large an image is, from its metadata."""
    return _extent(dataset.image_paths(case)[0])


def read_label_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large a label image is, from its metadata or header."""
    path = dataset.label_paths(case)[0]
    return file_extent([path]) if is_image(path) and not path.is_dir() else _extent(path)


def _extent(path: Path) -> Extent:
    level = _open(path)
    channels = 1 if level.channel_axis is None else level.array.shape[level.channel_axis]
    shape = tuple(level.array.shape[axis] for axis in level.space)
    geometry = _geometry(path, level)
    return Extent(channels, shape, geometry.spacing, geometry.unit)


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
    return values_of(dataset, path, _read(path))


def open_image(dataset: Dataset, case: Case) -> Voxels:
    """Return an image whose chunks are read when they are needed."""
    return _voxels(dataset.image_paths(case)[0])


def open_labels(dataset: Dataset, case: Case) -> Voxels | None:
    """Return the same of a label image; of a file, only where it is a TIFF."""
    path = dataset.label_paths(case)[0]
    return open_indices(path) if is_image(path) and not path.is_dir() else _voxels(path)


def _voxels(path: Path) -> Voxels:
    level = _open(path)
    shape, chunks = level.array.shape, level.array.chunks
    return Voxels(
        num_channels=1 if level.channel_axis is None else shape[level.channel_axis],
        shape=tuple(shape[axis] for axis in level.space),
        dtype=_kind(level.array.dtype),
        geometry=_geometry(path, level),
        part_shape=tuple(chunks[axis] for axis in level.space),
        read=lambda box: _read_box(path, level, box),
    )


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


def _read(path: Path) -> Image:
    level = _open(path)
    whole = tuple((0, level.array.shape[axis]) for axis in level.space)
    return Image(_read_box(path, level, whole), _geometry(path, level))


def _read_box(path: Path, level: _Level, box: Box) -> NDArray:
    """Return (C, *S) of a box along the spatial axes."""
    spans = dict(zip(level.space, box, strict=True))
    index = tuple(
        slice(*spans[i]) if i in spans else slice(None) if axis.kind == "channel" else 0
        for i, axis in enumerate(level.axes)
    )
    try:
        array = np.asarray(level.array[index])
    except Exception as error:  # whatever a codec raises
        raise _unreadable(path, error) from error
    if array.dtype.kind not in "iufb" or array.size == 0:
        raise AutosegError(
            found=f"{path}: an array of type {array.dtype} and shape {array.shape}",
            expected="real numbers, at least one along every axis",
            fix="export the array again",
        )
    if level.channel_axis is None:
        array = array[None]  # (1, *S)
    else:
        dropped = sum(isinstance(item, int) for item in index[: level.channel_axis])
        array = np.moveaxis(array, level.channel_axis - dropped, 0)  # (C, *S)
    return np.ascontiguousarray(array.astype(_kind(array.dtype), copy=False))


def _kind(dtype: np.dtype) -> np.dtype:
    """Return the type of numbers that is given out: in this machine's order, no truth values."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _geometry(path: Path, level: _Level) -> Geometry:
    axes = [level.axes[index] for index in level.space]
    lengths = [MILLIMETRES.get(axis.unit or "") for axis in axes]
    spacing = tuple(
        axis.step * (1.0 if None in lengths else length or 1.0)
        for axis, length in zip(axes, lengths, strict=True)
    )
    if not all(np.isfinite(step) and step > 0 for step in spacing):
        raise AutosegError(
            found=f"{path}: scale {spacing}",
            expected="a positive distance of voxels along every axis",
            fix="correct coordinateTransformations in the metadata",
        )
    return Geometry(spacing, unit="pixel" if None in lengths else "mm")


def _open(path: Path) -> _Level:
    """Return the finest level of an image.

    Raises
    ------
    AutosegError
        There is none, its metadata make no sense, or it has several time points.
    """
    zarr = load_package("zarr", "zarr")
    try:
        found = zarr.open(str(path), mode="r")
        level = _plain_level(found) if hasattr(found, "shape") else _group_level(found)
    except Exception as error:  # whatever the package raises
        raise _unreadable(path, error) from error
    shape, kinds = level.array.shape, [axis.kind for axis in level.axes]
    times = [n for n, kind in zip(shape, kinds, strict=False) if kind == "time"]
    is_fine = len(kinds) == len(shape) and all(n == 1 for n in times)
    if not (is_fine and kinds.count("channel") <= 1 and 1 <= kinds.count("space") <= 3):
        names = ", ".join(axis.name for axis in level.axes) or "none that are known"
        raise AutosegError(
            found=f"{path}: shape {shape} with the axes {names}",
            expected="one time point, channels at most once, one to three spatial axes",
            fix="store each time point in its own .zarr, and name the axes in OME-Zarr's metadata",
        )
    return level


def _plain_level(array: Any) -> _Level:  # noqa: ANN401
    names = getattr(array.metadata, "dimension_names", None) or ()
    is_named = len(names) == array.ndim and set(names) <= set("tczyx")
    axes = names if is_named else AXES.get(array.ndim, "")
    return _Level(array, _axes(list(axes), [1.0] * array.ndim))


def _group_level(group: Any) -> _Level:  # noqa: ANN401
    """Return the level of a group: the first of OME-Zarr's list, "0", or the only array."""
    attributes = dict(group.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if not multiscales:
        arrays = dict(group.arrays())
        if "0" not in arrays and len(arrays) != 1:
            raise ValueError(f"a group with {len(arrays)} arrays and without multiscales metadata")
        return _plain_level(arrays["0"] if "0" in arrays else next(iter(arrays.values())))
    image = multiscales[0]
    finest = image["datasets"][0]
    array = group[finest["path"]]
    scale = np.ones(array.ndim)
    for item in (finest, image):
        for step in item.get("coordinateTransformations", ()):
            if step["type"] == "scale":
                scale = scale * step["scale"]
    return _Level(array, _axes(image.get("axes") or list("tczyx"), scale.tolist()))


def _axes(axes: Sequence[str | dict], scale: Sequence[float]) -> tuple[_Axis, ...]:
    """Return the axes of an image: names alone, or OME-Zarr's objects with name, type and unit."""
    entries = [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    kinds = {"t": "time", "c": "channel"}
    return tuple(
        _Axis(
            entry["name"],
            kinds.get(entry["name"], entry.get("type", "space")),
            float(step),
            entry.get("unit"),
        )
        for entry, step in zip(entries, scale, strict=False)
    )


def _unreadable(path: Path, error: Exception) -> DatasetError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DatasetError(
        found=f"{path} cannot be read: {lines[-1]}",
        expected="a Zarr array, or an OME-Zarr image (version 0.1 to 0.5)",
        fix="copy or export the folder again",
    )


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
