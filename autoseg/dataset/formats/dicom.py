"""DICOM series, one folder a case, with labels as files (NIfTI, NRRD) or as DICOM segmentations.

Letters in shapes: S spatial axes (ZYX or YX).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from autoseg.dataset.dataset import Case, Dataset, DatasetSpec
from autoseg.dataset.files import mapped, read_label_files
from autoseg.dataset.formats.dicom_series import (
    TURN_TOLERANCE,
    Series,
    flat,
    is_dicom,
    modality,
    order_series,
    read_headers,
)
from autoseg.dataset.formats.extras import load_package
from autoseg.dataset.formats.format import Format, FoundCase, Layout, Problem
from autoseg.dataset.label_values import declared_labels, spec_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import Extent, Geometry, Image, case_stem, is_image, same_spacing
from autoseg.runtime.images import read_extent as file_extent
from autoseg.runtime.recipe import Labels

IMAGES = "images"
LABELS = ("labels", "masks")
LABEL_NAMES = ("seg", "label", "mask")
"""How names of label files in the folder of a case begin."""
MAX_FOLDERS, MAX_FILES, MAX_DEPTH = 5, 100, 3
"""So much is looked at to tell whether a folder holds DICOM series."""


@dataclass(frozen=True)
class _Scan:
    """What the folder of one case holds."""

    found: FoundCase
    series: Series
    segments: tuple[tuple[int, str], ...] | None
    """Number and name of each segment; None: the labels are no DICOM segmentation."""


def is_found(root: Path) -> bool:
    """Return whether folders in a folder, or in images/ there, hold DICOM files."""
    base = root / IMAGES if (root / IMAGES).is_dir() else root
    entries = (path for path in islice(base.iterdir(), MAX_FILES) if _is_case(path))
    return any(_has_dicom(path, MAX_DEPTH) for path in islice(entries, MAX_FOLDERS))


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return one case a folder; the headers of all its files are read, the voxels are not.

    Cases of one patient are a group, which bears a number: names of patients go nowhere.

    Raises
    ------
    DatasetError
        A package is missing. Folders that make no sense are returned as problems.
    """
    load_package("pydicom", "dicom")
    base = root / IMAGES if (root / IMAGES).is_dir() else root
    label_files = _label_files(root)
    scans: list[_Scan] = []
    left_out: list[FoundCase] = []
    problems: list[Problem] = []
    for path in sorted(path for path in base.iterdir() if _is_case(path)):
        case_id = path.stem if path.is_file() else path.name
        if spec.excludes(case_id):
            left_out.append(FoundCase(case_id, (path,), ()))
            continue
        try:
            scans.append(_scan(path, case_id, label_files))
        except DatasetError as error:
            place = path.relative_to(root).as_posix()
            problems.append(Problem(error.found, (place,), case_id, error.expected, error.fix))
    return Layout(
        cases=(*_grouped(scans), *left_out),
        problems=tuple(problems),
        channels=spec.channels or _channels(scans),
        labels=spec_labels(spec) or _segment_labels(scans, spec.ignore),
    )


def read_image(dataset: Dataset, case: Case) -> Image:
    """Return the series of a case, in two axes if it is a single picture.

    Raises
    ------
    DatasetError
        Files are missing or unreadable, or slices are missing.
    """
    path = dataset.image_paths(case)[0]
    series = _series(path)
    try:
        return series.read()
    except AutosegError:
        raise
    except Exception as error:  # whatever the decoder raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DatasetError(
            found=f"{path} cannot be read: {lines[-1].strip()}",
            expected="a DICOM series that is whole, in a compression that GDCM knows",
            fix="copy the files again, or decompress them (gdcmconv --raw)",
        ) from error


