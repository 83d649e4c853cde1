"""Classes that are most likely no classes: values in very few voxels, or in specks alone."""

import json
from collections.abc import Sequence

import numpy as np

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.dataset.label_values import as_background
from autoseg.errors import counted
from autoseg.fingerprint.fingerprint import CaseStats
from autoseg.runtime.recipe import Labels

FEW_CASES = 0.1
"""A stray value is in a smaller part of the cases, or in one case ..."""
SMALL = 1e-2
"""... and in less of their voxels than this part of what the other classes usually have."""
FEW_VOXELS = 8
"""However small the others are, so few voxels are a slip of a mouse ..."""
MOST_VOXELS = 64
"""... and however large they are, more voxels are a small structure, not a slip."""
SPECKS = 0.5
"""Components by voxels: above, a class is mostly single voxels, as interpolation leaves them ..."""
SPECK_PART = 0.05
"""... and no more than this part of all foreground."""
MIN_SPECKS = 20
"""Fewer components than this may be anything."""


def stray_findings(subject: Subject) -> list[Finding]:
    """Return values in so few voxels of so few cases that they were hardly meant."""
    labels, findings = subject.fingerprint.labels, []
    for index in range(1, len(labels.names)):
        holders = [case for case in subject.measured if case.class_voxels[index]]
        if holders and _is_stray(subject, index, holders):
            findings.append(_stray(subject, index, holders))
        elif holders and _are_specks(subject, index, holders):
            findings.append(_specks(subject, index, holders))
    return findings


def _is_stray(subject: Subject, index: int, holders: Sequence[CaseStats]) -> bool:
    if len(holders) > max(1, FEW_CASES * len(subject.measured)):
        return False
    most = max(case.class_voxels[index] for case in holders)
    usual = [
        float(np.median([case.class_voxels[other] for case in others]))
        for other in range(1, len(subject.fingerprint.labels.names))
        if other != index
        and len(others := [c for c in subject.measured if c.class_voxels[other]]) > len(holders)
    ]
    if not usual or most >= min(usual):
        return False
    return most <= min(MOST_VOXELS, max(FEW_VOXELS, SMALL * min(usual)))


def _are_specks(subject: Subject, index: int, holders: Sequence[CaseStats]) -> bool:
    """Return whether a class between two others is scattered over single voxels beside them.

    Interpolation leaves values between those it started from: the highest one is a class of dots.
    """
    values = subject.fingerprint.labels.values
    if not min(values) < values[index] < max(values):
        return False
    voxels = sum(case.class_voxels[index] for case in holders)
    specks = sum(case.class_components[index] for case in holders)
    foreground = sum(sum(case.class_voxels[1:]) for case in subject.measured)
    is_small = voxels <= SPECK_PART * foreground
    return is_small and specks >= MIN_SPECKS and specks > SPECKS * voxels


def _stray(subject: Subject, index: int, holders: Sequence[CaseStats]) -> Finding:
    labels, first = subject.fingerprint.labels, holders[0]
    total = sum(case.class_voxels[index] for case in holders)
    centre = first.class_centres[index] if first.class_centres else ()
    place = [str(int(part * n)) for part, n in zip(centre, first.shape, strict=False)]
    where = f", around {', '.join(place)} ({'ZYX'[-len(place) :]})" if place else ""
    return finding(
        "warning",
        f"value {labels.values[index]} ({labels.names[index]}) in only "
        f"{counted(total, 'voxel')} of {counted(len(holders), 'case')}{where}: a slip, most likely",
        "values of classes that many voxels have",
        _remedy(subject, index),
        subject.labels([case.case_id for case in holders]),
    )


def _specks(subject: Subject, index: int, holders: Sequence[CaseStats]) -> Finding:
    labels = subject.fingerprint.labels
    return finding(
        "warning",
        f"value {labels.values[index]} ({labels.names[index]}) is scattered over single voxels: "
        "traces of an interpolation, most likely",
        "classes that hang together",
        "resample the masks again by nearest neighbour; or " + _remedy(subject, index),
        subject.labels([case.case_id for case in holders]),
    )


def _remedy(subject: Subject, index: int) -> str:
    """Return what to declare so that the value is read as background, and no class any more."""
    labels, reading = subject.fingerprint.labels, subject.reading
    has_values = not any(case.paint or case.part for case in subject.cases.values())
    if reading.masks != "values" or not has_values:
        return "if it is no class, correct the masks"  # no map of values is read
    value, background = labels.values[index], labels.values[0]
    declared = {"labels": _labels_without(labels, index)} if subject.labels_declared else {}
    if subject.may_be_ignored(index):
        spec = {**declared, "ignore": value}
        return (
            f"{value} usually marks what is not annotated: declare {json.dumps(spec)} in the spec; "
            "if it is something else, correct the masks"
        )
    spec = {"label_map": as_background([value], background, reading.label_map), **declared}
    if subject.labels_declared:
        spec |= {} if labels.ignore is None else {"ignore": labels.ignore}
    return f"if it is no class, declare {json.dumps(spec)} in the spec, or correct the masks"


def _labels_without(labels: Labels, index: int) -> dict[str, object]:
    """Return the declaration of all classes, or regions, but one class."""
    left = {place: value for place, value in enumerate(labels.values) if place != index}
    if not labels.regions:
        return {labels.names[place]: value for place, value in left.items()}
    regions = {
        r.name: [left[place] for place in r.classes if place in left] for r in labels.regions
    }
    return {labels.names[0]: left[0], **{name: given for name, given in regions.items() if given}}
