"""Whether a challenger replaces the incumbent: a rule fixed before looking.

Cases are not the only thing that varies: the same plan, trained again with another seed, gives
other scores, on all cases of a fold at once. A test over cases alone takes this for a difference
(Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks"). So every
candidate is trained with several seeds on several folds, and two questions must both be answered
with yes: is the mean difference larger than folds, seeds and cases let it vary by chance, and do
the cases agree, each averaged over seeds?

Letters in shapes: S seeds, N cases of a fold.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from autoseg.errors import counted
from autoseg.evaluate.paired import FoldScores, by_case, interval, signed_rank
from autoseg.record import Record

INCUMBENT = "incumbent"
"""Name of the plan as it is, among the candidates."""
MIN_FOLDS = 2
MIN_SEEDS = 2
"""With one training there is no telling what training again would change."""
LEVEL = 0.05
EMPTY_DICE = 1.0
"""Of a case with nothing to find, where nothing was found, if another training did find something:
left out, the case would not count against what is wrongly found."""

Key = tuple[str, int, str]
"""Fold, seed and case."""


class HeldOutScore(Record):
    """What one training of a candidate reaches on a case that it was neither trained nor chosen on.

    The mean of Dice over the case's foreground classes.
    """

    candidate: str
    """`INCUMBENT`, or the name of a challenger, such as "trial 7"."""
    fold: str
    seed: int
    case: str
    dice: float | None
    """None: nothing to count, reference and prediction lack all classes."""


class Comparison(Record):
    """A challenger against the incumbent, on the same folds, seeds and cases."""

    candidate: str
    difference: float
    """Mean over cases of challenger minus incumbent, each case averaged over seeds."""
    low: float
    """Of the 95 % interval of the difference (see `paired.interval`)."""
    high: float
    p_value: float
    """Wilcoxon's signed-rank test of the cases' differences, averaged over seeds; two-sided, in the
    direction of the mean: 1 where the ranks point the other way."""
    p_holm: float
    """The same, corrected for the number of challengers (Holm 1979)."""
    num_cases: int
    num_folds: int
    """That have a case that counts."""
    num_seeds: int
    """Trainings of the fold that has fewest."""


class Verdict(Record):
    """Whether a challenger replaces the incumbent, and why."""

    comparisons: tuple[Comparison, ...]
    """The largest difference first; none where there was too little to compare."""
    winner: str | None
    """None: the incumbent stays."""
    reason: str
    """Sentences for the user."""


def decide(scores: Sequence[HeldOutScore], seed: int) -> Verdict:
    """Return whether a challenger is better than the incumbent, and which.

    It is if the 95 % interval of the mean difference lies above 0 and Holm's p is below 0.05; of
    several, the one with the largest difference wins. The order of the scores does not matter.
    Challengers are compared on all that the incumbent was scored on; one that lacks any of it is
    not compared and cannot win, since what is missing may be what went wrong. Scores that the
    incumbent lacks are not used.

    Parameters
    ----------
    scores
        Of the incumbent and of all challengers, each trained with at least two seeds on at least
        two folds that the search did not use.
    seed
        Of the resampling.

    Raises
    ------
    ValueError
        The incumbent has no scores or lacks cases in one of the trainings of a fold, or a training
        scored a case twice.
    """
    tables = _tables(scores)
    incumbent = tables.pop(INCUMBENT, None)
    if incumbent is None:
        raise ValueError("no scores of the incumbent")
    design = _design(incumbent)
    complete = {name: table for name, table in tables.items() if table.keys() >= incumbent.keys()}
    missing = sorted(tables.keys() - complete.keys())
    num_seeds = min(len(seeds) for seeds, _ in design.values())
    if not complete or len(design) < MIN_FOLDS or num_seeds < MIN_SEEDS:
        return Verdict(
            comparisons=(), winner=None, reason=_too_little(len(design), num_seeds, missing)
        )
    pairs = {name: _paired(table, incumbent, design) for name, table in complete.items()}
    found = _holm([_compare(name, folds, num_seeds, seed) for name, folds in pairs.items()])
    found.sort(key=lambda row: (-row.difference, row.candidate))
    best = next((row for row in found if _is_better(row)), None)
    reason = _defeat(found, missing) if best is None else _victory(best)
    winner = None if best is None else best.candidate
    return Verdict(comparisons=tuple(found), winner=winner, reason=reason)


def _is_better(row: Comparison) -> bool:
    return row.low > 0 and row.p_holm < LEVEL and row.num_folds >= MIN_FOLDS


def _tables(scores: Sequence[HeldOutScore]) -> dict[str, dict[Key, float]]:
    """Return Dice by candidate and by fold, seed and case, NaN where nothing counts."""
    tables: dict[str, dict[Key, float]] = {}
    for item in scores:
        table, key = tables.setdefault(item.candidate, {}), (item.fold, item.seed, item.case)
        if key in table:
            raise ValueError(f"{item.candidate}: two scores of fold, seed and case {key}")
        table[key] = np.nan if item.dice is None else item.dice
    return tables


def _design(incumbent: Mapping[Key, float]) -> dict[str, tuple[list[int], list[str]]]:
    """Return the seeds and the cases of each fold, all in a fixed order."""
    design = {}
    for fold in sorted({fold for fold, _, _ in incumbent}):
        keys = [(seed, case) for name, seed, case in incumbent if name == fold]
        seeds, cases = sorted({seed for seed, _ in keys}), sorted({case for _, case in keys})
        if len(keys) != len(seeds) * len(cases):
            raise ValueError(f"the incumbent lacks cases in a training of fold {fold}")
        design[fold] = seeds, cases
    return design


def _paired(
    challenger: Mapping[Key, float],
    incumbent: Mapping[Key, float],
    design: Mapping[str, tuple[list[int], list[str]]],
) -> list[FoldScores]:
    """Return both sides' scores by fold, of the cases that count in any training of either.

    Folds without such a case are left out.
    """
    folds = []
    for fold, (seeds, cases) in design.items():
        sides = np.array(
            [
                [[side[fold, seed, case] for case in cases] for seed in seeds]
                for side in (challenger, incumbent)
            ]
        )  # (2, S, N)
        counts = np.isfinite(sides).any(axis=(0, 1))
        ours, theirs = np.where(np.isfinite(sides), sides, EMPTY_DICE)[:, :, counts]
        names = tuple(np.array(cases)[counts].tolist())
        if names:
            folds.append(FoldScores(names, ours, theirs))
    return folds


def _compare(name: str, folds: Sequence[FoldScores], num_seeds: int, seed: int) -> Comparison:
    """Return a challenger's comparison, its p not yet corrected."""
    differences = [value for fold in folds for value in fold.differences]
    low, high = interval(folds, seed) if folds else (0.0, 0.0)
    p_value = signed_rank(by_case(folds))
    return Comparison(
        candidate=name,
        difference=float(np.mean(differences)) if differences else 0.0,
        low=low,
        high=high,
        p_value=p_value,
        p_holm=p_value,
        num_cases=len({case for fold in folds for case in fold.cases}),
        num_folds=len(folds),
        num_seeds=num_seeds,
    )


