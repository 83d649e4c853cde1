"""Cases unlike the others in spacing, extent, orientation or intensities; margins, clipping."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.errors import counted

SPACING_RATIO = 5.0
"""A spacing this many times above or below the median of its axis is an outlier."""
UNIT_FACTORS = (
    (1000.0, "about 1000 times larger"),
    (1e-3, "about 1000 times smaller"),
    (1e6, "about a million times larger"),
    (1e-6, "about a million times smaller"),
)
"""Millimetres by micrometres, by metres; micrometres by metres."""
SAME_FACTOR = 0.5
"""Cases differ by this part in spacing, besides their unit."""
UNEVEN = 1.5
"""Volumes whose axes differ by this ratio are hardly ever 1 x 1 x 1 in truth."""
EXTENT_RATIO = 5.0
"""The same for the extent of an image along an axis, in mm or pixels."""
INTENSITY_RATIO = 10.0
"""The same for the mean intensity of the foreground, where all are positive (not CT)."""
RARE_ORIENTATION = 0.1
"""An orientation in a smaller part of the cases is likely a mistake."""
CLIPPED = 0.05
"""More of the voxels than this at the highest value were cut off there."""


def spread_findings(
    files: Sequence[str], spacings: NDArray[np.floating], shapes: NDArray[np.integer], unit: str
) -> list[Finding]:
    """Return cases whose spacing or extent differs strongly from the median along some axis.

    Parameters
    ----------
    files
        Of each case.
    spacings, shapes : (N, D)
        Of each case.
    """
    is_told, findings = _spacing_faults(files, spacings, shapes, unit)
    files = [name for name, told in zip(files, is_told, strict=True) if not told]
    spacings, shapes = spacings[~is_told], shapes[~is_told]
    for what, values, ratio in (
        ("spacing", spacings, SPACING_RATIO),
        ("extent", spacings * shapes, EXTENT_RATIO),
    ):
        middle = np.median(values, axis=0)
        factor = np.maximum(values / middle, middle / values).max(axis=1)
        odd = np.flatnonzero(factor > ratio)
        if len(odd):
            usual = " x ".join(f"{m:.4g}" for m in middle)
            findings.append(
                finding(
                    "warning",
                    f"unusual {what} in {counted(len(odd), 'case')}",
                    f"within a factor of {ratio:g} of the median {usual} {unit}",
                    "check the headers and units of these files",
                    [files[int(place)] for place in odd],
                )
            )
    return findings


def _spacing_faults(
    files: Sequence[str], spacings: NDArray[np.floating], shapes: NDArray[np.integer], unit: str
) -> tuple[NDArray[np.bool_], list[Finding]]:
    """Return (N,) cases whose spacing is wrong in a way that has a name, and what to say of them.

    In another unit (1000 times too large or small along all axes), or left at 1 in some volumes.
    """
    middle = np.median(spacings, axis=0)
    ratios = spacings / middle
    findings, is_told = [], np.zeros(len(spacings), bool)
    for factor, text in UNIT_FACTORS:
        odd = np.asarray((np.abs(ratios / factor - 1) <= SAME_FACTOR).all(axis=1))
        findings += _fault(files, odd, f"{text} than usual: in another unit, most likely", middle)
        is_told |= odd
    is_one = np.asarray((spacings == 1).all(axis=1))
    if unit == "mm" and is_one.mean() < 0.5 and middle.max() >= UNEVEN * middle.min():
        is_lost = is_one & ~is_told & _have_usual_shape(spacings, shapes)
        ones = " x ".join("1" for _ in middle)
        findings += _fault(files, is_lost, f"{ones}: lost when the files were written", middle)
        is_told |= is_lost
    return is_told, findings


def _have_usual_shape(
    spacings: NDArray[np.floating], shapes: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Return (N,) whether cases are nearer to the usual shape than to the usual extent in mm.

    Volumes that were recorded at another spacing have about the usual extent.
    """
    of_shape, of_extent = (
        np.abs(np.log(values / np.median(values, axis=0))).max(axis=1)
        for values in (shapes, spacings * shapes)
    )
    return np.asarray(of_shape < of_extent)


