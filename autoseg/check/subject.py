"""What is checked, and how a finding about some of its cases is worded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autoseg.dataset.dataset import Case, Finding, Reading
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint

MIN_VALUES = 2
"""Background and one class."""
USUAL_IGNORE = 255
"""The value that most data sets, of 8 bits, give to what is not annotated."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A fingerprinted data set with what is known of its files."""

    fingerprint: Fingerprint
    cases: Mapping[str, Case] = field(default_factory=dict)
    """By id; empty where only a fingerprint is known."""
    labels_declared: bool = True
    orientation: str | None = None
    """That all volumes should have, where the user said so."""
    reading: Reading = field(default_factory=Reading)
    """How masks become values of classes."""
    alike: Sequence[Sequence[str]] = ()
    """Ids of cases whose images are nearly the same, one like the next."""

    @property
    def measured(self) -> list[CaseStats]:
        """The cases whose classes were counted: imported fingerprints have none."""
        return [case for case in self.fingerprint.cases if case.class_voxels]

    def may_be_ignored(self, index: int) -> bool:
        """Return whether a class is likely none: its value usually marks what is not annotated.

        Of two values the higher one is the foreground, whatever it is.
        """
        labels = self.fingerprint.labels
        is_usual = labels.values[index] == USUAL_IGNORE and len(labels.values) > MIN_VALUES
        return is_usual and labels.ignore is None

    def images(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Return the first image of each case, or its id where files are unknown."""
        return tuple(self.cases[i].images[0] if i in self.cases else i for i in ids)

    def labels(self, ids: Sequence[str]) -> tuple[str, ...]:
        """Return the first label file of each case, or its id where there is none."""
        return tuple((*self.cases[i].labels, i)[0] if i in self.cases else i for i in ids)

    def group(self, case_id: str) -> str:
        """Return the group of a case: its id where none is known."""
        return self.cases[case_id].group if case_id in self.cases else case_id


def finding(
    severity: Literal["note", "warning"],
    found: str,
    expected: str,
    remedy: str,
    files: Sequence[str] = (),
) -> Finding:
    """Return something that does not stop a plan."""
    return Finding(
        severity=severity, files=tuple(files), found=found, expected=expected, remedy=remedy
    )
