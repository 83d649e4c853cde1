"""Trackers by what users call them: `tensorboard`, `tensorboard=FOLDER`, `mlflow`, `mlflow=URI`."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from types import MappingProxyType

from autoseg.errors import AutosegError, nearest
from autoseg.network.weight_files import first_line
from autoseg.track.feed import feed
from autoseg.track.mlflow import open_mlflow
from autoseg.track.tensorboard import open_tensorboard
from autoseg.track.tracker import Tracker
from autoseg.workspace import Workspace

LOG = logging.getLogger("autoseg")

TRACKERS: MappingProxyType[str, Callable[[Workspace, str], Tracker]] = MappingProxyType(
    {"tensorboard": open_tensorboard, "mlflow": open_mlflow}
)
"""By name: opened with a workspace and where it is, empty where the user does not say."""


def open_trackers(workspace: Workspace, targets: Sequence[str]) -> dict[str, Tracker]:
    """Return the trackers of a workspace that a user asks for, by how they are asked for.

    Raises
    ------
    AutosegError
        There is no such tracker, or its package is missing.
    """
    for target in targets:
        name = target.partition("=")[0]
        if name not in TRACKERS:
            raise AutosegError(
                found=f"tracker {target!r}",
                expected="tensorboard, tensorboard=FOLDER, mlflow or mlflow=URI",
                fix=f"correct the name of the tracker{nearest(name, list(TRACKERS))}",
            )
    opened = {}
    for target in dict.fromkeys(targets):
        name, _, place = target.partition("=")
        opened[target] = TRACKERS[name](workspace, place)
    return opened


def feed_all(workspace: Workspace, targets: Sequence[str]) -> dict[str, int]:
    """Give trackers what they lack of a workspace; return how many points each was given.

    Raises
    ------
    AutosegError
        There is no such tracker, its package is missing, or it cannot be fed.
    """
    counts = {}
    for target, tracker in open_trackers(workspace, targets).items():
        with closing(tracker):
            try:
                counts[target] = feed(workspace, tracker)
            except AutosegError:
                raise
            except Exception as error:
                LOG.warning("tracking with %s failed", target, exc_info=True)
                raise AutosegError(
                    found=f"{target} cannot be fed: {first_line(error)}",
                    expected="a tracker that answers",
                    fix="start it, or correct --to; then run the same command again: nothing is "
                    "given twice",
                ) from error
    return counts
