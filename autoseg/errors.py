"""Errors that a user can fix, by the step that finds them."""

import difflib
from collections import abc

from autoseg.runtime.errors import AutosegError as AutosegError


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return "; did you mean 'x'?" for the name most like a mistyped one, or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return "1 case", "2 cases"; with a plural of its own "1 axis", "2 axes"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


Written = abc.Callable[[str, str], str]
"""Returns how a command is given a name and its value."""


def as_option(name: str, value: str) -> str:
    """Return an option with its value: --memory 500MB."""
    return f"--{name} {value}"


def as_pair(name: str, value: str) -> str:
    """Return a pair as `--what-if` takes it: memory=500MB."""
    return f"{name}={value}"


def duration(seconds: float) -> str:
    """Return a duration: "0.35 s", "42 s", "17 min", "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class DatasetError(AutosegError):
    """The data set, a case or a spec is not as it must be."""


class PlanError(AutosegError):
    """A plan cannot be made, found or read."""


class WorkspaceError(AutosegError):
    """A workspace is missing, ambiguous, unwritable or made by another version."""


class TrainingError(AutosegError):
    """Training cannot start or go on for a reason that the user can remove."""


class ExportError(AutosegError):
    """An export does not agree with the trained model, or cannot be written."""
