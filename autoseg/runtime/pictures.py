"""Picture formats (PNG, JPEG, TIFF, BMP, GIF), by Pillow; what it would round, by SimpleITK.

Letters in shapes: C channels, S spatial axes: YX, for TIFF files of several pages ZYX.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import volumes
from .errors import AutosegError
from .geometry import Extent

if TYPE_CHECKING:
    from PIL import Image as PillowImage

PNG_HEADER = 26
"""Bytes up to the bit depth (24) and the colour type (25) of a PNG file."""
TIFF_BITS_PER_SAMPLE = 258
TIFF_SAMPLES_PER_PIXEL = 277


def read_colours(path: Path) -> NDArray:
    """Return (C, *S): grey, or red, green and blue; palettes are resolved, alpha is dropped."""
    return _read(path, _colours)


def read_indices(path: Path) -> NDArray:
    """Return (C, *S) with palette indices instead of colours."""
    return _read(path, _indices)


def read_extent(path: Path) -> Extent:
    """Return how large a picture is, from the header of its file."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            pages, size = getattr(picture, "n_frames", 1), picture.size[::-1]  # XY -> YX
            channels = 3 if picture.mode == "P" else len(picture.getbands())
    except (Image.DecompressionBombError, Image.UnidentifiedImageError):
        return volumes.read_extent(path)
    shape = (pages, *size) if pages > 1 else size
    return Extent(channels, shape, (1.0,) * len(shape))


def write(path: Path, array: NDArray) -> None:
    """Write (Y, X) or (Y, X, 3) numbers, to TIFF also (Z, Y, X): 8 bits, or 16 in PNG and TIFF.

    Raises
    ------
    AutosegError
        The format cannot hold the values or the number of axes.
    """
    from PIL import Image

    is_tiff, is_png = path.suffix in (".tif", ".tiff"), path.suffix == ".png"
    is_colour = array.ndim == 3 and array.shape[-1] == 3 and array.dtype == np.uint8
    is_stack = array.ndim == 3 and not is_colour
    kinds = ("uint8", "uint16", "int32", "float32") if is_tiff else ("uint8", "uint16")
    kinds = kinds if is_tiff or is_png else ("uint8",)
    if is_tiff and array.dtype.kind in "iu" and array.dtype.name not in kinds:
        array = array.astype(np.int32)
    if array.dtype.name not in kinds or (is_stack and not is_tiff):
        raise AutosegError(
            found=f"{array.ndim} axes of {array.dtype}",
            expected=f"what a {path.suffix} file can hold: two axes of {' or '.join(kinds)}",
            fix="use another format, e.g. TIFF or NIfTI, for these images",
        )
    pages = [Image.fromarray(page) for page in (array if is_stack else array[None])]
    content = io.BytesIO()  # Pillow does not notice a full disk for every format (measured)
    if is_tiff:
        options = {"compression": "tiff_deflate", "save_all": True, "append_images": pages[1:]}
        pages[0].save(content, "TIFF", **options)
    elif path.suffix == ".gif":
        pages[0].save(content, "GIF", optimize=False)  # optimising renumbers the palette
    else:
        pages[0].save(content, path.suffix[1:].upper())
    path.write_bytes(content.getvalue())


def _read(path: Path, convert: "Callable[[PillowImage.Image], NDArray]") -> NDArray:
    from PIL import Image

    if _pillow_would_round(path):
        return _read_deep(path)
    try:
        picture = Image.open(path)
    except Image.DecompressionBombError:  # large pictures are welcome
        return _read_deep(path)
    with picture:
        if picture.format == "TIFF" and _is_deep_colour(picture):
            return _read_deep(path)
        return _read_pages(path, picture, convert)


def _read_pages(
    path: Path, picture: "PillowImage.Image", convert: "Callable[[PillowImage.Image], NDArray]"
) -> NDArray:
    num_pages = getattr(picture, "n_frames", 1)
    if num_pages == 1:
        return _channels_first(convert(picture), 2)
    if picture.format != "TIFF":
        raise AutosegError(
            found=f"{path}: an animation of {num_pages} pictures",
            expected="one picture a file, or a TIFF file with several pages for a volume",
            fix="store each picture in its own file",
        )
    pages = []
    for page in range(num_pages):
        picture.seek(page)
        pages.append(convert(picture))  # (Y, X) or (Y, X, 3)
    return _channels_first(np.stack(pages), 3)


def _pillow_would_round(path: Path) -> bool:
    """Return whether a file is a PNG of several channels with 16 bits, which Pillow cuts to 8."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        header = file.read(PNG_HEADER)
    return len(header) == PNG_HEADER and header[24] == 16 and header[25] != 0


def _is_deep_colour(picture: "PillowImage.Image") -> bool:
    """Return whether a TIFF has several channels of more than 8 bits, which Pillow cuts to 8."""
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(TIFF_BITS_PER_SAMPLE, (1,))
    return tags.get(TIFF_SAMPLES_PER_PIXEL, 1) > 1 and max(bits) > 8


def _read_deep(path: Path) -> NDArray:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)  # (*S) or (*S, C)
    if image.GetNumberOfComponentsPerPixel() in (2, 4):
        array = array[..., :-1]  # the last is alpha
    return _channels_first(array, image.GetDimension())


def _channels_first(array: NDArray, dimensions: int) -> NDArray:
    if array.ndim == dimensions:
        return array[None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _colours(picture: "PillowImage.Image") -> NDArray:
    """Return (Y, X) or (Y, X, 3) of one page."""
    if picture.mode in ("P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(picture.convert("RGB"))
    return _indices(picture)


def _indices(picture: "PillowImage.Image") -> NDArray:
    """Return (Y, X) or (Y, X, 3) of one page, palette indices as they are."""
    if picture.mode in ("LA", "PA"):
        return np.asarray(picture)[..., 0]
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    array = np.asarray(picture)
    if array.ndim == 3:
        array = array[..., :3]
    return array.astype(array.dtype.newbyteorder("="), copy=False)
