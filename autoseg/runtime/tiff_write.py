"""TIFF files of labels in compressed tiles, written as rows come, of any size.

Layout: TIFF 6.0 (Adobe, 1992), sections 2 and 15; BigTIFF (its design page, libtiff) where four
bytes do not count the bytes. Letters in shapes: R rows, S axes (YX, or ZYX: a page each slice).
"""

import math
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from . import tiff
from .errors import AutosegError
from .unfinished import unfinished

TILE = 512
"""Edge of a tile, pixels."""
ADOBE_DEFLATE = 8
CLASSIC_BYTES = 4_000_000_000
"""Files up to this size, if nothing could be compressed, are no BigTIFFs: every program reads them.
"""
MIN_IS_BLACK = 1
COMPRESSION_LEVEL = 6
SAMPLE_FORMATS = {"u": 1, "i": 2}


class LabelTiff:
    """A TIFF file that appears under its name when all its rows have been added.

    Parameters
    ----------
    shape
        (*S), all of it.
    """

    def __init__(self, path: Path, shape: Sequence[int], dtype: np.dtype) -> None:
        self._path = path
        self._shape = tuple(shape)
        self._dtype = dtype
        self._big = math.prod(shape) * dtype.itemsize > CLASSIC_BYTES
        self._waiting = np.zeros((TILE, _tiles(shape[-1]) * TILE), dtype)
        self._num_waiting = self._num_rows = 0
        self._offsets: list[int] = []
        self._counts: list[int] = []
        self._link = 0
        """Where the place of the next directory is to be written."""

    def __enter__(self) -> Self:
        with telling(self._path), ExitStack() as opened:
            self._temporary = opened.enter_context(unfinished(self._path))
            self._file: BinaryIO = opened.enter_context(self._temporary.open("wb"))
            mark = b"II" if sys.byteorder == "little" else b"MM"
            small, big = struct.pack("=HI", 42, 0), struct.pack("=HHHQ", tiff.BIG, 8, 0, 0)
            self._file.write(mark + (big if self._big else small))
            self._link = self._file.tell() - (8 if self._big else 4)
            self._opened = opened.pop_all()
        return self

    def add(self, rows: NDArray[np.integer]) -> None:
        """Write the next rows (R, *S[1:]).

        Raises
        ------
        AutosegError
            The file cannot be written.
        """
        with telling(self._path):
            for page in rows if len(self._shape) == 3 else (rows,):
                self._add_lines(page)

    def _add_lines(self, lines: NDArray[np.integer]) -> None:
        done, (height, width) = 0, self._shape[-2:]
        while done < len(lines):
            count = min(TILE - self._num_waiting, len(lines) - done)
            place = slice(self._num_waiting, self._num_waiting + count)
            self._waiting[place, :width] = lines[done : done + count]
            self._num_waiting += count
            self._num_rows += count
            done += count
            if self._num_waiting == TILE or self._num_rows == height:
                self._write_tiles()
            if self._num_rows == height:
                self._write_directory()

    def _write_tiles(self) -> None:
        self._waiting[self._num_waiting :] = 0
        for start in range(0, self._waiting.shape[1], TILE):
            content = zlib.compress(
                np.ascontiguousarray(self._waiting[:, start : start + TILE]).tobytes(),
                COMPRESSION_LEVEL,
            )
            self._offsets.append(self._file.tell())
            self._counts.append(len(content))
            self._file.write(content)
        self._num_waiting = 0

    def _write_directory(self) -> None:
        """Write the directory of a page whose tiles are written, and link it."""
        height, width = self._shape[-2:]
        offsets, counts = (self._aside(line) for line in (self._offsets, self._counts))
        number = 16 if self._big else 4
        entries = [
            (tiff.WIDTH, 4, 1, width),
            (tiff.HEIGHT, 4, 1, height),
            (tiff.BITS, 3, 1, self._dtype.itemsize * 8),
            (tiff.COMPRESSION, 3, 1, ADOBE_DEFLATE),
            (tiff.PHOTOMETRIC, 3, 1, MIN_IS_BLACK),
            (tiff.SAMPLES, 3, 1, 1),
            (tiff.TILE_WIDTH, 4, 1, TILE),
            (tiff.TILE_HEIGHT, 4, 1, TILE),
            (tiff.TILE_OFFSETS, number, len(self._offsets), offsets),
            (tiff.TILE_COUNTS, number, len(self._counts), counts),
            (tiff.SAMPLE_FORMAT, 3, 1, SAMPLE_FORMATS[self._dtype.kind]),
        ]
        self._pad()
        place = self._file.tell()
        self._file.write(struct.pack("=Q" if self._big else "=H", len(entries)))
        for tag, kind, count, value in entries:
            form = "=HHQ" if self._big else "=HHI"
            self._file.write(struct.pack(form, tag, kind, count) + self._value(kind, count, value))
        link = self._file.tell()
        word = "=Q" if self._big else "=I"
        self._file.write(struct.pack(word, 0))
        self._file.seek(self._link)
        self._file.write(struct.pack(word, place))
        self._file.seek(0, 2)
        self._link, self._num_rows, self._offsets, self._counts = link, 0, [], []

    def _aside(self, numbers: Sequence[int]) -> int:
        """Return the number if there is one, else where they are written."""
        if len(numbers) == 1:
            return numbers[0]
        self._pad()
        place = self._file.tell()
        self._file.write(struct.pack(f"={len(numbers)}{'Q' if self._big else 'I'}", *numbers))
        return place

    def _value(self, kind: int, count: int, value: int) -> bytes:
        """Return the last field of an entry: a number, or where numbers are."""
        size = 8 if self._big else 4
        letter = {3: "H", 4: "I", 16: "Q"}[kind] if count == 1 else ("Q" if self._big else "I")
        return struct.pack(f"={letter}", value).ljust(size, b"\0")

    def _pad(self) -> None:
        """Go on at a multiple of eight bytes."""
        self._file.write(b"\0" * (-self._file.tell() % 8))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with telling(self._path), self._opened:
            self._file.close()
            if kind is None:
                self._temporary.replace(self._path)


def _tiles(size: int) -> int:
    return math.ceil(size / TILE)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Say which file it was that could not be written."""
    try:
        yield
    except OSError as error:
        raise AutosegError(
            found=f"{path} cannot be written: {error.strerror or error}",
            expected="a writable folder with enough free space",
            fix="free space or choose another folder, then run the same command again",
        ) from error
