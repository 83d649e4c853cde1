"""A contact sheet of training patches: each planned change alone, and patches as trained on.

Letters in shapes: C channels, P axes of the patch; H and W of a panel, pixels.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoseg.plan.plan import AugmentationPlan, ConfigurationPlan
from autoseg.report.figures import colour

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SUFFIX = "_probability"
NUM_ROWS = 3
"""Places that are shown."""
NUM_DRAWS = 3
"""Patches as trained on, for each row."""
PANEL = 176
"""Longest edge of a panel, pixels."""
TITLE = 16
"""Height of the line above a panel, pixels."""
GAP = 6
NUM_COLUMNS = 6
"""Panels beside each other; the panels of one place go on in the next line."""
WINDOW = (0.5, 99.5)
"""Percentiles of the unchanged patch that are shown black and white."""
NOTE = (
    "Each change alone, with its chance in the plan; blur and low resolution leave each channel "
    "unchanged half of the time."
)

Patches = Callable[[ConfigurationPlan, int], tuple[NDArray[np.float32], NDArray]]
"""Returns image (C, *P) and labels (*P) of the sample that a configuration draws at a step.

A channel that is left out is NaN.
"""


@dataclass(frozen=True)
class _Panel:
    """One picture of the sheet."""

    title: str
    image: NDArray[np.float32]
    """(H, W), or (W,) of a signal."""
    labels: NDArray
    """As the image."""


def draw_sheet(item: ConfigurationPlan, patches: Patches) -> bytes:
    """Return the contact sheet of a configuration's augmentation as a PNG file.

    Parameters
    ----------
    item
        What is planned.
    patches
        Makes the samples. The place that a step draws is the same for all configurations whose
        augmentation alone differs.
    """
    rows = []
    for row in range(NUM_ROWS):
        panels = _row(item, patches, row)
        low, high = np.percentile(panels[0].image, WINDOW)
        pictures = [_draw(panel, (float(low), float(high))) for panel in panels]
        rows += [
            pictures[first : first + NUM_COLUMNS] for first in range(0, len(pictures), NUM_COLUMNS)
        ]
    return _png(rows)


def planned_changes(item: ConfigurationPlan) -> list[str]:
    """Return the fields of the chances that lead to something, in the order in which they stand."""
    idle = set()
    if not item.recipe.mirror_axes:
        idle.add("mirror" + SUFFIX)
    if len(item.recipe.channels) == 1:
        idle.add("channel_dropout" + SUFFIX)  # one channel is always kept
    plan = item.training.augmentation
    return [
        name for name, value in plan if name.endswith(SUFFIX) and value > 0 and name not in idle
    ]


def only(item: ConfigurationPlan, names: Sequence[str]) -> ConfigurationPlan:
    """Return a configuration all of whose samples show the named changes, and no others."""
    plan = item.training.augmentation
    chances = {name: float(name in names) for name, _ in plan if name.endswith(SUFFIX)}
    return _with(item, plan.revised(**chances))


def _with(item: ConfigurationPlan, plan: AugmentationPlan) -> ConfigurationPlan:
    """Return a configuration of one sample a batch, around foreground, with an augmentation."""
    training = item.training.revised(augmentation=plan, foreground_fraction=1.0)
    return item.revised(training=training, batch_size=1)


def _row(item: ConfigurationPlan, patches: Patches, row: int) -> list[_Panel]:
    """Return the panels of one place."""
    plan = item.training.augmentation
    unchanged = patches(only(item, ()), row)
    depth = _fullest(unchanged[1])
    panels = [_panel("unchanged", *unchanged, depth)]
    for name in planned_changes(item):
        title = name.removesuffix(SUFFIX).replace("_", " ")
        chance = f"{getattr(plan, name):.0%}"
        image, labels = patches(only(item, (name,)), row)
        shown = _fullest(labels) if "mirror" in name else depth  # the slices may be reversed
        panels.append(_panel(f"{title} {chance}", image, labels, shown))
    for draw in range(NUM_DRAWS):
        step = NUM_ROWS + row * NUM_DRAWS + draw
        image, labels = patches(_with(item, plan), step)
        panels.append(_panel("as trained on", image, labels, _fullest(labels)))
    return panels


def _fullest(labels: NDArray) -> int:
    """Return the slice of a volume with most foreground; the middle one if there is none."""
    if labels.ndim < 3:
        return 0
    counts = (labels > 0).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else len(labels) // 2


def _panel(title: str, image: NDArray[np.float32], labels: NDArray, depth: int) -> _Panel:
    """Return the panel of a patch's first channel; of a volume one slice."""
    channel = np.nan_to_num(image[0], nan=-np.inf)  # a channel that is left out is black
    if labels.ndim == 3:
        return _Panel(title, channel[depth], labels[depth])
    return _Panel(title, channel, labels)


