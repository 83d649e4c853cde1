"""Curves and distributions as SVG that takes its colours from the page.

matplotlib is imported when a figure is drawn. Text and axes are drawn in a marker colour that the
page's own text colour replaces, so that a figure is readable on light and on dark.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import Summary, metric_table
from autoseg.report.contents import FoldContents
from autoseg.seeds import stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

INK = "#123456"
"""Replaced by `currentColor`."""
COLOURS = ("#3b82c4", "#e07b39", "#3fa66b", "#b65fc4", "#d1495b", "#8a8f3c", "#2aa5a5", "#8c6d5a")
"""Of classes and folds, in turn: told apart on light and dark ground."""
MAX_POINTS = 200
"""Points a curve is thinned to."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "autoseg",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
}


def colour(index: int) -> str:
    """Return the colour of a class or a fold."""
    return COLOURS[index % len(COLOURS)]


def styled(draw: Callable[P, T]) -> Callable[P, T]:
    """Return a drawing function that runs in the report's style and leaves no style behind."""

    @wraps(draw)
    def draw_in_style(*args: P.args, **kwargs: P.kwargs) -> T:
        import matplotlib as mpl

        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_in_style


@styled
def learning_curves(folds: Sequence[FoldContents]) -> Markup | None:
    """Return loss and validation Dice over the steps, one line a fold; None without numbers."""
    panels = [
        (title, key, [(item.fold, _series(item.metrics, key)) for item in folds])
        for title, key in (("Training loss", "loss"), ("Dice of some validation cases", "dice"))
    ]
    panels = [panel for panel in panels if any(len(steps) for _, (steps, _) in panel[2])]
    if not panels:
        return None
    figure, axes = subplots(len(panels), width=8.6, height=2.7)
    for place, (title, key, lines) in zip(axes, panels, strict=True):
        for index, (fold, (steps, values)) in enumerate(lines):
            style = "o-" if key == "dice" else "-"
            place.plot(steps, values, style, ms=3, color=colour(index), label=f"fold {fold}")
        place.set_title(title)
        place.set_xlabel("step")
        if key == "dice":
            place.set_ylim(0, 1)
    if len(folds) > 1:
        axes[0].legend(ncols=2, fontsize=8.5)
    return as_svg(figure, "Learning curves")


@styled
def dice_by_class(
    scores: Sequence[CaseScore], names: Sequence[str], summary: Summary
) -> Markup | None:
    """Return the Dice of each case as a dot, by class, with mean and interval."""
    table = metric_table(scores, "dice")
    if not np.isfinite(table).any():
        return None
    figure, (axes,) = subplots(1, width=8.6, height=0.7 + 0.5 * len(names))
    for index in range(len(names)):
        values = table[np.isfinite(table[:, index]), index]
        _draw_row(axes, len(names) - 1 - index, values, index)
        mean = summary.classes[index].dice
        if mean.mean is not None and mean.low is not None and mean.high is not None:
            place = len(names) - 1 - index
            axes.plot([mean.low, mean.high], [place, place], color=INK, lw=1.6)
            axes.plot([mean.mean], [place], "D", color=INK, ms=4.5)
    axes.set_yticks(range(len(names)), [_shortened(name) for name in reversed(names)])
    axes.set_ylim(-0.6, len(names) - 0.4)
    lowest = float(np.nanmin(table))
    left = max(0.0, lowest - 0.04) if lowest > 0.3 else 0.0
    axes.set_xlim(left - 0.01 * (1 - left), 1 + 0.01 * (1 - left))
    axes.set_xlabel("Dice of each case; diamond and bar: mean and its 95 % interval")
    axes.grid(axis="y", visible=False)
    return as_svg(figure, "Dice by class")


def _draw_row(axes: "Axes", place: int, values: NDArray, index: int) -> None:
    """Draw one class: dots spread a little, always the same way."""
    spread = stream(0, "report", "dots", index).uniform(-0.2, 0.2, len(values))
    alpha = float(np.clip(40 / max(len(values), 1), 0.3, 0.85))
    axes.plot(values, place + spread, "o", ms=4, mew=0, alpha=alpha, color=colour(index))


def _series(lines: Sequence[Mapping[str, object]], key: str) -> tuple[NDArray, NDArray]:
    """Return steps and values of a number in a log, thinned by averaging neighbours."""
    pairs = [
        (float(step), float(value))
        for line in lines
        if isinstance(step := line.get("step"), int | float)
        and isinstance(value := line.get(key), int | float)
        and np.isfinite(value)
    ]
    points = np.array(pairs, float).reshape(-1, 2)
    if len(points) > MAX_POINTS:
        parts = np.array_split(points, MAX_POINTS)
        points = np.array([part.mean(axis=0) for part in parts])
    return points[:, 0], points[:, 1]


def subplots(num_columns: int, *, width: float, height: float) -> tuple["Figure", list["Axes"]]:
    """Return a figure and its axes without any global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, num_columns, squeeze=False)[0]
    return figure, list(axes)


def as_svg(figure: "Figure", title: str) -> Markup:
    """Return a figure as an SVG element without any address in it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace(INK, "currentColor")
    text = text.replace("<svg", f'<svg role="img" aria-label="{title}" class="chart"', 1)
    # Text in the figure is escaped by matplotlib's XML writer.
    return Markup(text)


def as_address(figure: "Figure") -> str:
    """Return a figure that has a canvas as a picture in a data address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", facecolor="auto", pil_kwargs={"quality": 82})
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _shortened(name: str, length: int = 28) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
