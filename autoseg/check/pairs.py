"""Classes that a mirror swaps, such as left and right lung: mirrored images teach nonsense."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.fingerprint.fingerprint import Fingerprint

SIDES = (("left", "right"), ("links", "rechts"))
SHORT_SIDES = (("l", "r"), ("lt", "rt"), ("lh", "rh"), ("sin", "dex"))
"""Only as words of their own: femur_l, lh-hippocampus."""
MIN_CASES = 3
"""With both classes, below which places say nothing."""
APART = 0.1
"""Centres of a pair differ by this part of the image along the axis that swaps them ..."""
LEVEL = 0.05
"""... and by less than this along the others."""
CENTRED = 0.15
"""Their middle is this near the middle of the image."""
SAME_SIZE = 1.25
"""Ratio of their volumes, at most."""
STEADY = 0.95
"""Part of the cases in which they stand in the same order."""
MAX_PLACED = 64
"""Among more classes than this some lie like mirror images by chance: only names tell."""


@dataclass(frozen=True)
class MirrorPair:
    """Two classes, or regions, that are each other's mirror image."""

    first: str
    second: str
    axis: int
    """Of the images, ZYX (2D: YX): mirroring along it swaps the two."""
    reason: Literal["name", "position"]


def mirror_pairs(fingerprint: Fingerprint) -> tuple[MirrorPair, ...]:
    """Return the pairs of classes that mirroring along an axis would swap.

    Told by names with left and right, or by centres that lie on both sides of the middle and by
    equal volumes. A known orientation tells the axis; else it is that along which they are apart.
    """
    names = fingerprint.labels.names
    counts, side = _counts(fingerprint), _side_axis(fingerprint)
    spelt, opposites = ([read(name) for name in names] for read in (_spelt, _opposites))
    pairs = []
    for first, second in itertools.combinations(range(1, len(names)), 2):
        is_named = not opposites[first].isdisjoint(spelt[second])
        if not is_named and len(names) > MAX_PLACED:
            continue
        centres = _centres(fingerprint, first, second)  # (N, 2, D)
        if is_named:
            axis = _axis(fingerprint, side, centres)
            pairs.append(MirrorPair(names[first], names[second], axis, "name"))
            continue
        axis = _mirrored_axis(centres, counts[:, [first, second]] if len(counts) else counts)
        if axis is not None and axis == _axis(fingerprint, side, centres):
            pairs.append(MirrorPair(names[first], names[second], axis, "position"))
    for one, other in itertools.combinations(fingerprint.labels.regions, 2):
        if not _opposites(one.name).isdisjoint(_spelt(other.name)):
            centres = _centres(fingerprint, one.classes[0], other.classes[0])
            axis = _axis(fingerprint, side, centres)
            pairs.append(MirrorPair(one.name, other.name, axis, "name"))
    return tuple(pairs)


def pair_findings(subject: Subject) -> list[Finding]:
    """Return a note for each pair of classes that mirroring would swap."""
    return [
        finding(
            "note",
            f"{pair.first} and {pair.second} mirror each other along axis {pair.axis}, "
            f"by their {pair.reason}",
            "no mirroring along that axis: it would swap them",
            "nothing with the planner auto, which leaves that axis out (or mirrors and swaps the "
            "two back: --set augmentation.side_mirror_probability=0.5); with another planner set "
            "CONFIGURATION.recipe.mirror_axes",
        )
        for pair in mirror_pairs(subject.fingerprint)
    ]


Spelling = str | tuple[str, ...]
"""A name without its capitals, or the words of it."""


def _spelt(name: str) -> set[Spelling]:
    """Return how a name is compared with others."""
    folded = name.casefold()
    return {folded, tuple(re.split(r"[\W_]+", folded))}


def _opposites(name: str) -> set[Spelling]:
    """Return how a name would be spelt that differs in nothing but its side."""
    folded = name.casefold()
    words = re.split(r"[\W_]+", folded)
    found: set[Spelling] = set()
    for one, other in _both_ways(SIDES):
        if one in folded:
            found.add(folded.replace(one, other))
    for one, other in _both_ways(SHORT_SIDES) if len(words) > 1 else ():
        for index, word in enumerate(words):
            if word == one:
                found.add((*words[:index], other, *words[index + 1 :]))
    return found


def _both_ways(sides: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for first, second in sides for pair in ((first, second), (second, first))]


def _counts(fingerprint: Fingerprint) -> NDArray[np.int64]:
    """Return (N, K) voxels of the classes in the cases that were counted."""
    return np.array([case.class_voxels for case in fingerprint.cases if case.class_voxels])


def _side_axis(fingerprint: Fingerprint) -> int | None:
    """Return the axis of the images that goes from left to right, None if headers do not tell."""
    codes = Counter(case.orientation for case in fingerprint.cases if case.orientation)
    if not codes:
        return None
    code = codes.most_common(1)[0][0]
    assert code is not None, "None was left out"
    place = next((i for i, letter in enumerate(code) if letter in "LR"), None)
    return None if place is None else len(code) - 1 - place  # XYZ -> ZYX


def _centres(fingerprint: Fingerprint, first: int, second: int) -> NDArray[np.float64]:
    """Return (N, 2, D) centres of two classes in the cases that have both, parts of the shape."""
    both = [
        (case.class_centres[first], case.class_centres[second])
        for case in fingerprint.cases
        if case.class_centres and case.class_centres[first] and case.class_centres[second]
    ]
    return np.array(both).reshape(len(both), 2, fingerprint.dimensions)


def _axis(fingerprint: Fingerprint, side: int | None, centres: NDArray[np.float64]) -> int:
    """Return the axis that swaps a pair: from left to right, else where they are apart."""
    if side is not None:
        return side
    if not len(centres):
        return fingerprint.dimensions - 1
    return int(np.argmax(np.median(np.abs(centres[:, 0] - centres[:, 1]), axis=0)))


def _mirrored_axis(centres: NDArray[np.float64], counts: NDArray[np.int64]) -> int | None:
    """Return the axis along which two classes mirror each other, by places and volumes."""
    if len(centres) < MIN_CASES:
        return None
    apart = centres[:, 0] - centres[:, 1]  # (N, D)
    distances = np.median(np.abs(apart), axis=0)
    axis = int(np.argmax(distances))
    middle = np.median(np.abs(centres.mean(axis=1) - 0.5), axis=0)[axis]
    order = (apart[:, axis] > 0).mean()
    both = counts[(counts > 0).all(axis=1)]
    ratio = float(np.exp(np.abs(np.median(np.log(both[:, 0] / both[:, 1])))))
    is_pair = (
        distances[axis] >= APART
        and (np.delete(distances, axis) <= LEVEL).all()
        and middle <= CENTRED / 2
        and max(order, 1 - order) >= STEADY
        and ratio <= SAME_SIZE
    )
    return axis if is_pair else None
