"""One DICOM series: its slices in order, and where they are.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.formats.extras import load_package
from autoseg.errors import DatasetError
from autoseg.runtime import volumes
from autoseg.runtime.images import Geometry, Image

ENDINGS = (".dcm", ".dicom", ".ima", "")
"""Names of DICOM files often have no ending."""
MAGIC, MAGIC_AT = b"DICM", 128
TAGS = (
    "Columns",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImagerPixelSpacing",
    "Modality",
    "NumberOfFrames",
    "PatientID",
    "PixelSpacing",
    "Rows",
    "SamplesPerPixel",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "SOPInstanceUID",
)
"""What is read of a header: the rest of it is passed over, and the pixels."""
GAP_TOLERANCE = 0.05
"""Distances of slices may differ by this part: positions are rounded."""
TURN_TOLERANCE = 1e-3
MAX_SHOWN = 5


@dataclass(frozen=True)
class Series:
    """The slices of one series, in order of their position along the normal of the slices."""

    paths: tuple[Path, ...]
    headers: tuple[Any, ...]
    geometry: Geometry
    """Of three axes, also for one slice; without origin and direction where it has no position."""

    @property
    def is_single(self) -> bool:
        """Whether this is one picture: its image has two axes."""
        return len(self.paths) == 1 and self.num_frames == 1

    @property
    def num_frames(self) -> int:
        """Slices in the first file."""
        return int(getattr(self.headers[0], "NumberOfFrames", None) or 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the spatial axes, voxels."""
        size = int(self.headers[0].Rows), int(self.headers[0].Columns)
        return size if self.is_single else (len(self.paths) * self.num_frames, *size)

    def read(self) -> Image:
        """Return the voxels (C, *S), rescaled as the headers say; where zero is white, inverted."""
        import SimpleITK as sitk

        if self.num_frames > 1:
            return volumes.read(self.paths[0])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(path) for path in self.paths])
        image = reader.Execute()
        array = sitk.GetArrayFromImage(image)  # (Z, Y, X) or (Z, Y, X, C)
        has_channels = image.GetNumberOfComponentsPerPixel() > 1
        array = np.moveaxis(array, -1, 0) if has_channels else array[None]
        return flat(Image(np.ascontiguousarray(array), self.geometry), self)


def flat(image: Image, series: Series) -> Image:
    """Return an image without the axis of its only slice, where the series is one picture."""
    if not series.is_single or len(image.shape) != 3 or image.shape[0] != 1:
        return image
    geometry = Geometry(image.geometry.spacing[1:], unit=image.geometry.unit)
    return Image(image.array[:, 0], geometry)


def is_dicom(path: Path) -> bool:
    """Return whether a file is DICOM: by its ending, else by its first bytes."""
    ending = path.suffix.lower()
    if ending in ENDINGS[:-1]:
        return path.is_file()
    if (ending and not ending[1:].isdecimal()) or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(MAGIC_AT + len(MAGIC))[MAGIC_AT:] == MAGIC


def read_headers(path: Path) -> list[tuple[Path, Any]]:
    """Return the DICOM files in a folder and the folders inside, or one file, with their headers.

    Raises
    ------
    DatasetError
        A file that should be DICOM cannot be read.
    """
    pydicom = load_package("pydicom", "dicom")
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    found = []
    for file in files:
        if file.name.startswith(".") or file.name == "DICOMDIR" or not is_dicom(file):
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*TAGS])
        except Exception as error:  # whatever the package raises
            raise DatasetError(
                found=f"{file} cannot be read: {str(error) or type(error).__name__}",
                expected="a whole DICOM file",
                fix="copy the file again, or take it out of the folder",
            ) from error
        found.append((file, header))
    return found


def modality(header: Any) -> str:  # noqa: ANN401
    """Return what kind of object a file is, "CT" or "SEG" for example."""
    return str(getattr(header, "Modality", "") or "")


def order_series(path: Path, files: Sequence[tuple[Path, Any]]) -> Series:
    """Return the one series of images among some files.

    Raises
    ------
    DatasetError
        There is none or more than one, or its slices make no even stack.
    """
    by_series: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for file, header in files:
        if getattr(header, "Rows", None) and modality(header) not in ("SEG", "RTSTRUCT"):
            by_series[str(getattr(header, "SeriesInstanceUID", ""))].append((file, header))
    if len(by_series) != 1:
        raise _not_one(path, [*by_series.values()])
    slices = next(iter(by_series.values()))
    if len({(item.Rows, item.Columns) for _, item in slices}) > 1:
        counts = Counter(f"{item.Rows} x {item.Columns}" for _, item in slices)
        listed = ", ".join(f"{count} of {size}" for size, count in counts.items())
        raise _uneven(path, f"slices of different sizes: {listed}")
    if len(slices) == 1:
        return Series((slices[0][0],), (slices[0][1],), _geometry(slices[0][1], None))
    return _stack(path, slices)


