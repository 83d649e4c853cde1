"""A look into a few masks, where names alone do not tell how they are meant."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.files import MIDDLE
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import read_mask

T = TypeVar("T")
NUM_PEEKED = 8
"""Masks that are looked at for one question."""


def sample(items: Sequence[T], count: int = NUM_PEEKED) -> list[T]:
    """Return a few entries, spread evenly."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def binary_threshold(masks: Mapping[str, Sequence[Path]]) -> float | None:
    """Return the threshold of binary masks that were smoothed or compressed; else None.

    These have whole numbers to 255 and values in between. A mask of two values, or of fractions,
    needs no threshold.

    Parameters
    ----------
    masks
        By class; a few of each are looked at.

    Raises
    ------
    DatasetError
        Some classes would need the threshold, and be lost by it in others.
    """
    smoothed, low = [], []
    for name, paths in masks.items():
        found = [mask for mask in _masks(sample(paths)) if mask.any()]
        smoothed += [name] * any(map(_is_smoothed, found))
        low += [name] * (bool(found) and all(mask.max() < MIDDLE for mask in found))
    if smoothed and low:
        raise DatasetError(
            found=f"masks of {', '.join(smoothed)} with grey values to 255, those of "
            f"{', '.join(low)} with values to {MIDDLE - 1} at most",
            expected="masks of all classes with the same range of values",
            fix=f"export the masks of {', '.join(low)} again, with 0 and 255",
        )
    return float(MIDDLE) if smoothed else None


def by_class(cases: Iterable[Mapping[str, Path]]) -> dict[str, list[Path]]:
    """Return the masks of all cases by class."""
    found: dict[str, list[Path]] = {}
    for masks in cases:
        for name, path in masks.items():
            found.setdefault(name, []).append(path)
    return found


def _is_smoothed(mask: NDArray) -> bool:
    is_wide = mask.dtype.kind in "iu" and MIDDLE <= mask.max() < 2 * MIDDLE
    return bool(is_wide and ((mask != 0) & (mask != mask.max())).any())


def find_class_map(paths: Sequence[Path]) -> tuple[Path, tuple[int, ...]] | None:
    """Return a mask of more than one foreground value, other than a smoothed one, and its values.

    None where the few that are looked at show foreground and background only.
    """
    chosen = sample(paths)
    for path in chosen:
        for mask in _masks([path]):
            values = np.unique(mask)
            if len(values) > 2 and values.max() < MIDDLE:
                return path, tuple(int(value) for value in values)
    return None


def are_empty(paths: Sequence[Path]) -> bool:
    """Return whether a few masks show no foreground; unreadable ones count as showing some."""
    chosen = sample(paths)
    masks = list(_masks(chosen))
    return len(masks) == len(chosen) and not any(mask.any() for mask in masks)


def _masks(paths: Sequence[Path]) -> Iterator[NDArray]:
    """Yield what is in the masks that can be read; the others are refused when they are needed."""
    for path in paths:
        try:
            mask = read_mask(path).array
        except AutosegError:
            continue
        yield mask