def _fault(
    files: Sequence[str], odd: NDArray[np.bool_], what: str, middle: NDArray[np.floating]
) -> list[Finding]:
    if not odd.any():
        return []
    return [
        finding(
            "warning",
            f"the spacing in {counted(int(odd.sum()), 'case')} is {what}",
            "spacings in one unit, near the median " + " x ".join(f"{m:.4g}" for m in middle),
            "correct the headers of these files, of images and masks alike, or leave the cases "
            "out (exclude in the spec)",
            [files[int(place)] for place in np.flatnonzero(odd)],
        )
    ]


def _spread(subject: Subject) -> list[Finding]:
    cases = subject.fingerprint.cases
    return spread_findings(
        subject.images([case.case_id for case in cases]),
        np.array([case.spacing for case in cases]),
        np.array([case.shape for case in cases]),
        subject.fingerprint.unit,
    )


def _intensities(subject: Subject) -> list[Finding]:
    """Return cases whose foreground is many times brighter or darker than usual, by channel."""
    cases = [case for case in subject.fingerprint.cases if case.foreground_means]
    findings = []
    for index, name in enumerate(subject.fingerprint.channels if cases else ()):
        means = np.array([case.foreground_means[index] for case in cases])
        if means.min() <= 0:
            continue
        middle = float(np.median(means))
        odd = np.flatnonzero(np.maximum(means / middle, middle / means) > INTENSITY_RATIO)
        if len(odd):
            findings.append(
                finding(
                    "note",
                    f"{name}: unusual intensities in {counted(len(odd), 'case')}, means of the "
                    f"foreground from {means.min():.4g} to {means.max():.4g}",
                    f"within a factor of {INTENSITY_RATIO:g} of the median {middle:.4g}",
                    "check how these images were scaled; normalising each image evens it out",
                    subject.images([cases[int(place)].case_id for place in odd]),
                )
            )
    return findings


def _orientations(subject: Subject) -> list[Finding]:
    """Return volumes whose axes point elsewhere than was declared, or than most others'."""
    known = {c.case_id: c.orientation for c in subject.fingerprint.cases if c.orientation}
    counts = Counter(known.values())
    if subject.orientation is not None:
        odd = [case_id for case_id, code in known.items() if code != subject.orientation]
        expected = f"{subject.orientation}, as declared"
    else:
        rare = {code for code, count in counts.items() if count < RARE_ORIENTATION * len(known)}
        odd = [case_id for case_id, code in known.items() if code in rare]
        expected = "the same orientation for all, mostly " + ", ".join(
            code for code in counts if code not in rare
        )
    if not odd:
        return []
    shown = ", ".join(sorted({known[case_id] for case_id in odd}))
    return [
        finding(
            "warning",
            f"orientation {shown} in {len(odd)} of {len(known)} cases",
            expected,
            "check these headers; if they are right, reorient the files: voxels are used as stored",
            subject.images(odd),
        )
    ]


def _padding(subject: Subject) -> list[Finding]:
    """Return a note about margins that are constant but not zero: cropping keeps them."""
    padded = [case for case in subject.fingerprint.cases if case.padding]
    if not padded:
        return []
    values = Counter(value for case in padded for value in case.padding)
    shown = ", ".join(f"{value:g}" for value, _ in values.most_common(3))
    return [
        finding(
            "note",
            f"a margin of {shown} in {len(padded)} of {len(subject.fingerprint.cases)} cases",
            "zero where nothing was recorded: such margins are cropped",
            "nothing; setting it to 0 makes files and training smaller",
            subject.images([case.case_id for case in padded]),
        )
    ]


def _clipped(subject: Subject) -> list[Finding]:
    """Return cases with many voxels at the highest value, other than a bright margin."""
    cases = [case for case in subject.fingerprint.cases if case.brightest and not case.padding]
    odd = [case for case in cases if max(case.brightest) > CLIPPED]
    if not odd:
        return []
    most = max(max(case.brightest) for case in odd)
    return [
        finding(
            "note",
            f"up to {most:.0%} of the voxels have the highest value of their image in "
            f"{len(odd)} of {len(subject.fingerprint.cases)} cases: saturated or clipped",
            f"at most {CLIPPED:.0%}",
            "export the images with their full range, if there is one",
            subject.images([case.case_id for case in odd]),
        )
    ]


OUTLIER_RULES = (_spread, _intensities, _orientations, _padding, _clipped)
