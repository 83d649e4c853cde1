"""Prepared cases while a fold trains, the first of them kept in memory.

Letters in shapes: C channels, S image axes, K classes.
"""

import math
import threading
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.padding import Stored


class CaseInfo(Protocol):
    """What is known of a prepared case without reading it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        ...

    @property
    def location_offsets(self) -> tuple[int, ...]:
        """(K + 1,), where each class's part of the locations begins and ends."""
        ...


class PreparedCases(Protocol):
    """Prepared cases, as `autoseg.preprocess.store` keeps them."""

    def info(self, case_id: str) -> CaseInfo:
        """Return what is known of a case."""
        ...

    def image(self, case_id: str) -> Stored:
        """Return the image (C, *S)."""
        ...

    def labels(self, case_id: str) -> Stored:
        """Return the labels (*S)."""
        ...

    def flat_locations(self, case_id: str, class_index: int) -> NDArray[np.integer]:
        """Return flat places of voxels of a class."""
        ...


class PreviousLabels(Protocol):
    """What a previous stage found, as `autoseg.preprocess.previous` keeps it."""

    def labels(self, case_id: str) -> Stored:
        """Return the labels (*S)."""
        ...


@final
class KeptCases:
    """A store whose first cases are kept in memory, as far as they fit.

    Parameters
    ----------
    store
        All prepared cases.
    cache_bytes
        Memory for those that are kept.
    previous
        What a previous stage found in them; None: there is none.
    """

    def __init__(
        self, store: PreparedCases, cache_bytes: int, previous: PreviousLabels | None = None
    ) -> None:
        self.store = store
        self._previous = previous
        self._free_bytes = cache_bytes
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[Stored, ...]] = {}

    @property
    def has_previous(self) -> bool:
        """Whether the cases come with what a previous stage found in them."""
        return self._previous is not None

    def arrays(self, case_id: str) -> tuple[Stored, ...]:
        """Return image (C, *S) and labels (*S), from memory or opened anew for this thread.

        Then the labels (*S) of the previous stage, if there is one.
        """
        kept = self._kept.get(case_id)
        if kept is not None:
            return kept
        opened: tuple[Stored, ...] = (self.store.image(case_id), self.store.labels(case_id))
        if self._previous is not None:
            opened = (*opened, self._previous.labels(case_id))
        num_bytes = sum(size_of(stored) for stored in opened)
        with self._lock:
            if case_id not in self._kept and num_bytes <= self._free_bytes:
                self._kept[case_id] = tuple(whole(stored) for stored in opened)
                self._free_bytes -= num_bytes
            return self._kept.get(case_id, opened)


def size_of(stored: Stored) -> int:
    """Return the bytes of an array when it is decompressed."""
    return math.prod(stored.shape) * stored.dtype.itemsize


def whole(stored: Stored) -> NDArray:
    """Return an array in memory."""
    return np.asarray(stored[(slice(None),) * len(stored.shape)])
