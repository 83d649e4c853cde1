"""How often a search replaces the plan where nothing is better, and where something is.

`python -m benchmarks.null_search noise.jsonl` takes what `benchmarks.record_noise` recorded of one
plan and plays searches whose finalists are all this plan: they differ by what training again
changes, and nothing else. A part of them adds a gain to one finalist, for the power.

Letters in shapes: S recorded seeds, N cases of a fold.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore, decide
from autoseg.seeds import stream
from benchmarks.record_noise import load_scores

NUM_SEEDS = 2
MAX_FINALISTS = 3
"""Of a search; each has 1, 2 or 3, in turn."""
GAINED = "trial 1"
"""The finalist that a gain is added to."""

Recorded = Mapping[str, tuple[tuple[str, ...], NDArray[np.float64]]]
"""Cases and their (S, N) Dice by fold."""
Draw = Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]
"""Makes one training of (S, N) recorded ones: (N,)."""


def drawn(recorded: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return one of the recorded trainings, all its cases together.

    Its distance from the mean is stretched by what the mean of S takes off its spread.
    """
    mean, count = recorded.mean(axis=0), len(recorded)
    return mean + (recorded[rng.integers(count)] - mean) * math.sqrt(count / (count - 1))


def mixed(recorded: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a training that no other repeats: recorded ones, each times a normal number.

    Cases vary and go together as in what was recorded: the covariance is the same.
    """
    mean, count = recorded.mean(axis=0), len(recorded)
    return mean + rng.normal(size=count) @ (recorded - mean) / math.sqrt(count - 1)


NOISES: Mapping[str, Draw] = {"drawn": drawn, "mixed": mixed}


def by_fold(scores: Sequence[HeldOutScore]) -> Recorded:
    """Return the recorded scores by fold.

    Raises
    ------
    ValueError
        There are fewer than two folds, or a fold has fewer than two seeds.
    """
    runs: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for item in scores:
        if item.dice is not None:
            runs[item.fold, item.seed][item.case] = item.dice
    folds = sorted({fold for fold, _ in runs})
    found = {}
    for fold in folds:
        own = [run for (name, _), run in sorted(runs.items()) if name == fold]
        if len(folds) < 2 or len(own) < 2:
            raise ValueError(f"{len(folds)} folds, {len(own)} seeds: two of each are needed")
        cases = sorted(set.intersection(*map(set, own)))
        found[fold] = tuple(cases), np.array([[run[case] for case in cases] for run in own])
    return found


def play(
    recorded: Recorded, draw: Draw, rng: np.random.Generator, finalists: int, gain: float = 0.0
) -> list[HeldOutScore]:
    """Return the held-out scores of one search; `gain` is added to all Dice of one finalist."""
    scores = []
    for name in (INCUMBENT, *(f"trial {number + 1}" for number in range(finalists))):
        for fold, (cases, table) in recorded.items():
            for seed in range(NUM_SEEDS):
                dices = np.clip(draw(table, rng) + gain * (name == GAINED), 0, 1)
                scores += [
                    HeldOutScore(candidate=name, fold=fold, seed=seed, case=case, dice=float(dice))
                    for case, dice in zip(cases, dices, strict=True)
                ]
    return scores


def replacements(
    recorded: Recorded, draw: Draw, num_searches: int, *, gain: float = 0.0, seed: int = 0
) -> int:
    """Return in how many searches the plan was replaced: with a gain, by the one that has it."""
    count = 0
    for number in range(num_searches):
        rng = stream(seed, "search", number)
        scores = play(recorded, draw, rng, 1 + number % MAX_FINALISTS, gain)
        winner = decide(scores, number).winner
        count += winner == GAINED if gain else winner is not None
    return count


def described(recorded: Recorded) -> str:
    """Return what the recorded trainings are like."""
    tables = [table for _, table in recorded.values()]
    means = [table.mean(axis=1) for table in tables]
    runs = np.sqrt(np.mean([item.var(ddof=1) for item in means]))
    own = [table - table.mean(axis=1, keepdims=True) for table in tables]
    cases = np.sqrt(np.mean([np.mean(table.var(axis=0, ddof=1)) for table in own]))
    sizes = ", ".join(str(table.shape[1]) for table in tables)
    return (
        f"{' and '.join(str(len(item)) for item in means)} trainings of folds of {sizes} cases; "
        f"mean Dice {np.concatenate(means).mean():.4f}; standard deviation of a training's mean "
        f"{runs:.4f}, of a case beyond it {cases:.4f}"
    )


def rate(count: int, number: int) -> str:
    """Return a proportion with its exact binomial interval (Clopper and Pearson 1934)."""
    interval = stats.binomtest(count, number).proportion_ci(0.95)
    return f"{count / number:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def main() -> None:
    """Print the rate of wrong replacements, and how often true gains are found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, nargs="+", help="files of record_noise")
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--gains", type=float, nargs="*", default=[0.005, 0.01, 0.02, 0.05])
    parser.add_argument("--power-searches", type=int, default=300, help="for each gain")
    arguments = parser.parse_args()
    for path in arguments.results:
        recorded = by_fold(load_scores(path))
        print(f"{path.name}: {described(recorded)}", flush=True)
        for name, draw in NOISES.items():
            number = arguments.searches
            print(f"  nothing better, {name}: {rate(replacements(recorded, draw, number), number)}")
        for gain in arguments.gains:
            number = arguments.power_searches
            found = rate(replacements(recorded, mixed, number, gain=gain), number)
            print(f"  one better by {gain:g}: {found}", flush=True)


if __name__ == "__main__":
    main()