def _holm(rows: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with p corrected for their number, in steps (Holm 1979)."""
    corrected, least = [], 0.0
    for rank, row in enumerate(sorted(rows, key=lambda row: row.p_value)):
        least = max(least, min(1.0, row.p_value * (len(rows) - rank)))
        corrected.append(row.revised(p_holm=least))
    return corrected


def _too_little(num_folds: int, num_seeds: int, missing: Sequence[str]) -> str:
    """Return why nothing was compared."""
    if num_folds < MIN_FOLDS or num_seeds < MIN_SEEDS:
        have = f"{counted(num_folds, 'fold')} and {counted(num_seeds, 'seed')}"
        return (
            f"The rules were not beaten: the held-out scores are of {have}; {MIN_FOLDS} folds and "
            f"{MIN_SEEDS} seeds are needed to tell a better plan from a lucky training."
        )
    if missing:
        return f"The rules were not beaten: {_unscored(missing)}."
    return "The rules were not beaten: there is no challenger."


def _unscored(missing: Sequence[str]) -> str:
    verb = "lacks" if len(missing) == 1 else "lack"
    return f"{', '.join(missing)} {verb} scores, unlike the plan as it is, so it cannot be compared"


def _victory(row: Comparison) -> str:
    return f"{_capital(row.candidate)} replaces the plan: it is better by {_evidence(row)}."


def _defeat(rows: Sequence[Comparison], missing: Sequence[str]) -> str:
    """Return why the incumbent stays, by the challenger with the largest difference."""
    row = rows[0]
    which = row.candidate if len(rows) == 1 else f"the best challenger, {row.candidate},"
    if row.difference < 0:
        what = f"{which} is worse by {_evidence(row)}"
    elif row.difference == 0:
        what = f"{which} has the same scores"
    else:
        what = f"{which} is ahead by {_evidence(row)}; {_doubt(row, len(rows))}"
    also = f" {_capital(_unscored(missing))}." if missing else ""
    return f"The rules were not beaten: {what}.{also}"


def _doubt(row: Comparison, num_challengers: int) -> str:
    """Return which part of the rule a challenger that is ahead does not meet."""
    if row.num_folds < MIN_FOLDS:
        return "only one fold has cases that count"
    needed = cases_needed(num_challengers)
    if row.num_cases < needed:
        return f"so few cases prove nothing (it takes at least {needed})"
    if row.low <= 0 and row.p_holm < LEVEL:
        return "most cases agree, but training the same plan again can change as much"
    if row.low > 0:
        return "the mean is better, but the cases do not agree on it"
    return "chance alone can make as much"


def cases_needed(num_challengers: int) -> int:
    """Return with how many cases the signed-rank test can be significant after correction."""
    return next(n for n in range(1, 99) if num_challengers * 2.0 ** (1 - n) < LEVEL)


def _evidence(row: Comparison) -> str:
    return (
        f"{abs(row.difference):.4f} Dice (95 % interval of the difference {row.low:+.4f} to "
        f"{row.high:+.4f}, p {_p(row.p_holm)}; {counted(row.num_cases, 'case')}, "
        f"{counted(row.num_folds, 'fold')}, {row.num_seeds} seeds)"
    )


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