def read_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large the series of a case is, from its headers."""
    series = _series(dataset.image_paths(case)[0])
    channels = int(getattr(series.headers[0], "SamplesPerPixel", None) or 1)
    return Extent(channels, series.shape, series.geometry.spacing[-len(series.shape) :])


def read_label_extent(dataset: Dataset, case: Case) -> Extent:
    """Return how large the labels of a case are: as its series, where only axes differ.

    A segmentation may leave slices out: its rows and columns tell.
    """
    image, path = read_extent(dataset, case), dataset.label_paths(case)[0]
    if is_dicom(path):
        return replace(image, num_channels=1, shape=(*image.shape[:-2], *_segment_size(path)))
    labels = file_extent([path])
    shape, spacing = labels.shape, labels.spacing
    if len(shape) == 3 and shape[0] == 1 and len(image.shape) == 2:
        shape, spacing = shape[1:], spacing[1:]
    is_turned = sorted(shape) == sorted(image.shape) and same_spacing(
        sorted(spacing), sorted(image.spacing)
    )
    return image if is_turned else replace(labels, shape=shape, spacing=spacing)


def _segment_size(path: Path) -> tuple[int, int]:
    """Return rows and columns of a DICOM segmentation."""
    pydicom = load_package("pydicom", "dicom")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return int(header.Rows), int(header.Columns)
    except Exception as error:  # whatever the package raises
        raise DatasetError(
            found=f"{path} has no size: {error}",
            expected="a DICOM segmentation",
            fix="export the labels again",
        ) from error


def read_labels(dataset: Dataset, case: Case) -> Image:
    """Return the labels of a case on the grid of its series, (1, *S).

    Labels in files whose axes run otherwise, as converters write them, are turned.

    Raises
    ------
    AutosegError
        They are missing, unreadable, or do not fit the series.
    """
    series, path = _series(dataset.image_paths(case)[0]), dataset.label_paths(case)[0]
    if is_dicom(path):
        mask = _read_segments(dataset, path, series)
    else:
        mask = turned(read_label_files(dataset, case), series.geometry)
    return flat(mask, series)


def turned(image: Image, grid: Geometry) -> Image:
    """Return an image with its axes in the order and direction of a grid's, voxels as they are.

    An image that is oblique to the grid, or does not know its direction, stays.
    """
    if len(image.shape) != 3 or not (grid.direction and image.geometry.direction):
        return image
    axes = np.reshape(image.geometry.direction, (3, 3))
    turn = np.reshape(grid.direction, (3, 3)).T @ axes  # (grid axis, image axis), XYZ
    if not np.allclose(np.abs(turn), np.rint(np.abs(turn)), atol=10 * TURN_TOLERANCE):
        return image
    source = np.abs(turn).argmax(axis=1)  # the image's axis along each of the grid's, XYZ
    signs = np.rint(turn[np.arange(3), source])
    size, spacing = image.shape[::-1], image.geometry.spacing[::-1]  # ZYX -> XYZ
    origin = np.array(image.geometry.origin)
    for axis, sign in zip(source, signs, strict=True):
        if sign < 0:
            origin = origin + axes[:, axis] * spacing[axis] * (size[axis] - 1)
    order = [0, *(3 - int(axis) for axis in source[::-1])]  # (C, Z, Y, X)
    flips = (slice(None), *(slice(None, None, int(sign)) for sign in signs[::-1]))
    geometry = Geometry(
        tuple(spacing[axis] for axis in source[::-1]),
        tuple(float(place) for place in origin),
        tuple(float(value) for value in (axes[:, source] * signs).ravel()),
        image.geometry.unit,
    )
    return Image(np.ascontiguousarray(image.array.transpose(order)[flips]), geometry)


def _is_case(path: Path) -> bool:
    """Return whether a folder or file may be a case: by its name."""
    if path.name.startswith(".") or path.name in LABELS:
        return False
    return path.is_dir() or path.suffix.lower() in (".dcm", ".dicom")


def _has_dicom(path: Path, depth: int) -> bool:
    if not path.is_dir():
        return is_dicom(path)
    entries = list(islice(path.iterdir(), MAX_FILES))
    if any(is_dicom(entry) for entry in entries if not entry.is_dir()):
        return True
    folders = islice((entry for entry in entries if entry.is_dir()), MAX_FOLDERS)
    return depth > 1 and any(_has_dicom(folder, depth - 1) for folder in folders)


def _series(path: Path) -> Series:
    if not path.exists():
        raise DatasetError(
            found=f"no folder {path}", expected="a DICOM series there", fix="add the folder"
        )
    return order_series(path, read_headers(path))


def _label_files(root: Path) -> dict[str, list[Path]]:
    """Return the files and folders in the folders of labels, by case."""
    found: dict[str, list[Path]] = {}
    for folder in (root / name for name in LABELS if (root / name).is_dir()):
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                inside = [item for item in sorted(path.rglob("*")) if is_dicom(item)]
                found.setdefault(path.name, []).extend(inside)
            elif is_image(path) or is_dicom(path):
                stem = case_stem(path) if is_image(path) else path.stem
                found.setdefault(stem, []).append(path)
    return found


def _scan(path: Path, case_id: str, label_files: Mapping[str, Sequence[Path]]) -> _Scan:
    """Return what is in the folder of a case and beside it."""
    files = read_headers(path)
    series = order_series(path, files)
    labels = [*label_files.get(case_id, ()), *_labels_inside(path)]
    labels += [file for file, header in files if modality(header) == "SEG"]
    if len(labels) != 1:
        contours = [file for file, header in files if modality(header) == "RTSTRUCT"]
        raise _wrong_labels(path, case_id, labels, contours)
    segments = _segments(path, labels[0]) if is_dicom(labels[0]) else None
    return _Scan(FoundCase(case_id, (path,), (labels[0],)), series, segments)


def _labels_inside(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if is_image(file) and file.name.lower().startswith(LABEL_NAMES):
                yield file


def _wrong_labels(
    path: Path, case_id: str, labels: Sequence[Path], contours: Sequence[Path]
) -> DatasetError:
    """Return why a case has not the one label file that it should have."""
    where = f"{LABELS[0]}/{case_id}.nii.gz"
    if labels:
        found = f"{path}: several label files: {', '.join(item.name for item in labels)}"
        fix = "keep one"
    elif contours:
        found = f"{path}: contours (RTSTRUCT) in {contours[0].name}, but no voxels of labels"
        fix = f"convert them, e.g. with plastimatch or 3D Slicer, and store them as {where}"
    else:
        found = f"{path}: no labels"
        fix = f"add {where}, or seg.nii.gz or a DICOM segmentation in the folder"
    return DatasetError(found=found, expected="one label file a case", fix=fix)


def _grouped(scans: Sequence[_Scan]) -> Iterator[FoundCase]:
    """Yield the cases, each with a number for its patient, unless all are the same or unknown."""
    patients = [str(getattr(scan.series.headers[0], "PatientID", "") or "") for scan in scans]
    numbers = {patient: index for index, patient in enumerate(dict.fromkeys(patients), start=1)}
    is_known = len(numbers) > 1 and "" not in numbers
    for scan, patient in zip(scans, patients, strict=True):
        found = scan.found
        group = f"patient {numbers[patient]}" if is_known else None
        yield FoundCase(found.case_id, found.images, found.labels, group=group)


def _channels(scans: Sequence[_Scan]) -> tuple[str, ...] | None:
    """Return the modality, where all series have the same and one channel."""
    kinds = {modality(scan.series.headers[0]) for scan in scans}
    counts = {int(getattr(scan.series.headers[0], "SamplesPerPixel", None) or 1) for scan in scans}
    return tuple(kinds) if len(kinds) == 1 and counts == {1} and kinds != {""} else None


def _segments(case: Path, path: Path) -> tuple[tuple[int, str], ...]:
    """Return number and name of each segment of a DICOM segmentation."""
    load_package("highdicom", "dicom")
    pydicom = load_package("pydicom", "dicom")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        return tuple(
            (int(item.SegmentNumber), str(item.SegmentLabel)) for item in header.SegmentSequence
        )
    except Exception as error:  # whatever the package raises
        if modality(pydicom.dcmread(path, stop_before_pixels=True, force=True)) == "RTSTRUCT":
            raise _wrong_labels(case, case.name, [], [path]) from None
        raise DatasetError(
            found=f"{path}: no DICOM segmentation",
            expected="labels as DICOM segmentation or as NIfTI",
            fix="export the labels again",
        ) from error


def _segment_labels(scans: Sequence[_Scan], ignore: int | None) -> Labels | None:
    """Return a class for each name of a segment, where all labels are DICOM segmentations."""
    names: dict[str, None] = {}
    for scan in scans:
        if scan.segments is None:
            return None
        names |= dict.fromkeys(name for _, name in sorted(scan.segments))
    others = [name for name in names if name.casefold() != "background"]
    if not others:
        return None
    return declared_labels({"background": 0} | {n: i + 1 for i, n in enumerate(others)}, ignore)


def _read_segments(dataset: Dataset, path: Path, series: Series) -> Image:
    """Return the values of a DICOM segmentation, (1, Z, Y, X); segments are classes by name."""
    numbers = _segments(path, path)
    seg: Any = load_package("highdicom.seg", "dicom")
    try:
        array = seg.segread(path).get_pixels_by_source_instance(
            [header.SOPInstanceUID for header in series.headers],
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
    except Exception as error:  # whatever the package raises
        raise DatasetError(
            found=f"{path} does not fit the series: {error}",
            expected="segments that do not overlap, drawn on the images in the folder of the case",
            fix="export the labels as NIfTI on the grid of the images",
        ) from error
    if dataset.labels_declared:
        known = dict(zip(dataset.labels.names, dataset.labels.values, strict=True))
        unknown = [name for _, name in numbers if name not in known]
        if unknown:
            raise DatasetError(
                found=f"{path}: segments {', '.join(unknown)}, which are no classes",
                expected=f"only the classes {', '.join(known)}",
                fix="name the classes in the spec as the segments are named",
            )
        table = np.full(1 + max(number for number, _ in numbers), dataset.labels.values[0])
        for number, name in numbers:
            table[number] = known[name]
        array = table[array]
    return Image(mapped(array[None], dataset.reading.label_map), series.geometry)


FORMAT = Format(
    name="dicom",
    expects="a folder of DICOM files a case, and labels/ or masks/ with a file for each, "
    "or a segmentation in it",
    is_found=is_found,
    find_cases=find_cases,
    read_image=read_image,
    read_labels=read_labels,
    read_extent=read_extent,
    read_label_extent=read_label_extent,
)
