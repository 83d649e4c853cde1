"""Pictures of signals: the curve over its reference, and over its prediction.

Letters in shapes: C channels, L samples.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.label_values import IGNORE
from autoseg.report.figures import as_address, colour, styled
from autoseg.runtime.images import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW = 2000
"""Samples shown at most: four seconds at 500 Hz, in which each sample still has half a pixel."""
MAX_CHANNELS = 4
"""Channels shown: more would be thin lines."""
IGNORED = "#9a9a9a"
PANEL = (9.0, 1.7)
"""Width and height of one of both panels, inches."""
TITLES = ("reference", "prediction")


@styled
def draw_trace(image: Image, reference: NDArray, prediction: NDArray) -> tuple[str, str]:
    """Return the picture of a signal as a data address, and which part of it is shown.

    Parameters
    ----------
    image
        (C, L)
    reference, prediction
        (L,) class indices.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    part = busiest(reference, prediction)
    step, is_timed = image.geometry.spacing[0], image.geometry.unit == "s"
    times = np.arange(part.start, part.stop) * (step if is_timed else 1.0)
    figure = Figure(figsize=(PANEL[0], 2 * PANEL[1]), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_facecolor("white")
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    lines = stacked(image.array[:MAX_CHANNELS, part].astype(float))
    for panel, title, labels in zip(panels, TITLES, (reference, prediction), strict=True):
        _draw_spans(panel, labels[part], times)
        for line in lines:
            panel.plot(times, line, color="black", linewidth=0.8)
        panel.set_title(title)
        panel.set_yticks([])
    panels[-1].set_xlabel("seconds" if is_timed else "samples")
    panels[-1].set_xlim(times[0], times[-1] if len(times) > 1 else times[0] + 1)
    return as_address(figure), _view(part, len(reference), step, is_timed=is_timed)


def busiest(reference: NDArray, prediction: NDArray) -> slice:
    """Return the part of at most `WINDOW` samples in which both differ most, the first of equals.

    Where they nowhere differ, the part with most foreground.
    """
    length = len(reference)
    if length <= WINDOW:
        return slice(0, length)
    wrong = (reference != prediction) & (reference != IGNORE)
    marks = wrong if wrong.any() else reference > 0
    sums = np.concatenate([[0], np.cumsum(marks)])
    start = int(np.argmax(sums[WINDOW:] - sums[:-WINDOW]))
    return slice(start, start + WINDOW)


def stacked(channels: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """Return the channels (C, L) one below the other, each with the same height."""
    heights = np.ptp(channels, axis=1)
    return [
        (channel - channel.min()) / max(float(height), 1e-12) - 1.1 * index
        for index, (channel, height) in enumerate(zip(channels, heights, strict=True))
    ]


def runs(labels: NDArray) -> Iterator[tuple[int, int, int]]:
    """Yield first sample, end and value of each stretch of equal labels but background."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)]
    for start, stop in pairwise(edges):
        if labels[start]:
            yield start, stop, int(labels[start])


def _draw_spans(axes: "Axes", labels: NDArray, times: NDArray) -> None:
    """Colour the stretches of each class; what is not annotated is grey."""
    half = (times[1] - times[0]) / 2 if len(times) > 1 else 0.5
    for start, stop, value in runs(labels):
        tint = IGNORED if value == IGNORE else colour(value - 1)
        axes.axvspan(times[start] - half, times[stop - 1] + half, color=tint, alpha=0.35, lw=0)


def _view(part: slice, length: int, step: float, *, is_timed: bool) -> str:
    if part.stop - part.start == length:
        return "whole signal"
    if not is_timed:
        return f"samples {part.start + 1} to {part.stop} of {length}"
    return f"{part.start * step:.3g} to {part.stop * step:.3g} s of {length * step:.3g} s"
