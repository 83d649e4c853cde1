"""Where large arrays live: in memory, or in a file where memory does not suffice."""

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError


class Scratch(Protocol):
    """Gives room for large arrays."""

    def zeros(self, shape: Sequence[int], dtype: type) -> NDArray:
        """Return an array of zeros."""
        ...

    def choose(self, sizes: Iterable[int]) -> int:
        """Return the index of the first of these bytes that would be in memory; 0 if none would."""
        ...

    def forget(self) -> None:
        """Give memory back that holds no more than a copy of a file."""
        ...


class InMemory:
    """Arrays in memory, always."""

    def zeros(self, shape: Sequence[int], dtype: type) -> NDArray:
        """Return an array of zeros."""
        return np.zeros(tuple(shape), dtype=dtype)

    def choose(self, sizes: Iterable[int]) -> int:  # noqa: ARG002 (of the protocol)
        """Return the first."""
        return 0

    def forget(self) -> None:
        """Do nothing: memory holds the only copy."""


IN_MEMORY = InMemory()


class OnDisk:
    """Arrays in files without a name, which vanish with the last array that uses them.

    Parameters
    ----------
    folder
        Where the files lie; None for the folder of temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._maps: list[mmap.mmap] = []

    def zeros(self, shape: Sequence[int], dtype: type) -> NDArray:
        """Return an array of zeros.

        Raises
        ------
        AutosegError
            The disk is full.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with tempfile.TemporaryFile(dir=self._folder) as file:
            self._reserve(file.fileno(), size)
            area = mmap.mmap(file.fileno(), size)
        self._maps.append(area)
        return np.frombuffer(area, dtype=dtype).reshape(tuple(shape))

    def forget(self) -> None:
        """Take the pages of the files out of this process; the system writes them when it must."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for area in self._maps:
                area.madvise(mmap.MADV_DONTNEED)

    def _reserve(self, file: int, size: int) -> None:
        """Make a file long. A full disk must say so now: later it would kill the process."""
        folder = self._folder or Path(tempfile.gettempdir())
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
                return
            if shutil.disk_usage(folder).free < size:
                raise OSError("no space left")
            os.ftruncate(file, size)
        except OSError as error:
            raise AutosegError(
                found=f"{size / 1e9:.1f} GB cannot be set aside in {folder}: "
                f"{error.strerror or error}",
                expected="room on that disk, because memory does not suffice",
                fix="free space there, choose another output folder, or allow more memory "
                "with --ram",
            ) from error
