"""Cases whose channels stand in another order than those of the others, told by intensities.

Letters in shapes: N cases, C channels.
"""

import itertools
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.errors import counted

MIN_CASES = 8
"""Below which it is not known what is usual."""
MAX_CHANNELS = 5
"""Orders of more channels are too many to compare."""
AS_USUAL = 3.0
"""Robust deviations within which a channel, put back into its place, must lie ..."""
NOT_USUAL = 8.0
"""... and from which on it must differ where it stands."""
MIN_DEVIATION = 0.02
"""Of the range over all channels: made data do not vary."""
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution, by its median absolute deviation."""


def channel_findings(subject: Subject) -> list[Finding]:
    """Return cases whose channels are clearly exchanged, by the means of their foreground."""
    names = subject.fingerprint.channels
    cases = [c for c in subject.fingerprint.cases if len(c.foreground_means) == len(names)]
    if len(cases) < MIN_CASES or not 2 <= len(names) <= MAX_CHANNELS:
        return []
    means = np.array([case.foreground_means for case in cases])  # (N, C)
    found = defaultdict(list)
    for case, order in zip(cases, _orders(means), strict=True):
        if order is not None:
            found[order].append(case.case_id)
    return [
        finding(
            "warning",
            f"channels in another order in {counted(len(ids), 'case')}: by their intensities "
            + ", ".join(names[place] for place in order),
            f"the order of the other cases: {', '.join(names)}",
            "put the channels of these files into the order of the others, or exclude the cases",
            subject.images(ids),
        )
        for order, ids in found.items()
    ]


def _orders(means: NDArray[np.floating]) -> list[tuple[int, ...] | None]:
    """Return for each of (N, C) means what its channels seem to be; None where all is as usual."""
    middle = np.median(means, axis=0)
    spread = NORMAL_MAD * np.median(np.abs(means - middle), axis=0)
    deviation = np.maximum(spread, MIN_DEVIATION * float(np.ptp(middle)))
    if not (deviation > 0).all():
        return [None] * len(means)
    usual = tuple(range(len(middle)))
    return [_order(case, middle, deviation, usual) for case in means]


def _order(
    case: NDArray[np.floating],
    middle: NDArray[np.floating],
    deviation: NDArray[np.floating],
    usual: tuple[int, ...],
) -> tuple[int, ...] | None:
    """Return the only other order in which the (C,) means of a case are as usual."""
    fits = [
        order
        for order in itertools.permutations(usual)
        if (np.abs(case - middle[[*order]]) / deviation[[*order]]).max() <= AS_USUAL
    ]
    if len(fits) != 1 or fits[0] == usual:
        return None
    moved = [place for place in usual if fits[0][place] != place]
    off = np.abs(case - middle)[moved] / deviation[moved]
    return fits[0] if off.min() >= NOT_USUAL else None
