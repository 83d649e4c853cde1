"""Means over cases and classes, and how certain they are.

Letters in shapes: N cases, K foreground classes, B resamples.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.record import Record
from autoseg.seeds import stream

Metric = Literal["dice", "iou", "hd95", "nsd"]
METRICS: tuple[Metric, ...] = ("dice", "iou", "hd95", "nsd")
NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class MetricSummary(Record):
    """A mean with its bootstrap confidence interval; None where no case counts."""

    mean: float | None
    low: float | None
    high: float | None
    num_cases: int
    """Cases that count: of the others, prediction and reference both lack the class."""


class ScoreSummary(Record):
    """Scores over cases, of one class or of all."""

    dice: MetricSummary
    iou: MetricSummary
    hd95: MetricSummary
    nsd: MetricSummary


class Summary(Record):
    """Scores over cases: by class, and the mean of the classes."""

    num_cases: int
    classes: tuple[ScoreSummary, ...]
    foreground: ScoreSummary
    """Mean over the foreground classes of the classes' means over cases."""
    regions: tuple[ScoreSummary, ...] = ()
    """By region, where the labels have regions."""
    region_mean: ScoreSummary | None = None
    """Mean over the regions of their means over cases."""


def metric_table(scores: Sequence[CaseScore], metric: Metric) -> NDArray[np.float64]:
    """Return a metric as (N, K), NaN where it is not defined."""
    return _table([score.classes for score in scores], metric)


def _table(rows: Sequence[Sequence[ClassScore]], metric: Metric) -> NDArray[np.float64]:
    return np.array([[getattr(item, metric) for item in row] for row in rows], dtype=float)


def defined_mean(table: NDArray[np.float64], axis: int = 0) -> NDArray[np.float64]:
    """Return the mean over an axis of what is not NaN; NaN where nothing is left."""
    counted = np.isfinite(table)
    sums = np.where(counted, table, 0).sum(axis=axis)
    count = counted.sum(axis=axis)
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)


def number_or_none(value: float | NDArray) -> float | None:
    """Return a number for a record, which has None instead of NaN."""
    return float(value) if np.isfinite(value) else None


def foreground_mean(scores: Sequence[CaseScore], metric: Metric = "dice") -> float | None:
    """Return the mean over classes of the means over cases; None where nothing counts."""
    return number_or_none(defined_mean(defined_mean(metric_table(scores, metric))))


def case_mean(score: CaseScore, metric: Metric = "dice") -> float | None:
    """Return the mean over the classes of one case; None where nothing counts."""
    return foreground_mean([score], metric)


def summarise(scores: Sequence[CaseScore], seed: int = 0) -> Summary:
    """Return means over cases and then over classes, with bootstrap intervals over cases.

    The same over regions, where all cases have some.
    """
    if not scores:
        raise ValueError("no scores to summarise")
    draws = _resamples(len(scores), seed)
    *classes, foreground = _summarise_rows([score.classes for score in scores], draws)
    by_region = [score.regions for score in scores]
    *regions, mean = _summarise_rows(by_region, draws) if all(by_region) else (None,)
    return Summary(
        num_cases=len(scores),
        classes=tuple(classes),
        foreground=foreground,
        regions=tuple(regions),
        region_mean=mean,
    )


def _summarise_rows(rows: Sequence[Sequence[ClassScore]], draws: NDArray) -> list[ScoreSummary]:
    """Return the summary of each column of scores, and last that of their mean."""
    columns = {name: _summarise_metric(_table(rows, name), draws) for name in METRICS}
    return [
        ScoreSummary(**{name: columns[name][index] for name in METRICS})
        for index in range(len(rows[0]) + 1)
    ]


def _summarise_metric(table: NDArray, draws: NDArray) -> list[MetricSummary]:
    """Return the summary of each class, and last that of the foreground."""
    means, resampled = defined_mean(table), _resampled_means(table, draws)
    counted = np.isfinite(table)
    overall = np.append(means, defined_mean(means))
    # A resample may lack all cases of a rare class. Were the class left out there, the interval
    # would show how much classes differ, not how certain their mean is; so it keeps its own mean.
    complete = np.where(np.isfinite(resampled), resampled, means)
    spread = np.column_stack([resampled, defined_mean(complete, axis=1)])
    num_cases = [*counted.sum(axis=0), counted.any(axis=1).sum()]
    found = []
    for mean, column, count in zip(overall, spread.T, num_cases, strict=True):
        low, high = _interval(column)
        found.append(
            MetricSummary(mean=number_or_none(mean), low=low, high=high, num_cases=int(count))
        )
    return found


def _resamples(num_cases: int, seed: int) -> NDArray[np.float64]:
    """Return (B, N) how often each case is in each resample."""
    even = np.full(num_cases, 1 / num_cases)
    rng = stream(seed, "bootstrap", num_cases)
    return rng.multinomial(num_cases, even, size=NUM_RESAMPLES).astype(float)


def _resampled_means(table: NDArray, draws: NDArray) -> NDArray:
    """Return the (B, K) means of what is defined in (N, K)."""
    counted = np.isfinite(table)
    totals = draws @ counted
    sums = draws @ np.where(counted, table, 0)
    return np.where(totals > 0, sums / np.maximum(totals, 1), np.nan)


def _interval(means: NDArray) -> tuple[float | None, float | None]:
    """Return the outer percentiles of the resampled means; None where none is defined."""
    means = means[np.isfinite(means)]
    if not len(means):
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
