"""What the first stage of a cascade found in each case, as the second one reads it.

A file a case: class indices on the grid of the prepared image, which is not stored again, with a
digest of what they were made of.

Letters in shapes: S' axes of the prepared array.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from autoseg.preprocess.store import StoredArray, compressed, file_stem, open_array, remove_stale
from autoseg.workspace import write_bytes

MADE_OF = "made_of"
"""Name under which a file keeps the digest of what it was made of."""


@dataclass(frozen=True)
class PreviousStore:
    """The labels of a previous stage, prepared. Threads may share it."""

    folder: Path

    def labels(self, case_id: str) -> StoredArray:
        """Return class indices (*S'). Not for several threads at once: each opens its own."""
        return open_array(self._path(case_id))

    def made_of(self, case_id: str) -> str | None:
        """Return the digest of what a case's labels were made of; None where there are none."""
        path = self._path(case_id)
        if not path.is_file():
            return None
        try:
            array: Any = open_array(path)
            chunks = array.schunk  # named, because the digest is read from it while it lives
            return str(chunks.vlmeta[MADE_OF])
        except (RuntimeError, ValueError, KeyError):  # damaged, or something else
            return None

    def write(
        self, case_id: str, labels: NDArray[np.integer], patch_size: Sequence[int], made_of: str
    ) -> None:
        """Write the labels (*S') of a case at once or not at all.

        Raises
        ------
        WorkspaceError
            The disk is full or the folder cannot be written.
        """
        import blosc2

        array = cast("Any", blosc2.ndarray_from_cframe(compressed(labels, patch_size), copy=True))
        array.schunk.vlmeta[MADE_OF] = made_of
        write_bytes(self._path(case_id), array.to_cframe())

    def remove_stale(self) -> None:
        """Remove what writers left that were killed long ago."""
        remove_stale(self.folder)

    def digest(self, case_ids: Sequence[str]) -> str:
        """Return a SHA-256 of what the labels of some cases were made of."""
        content = [(case_id, self.made_of(case_id)) for case_id in sorted(case_ids)]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def _path(self, case_id: str) -> Path:
        return self.folder / f"{file_stem(case_id)}.b2nd"
