"""What is odd about a fingerprinted data set: for people to look at, not to refuse."""

from collections.abc import Sequence

from autoseg.check.channels import channel_findings
from autoseg.check.classes import CLASS_RULES
from autoseg.check.copies import copies, same_masks
from autoseg.check.outliers import OUTLIER_RULES
from autoseg.check.pairs import pair_findings
from autoseg.check.strays import stray_findings
from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Case, Finding, Reading
from autoseg.errors import counted
from autoseg.fingerprint.copies import near_copies
from autoseg.fingerprint.fingerprint import Fingerprint

FEW_CASES = 10
"""Below this scores say little."""


def check_fingerprint(
    fingerprint: Fingerprint,
    cases: Sequence[Case] = (),
    *,
    labels_declared: bool = True,
    orientation: str | None = None,
    reading: Reading | None = None,
    alike: Sequence[Sequence[str]] | None = None,
) -> tuple[Finding, ...]:
    """Return the findings about a data set.

    Parameters
    ----------
    cases
        Tell which of them belong to one group, and the names of their files.
    labels_declared
        Whether somebody said what the values in the masks mean.
    orientation
        That all volumes should have.
    reading
        How masks become values of classes; None: they have them.
    alike
        What `near_copies` returns, where it is known: comparing all with all takes long.
    """
    subject = Subject(
        fingerprint=fingerprint,
        cases={case.id: case for case in cases},
        labels_declared=labels_declared,
        orientation=orientation,
        reading=reading or Reading(),
        alike=near_copies(fingerprint.cases) if alike is None else alike,
    )
    rules = (
        _few_cases,
        *CLASS_RULES,
        stray_findings,
        *OUTLIER_RULES,
        channel_findings,
        copies,
        same_masks,
        pair_findings,
    )
    return tuple(item for rule in rules for item in rule(subject))


def _few_cases(subject: Subject) -> list[Finding]:
    count = len(subject.fingerprint.cases)
    if count >= FEW_CASES:
        return []
    return [
        finding(
            "warning",
            counted(count, "case"),
            f"at least {FEW_CASES} for scores that mean something",
            "add cases, or read the scores with caution",
        )
    ]
