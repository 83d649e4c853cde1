"""Errors that a user can fix, by the step that finds them."""

import difflib

from autoseg.runtime.errors import AutosegError as AutosegError


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """Return "; did you mean 'x'?" for the name most like a mistyped one, or nothing."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def counted(number: int, noun: str) -> str:
    """Return "1 case", "2 cases"."""
    return f"{number} {noun}{'s' * (number != 1)}"


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
