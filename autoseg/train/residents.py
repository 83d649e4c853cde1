"""Prepared cases that stay on the training device, so that patches are cut there.

Letters in shapes: C channels, S image axes.
"""

import logging
import threading
from typing import final

import torch
from numpy.typing import NDArray
from torch import Tensor

from autoseg.train.accumulate import is_memory_full
from autoseg.train.kept_cases import PreparedCases, size_of, whole

LOG = logging.getLogger("autoseg")


@final
class Resident:
    """A case that lies on a device until it is released. Batches made ahead may name it after."""

    def __init__(self, store: PreparedCases, case_id: str, arrays: tuple[Tensor, Tensor]) -> None:
        self._store, self._case_id = store, case_id
        self._arrays: tuple[Tensor, Tensor] | None = arrays

    def arrays(self) -> tuple[Tensor, Tensor]:
        """Return image (C, *S) and labels (*S), in the types of the store; where released, read."""
        held = self._arrays
        if held is not None:
            return held
        image, labels = self._store.image(self._case_id), self._store.labels(self._case_id)
        return torch.from_numpy(whole(image)), torch.from_numpy(whole(labels))

    def release(self) -> None:
        """Let go of the device's memory."""
        self._arrays = None


@final
class Residents:
    """The cases that are asked for first, as long as they fit. Threads may share it.

    Parameters
    ----------
    store
        All prepared cases.
    device
        As torch names it.
    num_bytes
        What they may take there; 0: none does.
    """

    def __init__(self, store: PreparedCases, device: str, num_bytes: int) -> None:
        self._store, self._device = store, device
        self._free_bytes = num_bytes
        self._is_open = num_bytes > 0
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._kept: dict[str, Resident] = {}

    def case(self, case_id: str) -> Resident | None:
        """Return a case on the device; None where it does not fit, or another thread copies it."""
        kept = self._kept.get(case_id)
        if kept is not None or not self._is_open:
            return kept
        with self._lock:
            is_first = case_id not in self._asked
            self._asked.add(case_id)
        return self._copied(case_id) if is_first else None

    def release(self) -> bool:
        """Let go of all cases, and take no more; return whether there were any."""
        with self._lock:
            had_some = bool(self._kept)
            self._is_open = False
            for case in self._kept.values():
                case.release()
            self._kept.clear()
            return had_some

    def _copied(self, case_id: str) -> Resident | None:
        """Return a case after copying it to the device, if it fits."""
        image, labels = self._store.image(case_id), self._store.labels(case_id)
        num_bytes = size_of(image) + size_of(labels)
        with self._lock:
            if num_bytes > self._free_bytes:
                return None
            self._free_bytes -= num_bytes
        try:
            arrays = self._sent(whole(image)), self._sent(whole(labels))
        except Exception as error:
            if not is_memory_full(error):
                raise
            LOG.warning("case %r does not fit on the device, although it should", case_id)
            self._is_open = False
            return None
        with self._lock:
            if not self._is_open:
                return None
            self._kept[case_id] = Resident(self._store, case_id, arrays)
            return self._kept[case_id]

    def _sent(self, array: NDArray) -> Tensor:
        return torch.from_numpy(array).to(self._device)
