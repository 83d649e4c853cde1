"""Cases that hold the same image, exactly or nearly."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.fingerprint.fingerprint import CaseStats

NEAR = 4
"""Bits of 64 in which the looks of nearly equal images differ at most (measured: noise of a
twentieth of the contrast, other brightness, JPEG); unrelated ones' by 7 at least."""


def copies(cases: Sequence[CaseStats]) -> tuple[tuple[str, ...], ...]:
    """Return the ids of cases with the same content, one sorted tuple a content."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.content_hash is not None:
            by_content[case.content_hash].append(case.case_id)
    return tuple(sorted(tuple(sorted(ids)) for ids in by_content.values() if len(ids) > 1))


def near_copies(cases: Sequence[CaseStats]) -> tuple[tuple[str, ...], ...]:
    """Return the sorted ids of cases whose images are the same or nearly so, one like the next.

    Of three images in a set, the first and the last may differ by more than `NEAR`.
    """
    seen = [case for case in cases if case.thumbnail is not None]
    bits, rest = _bits(seen), np.arange(len(seen))
    found = []
    while len(rest):
        members, edge, rest = [], rest[:1], rest[1:]
        while len(edge):
            members += edge.tolist()
            is_near = _is_near(bits[rest], bits[edge])
            edge, rest = rest[is_near], rest[~is_near]
        if len(members) > 1:
            found.append(tuple(sorted(seen[index].case_id for index in members)))
    return tuple(sorted(found))


def near_any(cases: Sequence[CaseStats], others: Sequence[CaseStats]) -> tuple[str, ...]:
    """Return the sorted ids of those cases whose image is nearly the same as one of the others."""
    seen = [case for case in cases if case.thumbnail is not None]
    known = [case for case in others if case.thumbnail is not None]
    is_near = _is_near(_bits(seen), _bits(known))
    return tuple(sorted(case.case_id for case, near in zip(seen, is_near, strict=True) if near))


def _bits(cases: Sequence[CaseStats]) -> NDArray[np.uint64]:
    return np.array([int(case.thumbnail or "0", 16) for case in cases], np.uint64)


def _is_near(bits: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool]:
    """Return of each of (N,) thumbnails whether any of the others is nearly the same."""
    is_near = np.zeros(len(bits), bool)
    if len(bits):
        for other in others:
            is_near |= np.bitwise_count(bits ^ other) <= NEAR
    return is_near
