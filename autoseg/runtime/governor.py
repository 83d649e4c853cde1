"""Keeping prediction within the memory it may take."""

import math
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import AutosegError
from .images import output_ending, read_extent
from .manifest import Manifest
from .memory import FLOAT, Demand, expected_memory, num_outputs
from .model import Effort
from .probability_files import is_written_in_pieces, probabilities_path
from .processors import resident_bytes, return_large_blocks, usable_memory
from .scratch import IN_MEMORY, OnDisk

RAM_FRACTION = 0.7
"""Part of the machine's or container's memory that is used where no limit is given."""

WRITTEN_COPIES = 2
"""Of probabilities, where a format is not written in pieces: the numbers, and these compressed."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Memory that prediction may take."""

    limit: int
    """Bytes of the whole process; above, large arrays go to files."""
    most: int
    """Bytes above which an image is refused."""
    folder: Path | None = None
    """Where these files are; None for the folder of temporary files."""

    @classmethod
    def of(cls, ram: int | None, folder: Path | None = None) -> "Room":
        """Return room for `ram` bytes; None: most of what the machine or container has."""
        if ram is not None:
            return cls(limit=ram, most=ram, folder=folder)
        usable = usable_memory()
        return cls(limit=int(RAM_FRACTION * usable), most=usable, folder=folder)


class Governor:
    """Keeps the process below a limit: large arrays in memory, in narrower bands, or in files.

    Parameters
    ----------
    room
        The limit, and where the files are.
    reserve
        Bytes that will be needed besides: labels, slabs, the next image.
    working
        Bytes that the network needs for a batch, as far as known.
    """

    def __init__(self, room: Room, reserve: int, working: int | None) -> None:
        self._room = room
        self._disk = OnDisk(room.folder)
        self._reserve = reserve
        self._start, _ = resident_bytes()
        self._given: list[weakref.ref[NDArray]] = []
        self.working = working
        self.bands = 1
        """Most bands that an image was gone through in."""
        self.file_bytes = 0
        """Of arrays in files."""

    def zeros(self, shape: Sequence[int], dtype: type) -> NDArray:
        """Return an array of zeros."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if not self._fits(size):
            self.file_bytes += size
            return self._disk.zeros(shape, dtype)
        array = IN_MEMORY.zeros(shape, dtype)
        self._given.append(weakref.ref(array))
        return array

    def in_file(self, shape: Sequence[int], dtype: type) -> NDArray:
        """Return an array of zeros in a file, whatever memory there is."""
        self.file_bytes += math.prod(shape) * np.dtype(dtype).itemsize
        return self._disk.zeros(shape, dtype)

    def choose(self, sizes: Iterable[int]) -> int:
        """Return the index of the first of these bytes that would be in memory; 0 if none would.

        They are those of sums of an image in 1, 2, ... bands.
        """
        fitting = (index for index, size in enumerate(sizes) if self._fits(size))
        index = next(fitting, 0)
        self.bands = max(self.bands, index + 1)
        return index

    def forget(self) -> None:
        """Take the pages of files out of memory."""
        self._disk.forget()

    @property
    def measures(self) -> str:
        """What was done to stay below the limit; empty for nothing."""
        found = [f"in {self.bands} bands"] if self.bands > 1 else []
        if self.file_bytes:
            found.append(f"with {self.file_bytes / 1e9:.2f} GB in files")
        return " and ".join(found)

    def _fits(self, size: int) -> bool:
        given = sum(array.nbytes for ref in self._given if (array := ref()) is not None)
        if not given:
            self._observe()
        assert self.working is not None  # has been observed
        used = self._start + self.working + self._reserve + given
        return used + size <= self._room.limit

    def _observe(self) -> None:
        """Learn what the network needs: at most how far the peak is above the memory before it.

        The peak may be older, of another image; the least of all images counts.
        """
        risen = max(0, resident_bytes()[1] - self._start)
        self.working = risen if self.working is None else min(self.working, risen)


def refuse_too_large(demand: Demand, room: Room, used: int) -> None:
    """Refuse what cannot be predicted in the memory there is.

    Parameters
    ----------
    used
        Bytes of this process without the image.

    Raises
    ------
    AutosegError
        Even with large arrays in files it takes more than `room.most`.
    """
    needed = used + demand.least
    if needed <= room.most:
        return
    parts = {
        "the image": demand.image,
        "as the network takes it": demand.prepared + demand.preparing,
        "a batch of tiles": demand.tiles,
        "labels": demand.labels,
        "post-processing": demand.components,
        "writing probabilities": demand.writing,
    }
    listed = ", ".join(f"{name} {value / 1e9:.2f}" for name, value in parts.items() if value)
    raise AutosegError(
        found=f"it takes {needed / 1e9:.2f} GB with large arrays in files ({listed}, the program "
        f"{used / 1e9:.2f})",
        expected=f"at most {room.most / 1e9:.2f} GB",
        fix=f"allow --ram {math.ceil(needed / 1e8) / 10:.1f}GB on a machine that has it, or cut "
        "the image into parts",
    )


class Memory:
    """The memory of a run over many images: how much each takes, and whether another fits beside.

    Parameters
    ----------
    probabilities
        Whether they are asked for.
    """

    def __init__(
        self, manifest: Manifest, room: Room, effort: Effort, *, probabilities: bool
    ) -> None:
        self._manifest = manifest
        self._room = room
        self._effort = effort
        self._probabilities = probabilities
        return_large_blocks()
        self._used, _ = resident_bytes()
        self._working: int | None = None

    def demand(self, paths: Sequence[Path]) -> Demand | None:
        """Return what the image in these files takes, by its header; None where that says nothing.

        Reading the file will then tell what is wrong with it.
        """
        try:
            extent = read_extent(paths)
        except AutosegError:
            return None
        if len(extent.shape) != self._manifest.dimensions or 0 in extent.shape:
            return None
        demand = self.expect(extent.shape, extent.spacing, extent.voxel_bytes)
        labels = Path(f"labels{output_ending(paths[0])}")
        beside = probabilities_path(labels, self._manifest.dimensions)
        if not self._probabilities or is_written_in_pieces(beside):
            return demand
        values = math.prod(extent.shape) * num_outputs(self._manifest)
        return replace(demand, writing=values * FLOAT * WRITTEN_COPIES)

    def expect(
        self, shape: Sequence[int], spacing: Sequence[float], voxel_bytes: int = FLOAT
    ) -> Demand:
        """Return what an image (*S) takes (see `expected_memory`)."""
        return expected_memory(
            self._manifest,
            shape,
            spacing,
            effort=self._effort,
            voxel_bytes=voxel_bytes,
            probabilities=self._probabilities,
        )

    def refuse(self, demand: Demand) -> None:
        """Refuse what cannot be predicted (see `refuse_too_large`)."""
        refuse_too_large(demand, self._room, self._used)

    def fits(self, demand: Demand) -> bool:
        """Return whether an image fits without files and bands."""
        return self._used + demand.peak <= self._room.limit

    def holds_both(self, one: Demand | None, following: Demand | None) -> bool:
        """Return whether an image can be read while another is predicted."""
        if one is None or following is None:
            return True
        return self._used + one.peak + following.reading <= self._room.limit

    def governor(self, demand: Demand | None, following: Demand | None) -> "Governor":
        """Return room for the large arrays of an image while the following one is read."""
        reserve = demand.around if demand is not None else 0
        reserve += following.reading if following is not None else 0
        return Governor(self._room, reserve, self._working)

    def learn(self, governor: "Governor") -> None:
        """Remember what the network needs."""
        self._working = governor.working
