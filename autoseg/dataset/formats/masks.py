"""Masks that are no maps of values, in any layout: colours, or one channel a class.

Letters in shapes: C channels, S spatial axes (ZYX or YX).
"""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset, DatasetSpec
from autoseg.dataset.files import colour_codes
from autoseg.dataset.formats.format import FoundCase, Layout
from autoseg.dataset.formats.lossy import lossy_suggestion
from autoseg.dataset.label_values import MAX_UNDECLARED, declared_labels
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import (
    LOSSY_FORMATS,
    PICTURE_FORMATS,
    is_image,
    read_extent,
    read_mask,
)
from autoseg.runtime.recipe import Labels

COLOUR_TABLES = ("class_dict.csv", "label_colors.txt")
"""Files beside images and masks that name classes and their colours, as CamVid has them."""
BACKGROUNDS = ("background", "void", "unlabelled", "unlabeled")
"""Names of the background in such tables, where it need not come first."""
NUM_READERS = 4

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class _Look:
    """What one undeclared mask looks like."""

    colours: Counter[int] = field(default_factory=Counter)
    """Voxels of each colour, of a picture with three channels."""
    is_coloured: bool = False
    num_classes: int = 0
    """If it has a channel for each class; 0 if not."""
    is_broken: bool = False


def as_declared(layout: Layout, root: Path, spec: DatasetSpec) -> Layout:
    """Return the layout with its masks read as colours or channels, where something says so.

    Colours: the spec's labels, or a table of colours in `root`. Channels: the first mask has one
    for each declared class.

    Raises
    ------
    DatasetError
        The table of colours makes no sense.
    """
    found = next((found for found in layout.cases if found.labels), None)
    if layout.reading.masks != "values" or found is None:
        return layout
    colours = {
        name: int(value[1:], 16)
        for name, value in (spec.labels or {}).items()
        if isinstance(value, str)
    }
    if colours:
        return replace(
            layout, reading=layout.reading.revised(masks="colours", colours=_by(colours))
        )
    if not (is_image(found.labels[0]) and is_image(found.images[0])):
        return layout
    try:
        return _as_seen(layout, root, found, spec.ignore)
    except DatasetError:
        raise
    except AutosegError:
        return layout  # a broken file is reported with all others


def _as_seen(layout: Layout, root: Path, found: FoundCase, ignore: int | None) -> Layout:
    """Return the layout with its masks read as the first one looks."""
    if layout.labels is not None:
        pairs = _channel_values(found, layout.labels)
        if pairs is None:
            return layout
        return replace(layout, reading=layout.reading.revised(masks="channels", label_map=pairs))
    table = next((root / name for name in COLOUR_TABLES if (root / name).is_file()), None)
    if table is None:
        return layout
    colours = read_colour_table(table)
    mask = read_mask(found.labels[0]).array
    if len(mask) != 3 or (_is_grey(mask) and not _unique_colours(mask) <= set(colours.values())):
        return layout
    reading = layout.reading.revised(masks="colours", colours=_by(colours))
    numbers = {name: index for index, name in enumerate(colours)}
    return replace(layout, reading=reading, labels=declared_labels(numbers, ignore))


def read_colour_table(path: Path) -> dict[str, int]:
    """Return the colour (0xRRGGBB) of each class in a table, the background first.

    Either CSV with the columns name, r, g, b, or lines "r g b name".

    Raises
    ------
    DatasetError
        A line makes no sense, or a name comes twice.
    """
    rows = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if path.suffix == ".csv":
        fields = [[cell.strip() for cell in row] for row in csv.reader(rows[1:])]
        entries = [(row[0], row[1:4]) for row in fields]
    else:
        fields = [row.split(maxsplit=3) for row in rows]
        entries = [(row[3].strip() if len(row) > 3 else "", row[:3]) for row in fields]
    colours: dict[str, int] = {}
    for line, (name, numbers) in zip(rows[-len(entries) :], entries, strict=True):
        is_right = len(numbers) == 3 and all(n.isdecimal() and int(n) < 256 for n in numbers)
        if not is_right or not name or name in colours:
            raise DatasetError(
                found=f"{path.name}: {line.strip()!r}",
                expected="for each class, once, its name and three numbers from 0 to 255",
                fix=f"correct {path}",
            )
        red, green, blue = (int(number) for number in numbers)
        colours[name] = (red << 16) + (green << 8) + blue
    background = [name for name in colours if name.casefold() in BACKGROUNDS]
    background += [name for name, colour in colours.items() if colour == 0]
    return {name: colours[name] for name in dict.fromkeys([*background[:1], *colours])}


