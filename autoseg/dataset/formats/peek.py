"""A look into a few masks, where names alone do not tell how they are meant."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.files import foreground
from autoseg.errors import AutosegError
from autoseg.runtime.images import read_mask

T = TypeVar("T")
NUM_PEEKED = 8
"""Masks that are looked at for one question."""
MIDDLE = 128
"""Smoothed and JPEG-compressed masks of 8 bits show foreground from here on."""


def sample(items: Sequence[T], count: int = NUM_PEEKED) -> list[T]:
    """Return a few entries, spread evenly."""
    step = max(1, -(-len(items) // count))
    return list(items[::step])


def binary_threshold(paths: Sequence[Path]) -> float | None:
    """Return the threshold of binary masks that were smoothed or compressed; else None.

    These have 8 bits and values in between; a mask of two values needs no threshold.
    """
    for mask in _masks(sample(paths)):
        if mask.dtype == np.uint8 and mask.max() >= MIDDLE and len(np.unique(mask)) > 2:
            return float(MIDDLE)
    return None


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


def foregrounds(paths: Sequence[Path], threshold: float | None) -> list[NDArray]:
    """Return where each mask of a case shows foreground, (*S); nothing if one is unreadable."""
    masks = list(_masks(paths))
    if len(masks) < len(paths) or len({mask.shape[1:] for mask in masks}) > 1:
        return []
    return [foreground(mask, threshold) for mask in masks]


def _masks(paths: Sequence[Path]) -> Iterator[NDArray]:
    """Yield what is in the masks that can be read; the others are refused when they are needed."""
    for path in paths:
        try:
            mask = read_mask(path).array
        except AutosegError:
            continue
        yield mask
