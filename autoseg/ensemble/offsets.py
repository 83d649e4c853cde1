"""How much each class' probability must win by: thresholds, for the Dice.

Cross-entropy teaches probabilities, and the largest one makes the fewest wrong voxels. The Dice of
a class is another thing: where it is unsure, taking a little more or less of the class can be
better (Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure"). So each
foreground class may have an offset that is added to its log-probability before the classes are
compared; with two classes that is another threshold than 0.5.

Letters in shapes: N cases, K foreground classes, B offsets, S image axes.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.annotated import known_classes
from autoseg.ensemble.choose import Member
from autoseg.ensemble.stored import Loaded, Place, Source, as_judged, find_places, load_places
from autoseg.ensemble.tried import (
    MIN_CASES,
    PLANNED,
    Tried,
    group_cases,
    judge,
    prefer,
    prefer_by_case,
    undecided,
)
from autoseg.ensemble.weights import class_dice

NAME = "thresholds"
OFFSETS = (0.0, -0.25, 0.25, -0.5, 0.5, -1.0, 1.0, -1.5, 1.5)
"""Added to a class' log-probability; of equally good ones the first: the smallest change."""
MIN_GAIN = 0.0005
"""Costs nothing when predicting, but less is no reason to differ from what training learnt."""
LEAST_CHANCE = 1e-7
"""Stands for 0 in logarithms."""
NEAR = 0.99 * math.exp(-max(OFFSETS))
"""Part of the largest probability below which no offset makes a class win."""

Offsets = tuple[float, ...]


def choose_offsets(source: Source, members: Sequence[Member]) -> tuple[Offsets, tuple[Tried, ...]]:
    """Return one offset a class, background first, none where the planned decision stays."""
    places = find_places(source, members)
    counted = [
        (loaded.place, count_offsets(source, loaded, members))
        for loaded in load_places(source, places, "the choice of thresholds")
    ]
    if len(counted) < MIN_CASES:
        reason = f"Fewer than {MIN_CASES} cases have stored probabilities: kept as planned."
        return (), (undecided(NAME, len(counted), reason),)
    kept = [place for place, _ in counted]
    table = np.array([dice for _, dice in counted])
    best, by_case = fit_offsets(table, kept, source.plan.seed)
    if best or any(by_case):
        tables = _tables(source, kept, members, best, by_case)
    else:
        tables = (table[:, :, 0],) * 3
    patients = [place.case.group for place in kept]
    words = in_words(best, source.plan.labels.names)
    tried = judge(NAME, tables, patients, best=words, min_gain=MIN_GAIN)
    return (best if tried.used else ()), (tried,)


def count_offsets(source: Source, loaded: Loaded, members: Sequence[Member]) -> NDArray[np.float64]:
    """Return (K, B) Dice of each class where it alone has an offset; NaN where nothing counts.

    A class wins where its log-probability is above the largest of the others, so its voxels under
    all offsets follow from how far above it is. Most voxels are too far below for any of them.
    """
    chances = loaded.probabilities(members)
    highest, second, winner = _two_largest(chances)
    reference = loaded.reference
    needed = np.where(reference >= 0, highest * NEAR, np.inf).astype(np.float32)
    annotated = known_classes(loaded.place.case, source.plan.labels)
    sizes = np.bincount(reference[reference >= 0], minlength=len(chances))
    table = np.full((len(chances) - 1, len(OFFSETS)), np.nan)
    for index in np.flatnonzero(annotated)[1:]:
        values = chances[index].astype(np.float32)
        near = values > needed
        rest = np.where(winner[near] == index, second[near], highest[near])
        margin = _log(values[near]) - _log(rest)
        table[index - 1] = _threshold_dice(margin, reference[near] == index, int(sizes[index]))
    return table


def _threshold_dice(
    margin: NDArray[np.float32], right: NDArray[np.bool_], size: int
) -> NDArray[np.float64]:
    """Return (B,) Dice of the voxels whose margin is above minus the offset.

    `right` says of each whether it is one of the `size` voxels of the class.
    """
    order = np.argsort(OFFSETS)[::-1]
    edges = -np.array(OFFSETS)[order]  # rising
    place = np.searchsorted(edges, margin, side="left")  # edges that the margin is above
    bins = len(edges) + 1
    predicted = np.bincount(place, minlength=bins)[::-1].cumsum()[::-1][1:]
    overlap = np.bincount(place[right], minlength=bins)[::-1].cumsum()[::-1][1:]
    total = predicted + size
    found = np.where(total > 0, 2 * overlap / np.maximum(total, 1), np.nan)
    table = np.empty(len(OFFSETS))
    table[order] = found
    return table


def fit_offsets(
    table: NDArray[np.float64], places: Sequence[Place], seed: int
) -> tuple[Offsets, list[Offsets]]:
    """Return the offsets that (N, K, B) Dice prefers, and for each case those that others prefer.

    Without other groups of cases the second is empty. No offset is `()`.
    """
    patients = [place.case.group for place in places]
    groups, _ = group_cases([place.fold for place in places], patients, seed)
    return _offsets(prefer(table)), [_offsets(item) for item in prefer_by_case(table, groups)]


def _offsets(options: Sequence[int]) -> Offsets:
    """Return one offset a class, 0 for the background; `()` where all are 0."""
    found = (0.0, *(OFFSETS[option] for option in options))
    return found if any(found) else ()


def _tables(
    source: Source,
    places: Sequence[Place],
    members: Sequence[Member],
    best: Offsets,
    by_case: Sequence[Offsets],
) -> tuple[NDArray[np.float64], ...]:
    """Return (N, K) Dice as planned, with the best offsets, and with those of the other groups."""
    rows = []
    loaded_places = load_places(source, places, "the judgement of thresholds")
    for loaded, others in zip(loaded_places, by_case or [()] * len(places), strict=True):
        options = list({(), best, others})
        dice = {
            offsets: class_dice(
                as_judged(source, loaded, labels), loaded.reference, source.num_classes
            )
            for offsets, labels in zip(options, loaded.labels_with(members, options), strict=True)
        }
        cross_fitted = dice[others] if by_case else np.full_like(dice[()], np.nan)
        rows.append((dice[()], dice[best], cross_fitted))
    return tuple(np.array(rows).transpose(1, 0, 2))


def _two_largest(
    chances: NDArray[np.floating],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Return the largest and the second largest probability (*S), and whose is the largest."""
    highest = chances[0].astype(np.float32)
    second = np.zeros_like(highest)
    winner = np.zeros(highest.shape, dtype=np.int32)
    for index, half in enumerate(chances[1:], start=1):
        values = half.astype(np.float32)
        winner[values > highest] = index
        np.maximum(second, np.minimum(values, highest), out=second)
        np.maximum(highest, values, out=highest)
    return highest, second, winner


def _log(chances: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.log(np.maximum(chances, np.float32(LEAST_CHANCE)))


def in_words(offsets: Offsets, names: Sequence[str]) -> str:
    """Return offsets as the user reads them: a probability where there are two classes."""
    changed = [(name, by) for name, by in zip(names, offsets, strict=False) if by]
    if not changed:
        return PLANNED
    if len(names) == 2:
        return f"{changed[0][0]} from a probability of {1 / (1 + np.exp(changed[0][1])):.2f}"
    return ", ".join(f"{name} {by:+g}" for name, by in changed)
