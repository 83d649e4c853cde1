"""Whether several configurations together are better than the best alone.

Letters in shapes: N cases, W mixtures, K foreground classes.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.ensemble.choose import ALL, Candidate, Ensemble, Member
from autoseg.ensemble.stored import Place, Source, as_judged, find_places, load_places
from autoseg.ensemble.tried import MIN_CASES, Tried, judge_options, undecided
from autoseg.evaluate.overlap import count_overlap

NAME = "weights"
SHARES = (0.25, 0.5, 0.75)
"""Of another configuration beside the chosen one."""
MIN_GAIN = 0.002
"""Every further configuration takes its time with each image."""

Mixture = tuple[Member, ...]


def choose_weights(source: Source, ensemble: Ensemble) -> Ensemble:
    """Return the ensemble, of several configurations where out-of-fold cases say that it pays.

    Judged on the cases that all configurations have predicted unseen and stored; one that shares
    too few such cases with the chosen one is left out.
    """
    chosen = ensemble.members[0]
    others = [
        item
        for item in ensemble.candidates
        if item.dice is not None and item.configuration != chosen.configuration
    ]
    if not others or chosen.folds == (ALL,):
        return ensemble
    rivals = [item for item in others if len(find_places(source, [chosen, item])) >= MIN_CASES]
    places = find_places(source, [chosen, *rivals]) if rivals else ()
    mixtures = _mixtures(chosen, rivals)
    kept, table = _dice_table(source, places, mixtures)
    if len(kept) < MIN_CASES:
        reason = (
            f"Fewer than {MIN_CASES} cases have stored probabilities of several configurations: "
            "kept as planned."
        )
        return ensemble.revised(tried=(undecided(NAME, len(kept), reason),))
    best, tried = decide_weights(table, kept, mixtures, source.plan.seed)
    if not tried.used:
        return ensemble.revised(tried=(tried,))
    reason = f"{ensemble.reason} {_in_words(best)} together are better. {tried.reason}"
    return ensemble.revised(members=best, tried=(tried,), reason=reason)


def decide_weights(
    table: NDArray[np.float64], places: Sequence[Place], mixtures: Sequence[Mixture], seed: int
) -> tuple[Mixture, Tried]:
    """Return the mixture that (N, W, K) Dice prefers, and whether it is to be used.

    The first mixture is the one that stays where no other is better.
    """
    best, tried = judge_options(
        NAME,
        table,
        [place.fold for place in places],
        [place.case.group for place in places],
        options=[_in_words(members) for members in mixtures],
        min_gain=MIN_GAIN,
        seed=seed,
    )
    return mixtures[best], tried


def _mixtures(chosen: Member, rivals: Sequence[Candidate]) -> list[Mixture]:
    """Return the chosen configuration alone, with each rival, and all of them alike."""
    found: list[Mixture] = [(chosen,)]
    for rival in rivals:
        for share in SHARES:
            first = chosen.revised(weight=1 - share)
            found.append((first, _member(rival, share)))
    if len(rivals) > 1:
        share = 1 / (1 + len(rivals))
        others = [_member(rival, share) for rival in rivals]
        found.append((chosen.revised(weight=share), *others))
    return found


def _member(candidate: Candidate, weight: float) -> Member:
    return Member(configuration=candidate.configuration, folds=candidate.folds, weight=weight)


def _dice_table(
    source: Source, places: Sequence[Place], mixtures: Sequence[Mixture]
) -> tuple[list[Place], NDArray[np.float64]]:
    """Return the cases that could be read, and (N, W, K) Dice of each mixture."""
    kept, rows = [], []
    for loaded in load_places(source, places, "the choice of weights"):
        row = []
        for members in mixtures:
            labels = as_judged(source, loaded, loaded.labels(members))
            row.append(class_dice(labels, loaded.reference, source.num_classes))
        kept.append(loaded.place)
        rows.append(row)
    return kept, np.array(rows)


def class_dice(labels: NDArray, reference: NDArray, num_classes: int) -> NDArray[np.float64]:
    """Return the Dice of each foreground class; NaN where prediction and reference lack it."""
    counts = count_overlap(labels, reference, num_classes)
    total = (counts.sum(axis=0) + counts.sum(axis=1))[1:]
    return np.where(total > 0, 2 * np.diagonal(counts)[1:] / np.maximum(total, 1), np.nan)


def _in_words(members: Mixture) -> str:
    if len(members) == 1:
        return f"{members[0].configuration} alone"
    return " + ".join(f"{item.weight:.2f} {item.configuration}" for item in members)
