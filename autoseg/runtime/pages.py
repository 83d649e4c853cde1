"""The pictures in a file: which of them count, what they are, and the numbers of one of them.

Letters in shapes: C channels, P pages, S spatial axes (YX, or ZYX for stacks).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from . import tiff
from .errors import AutosegError

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import TiffImagePlugin

DESCRIPTION = 270
"""Number of a TIFF file's tag."""
ORIENTATION = 274
"""Number of the tag, in EXIF data as in TIFF files."""
MAX_CHANNELS = 7
"""ImageJ shows no more: a program that wrote more of them, and one slice, meant slices."""
TURNED_NUMBERS = ((2, 16), (2, 32), (3, 32))
"""Kind and bits of those whose bytes Pillow turns although they were decoded in order."""
IMAGEJ_SIZE = re.compile(r"^(channels|slices|frames)=(\d+)", re.MULTILINE)
OME_SIZE = re.compile(r"\bSize([CZT])=\"(\d+)\"")
OME_PIXELS = re.compile(r"<Pixels\b[^>]*>")


@dataclass(frozen=True)
class Layers:
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


def num_pages(picture: "PillowImage.Image") -> int:
    """Return how many pictures a file has, without the previews that phones put into theirs."""
    return len(pages_of(picture))


def pages_of(picture: "PillowImage.Image") -> Sequence[int]:
    """Return the numbers of a file's pictures; those of a TIFF that are smaller copies are none."""
    count = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if count == 1 or picture.format != "TIFF":
        return range(count)
    now = picture.tell()
    found = [*tiff.full_pages(cast("TiffImagePlugin.TiffImageFile", picture))]
    picture.seek(now)
    return found or range(count)


def page_layers(path: Path, picture: "PillowImage.Image") -> Layers:
    """Return what ImageJ's or OME's description says about the pages of a file, if it has one."""
    tags = getattr(picture, "tag_v2", {})
    count, text = num_pages(picture), str(tags.get(DESCRIPTION, ""))
    found = OME_PIXELS.search(text)
    is_imagej, pixels = text.startswith("ImageJ="), found[0] if found else ""
    if count == 1 or not (is_imagej or pixels):
        return Layers()
    sizes = dict(IMAGEJ_SIZE.findall(text) if is_imagej else OME_SIZE.findall(pixels))
    names = ("channels", "slices", "frames") if is_imagej else ("C", "Z", "T")
    channels, slices, times = (int(sizes.get(name, 1)) for name in names)
    is_stack = channels > MAX_CHANNELS and slices * times == 1
    if channels * slices * times != count or is_stack:
        return Layers()  # of several files, or the samples of a pixel
    if times > 1 and channels * slices > 1:
        raise AutosegError(
            found=f"{path}: {times} time points of {slices} slices and {channels} channels",
            expected="one time point",
            fix="store each time point in its own file",
        )
    return Layers(channels, is_imagej or 'DimensionOrder="XYC' in pixels)


def orientation_of(picture: "PillowImage.Image") -> int:
    """Return how a picture is to be turned, as EXIF numbers it: 1 is upright."""
    tags = getattr(picture, "tag_v2", None)
    try:
        if tags is not None:  # of a TIFF
            return int(tags.get(ORIENTATION, 1))
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # viewers pass over broken EXIF data, too
        return 1


def is_misread(picture: "PillowImage.Image") -> bool:
    """Return whether Pillow changes the numbers of a TIFF.

    It cuts several channels of more than 8 bits to 8, takes int8 for uint8, and uint32 for int32,
    and turns the bytes of some compressed numbers once too often.
    """
    tags = picture.tag_v2  # type: ignore[attr-defined]
    bits = max(tags.get(tiff.BITS, (1,)))
    kind = max(tags.get(tiff.SAMPLE_FORMAT, (1,)))  # 1: unsigned, 2: signed, 3: floating point
    if tags.get(tiff.SAMPLES, 1) > 1:
        return bits > 8
    is_turned = tags.prefix == b"MM" and tags.get(tiff.COMPRESSION, tiff.RAW) != tiff.RAW
    return (kind, bits) in ((2, 8), (1, 32)) or (is_turned and (kind, bits) in TURNED_NUMBERS)


def as_colours(picture: "PillowImage.Image") -> NDArray:
    """Return (Y, X) or (Y, X, 3) of one page."""
    if picture.mode in ("P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"):
        return np.asarray(picture.convert("RGB"))
    return as_indices(picture)


def as_indices(picture: "PillowImage.Image") -> NDArray:
    """Return (Y, X) or (Y, X, 3) of one page, palette indices as they are."""
    if picture.mode in ("LA", "PA"):
        return np.asarray(picture)[..., 0]
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    array = np.asarray(picture)
    if array.ndim == 3:
        array = array[..., :3]
    return array.astype(array.dtype.newbyteorder("="), copy=False)
