"""Picture formats (PNG, JPEG, TIFF, BMP, GIF), by Pillow; what it would round, by SimpleITK.

Pixels lie as viewers show them: turned as the file's EXIF data say. The pages of a TIFF file are
slices, or channels where ImageJ's or OME's description says so; a voxel size that stands there is
left aside, since most programs drop it when they write labels.
Letters in shapes: C channels, S spatial axes: YX, for TIFF files of several pages ZYX.
"""

import io
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import big_pictures, tiff, volumes
from .errors import AutosegError
from .geometry import Extent
from .pages import (
    as_colours,
    as_indices,
    is_misread,
    num_pages,
    orientation_of,
    page_layers,
    pages_of,
)

if TYPE_CHECKING:
    from PIL import Image as PillowImage

PNG_HEADER = 26
"""Bytes up to the bit depth (24) and the colour type (25) of a PNG file."""
TURNED = (5, 6, 7, 8)
"""Orientations whose rows are shown as columns."""
MAX_WHOLE = 1 << 25
"""Pixels of the pages that Pillow decodes at once, in several copies."""


def read_colours(path: Path) -> NDArray:
    """Return (C, *S): grey, or red, green and blue; palettes are resolved, alpha is dropped."""
    return _read(path, as_colours)


def read_indices(path: Path) -> NDArray:
    """Return (C, *S) with palette indices instead of colours."""
    return _read(path, as_indices)


def read_extent(path: Path) -> Extent:
    """Return how large a picture is, from the header of its file."""
    from PIL import Image

    try:
        with _open(path) as picture:
            size = picture.size[::-1]  # XY -> YX
            if picture.format == "PNG" and "exif" not in picture.info:
                pass  # asking for its orientation would decode the picture
            elif orientation_of(picture) in TURNED and picture.format != "TIFF":
                size = size[::-1]
            bands = [band for band in picture.getbands() if band != "A"]
            channels = 3 if picture.mode in ("P", "PA", "CMYK") else len(bands)
            pages, layers = num_pages(picture), page_layers(path, picture)
    except (Image.DecompressionBombError, Image.UnidentifiedImageError):
        return volumes.read_extent(path)
    pages, channels = pages // layers.channels, channels * layers.channels
    shape = (pages, *size) if pages > 1 else size
    return Extent(channels, shape, (1.0,) * len(shape), "pixel")


@dataclass(frozen=True)
class Storage:
    """How a picture is stored, as its header says."""

    kind: str | None = None
    """"palette", "alpha" or "1-bit", else None."""
    palette: bytes = b""
    """Its colours, in whatever form the file has them."""
    orientation: int = 1
    """How it is to be turned, as EXIF numbers it: 1 is upright."""


def storage(path: Path) -> Storage:
    """Return how a picture is stored; nothing of a broken file."""
    from PIL import Image

    try:
        with _open(path) as picture:
            mode, palette = picture.mode, getattr(picture.palette, "palette", None)
            is_plain = picture.format == "PNG" and "exif" not in picture.info
            orientation = 1 if is_plain else orientation_of(picture)
    except (OSError, ValueError, Image.DecompressionBombError):
        return Storage()  # broken files are reported where they are read
    kinds = {"P": "palette", "PA": "palette", "1": "1-bit", "LA": "alpha", "RGBA": "alpha"}
    return Storage(kinds.get(mode), bytes(palette or b""), orientation)


