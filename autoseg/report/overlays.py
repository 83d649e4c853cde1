"""Pictures of cases: image, reference and prediction side by side; of signals, see `traces`.

Letters in shapes: C channels, S spatial axes (ZYX or YX), H and W the axes of a slice.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.label_values import to_classes
from autoseg.ensemble.predictions import find_predictions
from autoseg.errors import AutosegError
from autoseg.evaluate.statistics import case_mean
from autoseg.report.contents import FoldContents
from autoseg.report.figures import as_address, colour, styled
from autoseg.report.traces import draw_trace
from autoseg.runtime.images import Image, read_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_PIXELS = 360
"""Height and greatest width of a panel: sharp on screens with small pixels at half the size."""
PANELS = ("image", "reference", "prediction")
MARGIN = 0.35
"""Room around the foreground in a zoomed picture, as a part of its size."""
MIN_ZOOM = 48
"""A zoomed picture shows at least this many voxels a side."""
WINDOW = (0.5, 99.5)
"""Percentiles shown as black and white."""


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A picture of a case."""

    case_id: str
    fold: str
    rank: str
    """ "worst", "median" or "best"."""
    dice: float
    view: str
    """Which slice or stretch is shown."""
    panels: tuple[str, ...]
    """What is seen, from left to right; empty where the picture says it."""
    source: str
    """The picture as a data address."""


@dataclass(frozen=True)
class _Slice:
    """What is shown of a case."""

    picture: NDArray
    """(H, W) or (H, W, 3), 0 to 1."""
    reference: NDArray
    prediction: NDArray
    aspect: float
    """Height of a voxel over its width."""
    view: str


def draw_overlays(dataset: Dataset, folds: Iterable[FoldContents]) -> tuple[Overlay, ...]:
    """Return pictures of the worst, median and best cases, without those that cannot be read."""
    ranked = sorted(
        (
            (dice, score.case_id, fold)
            for fold in folds
            for score in (fold.result.scores if fold.result else ())
            if (dice := case_mean(score)) is not None
        ),
        key=lambda item: item[:2],
    )
    cases = {case.id: case for case in dataset.cases}
    overlays = []
    for rank, place in _places(len(ranked)):
        dice, case_id, fold = ranked[place]
        path = find_predictions(fold.folder).get(case_id)
        try:
            shown = _picture_of(dataset, cases[case_id], path) if path else None
        except (AutosegError, OSError, KeyError):
            continue
        if shown is not None:
            overlays.append(
                Overlay(
                    case_id=case_id,
                    fold=fold.fold,
                    rank=rank,
                    dice=dice,
                    view=shown[1],
                    panels=shown[2],
                    source=shown[0],
                )
            )
    return tuple(overlays)


