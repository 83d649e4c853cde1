"""TIFF files whose tiles or strips are decoded when a box of pixels is read.

The numbers are those of `pictures.read_colours` and `read_indices`.
Letters in shapes: C channels, P pages, S spatial axes (YX or ZYX).
"""

import io
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import tiff
from .crop import Box
from .errors import AutosegError
from .geometry import Geometry
from .pages import Layers, as_colours, as_indices, is_misread, orientation_of, page_layers
from .tiff import Page, Tag
from .voxels import Voxels

if TYPE_CHECKING:
    from PIL import Image as PillowImage

ENDINGS = (".tif", ".tiff", ".svs")
MAX_PART_BYTES = 1 << 26
"""A tile or strip that is larger is no part: reading a box would decode most of the image."""
CUT_BYTES = 1 << 24
"""Decoded bytes of what is cut out of a page at once."""
MAX_SHEAR = 1.05
"""A smaller copy's axes are scaled alike, but for rounding to whole tiles."""
LOSSLESS = (tiff.RAW, 5, 8, 32773, 32946, 34925, 50000)
"""Compressions of bytes, whatever they mean: LZW, deflate, PackBits, LZMA, Zstandard."""
DEEP_TYPES = {
    (1, 8): "u1",
    (2, 8): "i1",
    (1, 16): "u2",
    (2, 16): "i2",
    (1, 32): "u4",
    (2, 32): "i4",
    (3, 32): "f4",
}
"""Type of numbers by TIFF's kind (unsigned, signed, floating point) and bits."""
DIFFERENCES = 2
"""Predictor: each sample is stored as the difference from the pixel before."""


def open_colours(path: Path) -> Voxels | None:
    """Return the pixels of a TIFF file (grey or colours) by box; None where only all can be read.

    That is so for other files, turned pictures, those stored as one compressed strip, broken ones.
    """
    return _open(path, as_colours)


def open_indices(path: Path) -> Voxels | None:
    """Return the same with palette indices instead of colours."""
    return _open(path, as_indices)


def open_levels(path: Path) -> tuple[Voxels, ...]:
    """Return what `open_colours` returns, then its smaller copies, from large to small.

    A copy's spacing says how much coarser it is; empty where only all can be read at once.
    """
    image = open_colours(path)
    if image is None:
        return ()
    with suppress(Exception):  # copies are an offer: a file that is broken elsewhere is told there
        levels = [_as_level(picture, image) for picture in _examine_copies(path)]
        found = [level for level in levels if level is not None]
        return image, *sorted(found, key=lambda level: math.prod(level.shape), reverse=True)
    return (image,)


def read_parts(path: Path, convert: "Callable[[PillowImage.Image], NDArray]") -> NDArray | None:
    """Return (C, *S) of a whole TIFF file, put together of its parts; None where that cannot be."""
    voxels = _open(path, convert)
    if voxels is None:
        return None
    return voxels.read(tuple((0, size) for size in voxels.shape))


@dataclass(frozen=True)
class _Deep:
    """Samples that Pillow would change: each is decoded as a pixel of whole numbers."""

    dtype: np.dtype
    samples: int
    """Of a pixel."""
    between: int
    """Samples of a pixel that lie one beside the other."""
    has_differences: bool
    """Whether they are still to be summed up."""
    is_turned: bool
    """Whether Pillow turned the bytes of decoded numbers."""

    def samples_first(self, pixels: NDArray, part_width: int) -> NDArray:
        """Return (C, Y, X) of decoded samples (Y, X * C), whose parts are so many samples wide."""
        pixels = pixels.byteswap() if self.is_turned else pixels
        array = pixels.reshape(len(pixels), -1, self.between)  # (Y, X, C)
        if self.has_differences:
            array = array.copy()
            width = part_width // self.between
            for start in range(0, array.shape[1], width):
                part = array[:, start : start + width]
                np.cumsum(part, axis=1, dtype=array.dtype, out=part)
        return np.moveaxis(array.view(self.dtype), -1, 0)


