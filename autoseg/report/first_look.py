"""Pictures of cases before anything is trained, to see whether labels lie on what they name.

Letters in shapes: H and W the axes of a slice.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.label_values import IGNORE
from autoseg.errors import AutosegError
from autoseg.report.figures import COLOURS
from autoseg.report.overlays import as_picture, choose_plane, draw_contour, zoom_box
from autoseg.runtime.images import Image
from autoseg.runtime.recipe import Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.gridspec import SubplotSpec

IGNORED_COLOUR = "#9a9a9a"
TINT = 0.45
"""How much a class hides of the image; in the zoomed panel there are outlines instead."""
ROW_INCHES = 3.4
MAX_LEGEND = 40
TITLES = ("image", "with its labels", "near by")
NEAR = 1 / 3
"""Labels all over the image are shown from near by in this part of it,"""
MIN_NEAR = 96
"""or in this many voxels."""


def draw_cases(dataset: Dataset, cases: Sequence[Case], path: Path) -> None:
    """Write a picture with a row a case: the image, with its labels, and these from near by.

    Volumes show the slice with most foreground, signals all their length.

    Raises
    ------
    AutosegError
        A case cannot be read, or the picture cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = class_colours(len(dataset.labels.names))
    figure = Figure(figsize=(3 * ROW_INCHES, (ROW_INCHES + 0.3) * len(cases) + 0.7), dpi=110)
    FigureCanvasAgg(figure)
    heights = [*[ROW_INCHES] * len(cases), 0.6]  # the last is the legend's
    rows = [figure.add_subfigure(place) for place in _places(figure, heights)]
    seen: set[int] = set()
    for row, case in zip(rows, cases, strict=False):
        image, classes = read_case(dataset, case)
        seen |= {int(index) for index in np.unique(classes)}
        draw = _draw_signal if classes.ndim == 1 else _draw_slice
        title = draw(row, image, classes, colours)
        row.suptitle(f"{case.id}: {title}", fontsize=9, x=0.01, ha="left", parse_math=False)
    _draw_legend(rows[-1], dataset.labels, colours, seen)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise AutosegError(
            found=f"{path} cannot be written: {error}",
            expected="a place for a picture, with an ending such as .png",
            fix="name another file with --picture",
        ) from None


def _places(figure: "Figure", heights: Sequence[float]) -> "list[SubplotSpec]":
    """Return a place for each row of a figure."""
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    return [grid[index] for index in range(len(heights))]


def class_colours(num_classes: int) -> tuple[str, ...]:
    """Return a colour for each class but the background, told apart also where there are many."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    count = num_classes - 1
    if count <= len(COLOURS):
        return COLOURS[:count]
    return tuple(to_hex(colormaps["turbo"](index / (count - 1))) for index in range(count))


def _draw_slice(row: "FigureBase", image: Image, classes: NDArray, colours: Sequence[str]) -> str:
    """Draw three panels of a picture, or of a slice of a volume; return what is shown."""
    plane, spacing, view = choose_plane(image, classes, classes)
    picture, labels = as_picture(image.array[(slice(None), *plane)]), classes[plane]
    zoom = _near(labels)
    aspect = spacing[0] / spacing[1]
    panels = row.subplots(1, 3)
    row.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.86, wspace=0.03)
    for panel, title in zip(panels, TITLES, strict=True):
        near = zoom if title == TITLES[2] else ()
        panel.imshow(picture[near], cmap="gray", vmin=0, vmax=1, aspect=aspect)
        panel.set_axis_off()
        panel.set_title(title, fontsize=8)
    panels[1].imshow(_tinted(labels, colours), aspect=aspect, interpolation="nearest")
    for index in (int(value) for value in np.unique(labels[zoom]) if value > 0):
        draw_contour(panels[2], labels[zoom] == index, colors=colours[index - 1], linewidths=1.2)
    return f"{view}, {' x '.join(str(length) for length in image.shape)}"


def _near(labels: NDArray) -> tuple[slice, ...]:
    """Return the box around all labels; a part of it, in their midst, where it is large."""
    middle = np.median(np.argwhere(labels > 0), axis=0) if (labels > 0).any() else None
    box = []
    for axis, side in enumerate(zoom_box(labels, labels)):
        length = labels.shape[axis]
        start, stop, _ = side.indices(length)
        room = max(MIN_NEAR, int(NEAR * length))
        if middle is not None and stop - start > 2 * room:
            start = min(max(start, int(middle[axis]) - room // 2), stop - room)
            stop = start + room
        box.append(slice(start, stop))
    return tuple(box)


def _draw_signal(row: "FigureBase", image: Image, classes: NDArray, colours: Sequence[str]) -> str:
    """Draw the channels of a signal over its classes; return what is shown."""
    panel: Axes = row.subplots(1, 1)
    row.subplots_adjust(left=0.05, right=0.99, bottom=0.08, top=0.86)
    values = image.array.astype(float)
    low, high = float(values.min()), float(values.max())
    extent = (-0.5, len(classes) - 0.5, low, max(high, low + 1e-12))
    panel.imshow(
        _tinted(classes[None], colours), extent=extent, aspect="auto", interpolation="nearest"
    )
    for channel in values:
        panel.plot(channel, color="black", linewidth=0.7)
    panel.tick_params(labelsize=7)
    return f"{len(classes)} samples"


def _tinted(labels: NDArray, colours: Sequence[str]) -> NDArray[np.float32]:
    """Return (H, W, 4): the colour of each voxel's class, transparent for the background."""
    codes = (IGNORED_COLOUR, *colours)  # of ignored voxels, then of classes from 1 on
    table = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] + [TINT] for c in codes])
    table = np.concatenate([np.zeros((1, 4)), table[1:], table[:1]])  # index -1 is IGNORE
    assert IGNORE == -1, "the last entry is that of ignored voxels"
    return table.astype(np.float32)[labels]


def _draw_legend(
    place: "FigureBase", labels: Labels, colours: Sequence[str], seen: set[int]
) -> None:
    """Draw the colours of the classes that are shown."""
    from matplotlib.patches import Patch

    entries = [
        Patch(color=colours[index - 1], alpha=0.8, label=labels.names[index])
        for index in sorted(seen)
        if index > 0
    ][:MAX_LEGEND]
    if IGNORE in seen:
        entries.append(Patch(color=IGNORED_COLOUR, alpha=0.8, label="not annotated"))
    if entries:
        place.legend(handles=entries, loc="center", ncols=min(6, len(entries)), fontsize=8)
