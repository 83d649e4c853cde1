"""Places for what is being written: nothing half-done has the name of a result, nor stays."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

ENDING = ".part"
LOCK = "lock"


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield a name in a hidden folder beside `path`, for a file or folder that is moved there.

    The folder is taken away in the end, and first those that killed runs left of the same `path`.

    Raises
    ------
    OSError
        The folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{escape(path.name)}.*{ENDING}"):
        if not _is_used(left):
            shutil.rmtree(left, ignore_errors=True)
    folder = path.with_name(f".{path.name}.{uuid4().hex[:8]}{ENDING}")
    try:
        folder.mkdir()
        with (folder / LOCK).open("wb") as file:
            _lock(file)
            yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    """Return whether a running process writes here."""
    try:
        with (folder / LOCK).open("rb") as file:
            return not _lock(file)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed or the process ends; return False if another one holds it."""
    try:
        import fcntl
    except ImportError:  # Windows, where an open file cannot be deleted
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
