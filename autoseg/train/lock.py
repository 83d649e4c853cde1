"""A lock that one process holds and that the system takes back when it ends, however it ends."""

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autoseg.errors import TrainingError, WorkspaceError

ASK_EVERY_S = 0.1
MAX_OWNER = 200
"""Bytes of the name of the process that holds a lock."""


@contextmanager
def held(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock file `path` for the body.

    File systems without locks are trusted to be used by one process.

    Raises
    ------
    TrainingError
        Another process has held it for `wait_s` seconds.
    WorkspaceError
        The file cannot be written.
    """
    file = _open(path)
    try:
        end = time.monotonic() + wait_s
        while not _take(file):
            if time.monotonic() >= end:
                raise _in_use(path, os.pread(file, MAX_OWNER, 0).decode(errors="replace"))
            time.sleep(ASK_EVERY_S)
        with suppress(OSError):  # a full disk costs the name only
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(file)


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise WorkspaceError(
            found=f"{path} cannot be written: {error.strerror or error}",
            expected="a writable folder with enough free space",
            fix="free space or choose another folder with -w; then run the same command again",
        ) from error


def _take(file: int) -> bool:
    """Return whether the lock is ours now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _in_use(path: Path, owner: str) -> TrainingError:
    return TrainingError(
        found=f"{path.parent} is in use by {owner or 'another process'}",
        expected="one process at a time",
        fix="wait until that process has ended, or stop it; then run the same command again",
    )
