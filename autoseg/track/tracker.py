"""What an experiment tracker must be able to do, and what it is told."""

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from autoseg.errors import AutosegError
from autoseg.record import Record


class Fed(Record):
    """How much of a run a tracker has; it is kept with the run, so that neither is without."""

    run: str
    """Which training it is of."""
    step: int = 0
    """Of the last point."""
    outcome: str = ""
    """Digest of the outcome that was told last; empty: none was."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A fold that is trained: one run of a tracker."""

    id: str
    """The same as long as the training goes on, interrupted or not; another for another one."""
    workspace: str
    configuration: str
    fold: str
    parameters: Mapping[str, str]
    started_s: float
    """Time of the first step, seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Numbers at a step."""

    step: int
    seconds: float
    """Active seconds since the first step."""
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class News:
    """What a tracker does not have yet."""

    points: tuple[Point, ...]
    """In the order of their steps."""
    outcome: Mapping[str, float]
    """Scores of the finished fold; empty while it is trained, and where they have been told."""
    fed: Fed
    """What the tracker has when it has these."""


class Tracker(Protocol):
    """A place that shows runs. It may fail at any time: then the same news come again."""

    def fed(self, run: Run) -> Fed:
        """Return what the tracker has of a run, which is made where there is none."""
        ...

    def tell(self, run: Run, news: News) -> None:
        """Add to a run that `fed` was asked for, and remember `news.fed`."""
        ...

    def close(self) -> None:
        """End the connection; runs without an outcome were interrupted."""
        ...


def load_package(name: str, extra: str) -> ModuleType:
    """Return an imported package of an extra.

    What it warns about itself while it is imported is no concern of the user.

    Raises
    ------
    AutosegError
        It cannot be imported; the message names the extra.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise AutosegError(
            found=f"--track {extra}, but its package cannot be imported: {error}",
            expected=f"the package {extra}, which comes with the extra {extra!r}",
            fix=f"pip install 'autoseg-unet[{extra}]', or leave out {extra}",
        ) from error
