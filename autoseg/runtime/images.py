"""Reading and writing of images: the one place that knows formats, axis order and geometry.

Letters in shapes: C channels, K classes, S spatial axes (ZYX, YX, or X for signals).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from . import nifti, pictures, signals, volumes
from .errors import AutosegError
from .geometry import Extent as Extent
from .geometry import Geometry as Geometry
from .geometry import Image as Image
from .geometry import Unit as Unit
from .voxels import Voxels

T = TypeVar("T")
NIFTI_FORMATS = (".nii.gz", ".nii")
VOLUME_FORMATS = (*NIFTI_FORMATS, ".nrrd", ".mha", ".mhd")
PICTURE_FORMATS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".svs", ".bmp", ".gif")
STORE_FORMATS = (".ome.zarr", ".zarr")
"""Folders that are one image; the runtime by itself cannot read them."""
LOSSY_FORMATS = (".jpg", ".jpeg")
FORMATS = (*VOLUME_FORMATS, *PICTURE_FORMATS, ".npy")
TABLE_FORMAT = ".csv"
"""Signals too, where a layout or the user says so: most tables beside images are something else."""

SPACING_TOLERANCE = 1e-3
"""Relative difference up to which two spacings are the same: headers round to single precision."""
WHOLE_TOLERANCE = 1e-3
"""Labels may be this far from a whole number: a header's slope and intercept round."""


def is_image(path: Path) -> bool:
    """Return whether a file's name has a known ending and is not hidden."""
    name = path.name.lower()
    return name.endswith(FORMATS) and not name.startswith(".")


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder, sorted; the tables of signals where there is nothing else."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    tables = (path for path in files if path.name.lower().endswith(TABLE_FORMAT))
    return [path for path in files if is_image(path)] or [
        path for path in tables if not path.name.startswith(".")
    ]


def file_ending(path: Path) -> str:
    """Return the known ending of a file's name in lower case, e.g. ".nii.gz".

    Raises
    ------
    AutosegError
        The ending is not one of `FORMATS`, `TABLE_FORMAT` or `STORE_FORMATS`.
    """
    name = path.name.lower()
    for ending in (*FORMATS, TABLE_FORMAT, *STORE_FORMATS):
        if name.endswith(ending):
            return ending
    signals.refuse_record(path)
    raise AutosegError(
        found=f"{path}: an unknown kind of image",
        expected=f"a file ending in one of {', '.join(FORMATS)}",
        fix="convert the file to one of these formats",
    )


def case_stem(path: Path) -> str:
    """Return a file's name without its known ending."""
    return path.name[: -len(file_ending(path))]


def output_ending(path: Path) -> str:
    """Return the ending under which labels for an image are written.

    Its own, but never a lossy one or a scanner's, and one file instead of the two of ".mhd".
    """
    ending = file_ending(path)
    if ending == ".mhd":
        return ".mha"
    if ending == ".svs":
        return ".tif"
    return ".png" if ending in LOSSY_FORMATS else ending


def is_image_name(path: Path) -> bool:
    """Return whether a name ends as an image's does."""
    return path.name.lower().endswith((*FORMATS, TABLE_FORMAT, *STORE_FORMATS))


def is_store(path: Path) -> bool:
    """Return whether a name is that of a folder which is one image."""
    return path.name.lower().endswith(STORE_FORMATS) and not path.name.startswith(".")


def can_hold_labels(path: Path, image: Path) -> bool:
    """Return whether labels for an image can be written to a file of this name."""
    kinds = (VOLUME_FORMATS, PICTURE_FORMATS, STORE_FORMATS)
    endings = file_ending(path), output_ending(image)
    is_alike = len(set(endings)) == 1 or any(set(endings) <= set(kind) for kind in kinds)
    return is_alike and output_ending(path) == endings[0]


