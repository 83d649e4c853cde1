"""What commands on a workspace share: finding it, its log file, and a graceful stop."""

import logging
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import typer

from autoseg.workspace import Workspace, find_workspace, named_workspace

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def open_workspace(root: Path | None) -> Workspace:
    """Return the named workspace, or the only one here, and send the log to its file."""
    workspace = find_workspace(Path.cwd()) if root is None else named_workspace(root)
    log_to(workspace)
    return workspace


class LogFile(logging.FileHandler):
    """The workspace's log; a disk that is full or read-only must not hide the message itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or leave it out when the file cannot be written."""
        with suppress(OSError):
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: what users must know is printed."""


def log_to(workspace: Workspace) -> None:
    """Append everything that is logged to the workspace's log file."""
    if not workspace.root.is_dir():
        return
    handler = LogFile(workspace.log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger("autoseg").addHandler(handler)


def typed() -> tuple[str, ...]:
    """Return the command as the user typed it."""
    return ("autoseg", *sys.argv[1:])


def machine_file() -> Path:
    """Return where the speed of this machine is kept, in the user's cache directory."""
    from platformdirs import user_cache_path

    return user_cache_path("autoseg") / "machine.json"


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the user asked to stop (SIGINT or SIGTERM).

    The first signal asks for a stop at the next safe place; a second SIGINT interrupts at once.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        print("stopping after saving; once more to stop at once", file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, ask) for number in numbers]
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def interruptible(command: Sequence[str]) -> Iterator[Callable[[], bool]]:
    """Yield `should_stop`; a stop names the command that goes on and exits with 130."""
    from autoseg.train.job import Interrupted

    try:
        with stop_on_signal() as should_stop:
            yield should_stop
    except (Interrupted, KeyboardInterrupt):
        print(f"stopped; everything is saved. To go on: {shlex.join(command)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
