"""The search for a better plan: what was tried, what was confirmed, what was decided."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from autoseg.evaluate.candidates import Comparison
from autoseg.plan.search import SearchSummary, TrialRow, optimism_words
from autoseg.plan.search_space import AS_PLANNED
from autoseg.report.figures import INK, as_svg, colour, styled, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS: Mapping[str, str] = MappingProxyType({"failed": "bad", "infeasible": "warn"})
"""Colours of states; the others have none."""
ONLY_HELD_OUT = "A score that was picked for being high is no estimate; only held-out ones count."
SCORED, KILLED, AHEAD = colour(0), colour(4), colour(2)


@dataclass(frozen=True)
class TrialLine:
    """A row of the table of trials."""

    row: TrialRow
    words: tuple[str, ...]
    """What differs from the plan, as one types it."""
    kind: str


@dataclass(frozen=True)
class Finalist:
    """A row of the table of finalists."""

    row: Comparison
    words: tuple[str, ...]
    score: float | None
    """In the search."""


@dataclass(frozen=True, kw_only=True)
class SearchResults:
    """What the report shows of a search."""

    summary: SearchSummary
    trials: tuple[TrialLine, ...]
    finalists: tuple[Finalist, ...]
    optimism_words: str
    score_place: str
    importances: tuple[tuple[str, float], ...]
    """The largest first."""
    chart: Markup


def search_results(summary: SearchSummary) -> SearchResults:
    """Return what the report shows of a search."""
    trials = {f"trial {row.number}": row for row in summary.trials}
    compared = summary.verdict.comparisons if summary.verdict else ()
    known = [(item, trials.get(item.candidate)) for item in compared]
    folds = summary.search_folds
    return SearchResults(
        summary=summary,
        trials=tuple(
            TrialLine(row, in_short(row), KINDS.get(row.state, "plain")) for row in summary.trials
        ),
        finalists=tuple(
            Finalist(item, in_short(row) if row else (), row.score if row else None)
            for item, row in known
        ),
        optimism_words=f"{optimism_words(summary.optimism)} {ONLY_HELD_OUT}",
        score_place=f"fold{'s' * (len(folds) > 1)} {', '.join(folds)} alone, with one seed",
        importances=tuple(sorted(summary.importances.items(), key=lambda item: -item[1])),
        chart=search_chart(summary),
    )


def in_short(row: TrialRow) -> tuple[str, ...]:
    """Return what differs from the plan: in short where it is known, else the `--set` words."""
    return (row.differs,) if row.differs else typed(row.assignments)


def typed(assignments: Mapping[str, str]) -> tuple[str, ...]:
    """Return `--set` words, texts without the quotes of JSON."""
    return tuple(f"{key}={_plain(value)}" for key, value in assignments.items())


def _plain(value: str) -> str:
    try:
        text = json.loads(value)
    except ValueError:
        return value
    return text if isinstance(text, str) else value


@styled
def search_chart(summary: SearchSummary) -> Markup:
    """Return the scores by trial, and beside them the finalists' intervals."""
    compared = summary.verdict.comparisons if summary.verdict else ()
    figure, axes = subplots(2 if compared else 1, width=8.6, height=2.9)
    _draw_trials(axes[0], summary.trials)
    if compared:
        winner = summary.verdict.winner if summary.verdict else None
        _draw_intervals(axes[1], compared, winner)
    return as_svg(figure, "Scores of the trials")


def _draw_trials(axes: "Axes", trials: Sequence[TrialRow]) -> None:
    """Draw a dot a scored trial, the best so far as a line, and the others at the foot."""
    from matplotlib.ticker import MaxNLocator

    for state, mark, tint in (("complete", "o", SCORED), ("killed", "x", KILLED)):
        numbers, scores = _scored(trials, state)
        if numbers:
            axes.plot(numbers, scores, mark, color=tint, ms=4.5, label=state)
    numbers, scores = _scored(trials, "complete")
    if numbers:
        best = np.maximum.accumulate(scores)
        axes.step(numbers, best, where="post", color=SCORED, lw=1, alpha=0.6, label="best so far")
    if 0 in numbers:
        planned = scores[numbers.index(0)]
        axes.axhline(planned, color=INK, lw=1, ls="--", label=AS_PLANNED)
    unscored = [row.number for row in trials if row.score is None]
    if unscored:
        foot = axes.get_xaxis_transform()
        axes.plot(
            unscored, [0.02] * len(unscored), "|", color=KILLED, transform=foot, label="no score"
        )
    axes.set_title("Mean Dice on the search's fold")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if trials:
        axes.legend(fontsize=8, loc="best")


def _scored(trials: Sequence[TrialRow], state: str) -> tuple[list[int], list[float]]:
    """Return numbers and scores of the trials in a state that have a score."""
    scored = [(row.number, row.score) for row in trials if row.state == state]
    known = [(number, score) for number, score in scored if score is not None]
    return [number for number, _ in known], [score for _, score in known]


def _draw_intervals(axes: "Axes", rows: Sequence[Comparison], winner: str | None) -> None:
    """Draw a line a finalist: its difference from the plan and how certain it is."""
    axes.axvline(0, color=INK, lw=1, ls="--")
    for place, row in enumerate(reversed(rows)):
        tint = AHEAD if row.candidate == winner else SCORED
        axes.plot([row.low, row.high], [place, place], color=tint, lw=2)
        axes.plot([row.difference], [place], "D", color=tint, ms=5)
    axes.set_yticks(range(len(rows)), [row.candidate for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    span = max(abs(limit) for row in rows for limit in (row.low, row.high))
    if span == 0:
        axes.set_xlim(-0.01, 0.01)
    axes.set_title("Held out: finalist minus plan")
    axes.set_xlabel("Dice, with its 95 % interval")
    axes.grid(axis="y", visible=False)