def _stack(path: Path, slices: Sequence[tuple[Path, Any]]) -> Series:
    """Return slices in order, with the distance that their positions have."""
    cosines = [found for _, header in slices if (found := _orientation(header)) is not None]
    if len(cosines) < len(slices):
        raise _uneven(path, f"{len(slices)} images without position or orientation")
    first = cosines[0]
    if max(float(np.abs(found - first).max()) for found in cosines) > TURN_TOLERANCE:
        raise _uneven(path, "slices with different orientations")
    normal = np.cross(first[:3], first[3:])
    places = np.array([np.dot(header.ImagePositionPatient, normal) for _, header in slices])
    order = np.argsort(places, kind="stable")
    ordered, places = [slices[int(index)] for index in order], places[order]
    steps = np.diff(places)
    step = float(np.median(steps))
    if step <= 0 or steps.min() < GAP_TOLERANCE * step:
        same = int((steps < GAP_TOLERANCE * max(step, 1e-3)).sum())
        raise _uneven(path, f"{same} slices at the position of another: time points or echoes")
    gaps = [
        f"{distance:g} mm instead of {step:g} mm between {before.name} and {after.name}"
        for distance, ((before, _), (after, _)) in zip(steps, pairwise(ordered), strict=True)
        if abs(distance - step) > GAP_TOLERANCE * step
    ]
    if gaps:
        more = f" and {len(gaps) - MAX_SHOWN} more" if len(gaps) > MAX_SHOWN else ""
        raise _uneven(path, f"missing slices: {'; '.join(gaps[:MAX_SHOWN])}{more}")
    distance = float(places[-1] - places[0]) / len(steps)
    files, headers = zip(*ordered, strict=True)
    return Series(files, headers, _geometry(headers[0], distance))


def _orientation(header: Any) -> NDArray | None:  # noqa: ANN401
    """Return (6,) cosines of rows and columns, None where a header lacks them or the position."""
    cosines = getattr(header, "ImageOrientationPatient", None)
    if not cosines or not getattr(header, "ImagePositionPatient", None):
        return None
    return np.array(cosines, float)


def _geometry(header: Any, distance: float | None) -> Geometry:  # noqa: ANN401
    steps = getattr(header, "PixelSpacing", None) or getattr(header, "ImagerPixelSpacing", None)
    thickness = float(getattr(header, "SliceThickness", None) or 1.0)
    if not steps:
        return Geometry((distance or 1.0, 1.0, 1.0), unit="pixel")
    spacing = (distance or thickness, float(steps[0]), float(steps[1]))  # rows, columns: YX
    cosines = _orientation(header)
    if cosines is None:
        return Geometry(spacing)
    axes = np.stack([cosines[:3], cosines[3:], np.cross(cosines[:3], cosines[3:])], axis=1)
    origin = tuple(float(place) for place in header.ImagePositionPatient)
    return Geometry(spacing, origin, tuple(float(value) for value in axes.ravel()))


def _not_one(path: Path, series: Sequence[Sequence[tuple[Path, Any]]]) -> DatasetError:
    if not series:
        return DatasetError(
            found=f"{path}: no DICOM images",
            expected="one series of images",
            fix="add the files, or remove the folder",
        )
    listed = "; ".join(
        f"{getattr(item[0][1], 'SeriesDescription', None) or 'without description'} "
        f"(number {getattr(item[0][1], 'SeriesNumber', '?')}, {len(item)} files such as "
        f"{item[0][0].relative_to(path).as_posix()})"
        for item in series
    )
    return DatasetError(
        found=f"{path}: {len(series)} series: {listed}",
        expected="one series of images in the folder of a case",
        fix="keep the series that the labels were drawn on, and move the others elsewhere",
    )


def _uneven(path: Path, found: str) -> DatasetError:
    return DatasetError(
        found=f"{path}: {found}",
        expected="slices of one size and direction at even distances",
        fix="export the series again completely, or exclude the case in a spec",
    )