def used_colours(path: Path) -> dict[int, int]:
    """Return the colour, 0xRRGGBB, of each index that a picture with a palette holds."""
    indices, colours = read_indices(path)[0], read_colours(path)
    codes = np.tensordot([1 << 16, 1 << 8, 1], colours, axes=1)
    found, places = np.unique(indices, return_index=True)
    return dict(zip(found.tolist(), codes.ravel()[places].tolist(), strict=True))


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

    try:
        picture = _open(path)
    except Image.DecompressionBombError:  # large pictures are welcome
        return _read_deep(path)
    except Image.UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        raise AutosegError(
            found=f"{path} cannot be read: damaged, or a rare kind of TIFF",
            expected="up to 4 samples a pixel of 8, 16 or 32 bits (floating point: 32)",
            fix="export it as such a TIFF, further channels as pages with ImageJ's or OME's "
            "description or as files of their own",
        ) from None
    with picture:
        if picture.format == "TIFF" and orientation_of(picture) in TURNED:
            # Pillow maps uncompressed files into memory in the wrong shape, but not open ones.
            with path.open("rb") as file, Image.open(file) as unmapped:
                return _read_tiff(path, unmapped, convert)
        if picture.format == "TIFF":
            return _read_tiff(path, picture, convert)
        if num_pages(picture) > 1:
            raise AutosegError(
                found=f"{path}: an animation of {num_pages(picture)} pictures",
                expected="one picture a file, or a TIFF file with several pages for a volume",
                fix="store each picture in its own file",
            )
        if _pillow_would_round(path):
            return _read_deep(path, orientation_of(picture))
        array = convert(picture)  # (Y, X) or (Y, X, 3)
        return _channels_first(_upright(array, orientation_of(picture)), 2)


def _open(path: Path) -> "PillowImage.Image":
    """Return an opened picture; large ones are refused as suspicious unless they are TIFFs."""
    from PIL import Image

    if path.suffix.lower() in big_pictures.ENDINGS:
        with suppress(SyntaxError):  # another format under this name, or a rare kind
            return tiff.open_tiff(path)
    return Image.open(path)


def _read_tiff(
    path: Path, picture: "PillowImage.Image", convert: "Callable[[PillowImage.Image], NDArray]"
) -> NDArray:
    """Return (C, *S) of a TIFF file, whose pages Pillow turns upright itself."""
    from PIL import Image

    if is_misread(picture) or math.prod(picture.size) > MAX_WHOLE:
        parts = big_pictures.read_parts(path, convert)
        if parts is not None:
            return parts
    layers = page_layers(path, picture)
    try:
        array = None if is_misread(picture) else _read_pages(picture, convert)
    except Image.DecompressionBombError:  # raised when it is decoded, too
        array = None
    if array is None:
        array = _read_deep(path, orientation_of(picture))
    return layers.arrange(array[0]) if layers.channels > 1 else array


def _read_pages(
    picture: "PillowImage.Image", convert: "Callable[[PillowImage.Image], NDArray]"
) -> NDArray:
    """Return (C, *S) of all pages of a TIFF file."""
    pages = []
    for page in pages_of(picture):
        picture.seek(page)
        pages.append(convert(picture))  # (Y, X) or (Y, X, 3)
    several = len(pages) > 1
    return _channels_first(np.stack(pages) if several else pages[0], 3 if several else 2)


def _upright(pixels: NDArray, orientation: int) -> NDArray:
    """Return (Y, X) or (Y, X, C) pixels as a viewer shows them."""
    if orientation in TURNED:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _pillow_would_round(path: Path) -> bool:
    """Return whether a file is a PNG of several channels with 16 bits, which Pillow cuts to 8."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        header = file.read(PNG_HEADER)
    return len(header) == PNG_HEADER and header[24] == 16 and header[25] != 0


def _read_deep(path: Path, orientation: int = 1) -> NDArray:
    import SimpleITK as sitk

    if path.suffix.lower() != ".png" and orientation not in (1, 4):
        # ITK turns a TIFF itself, but cuts it to 8 bits for that.
        raise AutosegError(
            found=f"{path}: a turned TIFF (orientation {orientation}) of uncommon numbers",
            expected="rows from top to bottom and columns from left to right",
            fix="export it upright",
        )
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)  # (*S) or (*S, C)
    if image.GetNumberOfComponentsPerPixel() in (2, 4):
        array = array[..., :-1]  # the last is alpha
    if path.suffix.lower() == ".png":
        array = _upright(array, orientation)
    return _channels_first(array, image.GetDimension())


def _channels_first(array: NDArray, dimensions: int) -> NDArray:
    if array.ndim == dimensions:
        return array[None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))
