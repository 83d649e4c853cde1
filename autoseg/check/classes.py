"""What is odd about the classes: absent, rare, misnumbered, inverted, of unusual volume."""

import math

import numpy as np

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.errors import counted

RARE_CASES = 0.1
"""A class in a smaller part of the cases may be missing in a fold."""
VERY_RARE_CASES = 0.01
"""In a smaller part, or in a single case, it can be neither learnt nor judged."""
INVERTED = 0.6
"""Foreground on more than this part of the usual image, and of its border, is likely background."""
VOLUME_RATIO = 10.0
"""A class this many times larger or smaller than its median is an outlier ..."""
VOLUME_SCORE = 4.0
"""... if it is this far from the median too, in robust deviations of the logarithm."""
MIN_HOLDERS = 8
"""Cases with a class, below which its usual volume is not known."""
MIN_DEVIATION = 0.1
"""Of the logarithm: no class has the same volume in all cases but in made data."""
OBJECT = "object"
"""What a class is called that nobody has named; the name of its value would be another's."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution, by its median absolute deviation."""


def _presence(subject: Subject) -> list[Finding]:
    """Return which classes are in no case, or in few."""
    cases, findings = subject.measured, []
    labels = subject.fingerprint.labels
    for index in range(1, len(labels.names) if cases else 0):
        holders = [case.case_id for case in cases if case.class_voxels[index]]
        name = f"class {labels.names[index]} (value {labels.values[index]})"
        part = len(holders) / len(cases)
        if not holders:
            findings.append(
                finding(
                    "warning",
                    f"{name} is in no case",
                    "every declared class in some cases",
                    "remove the class from the declaration, or check the annotation",
                )
            )
        elif part < RARE_CASES or len(holders) == 1 < len(cases):
            is_hopeless = part < VERY_RARE_CASES or len(holders) == 1
            findings.append(
                finding(
                    "warning" if is_hopeless else "note",
                    f"{name} is in only {len(holders)} of {len(cases)} cases",
                    f"a class in at least {RARE_CASES:.0%} of the cases",
                    "add cases with this class; some folds may be trained or judged without it",
                    subject.labels(holders),
                )
            )
    return findings


def _empty_cases(subject: Subject) -> list[Finding]:
    cases = subject.measured
    empty = [case.case_id for case in cases if not sum(case.class_voxels[1:])]
    if not empty:
        return []
    return [
        finding(
            "note",
            f"{len(empty)} of {len(cases)} cases without foreground",
            "cases that show what is to be found, unless healthy ones are meant",
            "check that their annotation is complete",
            subject.labels(empty),
        )
    ]


def _values(subject: Subject) -> list[Finding]:
    """Return a note about undeclared values that are not 0, 1, 2 and so on."""
    values = subject.fingerprint.labels.values
    if subject.labels_declared or values == tuple(range(len(values))):
        return []
    shown = ", ".join(str(value) for value in values[:10]) + ", ..." * (len(values) > 10)
    remedy = "nothing: values become classes in rising order, predictions get the values back"
    if subject.may_be_ignored(len(values) - 1):
        remedy = (
            f'if {values[-1]} marks what is not annotated, as it usually does, declare "ignore": '
            f"{values[-1]} in the spec; else {remedy}"
        )
    return [
        finding(
            "note",
            f"masks with the values {shown}" + " and gaps between" * (len(values) > 2),
            "the numbers 0, 1, 2 and so on",
            remedy,
        )
    ]


def _inverted(subject: Subject) -> list[Finding]:
    """Return a warning where the only class surrounds what seems to be the object."""
    cases, labels = subject.measured, subject.fingerprint.labels
    borders = [c.border_foreground for c in cases if c.border_foreground is not None]
    if len(labels.names) != 2 or not borders:
        return []
    inside = float(np.median([c.class_voxels[1] / max(1, sum(c.class_voxels)) for c in cases]))
    border = float(np.median(borders))
    if min(inside, border) < INVERTED:
        return []
    name = labels.names[1] if subject.labels_declared else OBJECT
    swapped = {"background": labels.values[1], name: labels.values[0]}
    text = ", ".join(f'"{name}": {value}' for name, value in swapped.items())
    return [
        finding(
            "warning",
            f"{labels.names[1]} (value {labels.values[1]}) is {inside:.0%} of the usual image and "
            f"{border:.0%} of its border: masks that may be inverted",
            "a background that surrounds what is to be found",
            f'if {labels.values[0]} is what is to be found, declare "labels": {{{text}}}',
        )
    ]


def _volumes(subject: Subject) -> list[Finding]:
    """Return cases in which a class is many times larger or smaller than usual."""
    cases, labels, findings = subject.measured, subject.fingerprint.labels, []
    for index in range(1, len(labels.names) if cases else 0):
        holders = [case for case in cases if case.class_voxels[index]]
        if len(holders) < MIN_HOLDERS:
            continue
        volumes = np.array([c.class_voxels[index] * math.prod(c.spacing) for c in holders])
        ratios = np.log(volumes) - np.median(np.log(volumes))
        deviation = max(MIN_DEVIATION, NORMAL_MAD * float(np.median(np.abs(ratios))))
        is_odd = (np.abs(ratios) > math.log(VOLUME_RATIO)) & (
            np.abs(ratios) > VOLUME_SCORE * deviation
        )
        odd = [holders[int(place)].case_id for place in np.flatnonzero(is_odd)]
        if odd:
            ends = (f"{np.exp(end(ratios[is_odd])):.2g}" for end in (np.min, np.max))
            findings.append(
                finding(
                    "warning",
                    f"class {labels.names[index]}: unusual size in {counted(len(odd), 'case')}, "
                    f"{' to '.join(dict.fromkeys(ends))} times the median",
                    f"within a factor of {VOLUME_RATIO:g} of the median",
                    "look at the annotation of these cases",
                    subject.labels(odd),
                )
            )
    return findings


CLASS_RULES = (_presence, _empty_cases, _values, _inverted, _volumes)
