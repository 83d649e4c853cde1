"""Picture formats (PNG, JPEG, TIFF, BMP, GIF), by Pillow; what it would round, by SimpleITK.

Pixels lie as viewers show them: turned as the file's EXIF data say. The pages of a TIFF file are
slices, or channels where ImageJ's or OME's description says so; a voxel size that stands there is
left aside, since most programs drop it when they write labels.
Letters in shapes: C channels, S spatial axes: YX, for TIFF files of several pages ZYX.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
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
TIFF_DESCRIPTION = 270
TIFF_SAMPLES_PER_PIXEL = 277
TIFF_SAMPLE_FORMAT = 339
ORIENTATION = 274
"""Number of the tag, in EXIF data as in TIFF files."""
TURNED = (5, 6, 7, 8)
"""Orientations whose rows are shown as columns."""
MAX_CHANNELS = 7
"""ImageJ shows no more: a program that wrote more of them, and one slice, meant slices."""
IMAGEJ_SIZE = re.compile(r"^(channels|slices|frames)=(\d+)", re.MULTILINE)
OME_SIZE = re.compile(r"\bSize([CZT])=\"(\d+)\"")
OME_PIXELS = re.compile(r"<Pixels\b[^>]*>")


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
            size = picture.size[::-1]  # XY -> YX
            if picture.format == "PNG" and "exif" not in picture.info:
                pass  # asking for its orientation would decode the picture
            elif _orientation(picture) in TURNED and picture.format != "TIFF":
                size = size[::-1]
            bands = [band for band in picture.getbands() if band != "A"]
            channels = 3 if picture.mode in ("P", "PA", "CMYK") else len(bands)
            pages, layers = _num_pages(picture), _layers(path, picture)
    except (Image.DecompressionBombError, Image.UnidentifiedImageError):
        return volumes.read_extent(path)
    pages, channels = pages // layers.channels, channels * layers.channels
    shape = (pages, *size) if pages > 1 else size
    return Extent(channels, shape, (1.0,) * len(shape))


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
        with Image.open(path) as picture:
            mode, palette = picture.mode, getattr(picture.palette, "palette", None)
            is_plain = picture.format == "PNG" and "exif" not in picture.info
            orientation = 1 if is_plain else _orientation(picture)
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


@dataclass(frozen=True)
class _Layers:
    """What the pages of a TIFF file are: slices of so many channels."""

    channels: int = 1
    is_interleaved: bool = True
    """Whether a page is followed by the next channel of the same slice."""

    def arrange(self, pages: NDArray) -> NDArray:
        """Return (C, *S) of (P, Y, X) pages."""
        if self.is_interleaved:
            stack = pages.reshape(-1, self.channels, *pages.shape[1:]).swapaxes(0, 1)
        else:
            stack = pages.reshape(self.channels, -1, *pages.shape[1:])
        return np.ascontiguousarray(stack[:, 0] if stack.shape[1] == 1 else stack)


def _read(path: Path, convert: "Callable[[PillowImage.Image], NDArray]") -> NDArray:
    from PIL import Image

    try:
        picture = Image.open(path)
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
        if picture.format == "TIFF" and _orientation(picture) in TURNED:
            # Pillow maps uncompressed files into memory in the wrong shape, but not open ones.
            with path.open("rb") as file, Image.open(file) as unmapped:
                return _read_tiff(path, unmapped, convert)
        if picture.format == "TIFF":
            return _read_tiff(path, picture, convert)
        if _num_pages(picture) > 1:
            raise AutosegError(
                found=f"{path}: an animation of {_num_pages(picture)} pictures",
                expected="one picture a file, or a TIFF file with several pages for a volume",
                fix="store each picture in its own file",
            )
        if _pillow_would_round(path):
            return _read_deep(path, _orientation(picture))
        array = convert(picture)  # (Y, X) or (Y, X, 3)
        return _channels_first(_upright(array, _orientation(picture)), 2)


def _read_tiff(
    path: Path, picture: "PillowImage.Image", convert: "Callable[[PillowImage.Image], NDArray]"
) -> NDArray:
    """Return (C, *S) of a TIFF file, whose pages Pillow turns upright itself."""
    layers = _layers(path, picture)
    if _is_misread(picture):
        array = _read_deep(path, _orientation(picture))
    else:
        pages = []
        for page in range(_num_pages(picture)):
            picture.seek(page)
            pages.append(convert(picture))  # (Y, X) or (Y, X, 3)
        several = len(pages) > 1
        array = _channels_first(np.stack(pages) if several else pages[0], 3 if several else 2)
    return layers.arrange(array[0]) if layers.channels > 1 else array


def _num_pages(picture: "PillowImage.Image") -> int:
    """Return how many pictures a file has, without the previews that phones put into theirs."""
    return 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)


def _layers(path: Path, picture: "PillowImage.Image") -> _Layers:
    """Return what ImageJ's or OME's description says about the pages of a file, if it has one."""
    tags = getattr(picture, "tag_v2", {})
    num_pages, text = _num_pages(picture), str(tags.get(TIFF_DESCRIPTION, ""))
    found = OME_PIXELS.search(text)
    is_imagej, pixels = text.startswith("ImageJ="), found[0] if found else ""
    if num_pages == 1 or not (is_imagej or pixels):
        return _Layers()
    sizes = dict(IMAGEJ_SIZE.findall(text) if is_imagej else OME_SIZE.findall(pixels))
    names = ("channels", "slices", "frames") if is_imagej else ("C", "Z", "T")
    channels, slices, times = (int(sizes.get(name, 1)) for name in names)
    is_stack = channels > MAX_CHANNELS and slices * times == 1
    if channels * slices * times != num_pages or is_stack:
        return _Layers()  # of several files, or the samples of a pixel
    if times > 1 and channels * slices > 1:
        raise AutosegError(
            found=f"{path}: {times} time points of {slices} slices and {channels} channels",
            expected="one time point",
            fix="store each time point in its own file",
        )
    return _Layers(channels, is_imagej or 'DimensionOrder="XYC' in pixels)


def _orientation(picture: "PillowImage.Image") -> int:
    """Return how a picture is to be turned, as EXIF numbers it: 1 is upright."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # viewers pass over broken EXIF data, too
        return 1


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


def _is_misread(picture: "PillowImage.Image") -> bool:
    """Return whether Pillow changes the numbers of a TIFF.

    It cuts several channels of more than 8 bits to 8, takes int8 for uint8, and uint32 for int32.
    """
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(TIFF_BITS_PER_SAMPLE, (1,)))
    kind = max(tags.get(TIFF_SAMPLE_FORMAT, (1,)))  # 1: unsigned, 2: signed, 3: floating point
    if tags.get(TIFF_SAMPLES_PER_PIXEL, 1) > 1:
        return bits > 8
    return (kind, bits) in ((2, 8), (1, 32))


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