@dataclass(frozen=True)
class _Picture:
    """The pages of a TIFF file and what they become."""

    path: Path
    pages: tuple[Page, ...]
    layers: Layers
    convert: "Callable[[PillowImage.Image], NDArray]"
    deep: _Deep | None

    @property
    def part_shape(self) -> tuple[int, int]:
        """Rows and columns, in pixels, of a tile or strip."""
        rows, columns = self.pages[0].part_shape
        return rows, columns // self.between

    @property
    def between(self) -> int:
        """Columns of a page that are one pixel."""
        return 1 if self.deep is None else self.deep.between

    def read(self, box: Box) -> NDArray:
        """Return (C, *S) of a box.

        Raises
        ------
        AutosegError
            The file is damaged.
        """
        try:
            with self.path.open("rb") as file:
                return self._read(file, box)
        except (AutosegError, MemoryError):
            raise
        except Exception as error:  # whatever a decoder raises
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise AutosegError(
                found=f"{self.path} ({self.path.stat().st_size} bytes) cannot be read: {lines[-1]}",
                expected=f"a whole {self.path.suffix.lower()} file",
                fix="copy or export the file again; it is truncated, damaged or of another kind",
            ) from error

    def _read(self, file: BinaryIO, box: Box) -> NDArray:
        rows, columns = box[-2:]
        if len(self.pages) == 1:
            return self._read_page(file, 0, rows, columns)
        channels = self.layers.channels
        start, stop = box[0] if len(box) == 3 else (0, 1)
        if channels == 1:
            pages = [self._read_page(file, page, rows, columns) for page in range(start, stop)]
            return np.stack(pages, axis=1)
        depth = len(self.pages) // channels
        array = np.stack(
            [
                self._read_page(file, self._page(channel, depth, z), rows, columns)[0]
                for channel in range(channels)
                for z in range(start, stop)
            ]
        ).reshape(channels, stop - start, *(high - low for low, high in (rows, columns)))
        return array if len(box) == 3 else array[:, 0]

    def _page(self, channel: int, depth: int, z: int) -> int:
        """Return the number of the page of a channel's slice."""
        if self.layers.is_interleaved:
            return z * self.layers.channels + channel
        return channel * depth + z

    def _read_page(
        self, file: BinaryIO, number: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> NDArray:
        """Return (C, Y, X) of a range of rows and columns, decoded some parts at a time."""
        page, (height, width) = self.pages[number], self.part_shape
        across = slice(columns[0] // width, math.ceil(columns[1] / width))
        last, left = math.ceil(rows[1] / height), across.start * width
        line_bytes = height * page.part_shape[1] * (across.stop - across.start) * page.pixel_bytes
        step = max(1, CUT_BYTES // line_bytes)
        out: NDArray | None = None
        for first in range(rows[0] // height, last, step):
            down = slice(first, min(first + step, last))
            part, top = self._decode(page, file, down, across), first * height
            inside = slice(max(rows[0] - top, 0), min(rows[1] - top, part.shape[1]))
            part = part[:, inside, columns[0] - left : columns[1] - left]
            if out is None:
                size = rows[1] - rows[0], columns[1] - columns[0]
                out = np.empty((len(part), *size), part.dtype)
            place = top + inside.start - rows[0]
            out[:, place : place + part.shape[1]] = part
        assert out is not None, "boxes are not empty"
        return out

    def _decode(self, page: Page, file: BinaryIO, rows: slice, columns: slice) -> NDArray:
        """Return (C, Y, X) of the parts at these places."""
        if self.deep is None:
            every = slice(0, len(page.offsets))
            array = _pixels(page.cut(file, rows, columns, every), self.convert)
            return np.moveaxis(array[..., None] if array.ndim == 2 else array, -1, 0)
        planes = [
            self.deep.samples_first(
                _pixels(page.cut(file, rows, columns, slice(i, i + 1)), as_indices),
                page.part_shape[1],
            )
            for i in range(len(page.offsets))
        ]
        array = np.concatenate(planes)
        return array[:-1] if self.deep.samples in (2, 4) else array  # the last is alpha


def _open(path: Path, convert: "Callable[[PillowImage.Image], NDArray]") -> Voxels | None:
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return None
    try:
        picture = _examine(path, convert)
        return None if picture is None else _voxels(picture)
    except Exception:  # whatever is wrong is told where all is read
        return None


def _voxels(picture: _Picture) -> Voxels:
    page = picture.pages[0]
    depth = len(picture.pages) // picture.layers.channels
    size = page.shape[0], page.shape[1] // picture.between
    shape = (depth, *size) if depth > 1 else size
    first = picture.read(((0, 1),) * len(shape))
    return Voxels(
        num_channels=len(first),
        shape=shape,
        dtype=first.dtype,
        geometry=Geometry((1.0,) * len(shape), unit="pixel"),
        part_shape=((1,) if depth > 1 else ()) + picture.part_shape,
        read=picture.read,
    )


def _examine(path: Path, convert: "Callable[[PillowImage.Image], NDArray]") -> _Picture | None:
    """Return the pages of a file, None where they cannot be decoded in parts."""
    with tiff.open_tiff(path) as picture:
        if orientation_of(picture) != 1:
            return None
        layers = page_layers(path, picture)
        pages = [tiff.read_page(picture) for _ in tiff.full_pages(picture)]
        picture.seek(0)
        is_deep = is_misread(picture)
    return _picture(path, pages, layers, convert, is_deep=is_deep)


def _examine_copies(path: Path) -> list[_Picture]:
    """Return the smaller copies of a file's only picture that can be decoded in parts."""
    with tiff.open_tiff(path) as picture:
        if len([*tiff.full_pages(picture)]) != 1:
            return []
        picture.seek(0)
        is_deep = is_misread(picture)
        pages = [*tiff.smaller_pages(picture)]
    made = [_picture(path, [page], Layers(), as_colours, is_deep=is_deep) for page in pages]
    return [item for item in made if item is not None]


def _as_level(picture: _Picture, image: Voxels) -> Voxels | None:
    """Return a smaller copy with its spacing; None where it is a picture of something else."""
    level = _voxels(picture)
    spacing = tuple(n / size for n, size in zip(image.shape, level.shape, strict=True))
    same_kind = level.num_channels == image.num_channels and level.dtype == image.dtype
    if not same_kind or min(spacing) <= 1 or max(spacing) > min(spacing) * MAX_SHEAR:
        return None
    return replace(level, geometry=Geometry(spacing, unit="pixel"))


def _picture(
    path: Path,
    pages: list[Page],
    layers: Layers,
    convert: "Callable[[PillowImage.Image], NDArray]",
    *,
    is_deep: bool,
) -> _Picture | None:
    """Return pages that are decoded alike; None where they cannot be, in parts."""
    first = pages[0]
    is_alike = all(_way_to_decode(page) == _way_to_decode(first) for page in pages)
    if not is_alike or math.prod(first.part_shape) * first.pixel_bytes > MAX_PART_BYTES:
        return None
    deep = _deep(first) if is_deep else None
    if is_deep and deep is None:
        return None
    if deep is not None:
        pages = [_as_samples(page, deep) for page in pages]
    return _Picture(path, tuple(pages), layers, convert, deep)


def _way_to_decode(page: Page) -> tuple:
    """Return what all pages of a stack share."""
    return page.shape, page.part_shape, page.is_tiled, sorted(page.tags.items())


def _deep(page: Page) -> _Deep | None:
    """Return how samples are read that Pillow would change, None if they cannot be in parts."""
    kind = DEEP_TYPES.get((page.number(tiff.SAMPLE_FORMAT), page.number(tiff.BITS)))
    samples, predictor = page.number(tiff.SAMPLES), page.number(tiff.PREDICTOR)
    is_lossless = page.number(tiff.COMPRESSION) in LOSSLESS and page.number(tiff.FILL_ORDER) == 1
    is_raw = page.number(tiff.COMPRESSION) == tiff.RAW
    if kind is None or not is_lossless or predictor not in (1, DIFFERENCES):
        return None
    between = samples if len(page.offsets) == 1 else 1
    has_differences = between > 1 and predictor == DIFFERENCES
    is_turned = page.order == ">" and np.dtype(kind).itemsize == 4 and not is_raw
    return _Deep(np.dtype(kind), samples, between, has_differences, is_turned)


def _as_samples(page: Page, deep: _Deep) -> Page:
    """Return a page each sample of which is a pixel of its own."""
    bits = page.number(tiff.BITS)
    changes: dict[int, tuple[int, ...]] = {
        tiff.BITS: (bits,),
        tiff.SAMPLES: (1,),
        tiff.PHOTOMETRIC: (1,),
        tiff.SAMPLE_FORMAT: (2 if bits == 32 else 1,),  # 32 bits are read as signed
        tiff.PLANES: (1,),
        tiff.PREDICTOR: (1 if deep.has_differences else page.number(tiff.PREDICTOR),),
    }
    tags = dict(page.tags) | {tag: Tag(tiff.SHORT, v) for tag, v in changes.items()}
    tags.pop(tiff.EXTRA_SAMPLES, None)
    return replace(
        page,
        shape=(page.shape[0], page.shape[1] * deep.between),
        part_shape=(page.part_shape[0], page.part_shape[1] * deep.between),
        tags=tags,
    )


def _pixels(content: bytes, convert: "Callable[[PillowImage.Image], NDArray]") -> NDArray:
    from PIL import TiffImagePlugin

    with TiffImagePlugin.TiffImageFile(io.BytesIO(content)) as picture:
        return convert(picture)
