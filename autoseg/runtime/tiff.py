"""Parts of TIFF files: some tiles or strips of a page, cut out as a small TIFF of their own.

Pillow decodes a whole page or nothing. A file with a few of the page's compressed parts and the
page's tags is decoded by the same code, hence to the same numbers, whatever the compression.
Layout of the file: TIFF 6.0 (Adobe, 1992), sections 2, 3 and 15; BigTIFF is read, too.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import TiffImagePlugin

SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION = 254, 256, 257, 258, 259
PHOTOMETRIC, FILL_ORDER = 262, 266
DESCRIPTION, SUB_DIRECTORIES = 270, 330
STRIP_OFFSETS, SAMPLES, STRIP_ROWS, STRIP_COUNTS, PLANES, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
DECODING = (BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PLANES, PREDICTOR, 320)
"""Tags that decide how pixels are decoded, with compression, fill order and palette ..."""
DECODING_RARE = (EXTRA_SAMPLES, SAMPLE_FORMAT, 347, 529, 530, 531, 532)
"""... and alpha, kinds of numbers, JPEG tables, and how colours are stored."""
APERIO = "Aperio"
"""An .svs file's description begins so; its further pages are smaller copies, and pictures of the
whole slide, although they do not say so."""
REDUCED_OR_MASK = 1 | 4
"""Bits of a page's kind: a smaller copy of another page, or its transparency."""
BIG = 43
"""Version of BigTIFF, whose header has 16 bytes instead of 8."""
LONG_TYPES = (16, 18)
"""Of numbers of eight bytes, which count and point."""
RAW = 1
"""Compression: none."""
RAW_STRIP_BYTES = 1 << 20
"""Strips that are not compressed are taken apart into such ones."""
SEPARATE = 2
"""Planar configuration of samples that are stored one after the other."""
TYPES = {1: "B", 3: "H", 4: "I", 5: "II"}
"""Struct's letters of TIFF's types of numbers; 7 is bytes as they are."""
BYTES, LONG, SHORT = 7, 4, 3


@dataclass(frozen=True)
class Tag:
    """One entry of a page's directory."""

    kind: int
    values: tuple[int, ...] | bytes


@dataclass(frozen=True)
class Page:
    """Where the parts of a page lie in its file, and how they are decoded."""

    order: str
    """"<" or ">", as struct has them."""
    shape: tuple[int, int]
    """Rows and columns."""
    part_shape: tuple[int, int]
    """Of a tile or strip."""
    is_tiled: bool
    offsets: NDArray[np.int64]
    """(planes, parts down, parts across)"""
    counts: NDArray[np.int64]
    """Bytes of each part."""
    tags: Mapping[int, Tag]

    def number(self, tag: int, default: int = 1) -> int:
        """Return the largest value of a tag."""
        found = self.tags.get(tag)
        return max(found.values) if found is not None and found.values else default

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel at least, decoded; of one plane where planes are separate."""
        samples = self.number(SAMPLES) if len(self.offsets) == 1 else 1
        return samples * math.ceil(self.number(BITS) / 8)

    def cut(self, file: BinaryIO, rows: slice, columns: slice, planes: slice) -> bytes:
        """Return a TIFF file with the parts at these places, counted in parts."""
        offsets = self.offsets[planes, rows, columns]
        counts = self.counts[planes, rows, columns]
        parts = []
        for offset, count in zip(offsets.flat, counts.flat, strict=True):
            file.seek(int(offset))
            parts.append(file.read(int(count)))
        size = [
            min(axis.stop * part, length) - axis.start * part
            for axis, part, length in zip((rows, columns), self.part_shape, self.shape, strict=True)
        ]
        starts = 8 + np.cumsum([0, *map(len, parts)])[:-1]
        tags = dict(self.tags)
        tags |= {HEIGHT: Tag(LONG, (size[0],)), WIDTH: Tag(LONG, (size[1],))}
        if self.is_tiled:
            tags[TILE_HEIGHT] = Tag(LONG, (self.part_shape[0],))
            tags[TILE_WIDTH] = Tag(LONG, (self.part_shape[1],))
            where = TILE_OFFSETS, TILE_COUNTS
        else:
            tags[STRIP_ROWS] = Tag(LONG, (self.part_shape[0],))
            where = STRIP_OFFSETS, STRIP_COUNTS
        tags[where[0]] = Tag(LONG, tuple(starts.tolist()))
        tags[where[1]] = Tag(LONG, tuple(map(len, parts)))
        return _file(self.order, parts, tags)


def open_tiff(path: Path) -> "TiffImagePlugin.TiffImageFile":
    """Return an opened TIFF of any size; `Image.open` refuses large ones as suspicious."""
    from PIL import TiffImagePlugin

    return TiffImagePlugin.TiffImageFile(path)


def full_pages(picture: "TiffImagePlugin.TiffImageFile") -> Iterator[int]:
    """Yield the numbers of pages that are no smaller copies or masks of others, and go to each."""
    picture.seek(0)
    for number in range(1 if is_aperio(picture) else picture.n_frames):
        picture.seek(number)
        if not int(picture.tag_v2.get(SUBFILE_TYPE, 0)) & REDUCED_OR_MASK:
            yield number


def is_aperio(picture: "TiffImagePlugin.TiffImageFile") -> bool:
    """Return whether a file is a whole slide as Aperio's scanners store it, at its first page."""
    return str(picture.tag_v2.get(DESCRIPTION, "")).startswith(APERIO)