def suggested_labels(dataset: Dataset) -> DatasetError | None:
    """Return an error that says how to declare undeclared colours or channels, if masks have them.

    Reads all masks: for a data set that is refused anyway. None if some are broken in other ways.
    """
    paths = [paths[0] for paths in map(dataset.label_paths, dataset.cases) if paths]
    if dataset.reading.masks != "values" or not all(is_image(path) for path in paths):
        return None
    if paths and all(path.name.lower().endswith(LOSSY_FORMATS) for path in paths):
        return lossy_suggestion(paths)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        looks = list(pool.map(_look, paths))
    if any(look.is_broken for look in looks):
        return None
    classes = {look.num_classes for look in looks}
    if len(classes) == 1 and 0 not in classes:
        names = {f"class_{i}" if i else "background": i for i in range(max(classes))}
        return _suggestion("masks with several channels of two values each", names)
    colours = sum((look.colours for look in looks), Counter())
    are_pictures = all(look.colours for look in looks)  # else those in colour are the odd ones
    is_coloured = are_pictures and any(look.is_coloured for look in looks)
    if not is_coloured or len(colours) > MAX_UNDECLARED:
        return None
    order = sorted(colours, key=lambda colour: (colour != 0, -colours[colour]))
    names = {f"class_{i}" if i else "background": f"#{c:06x}" for i, c in enumerate(order)}
    return _suggestion(f"masks with {len(order)} colours", names)


def _by(colours: Mapping[str, int]) -> tuple[tuple[int, int, int, int], ...]:
    """Return red, green, blue and the number of each class."""
    return tuple(
        (colour >> 16, colour >> 8 & 255, colour & 255, index)
        for index, colour in enumerate(colours.values())
    )


def _channel_values(found: FoundCase, labels: Labels) -> Pairs | None:
    """Return what 0 (no channel), 1 (the first) and so on stand for; None: no channels of classes.

    There is a channel for each class, then just one is set everywhere, or for each but background.
    """
    extent = read_extent(found.labels[:1])
    is_stack = len(extent.shape) > len(read_extent(found.images[:1]).shape)
    count = extent.shape[0] if is_stack else extent.num_channels
    num_classes = len(labels.values)
    if count < 2 or count not in (num_classes, num_classes - 1):
        return None
    mask = read_mask(found.labels[0]).array
    channels = mask[0] if is_stack else mask
    if len(channels) != count or not _is_binary(channels) or _is_grey(channels):
        return None
    order = sorted(labels.values) if count == num_classes else labels.values[1:]
    if count == num_classes and not _is_exclusive(channels):
        return None
    return ((0, labels.values[0]), *((i + 1, value) for i, value in enumerate(order)))


def _look(path: Path) -> _Look:
    try:
        mask = read_mask(path).array
    except AutosegError:
        return _Look(is_broken=True)
    name = path.name.lower()
    if len(mask) == 3 and name.endswith(PICTURE_FORMATS):
        found, counts = np.unique(colour_codes(mask), return_counts=True)
        chosen = slice(MAX_UNDECLARED + 1)  # more are no colours of classes
        colours = Counter(dict(zip(found[chosen].tolist(), counts[chosen].tolist(), strict=True)))
        return _Look(
            colours, is_coloured=not _is_grey(mask), is_broken=name.endswith(LOSSY_FORMATS)
        )
    if len(mask) > 1 and _is_binary(mask):
        return _Look(num_classes=len(mask) + (not _is_exclusive(mask)))
    return _Look(is_broken=name.endswith(LOSSY_FORMATS))


def _suggestion(found: str, labels: Mapping[str, int | str]) -> DatasetError:
    return DatasetError(
        found=f"{found}, which are not declared",
        expected="one channel in which every class has its own whole number, or declared classes",
        fix="name the classes in a file given with --spec, the background first:\n"
        + json.dumps({"labels": labels}),
    )


def _is_binary(channels: NDArray) -> bool:
    return bool(((channels == 0) | (channels == channels.max())).all())


def _is_exclusive(channels: NDArray) -> bool:
    return bool(((channels > 0).sum(axis=0) == 1).all())


def _is_grey(channels: NDArray) -> bool:
    return bool((channels == channels[:1]).all())


def _unique_colours(mask: NDArray) -> set[int]:
    return set(np.unique(colour_codes(mask)).tolist())