def _draw(panel: _Panel, window: tuple[float, float]) -> "Picture":
    """Return a panel with its title above it."""
    from PIL import Image, ImageDraw

    pixels = _signal(panel, window) if panel.image.ndim == 1 else _plane(panel, window)
    height, width = pixels.shape[:2]
    picture = Image.new("RGB", (max(width, PANEL), height + TITLE), "white")
    ImageDraw.Draw(picture).text((0, 1), panel.title, fill="black")
    picture.paste(Image.fromarray(pixels), (0, TITLE))
    return picture


def _plane(panel: _Panel, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return (H, W, 3) of a plane: grey, with the outline of each class in its colour."""
    low, high = window
    scale = PANEL / max(panel.image.shape)
    places = [
        np.minimum((np.arange(round(n * scale)) / scale).astype(int), n - 1)
        for n in panel.image.shape
    ]
    values = panel.image[np.ix_(*places)]
    labels = panel.labels[np.ix_(*places)]
    grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    pixels = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=-1)
    edge = np.zeros(labels.shape, np.bool_)
    for axis in (0, 1):
        edge |= (labels != np.roll(labels, 1, axis)) | (labels != np.roll(labels, -1, axis))
    edge[[0, -1], :] = edge[:, [0, -1]] = False  # the other side of the picture is no neighbour
    for index in np.unique(labels[labels > 0]):
        pixels[edge & (labels == index)] = _rgb(int(index))
    return pixels


def _signal(panel: _Panel, window: tuple[float, float]) -> NDArray[np.uint8]:
    """Return (H, W, 3) of a signal: a curve in the colours of its classes."""
    from PIL import Image, ImageDraw

    low, high = window
    picture = Image.new("RGB", (2 * PANEL, PANEL), "#f4f4f4")
    pen = ImageDraw.Draw(picture)
    x = np.linspace(0, picture.width - 1, len(panel.image))
    relative = np.clip((panel.image - low) / max(high - low, 1e-6), -0.25, 1.25)
    y = picture.height * (0.8 - 0.6 * relative)
    for place in range(len(x) - 1):
        index = int(panel.labels[place])
        fill = _rgb(index) if index > 0 else (90, 90, 90)
        pen.line([(x[place], y[place]), (x[place + 1], y[place + 1])], fill=fill, width=1)
    return np.asarray(picture)


def _rgb(index: int) -> tuple[int, int, int]:
    """Return the colour of a class."""
    code = colour(index - 1)
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def _png(rows: Sequence[Sequence["Picture"]]) -> bytes:
    """Return rows of panels of one size, and a note below them, as one PNG file."""
    from PIL import Image, ImageDraw

    width, height = rows[0][0].width + GAP, rows[0][0].height + GAP
    size = (NUM_COLUMNS * width + GAP, len(rows) * height + GAP + TITLE)
    sheet = Image.new("RGB", size, "white")
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            sheet.paste(panel, (GAP + x * width, GAP + y * height))
    ImageDraw.Draw(sheet).text((GAP, size[1] - TITLE), NOTE, fill="black")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
