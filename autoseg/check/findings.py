"""What is odd about a fingerprinted data set: for people to look at, not to refuse."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.dataset.dataset import Case, Finding
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint

FEW_CASES = 10
"""Below this scores say little."""
RARE_CASES = 0.1
"""A class in a smaller part of the cases is rare."""
SPACING_RATIO = 5.0
"""A spacing this many times above or below the median of its axis is an outlier."""
EXTENT_RATIO = 5.0
"""The same for the extent of an image along an axis, in mm or pixels."""
INTENSITY_RATIO = 10.0
"""The same for the mean intensity of the foreground, where all are positive (not CT)."""
MAX_LISTED = 20
PATIENT = r"^([A-Za-z]+[-_]?\d+)[-_]"
"""How names of cases begin that tell the patient, e.g. patient001_frame01 or sub-12_ses-1."""


def check_fingerprint(fingerprint: Fingerprint, cases: Sequence[Case] = ()) -> tuple[Finding, ...]:
    """Return the findings about a data set; `cases` tell which of them belong to one group."""
    groups = {case.id: case.group for case in cases}
    return (
        *_few_cases(fingerprint),
        *_class_findings(fingerprint),
        *_empty_cases(fingerprint),
        *_outliers(fingerprint),
        *_intensity_outliers(fingerprint),
        *_duplicates(fingerprint, groups),
        *_patients(groups),
    )


def _patients(groups: Mapping[str, str]) -> list[Finding]:
    """Return a warning when cases seem to share patients but nobody said so."""
    if any(group != case_id for case_id, group in groups.items()):
        return []
    patients = defaultdict(list)
    for case_id in groups:
        match = re.match(PATIENT, case_id)
        if match is None:
            return []
        patients[match.group(1)].append(case_id)
    shared = [ids for ids in patients.values() if len(ids) > 1]
    if not shared:
        return []
    return [
        _note(
            f"{len(groups)} cases named after {len(patients)} patients or subjects",
            "all cases of a patient in one fold: else validation scores are too good",
            f"if so, plan with --group-by '{PATIENT}'",
            shared[0],
        )
    ]


def _note(
    found: str, expected: str, remedy: str, case_ids: Sequence[str] = (), *, is_warning: bool = True
) -> Finding:
    return Finding(
        severity="warning" if is_warning else "note",
        files=tuple(case_ids),
        found=found,
        expected=expected,
        remedy=remedy,
    )


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


def _few_cases(fingerprint: Fingerprint) -> list[Finding]:
    count = len(fingerprint.cases)
    if count >= FEW_CASES:
        return []
    return [
        _note(
            f"{count} case{'s' * (count > 1)}",
            f"at least {FEW_CASES} for scores that mean something",
            "add cases, or read the scores with caution",
        )
    ]


def _measured(fingerprint: Fingerprint) -> list[CaseStats]:
    """Return the cases whose classes were counted: imported fingerprints have none."""
    return [case for case in fingerprint.cases if case.class_voxels]


def _class_findings(fingerprint: Fingerprint) -> list[Finding]:
    cases, findings = _measured(fingerprint), []
    names, values = fingerprint.labels.names, fingerprint.labels.values
    for index in range(1, len(names) if cases else 0):
        holders = [case.case_id for case in cases if case.class_voxels[index]]
        name = f"class {names[index]} (value {values[index]})"
        if not holders:
            findings.append(
                _note(
                    f"{name} is in no case",
                    "every declared class in some cases",
                    "remove the class from the declaration, or check the annotation",
                )
            )
        elif len(holders) < RARE_CASES * len(cases) or len(holders) == 1 < len(cases):
            findings.append(
                _note(
                    f"{name} is in only {len(holders)} of {len(cases)} cases",
                    f"a class in at least {RARE_CASES:.0%} of the cases",
                    "add cases with this class; some folds may be trained or judged without it",
                    holders,
                )
            )
    return findings


def _empty_cases(fingerprint: Fingerprint) -> list[Finding]:
    cases = _measured(fingerprint)
    empty = [case.case_id for case in cases if not sum(case.class_voxels[1:])]
    if not empty:
        return []
    return [
        _note(
            f"{len(empty)} of {len(cases)} cases without foreground: {_listing(empty)}",
            "cases that show what is to be found, unless healthy ones are meant",
            "check that their annotation is complete",
            empty,
            is_warning=False,
        )
    ]


def _outliers(fingerprint: Fingerprint) -> list[Finding]:
    """Return cases whose spacing or extent differs strongly from the median along some axis."""
    spacings = np.array([case.spacing for case in fingerprint.cases])
    extents = spacings * np.array([case.shape for case in fingerprint.cases])
    unit, findings = fingerprint.unit, []
    for what, values, ratio in (
        ("spacing", spacings, SPACING_RATIO),
        ("extent", extents, EXTENT_RATIO),
    ):
        middle = np.median(values, axis=0)
        factor = np.maximum(values / middle, middle / values).max(axis=1)
        odd = np.flatnonzero(factor > ratio)
        if len(odd):
            ids = [fingerprint.cases[int(i)].case_id for i in odd]
            usual = " x ".join(f"{m:.4g}" for m in middle)
            findings.append(
                _note(
                    f"unusual {what} in {len(ids)} case{'s' * (len(ids) > 1)}: {_listing(ids)}",
                    f"within a factor of {ratio:g} of the median {usual} {unit}",
                    "check the headers and units of these files",
                    ids,
                )
            )
    return findings


def _intensity_outliers(fingerprint: Fingerprint) -> list[Finding]:
    """Return cases whose foreground is many times brighter or darker than usual, by channel."""
    cases = [case for case in fingerprint.cases if case.foreground_means]
    findings = []
    for index, name in enumerate(fingerprint.channels if cases else ()):
        means = np.array([case.foreground_means[index] for case in cases])
        if means.min() <= 0:
            continue
        middle = float(np.median(means))
        odd = np.flatnonzero(np.maximum(means / middle, middle / means) > INTENSITY_RATIO)
        if len(odd):
            ids = [cases[int(i)].case_id for i in odd]
            findings.append(
                _note(
                    f"{name}: unusual intensities in {len(ids)} cases, means of the foreground "
                    f"from {means.min():.4g} to {means.max():.4g}: {_listing(ids)}",
                    f"within a factor of {INTENSITY_RATIO:g} of the median {middle:.4g}",
                    "check how these images were scaled; normalising each image evens it out",
                    ids,
                    is_warning=False,
                )
            )
    return findings


def _duplicates(fingerprint: Fingerprint, groups: Mapping[str, str]) -> list[Finding]:
    """Return cases with the same content that may be torn apart by the folds."""
    by_content = defaultdict(list)
    for case in fingerprint.cases:
        if case.content_hash is not None:
            by_content[case.content_hash].append(case.case_id)
    findings = []
    for ids in by_content.values():
        if len({groups.get(case_id, case_id) for case_id in ids}) > 1:
            findings.append(
                _note(
                    f"the same image and labels under {len(ids)} names: {_listing(ids)}",
                    "every case once, or all copies in one group",
                    "remove the copies, or keep them together with --group-by: "
                    "copies on both sides of a fold make its score too good",
                    ids,
                )
            )
    return findings
