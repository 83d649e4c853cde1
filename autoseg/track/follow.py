"""Trackers that follow a training: each reads along in a thread of its own."""

import logging
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import final

from autoseg.network.weight_files import first_line
from autoseg.track.feed import feed
from autoseg.track.tracker import Tracker
from autoseg.workspace import Workspace

LOG = logging.getLogger("autoseg")

Stamps = tuple[tuple[str, int, int], ...]
"""Of each file its name, its size, and when it was changed, nanoseconds."""

READ_EVERY_S = 5.0
END_S = 30.0
"""A tracker that needs longer than this for the last lines is left alone."""


@contextmanager
def followed(
    workspace: Workspace, trackers: Mapping[str, Tracker], warn: Callable[[str], None]
) -> Iterator[None]:
    """Feed trackers while the body trains, and with the rest when it ends, however it ends.

    Parameters
    ----------
    trackers
        By how users name them.
    warn
        Told once of each tracker that fails, and of each that lacks something in the end.
    """
    followers = [Follower(workspace, name, item, warn) for name, item in trackers.items()]
    for follower in followers:
        follower.start()
    try:
        yield
    finally:
        for follower in followers:
            follower.ask_to_end()
        for follower in followers:
            follower.wait()


@final
class Follower:
    """Feeds one tracker now and then. Whatever the tracker does, the training goes on.

    Parameters
    ----------
    name
        How users name the tracker.
    warn
        Told of the first failure, and of what is missing in the end.
    """

    def __init__(
        self, workspace: Workspace, name: str, tracker: Tracker, warn: Callable[[str], None]
    ) -> None:
        self._workspace, self._name, self._tracker, self._warn = workspace, name, tracker, warn
        self._is_ending = threading.Event()
        self._has_failed = self._is_complete = False
        self._seen: Stamps | None = None
        """Of the files that the tracker has everything of."""
        self._thread = threading.Thread(target=self._work, name=f"track {name}", daemon=True)

    def start(self) -> None:
        """Begin to read along."""
        self._thread.start()

    def ask_to_end(self) -> None:
        """Ask for the last lines."""
        self._is_ending.set()

    def wait(self) -> None:
        """Wait for the last lines, but not for ever."""
        self._thread.join(END_S)
        if not self._is_complete:
            words = ("autoseg", "track", "-w", str(self._workspace.root), "--to", self._name)
            text = f"{self._name} does not have all of this training; to feed it the rest"
            self._warn(f"{text}: {shlex.join(words)}")

    def _work(self) -> None:
        while not self._is_ending.wait(READ_EVERY_S):
            self._feed()
        self._is_complete = self._feed()
        with suppress(Exception):  # all has been told that can be
            self._tracker.close()

    def _feed(self) -> bool:
        """Return whether the tracker has everything; warn of the first failure.

        Logs are read only when a file has changed: it would cost the training its processor.
        """
        stamps = _stamps(self._workspace)
        if stamps == self._seen:
            return True
        try:
            feed(self._workspace, self._tracker)
        except Exception as error:
            LOG.warning("tracking with %s failed", self._name, exc_info=True)
            if not self._has_failed:
                self._has_failed = True
                text = f"{self._name} cannot be fed: {first_line(error)}"
                self._warn(f"{text}. Training goes on without it")
            return False
        self._seen = stamps
        return True


def _stamps(workspace: Workspace) -> Stamps:
    """Return size and time of each file that a tracker is fed from."""
    folds = workspace.training.glob("*/fold_*/*.json*")
    paths = [workspace.plan, workspace.postprocessing, *sorted(folds)]
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            stat = path.stat()
            found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(found)
