"""A data set under a spec: opened, measured, and without its broken cases where that is allowed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.check.findings import check_fingerprint
from autoseg.check.masks import mask_storage
from autoseg.dataset.dataset import BROKEN, Dataset, DatasetSpec, Finding
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems, as_error, error_finding
from autoseg.dataset.swapped import swapped_finding
from autoseg.errors import DatasetError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.fingerprint.fingerprint_dataset import survey_dataset
from autoseg.machine import usable_cpus
from autoseg.pipeline.splitting import GivenSplits, SplitOptions, find_given

MIN_CASES = 2
"""One to train on and one to validate on."""
REASON_LENGTH = 200
"""Letters of the reason why a case is left out."""

OnCase = Callable[[str, int, int], None]
Survey = Callable[[Dataset], tuple[Fingerprint | None, tuple[Finding, ...]]]


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What is known of a data set under a spec."""

    spec: DatasetSpec
    dataset: Dataset | None = None
    """None: its files do not go together, see `findings`."""
    given: GivenSplits | None = None
    fingerprint: Fingerprint | None = None
    """None: not measured, or nothing that could be."""
    findings: tuple[Finding, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What stops a plan."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def make_survey(folder: Path | None, ram_bytes: int, on_case: OnCase) -> Survey:
    """Return a function that measures a data set, keeping in `folder` what was measured."""

    def survey(dataset: Dataset) -> tuple[Fingerprint | None, tuple[Finding, ...]]:
        return survey_dataset(
            dataset,
            folder,
            num_workers=usable_cpus(),
            ram_bytes=ram_bytes,
            on_case=counted_cases(on_case, len(dataset.cases)),
        )

    return survey


def counted_cases(on_case: OnCase, total: int) -> Callable[[str], None]:
    """Return a listener that adds how many cases are done."""
    done: list[str] = []

    def listen(case_id: str) -> None:
        done.append(case_id)
        on_case(case_id, len(done), total)

    return listen


def open_examined(root: Path, spec: DatasetSpec, splits: SplitOptions) -> Examined:
    """Return a data set whose pixels are not measured yet, with what is wrong already.

    Raises
    ------
    DatasetError
        There is no such folder; everything else is a finding.
    """
    try:
        dataset = open_dataset(root, spec, None)
    except DatasetProblems as error:
        return Examined(spec=spec, findings=error.findings)
    except DatasetError as error:
        if not root.is_dir():
            raise
        return Examined(spec=spec, findings=(error_finding(error, ()),))
    stored = tuple(mask_storage(dataset))
    try:
        dataset, given = find_given(dataset, splits)
    except DatasetError as error:
        return Examined(spec=spec, dataset=dataset, findings=(*stored, error_finding(error, ())))
    return Examined(spec=spec, dataset=dataset, findings=stored, given=given)


def measured(examined: Examined, survey: Survey) -> Examined:
    """Return what is known after measuring the data set, if it can be."""
    if examined.dataset is None:
        return examined
    fingerprint, findings = survey(examined.dataset)
    swapped = swapped_finding(examined.dataset) if fingerprint is None else None
    findings = findings if swapped is None else (swapped,)
    return replace(examined, fingerprint=fingerprint, findings=(*examined.findings, *findings))


def open_sound(
    root: Path, spec: DatasetSpec, splits: SplitOptions, survey: Survey, *, skip_broken: bool
) -> Examined:
    """Return a measured data set without errors; broken cases are left out where that is allowed.

    Raises
    ------
    DatasetProblems
        Errors remain: all of them.
    """
    errors: tuple[Finding, ...] = ()
    while True:
        examined = open_examined(root, spec, splits)
        if errors and has_too_few(examined):
            raise as_error(errors)
        if not examined.errors:
            examined = measured(examined, survey)
        if not examined.errors:
            return examined
        reduced = without_broken(examined) if skip_broken else None
        if reduced is None:
            raise as_error(examined.errors, _or_skipped(examined) if not skip_broken else "")
        spec, errors = reduced, examined.errors


def measured_findings(examined: Examined, alike: Sequence[Sequence[str]]) -> tuple[Finding, ...]:
    """Return what the measures of a data set tell; `alike` is what `near_copies` returns."""
    dataset, fingerprint = examined.dataset, examined.fingerprint
    assert dataset is not None
    assert fingerprint is not None
    return check_fingerprint(
        fingerprint,
        dataset.cases,
        labels_declared=dataset.labels_declared,
        orientation=examined.spec.orientation,
        reading=dataset.reading,
        alike=alike,
    )


def _or_skipped(examined: Examined) -> str:
    """Return how a plan can be had in spite of errors, where leaving out their cases does it."""
    reduced = without_broken(examined)
    broken = {error.case for error in examined.errors}
    total = len(examined.dataset.cases) if examined.dataset is not None else None
    if reduced is None or (total is not None and total - len(broken) < MIN_CASES):
        return ""
    return "; or leave broken cases out: --skip-broken"


def without_broken(examined: Examined) -> DatasetSpec | None:
    """Return a spec that leaves out each case with an error; see `without_cases`."""
    return without_cases(examined.spec, examined.errors)


def without_cases(spec: DatasetSpec, errors: Sequence[Finding]) -> DatasetSpec | None:
    """Return a spec that leaves out each case with an error, for the first of its errors.

    None where errors are not about single cases.
    """
    reasons: dict[str, str] = {}
    for error in errors:
        if error.case is None:
            return None
        first = error.found.splitlines()[0]
        reasons.setdefault(error.case, f"{BROKEN}{first[:REASON_LENGTH]}")
    excluded = {**reasons, **(spec.exclude or {})}
    if not reasons or excluded == spec.exclude:
        return None
    return spec.revised(exclude=excluded)


def has_too_few(examined: Examined) -> bool:
    """Return whether so many cases were left out that no model can be made."""
    if examined.dataset is None:
        return not any(error.case for error in examined.errors)
    return len(examined.dataset.cases) < MIN_CASES