def same_spacing(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two spacings agree within `SPACING_TOLERANCE`."""
    return len(first) == len(second) and bool(
        np.allclose(first, second, rtol=SPACING_TOLERANCE, atol=0)
    )


def refuse_store(path: Path) -> NoReturn:
    """Refuse a folder that is one image, where only files are read."""
    raise AutosegError(
        found=f"{path}: a Zarr folder, which is not read here",
        expected="an image file",
        fix="predict it with the command `autoseg predict`, which reads it piece by piece "
        "(pip install autoseg-unet[zarr])",
    )


def read_image(paths: Sequence[Path]) -> Image:
    """Return the image in one file, or in one file a channel (stacked in the order given).

    Colour pictures give three channels, an alpha channel is dropped; a fourth axis is channels.

    Raises
    ------
    AutosegError
        A file is missing, unreadable, or differs from the first in shape or spacing.
    """
    images = [_read(path, pictures.read_colours) for path in paths]
    if len(images) == 1:
        return images[0]
    first = images[0]
    for path, image in zip(paths[1:], images[1:], strict=True):
        require_same_grid(paths[0], first, path, image)
    return Image(np.concatenate([image.array for image in images]), first.geometry)


def read_extent(paths: Sequence[Path]) -> Extent:
    """Return how large the image in one file, or in one file a channel, is: from headers alone.

    Raises
    ------
    AutosegError
        A file is missing, or its header makes no sense.
    """
    extents = [_decode(path, format_of(path).read_extent) for path in paths]
    return replace(extents[0], num_channels=sum(item.num_channels for item in extents))


def read_mask(path: Path) -> Image:
    """Return the numbers in a mask, (C, *S), as they stand in the file: of any type and format.

    Palette and 1-bit pictures give their indices.
    """
    return _read(path, pictures.read_indices)


def read_labels(path: Path) -> Image:
    """Return the label map in a file: (1, *S) whole numbers, as they stand in the file.

    Palette and 1-bit pictures give their indices. A colour picture whose channels are equal counts
    as grey. Numbers stored as floating point are accepted where they are whole.

    Raises
    ------
    AutosegError
        The file is missing, unreadable, lossily compressed, coloured, or holds broken numbers.
    """
    if file_ending(path) in LOSSY_FORMATS and path.exists():
        raise AutosegError(
            found=f"{path}: labels in a JPEG file, whose compression changes label values",
            expected="labels in a lossless format",
            fix="export the labels again as PNG, TIFF or NIfTI; a converted JPEG keeps the damage",
        )
    image = _read(path, pictures.read_indices)
    return Image(whole_numbers(path, single_channel(path, image.array)), image.geometry)


def single_channel(path: Path, array: NDArray) -> NDArray:
    """Return (1, *S) of labels (C, *S) whose channels are all the same.

    Raises
    ------
    AutosegError
        They differ; `path` is for the message.
    """
    if len(array) > 1 and not (array == array[:1]).all():
        raise AutosegError(
            found=f"{path}: labels with {len(array)} different channels",
            expected="one channel in which every class has its own whole number",
            fix="convert colours or channels to class numbers, stored in one grey channel",
        )
    return array[:1]


def write_labels(path: Path, labels: NDArray, geometry: Geometry) -> None:
    """Write (*S) whole numbers as they are, in the smallest type that holds them.

    Raises
    ------
    AutosegError
        The format cannot hold the values, or the file cannot be written; nothing is left behind.
    """
    ending = file_ending(path)
    if ending != output_ending(path):
        raise ValueError(f"labels cannot be written to {path}: see `output_ending`")
    labels = labels.astype(smallest_type(labels), copy=False)
    if ending in PICTURE_FORMATS:
        write_whole(path, lambda temporary: pictures.write(temporary, labels))
    else:
        form = format_of(path)
        write = signals.write_labels if form is signals else form.write
        write_whole(path, lambda temporary: write(temporary, labels, geometry))


def write_image(path: Path, image: Image) -> None:
    """Write an image in the type of its array, all channels in one file.

    Pictures hold one or three channels of 8 or 16 bits (see `pictures.write`).
    """
    channels = image.array[0] if len(image.array) == 1 else image.array
    ending = file_ending(path)
    if ending not in PICTURE_FORMATS:
        write = format_of(path).write
        write_whole(path, lambda temporary: write(temporary, channels, image.geometry))
    elif len(image.array) == 1:
        write_whole(path, lambda temporary: pictures.write(temporary, channels))
    else:
        colours = np.moveaxis(image.array, 0, -1)  # (*S, C)
        write_whole(path, lambda temporary: pictures.write(temporary, colours))


def smallest_type(labels: NDArray) -> np.dtype:
    """Return the smallest integer type that holds the values: unsigned, signed when negative."""
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    kinds = ("int8", "int16", "int32") if low < 0 else ("uint8", "uint16", "uint32")
    for kind in kinds:
        limits = np.iinfo(kind)
        if limits.min <= low and high <= limits.max:
            return np.dtype(kind)
    raise AutosegError(
        found=f"label values from {low} to {high}",
        expected="values that fit 32 bits",
        fix="give the classes smaller numbers",
    )


def format_of(path: Path) -> ModuleType:
    """Return the module that reads and writes files of this ending."""
    ending = file_ending(path)
    if ending in VOLUME_FORMATS:
        return nifti if ending in NIFTI_FORMATS else volumes
    return pictures if ending in PICTURE_FORMATS else signals


def _read(path: Path, read_picture: Callable[[Path], NDArray]) -> Image:
    def decode(path: Path) -> Image:
        if format_of(path) is not pictures:
            return format_of(path).read(path)
        array = read_picture(path)
        return Image(array, Geometry((1.0,) * (array.ndim - 1), unit="pixel"))

    image = _decode(path, decode)
    if 0 in image.array.shape:
        raise AutosegError(
            found=f"{path}: an image without voxels, shape {image.shape}",
            expected="at least one voxel along every axis",
            fix="export the file again",
        )
    return image


def _decode(path: Path, decode: Callable[[Path], T]) -> T:
    """Return what `decode` makes of a file, with errors that say what is wrong with the file."""
    ending = file_ending(path)
    if is_store(path):
        refuse_store(path)
    if not path.is_file():
        raise AutosegError(
            found=f"no file {path}",
            expected=f"a {ending} file there",
            fix="add the file or correct its name",
        )
    try:
        return decode(path)
    except (AutosegError, MemoryError):
        raise
    except Exception as error:
        # Whatever a decoder raises means that it cannot make sense of the file.
        raise AutosegError(
            found=f"{path} ({path.stat().st_size} bytes) cannot be read: {_last_line(error)}",
            expected=f"a whole {ending} file",
            fix="copy or export the file again; it is truncated, damaged or of another kind",
        ) from error


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def require_same_grid(
    first_path: Path, first: Image | Voxels, path: Path, image: Image | Voxels
) -> None:
    """Refuse files of one case that differ in shape or spacing."""
    if first.shape != image.shape:
        found = f"{path.name} has shape {image.shape}, {first_path.name} {first.shape}"
    elif not same_spacing(first.geometry.spacing, image.geometry.spacing):
        spacings = image.geometry.spacing, first.geometry.spacing
        found = f"{path.name} has spacing {spacings[0]}, {first_path.name} {spacings[1]}"
    else:
        return
    raise AutosegError(
        found=f"{path.parent}: {found}",
        expected="channels of one case with the same shape and spacing",
        fix="resample the channels to one grid, or correct the pairing of the files",
    )


def whole_numbers(path: Path, array: NDArray) -> NDArray:
    """Return (1, *S) labels as an integer type.

    Raises
    ------
    AutosegError
        They are no whole numbers; `path` is for the message.
    """
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind != "f":
        found, fix = f"values of type {array.dtype}", "export the labels as whole numbers"
    elif not np.isfinite(array).all():
        found, fix = "NaN or infinite values", "replace them by the number of a class"
    else:
        whole = np.rint(array)
        broken = np.abs(array - whole) > WHOLE_TOLERANCE
        if not broken.any():
            return whole.astype(smallest_type(whole))
        examples = ", ".join(f"{value:.6g}" for value in np.unique(array[broken])[:5])
        found = f"broken numbers in {int(broken.sum())} of {broken.size} voxels, e.g. {examples}"
        fix = "export the labels again without interpolation or rescaling"
    raise AutosegError(found=f"{path}: {found}", expected="labels that are whole numbers", fix=fix)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file at once or not at all: under a temporary name, then renamed."""
    ending = ".npz" if path.suffix == ".npz" else file_ending(path)
    temporary = path.with_name(f".{uuid4().hex[:12]}{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except AutosegError as error:
        found = f"{path} cannot be written: {error.found}"
        raise AutosegError(found=found, expected=error.expected, fix=error.fix) from error
    except (OSError, RuntimeError) as error:
        raise AutosegError(
            found=f"{path} cannot be written: {_last_line(error)}",
            expected="a writable folder with enough free space",
            fix="free space or choose another folder, then run the same command again",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