def smaller_pages(picture: "TiffImagePlugin.TiffImageFile") -> Iterator[Page]:
    """Yield the smaller copies of a file's only picture; the file is at its first page."""
    all_pages = is_aperio(picture)
    for place in _sub_directories(picture):
        yield from _copies(_directory(picture, place))
    for number in range(1, picture.n_frames):
        picture.seek(number)
        is_copy = int(picture.tag_v2.get(SUBFILE_TYPE, 0)) & REDUCED_OR_MASK == 1
        if is_copy or (all_pages and TILE_OFFSETS in picture.tag_v2):
            yield from _copies(picture.tag_v2)
    picture.seek(0)


def _sub_directories(picture: "TiffImagePlugin.TiffImageFile") -> tuple[int, ...]:
    """Return where the directories below the first page's are: Pillow skips BigTIFF's type of them.

    Layout: TIFF technical note 1 (Adobe, 1995).
    """
    file = picture.fp
    assert file is not None  # is open
    file.seek(0)
    header = file.read(16)
    order = "<" if header[:2] == b"II" else ">"
    is_big = header[2] == BIG
    word, count_word, entry_word = ("Q", "Q", "HHQ8s") if is_big else ("I", "H", "HHI4s")
    file.seek(struct.unpack_from(order + word, header, 8 if is_big else 4)[0])
    (count,) = struct.unpack(order + count_word, file.read(struct.calcsize(order + count_word)))
    size = struct.calcsize(order + entry_word)
    for entry in struct.iter_unpack(order + entry_word, file.read(count * size)):
        tag, kind, number, content = entry
        if tag != SUB_DIRECTORIES:
            continue
        form = f"{order}{number}{'Q' if kind in LONG_TYPES else 'I'}"
        if struct.calcsize(form) > len(content):
            file.seek(struct.unpack(order + word, content)[0])
            content = file.read(struct.calcsize(form))
        return struct.unpack_from(form, content)
    return ()


def _directory(
    picture: "TiffImagePlugin.TiffImageFile", place: int
) -> "TiffImagePlugin.ImageFileDirectory_v2":
    """Return the tags of a page that is not in the file's chain of pages."""
    from PIL import TiffImagePlugin

    file = picture.fp
    assert file is not None  # is open
    file.seek(0)
    header = file.read(16)
    entries = TiffImagePlugin.ImageFileDirectory_v2(header if header[2] == BIG else header[:8])
    file.seek(place)
    entries.load(file)
    return entries


def _copies(entries: "TiffImagePlugin.ImageFileDirectory_v2") -> Iterator[Page]:
    with suppress(KeyError, ValueError):  # a broken copy is none
        yield page_of(entries)


def read_page(picture: "TiffImagePlugin.TiffImageFile") -> Page:
    """Return where the parts of the page lie that a TIFF was opened at.

    Raises
    ------
    KeyError, ValueError
        The directory is incomplete, or does not fit together.
    """
    return page_of(picture.tag_v2)