def _places(count: int) -> list[tuple[str, int]]:
    """Return which of the cases, sorted by rising Dice, are shown."""
    wanted = [("worst", 0), ("second worst", 1), ("median", count // 2), ("best", count - 1)]
    found: dict[int, str] = {}
    for rank, place in wanted if count > 3 else [wanted[0], *wanted[2:]]:
        if 0 <= place < count and place not in found:
            found[place] = rank
    return [(rank, place) for place, rank in found.items()]


def _picture_of(
    dataset: Dataset, case: Case, prediction_path: Path
) -> tuple[str, str, tuple[str, ...]] | None:
    """Return a case's picture, which part of it is shown, and the panels; None: of other shape."""
    image, reference = read_case(dataset, case)
    prediction = to_classes(read_labels(prediction_path).array[0], dataset.labels)
    if not image.shape == reference.shape == prediction.shape:
        return None
    if reference.ndim == 1:
        return *draw_trace(image, reference, prediction), ()
    shown = _slice_of(image, reference, prediction)
    return _draw(shown), shown.view, PANELS


def _slice_of(image: Image, reference: NDArray, prediction: NDArray) -> _Slice:
    """Return the slice with the largest reference, zoomed to where something is."""
    plane, spacing, view = choose_plane(image, reference, prediction)
    reference, prediction = reference[plane], prediction[plane]
    zoom = zoom_box(reference, prediction)
    picture = as_picture(image.array[(slice(None), *plane)])[zoom]
    if picture.shape[:2] != image.shape[-2:] and image.array.ndim == 3:
        view = "zoomed"
    return _Slice(picture, reference[zoom], prediction[zoom], spacing[0] / spacing[1], view)


def choose_plane(
    image: Image, reference: NDArray, prediction: NDArray
) -> tuple[tuple[int | slice, ...], tuple[float, ...], str]:
    """Return the index of a slice, the spacing of its axes, and its name.

    Across the coarsest axis, the first among equals; where most foreground is.
    """
    spacing = image.geometry.spacing
    if reference.ndim == 2:
        return (slice(None), slice(None)), spacing, "whole image"
    coarsest = max(spacing)
    axis = next(i for i, value in enumerate(spacing) if value > 0.99 * coarsest)
    others = tuple(other for other in range(3) if other != axis)
    amounts = (reference > 0).sum(axis=others)
    if not amounts.any():
        amounts = (prediction > 0).sum(axis=others)
    index = int(amounts.argmax()) if amounts.any() else len(amounts) // 2
    plane = tuple(index if other == axis else slice(None) for other in range(3))
    view = f"slice {index + 1} of {len(amounts)} along axis {axis}"
    return plane, tuple(spacing[other] for other in others), view


def zoom_box(reference: NDArray, prediction: NDArray) -> tuple[slice, ...]:
    """Return the box around all foreground with some room, or everything."""
    mask = (reference > 0) | (prediction > 0)
    if not mask.any():
        return tuple(slice(None) for _ in mask.shape)
    box = []
    for axis, length in enumerate(mask.shape):
        places = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = int(places[0]), int(places[-1]) + 1
        room = max((high - low) * MARGIN, (MIN_ZOOM - (high - low)) / 2)
        box.append(slice(max(0, int(low - room)), min(length, int(np.ceil(high + room)))))
    return tuple(box)


def as_picture(channels: NDArray) -> NDArray:
    """Return (C, H, W) as a picture: colours as they are, else the first channel, windowed."""
    if len(channels) == 3 and channels.dtype == np.uint8:
        return np.moveaxis(channels, 0, -1) / 255
    values = channels[0].astype(float)
    low, high = np.percentile(values, WINDOW)
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


@styled
def _draw(shown: _Slice) -> str:
    """Return image, image with reference, image with prediction, as one picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = shown.picture.shape[:2]
    ratio = float(np.clip(width / (height * shown.aspect), 0.4, 2.0))
    panel = (PANEL_PIXELS * min(1.0, ratio), PANEL_PIXELS / max(1.0, ratio))
    figure = Figure(figsize=(3 * panel[0] / 100 + 0.16, panel[1] / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.02)
    for place, labels, outline in zip(
        axes,
        (None, shown.reference, shown.prediction),
        (None, None, shown.reference),
        strict=True,
    ):
        _draw_panel(place, shown, labels, outline)
    figure.patch.set_alpha(0)
    return as_address(figure)


def _draw_panel(
    axes: "Axes", shown: _Slice, labels: NDArray | None, outline: NDArray | None
) -> None:
    """Draw the picture, classes in their colours, and the outline of other labels in white."""
    axes.imshow(shown.picture, cmap="gray", vmin=0, vmax=1, aspect=shown.aspect)
    axes.set_axis_off()
    axes.grid(visible=False)
    if labels is not None:
        for index in (int(value) for value in np.unique(labels) if value > 0):
            mask = labels == index
            tint = np.zeros((*mask.shape, 4))
            tint[mask] = (*_rgb(colour(index - 1)), 0.28)
            axes.imshow(tint, aspect=shown.aspect)
            draw_contour(axes, mask, colors=colour(index - 1), linewidths=1.6)
    if outline is not None:
        for index in (int(value) for value in np.unique(outline) if value > 0):
            mask = outline == index
            draw_contour(axes, mask, colors="black", linewidths=1.8, alpha=0.5)
            draw_contour(axes, mask, colors="white", linewidths=0.9, linestyles=[(0, (3, 2))])


def draw_contour(axes: "Axes", mask: NDArray[np.bool_], **style: object) -> None:
    """Draw the border of a mask, also along the picture's edge."""
    height, width = mask.shape
    padded = np.pad(mask, 1)
    x, y = np.arange(-1, width + 1), np.arange(-1, height + 1)
    axes.contour(x, y, padded, levels=[0.5], **cast(Any, style))
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _rgb(code: str) -> tuple[float, float, float]:
    red, green, blue = (int(code[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
