"""What `autoseg evaluate` finds, and its tables."""

from typing import Literal

from pydantic import Field

from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import METRICS, MetricSummary, Summary, case_mean
from autoseg.record import Record
from autoseg.runtime.geometry import Unit


class Evaluation(Record):
    """Agreement of two folders of label maps."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    predictions: str
    references: str
    unit: Unit
    nsd_tolerance: float
    """In `unit`."""
    values: tuple[int, ...]
    """Value of each class in the files, found in them; the first is the background."""
    regions: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Values that were scored together, by the name of the region."""
    ignore: int | None
    scores: tuple[CaseScore, ...]
    summary: Summary
    not_predicted: tuple[str, ...]
    """References without a prediction: in no score."""

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return column titles and rows of text: a row a class, their mean, then regions."""
        titles = (
            "Dice",
            "IoU",
            f"HD95 ({self.unit})",
            f"NSD (±{self.nsd_tolerance:g} {self.unit})",
        )
        names = [f"value {value}" for value in self.values[1:]] + ["foreground mean"]
        scored = [*self.summary.classes, self.summary.foreground]
        if self.summary.region_mean is not None:
            names += [*self.regions, "region mean"]
            scored += [*self.summary.regions, self.summary.region_mean]
        rows = []
        for name, row in zip(names, scored, strict=True):
            cells = [_interval_text(getattr(row, metric)) for metric in METRICS]
            rows.append((name, *cells, f"{row.dice.num_cases} of {self.summary.num_cases}"))
        return ("class", *titles, "cases counted"), rows

    def case_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return column titles and rows of text: one row a case, the lowest Dice first."""
        rows = []
        for score in sorted(self.scores, key=lambda score: case_mean(score) or 0.0):
            cells = [_number_text(item.dice) for item in score.classes]
            rows.append((score.case_id, _number_text(case_mean(score)), *cells))
        return ("case", "mean Dice", *(f"value {value}" for value in self.values[1:])), rows


def _number_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _interval_text(item: MetricSummary) -> str:
    if item.mean is None:
        return "-"
    return f"{item.mean:.4f} [{item.low:.4f}, {item.high:.4f}]"