def page_of(entries: "TiffImagePlugin.ImageFileDirectory_v2") -> Page:
    """Return where the parts of the page of a directory lie (see `read_page`)."""
    height, width = int(entries[HEIGHT]), int(entries[WIDTH])
    is_tiled = TILE_OFFSETS in entries
    if is_tiled:
        part = int(entries[TILE_HEIGHT]), int(entries[TILE_WIDTH])
        where = TILE_OFFSETS, TILE_COUNTS
    else:
        part = min(height, int(entries.get(STRIP_ROWS, height))), width
        where = STRIP_OFFSETS, STRIP_COUNTS
    planes = int(entries.get(SAMPLES, 1)) if entries.get(PLANES) == SEPARATE else 1
    grid = planes, math.ceil(height / part[0]), math.ceil(width / part[1])
    offsets, counts = (np.ravel(entries[tag]).astype(np.int64).reshape(grid) for tag in where)
    page = Page(
        order="<" if entries.prefix == b"II" else ">",
        shape=(height, width),
        part_shape=part,
        is_tiled=is_tiled,
        offsets=offsets,
        counts=counts,
        tags={
            tag: _tag(entries.tagtype[tag], entries[tag])
            for tag in (*DECODING, *DECODING_RARE)
            if tag in entries
        },
    )
    return _with_small_strips(page)


def _with_small_strips(page: Page) -> Page:
    """Return a page whose strips, if they are not compressed, are no longer than need be."""
    samples = page.number(SAMPLES) if len(page.offsets) == 1 else 1
    row_bytes = math.ceil(page.shape[1] * samples * page.number(BITS) / 8)
    rows = max(1, RAW_STRIP_BYTES // row_bytes)
    if page.is_tiled or page.number(COMPRESSION) != RAW or page.part_shape[0] <= rows:
        return page
    starts = np.arange(page.shape[0])[::rows]
    strips, inside = np.divmod(starts, page.part_shape[0])
    if page.part_shape[0] % rows and page.part_shape[0] < page.shape[0]:
        return page  # small strips would reach over the end of a large one
    ends = np.minimum(starts + rows, page.shape[0])
    return replace(
        page,
        part_shape=(rows, page.shape[1]),
        offsets=page.offsets[:, strips] + (inside * row_bytes)[:, None],
        counts=np.broadcast_to(
            ((ends - starts) * row_bytes)[:, None], (len(page.offsets), len(starts), 1)
        ),
    )


def _tag(kind: int, values: Any) -> Tag:  # noqa: ANN401
    if isinstance(values, bytes):
        return Tag(BYTES, values)
    numbers = values if isinstance(values, tuple) else (values,)
    if kind == 5:
        return Tag(kind, tuple(n for v in numbers for n in (v.numerator, v.denominator)))
    if kind not in TYPES:
        raise ValueError(f"a tag of type {kind}")
    return Tag(kind, tuple(int(number) for number in numbers))


def _file(order: str, parts: Sequence[bytes], tags: Mapping[int, Tag]) -> bytes:
    """Return a TIFF file: header, parts, then what its directory refers to, the directory last."""
    place = 8 + sum(map(len, parts))
    padding = b"\0" * (place % 2)
    place += len(padding)
    aside, directory = [], []
    for number, tag in sorted(tags.items()):
        if isinstance(tag.values, bytes):
            content, count = tag.values, len(tag.values)
        else:
            letter = TYPES[tag.kind][0]
            content = struct.pack(f"{order}{len(tag.values)}{letter}", *tag.values)
            count = len(tag.values) // len(TYPES[tag.kind])
        entry = struct.pack(f"{order}HHI", number, tag.kind, count)
        if len(content) <= 4:
            directory.append(entry + content.ljust(4, b"\0"))
            continue
        directory.append(entry + struct.pack(f"{order}I", place))
        content += b"\0" * (len(content) % 2)
        aside.append(content)
        place += len(content)
    mark = b"II" if order == "<" else b"MM"
    header = mark + struct.pack(f"{order}HI", 42, place)
    count = struct.pack(f"{order}H", len(directory))
    return b"".join([header, *parts, padding, *aside, count, *directory, b"\0" * 4])
