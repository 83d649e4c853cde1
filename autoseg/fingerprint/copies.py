"""Cases that hold the same image, exactly or nearly."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from autoseg.fingerprint.fingerprint import CaseStats

NEAR = 4
"""Bits of 64 in which the looks of nearly equal images differ at most (measured: noise of a
twentieth of the contrast, other brightness, JPEG); unrelated ones' by 7 at least."""
ROWS = 256
"""Cases compared with all others at a time: keeps memory small."""


def copies(cases: Sequence[CaseStats]) -> tuple[tuple[str, ...], ...]:
    """Return the ids of cases with the same content, one sorted tuple a content."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.content_hash is not None:
            by_content[case.content_hash].append(case.case_id)
    return tuple(sorted(tuple(sorted(ids)) for ids in by_content.values() if len(ids) > 1))


def near_copies(cases: Sequence[CaseStats]) -> tuple[tuple[str, ...], ...]:
    """Return the sorted ids of each two cases whose images are the same or nearly so."""
    seen = [case for case in cases if case.thumbnail is not None]
    pairs = ((seen[first].case_id, seen[second].case_id) for first, second, _ in near_pairs(seen))
    return tuple(sorted((min(pair), max(pair)) for pair in pairs))


def near_pairs(cases: Sequence[CaseStats]) -> list[tuple[int, int, int]]:
    """Return places and distance of each two cases that differ by `NEAR` bits at most."""
    bits = np.array([int(case.thumbnail or "0", 16) for case in cases], np.uint64)
    pairs = []
    for start in range(0, len(bits), ROWS):
        rows = bits[start : start + ROWS, None]
        distances = np.bitwise_count(rows ^ bits[None])  # (rows, cases)
        for row, other in zip(*np.nonzero(distances <= NEAR), strict=True):
            if start + row < other:
                pairs.append((start + int(row), int(other), int(distances[row, other])))
    return pairs
