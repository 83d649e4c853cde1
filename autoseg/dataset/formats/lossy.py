"""The colours of masks that JPEG has smeared: where they gather.

Letters in shapes: N colours.
"""

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.files import LOSSY_DISTANCE, MIDDLE, colour_codes
from autoseg.dataset.formats.peek import sample
from autoseg.errors import AutosegError, DatasetError
from autoseg.runtime.images import read_mask
from autoseg.runtime.recipe import Labels

NUM_LOOKED = 32
"""Masks that are looked at."""
FLAT = 40
"""Levels by which the channels of neighbours differ at most, in the middle of a structure."""
MIN_FLAT = 0.25
"""Less of a picture without edges is a photograph, or too fine for JPEG."""
NEAR = 20.0
"""Most pixels of a flat colour stay within this distance, in the cube of red, green and blue."""
GATHERED = 0.6
"""Of what lies around a colour, so much must be near: on edges colours are spread evenly."""
MIN_PART = 1e-3
"""A colour of fewer pixels is no class."""
DARK = 32
"""A colour with no channel above this is black, and so the background."""
EXPORT = "export the masks again as PNG, from their source: converted JPEG files keep the damage"
MAX_COLOURS = 32
COVERED = 0.9
"""So much of all pixels must lie around the colours that were found."""


def gathered_colours(paths: Sequence[Path]) -> dict[int, int] | None:
    """Return the colours (0xRRGGBB) around which those of masks gather, with their flat pixels.

    None where they gather nowhere, around one colour alone, or masks are broken.
    """
    total: Counter[int] = Counter()
    num_pixels = 0
    for path in sample(paths, NUM_LOOKED):
        try:
            mask = read_mask(path).array
        except AutosegError:
            return None
        colours = mask if len(mask) == 3 else np.repeat(mask[:1], 3, axis=0)
        found, counts = np.unique(colour_codes(colours)[_is_flat(colours)], return_counts=True)
        num_pixels += colours[0].size
        total.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    if total.total() < MIN_FLAT * num_pixels:
        return None
    codes, counts = np.array([*total]), np.array([*total.values()])
    chosen = _peaks(np.array([channels_of(int(code)) for code in codes]), counts)
    is_enough = sum(chosen.values()) >= COVERED * counts.sum()
    if not (is_enough and 2 <= len(chosen) <= MAX_COLOURS):
        return None
    return {int(codes[index]): number for index, number in chosen.items()}


def lossy_suggestion(paths: Sequence[Path]) -> DatasetError | None:
    """Return an error that says how to declare the colours of JPEG masks, if these gather.

    None for black and white ones, too: these are cut by a threshold.
    """
    chosen = gathered_colours(paths)
    if chosen is None or _is_black_and_white([*chosen]):
        return None
    order = sorted(chosen, key=lambda code: (max(channels_of(code)) > DARK, -chosen[code]))
    names = {f"class_{i}" if i else "background": f"#{c:06x}" for i, c in enumerate(order)}
    spec = json.dumps({"labels": names})
    return DatasetError(
        found=f"masks stored as JPEG, whose compression changes values: {len(order)} colours and "
        "others around them",
        expected="masks in a lossless format, such as PNG",
        fix=f"{EXPORT}; or declare the colours, and every pixel is read as the nearest:\n{spec}",
    )


def declared_greys(path: Path, labels: Labels) -> dict[str, str] | None:
    """Return the declared classes as shades of grey, where those of a JPEG mask gather there."""
    chosen = gathered_colours([path])
    if chosen is None or not all(0 <= value <= 255 for value in labels.values):
        return None
    shades = [(value, value, value) for value in labels.values]
    distances = [min(math.dist(channels_of(code), shade) for shade in shades) for code in chosen]
    if max(distances) > NEAR or len(chosen) > len(shades):
        return None
    pairs = zip(labels.names, labels.values, strict=True)
    return {name: f"#{value:02x}{value:02x}{value:02x}" for name, value in pairs}


def _is_flat(colours: NDArray) -> NDArray[np.bool_]:
    """Return (Y, X) whether a pixel of (3, Y, X) and those around it have nearly one colour.

    Edges, on which colours are mixed, have none.
    """
    from scipy import ndimage

    ranges = [
        ndimage.maximum_filter(channel, 3).astype(int) - ndimage.minimum_filter(channel, 3)
        for channel in colours
    ]
    return np.max(ranges, axis=0) <= FLAT


def _is_black_and_white(codes: Sequence[int]) -> bool:
    low, high = (max(channels_of(code)) for code in (min(codes), max(codes)))
    is_grey = all(len({*channels_of(code)}) == 1 for code in codes)
    return len(codes) == 2 and is_grey and low <= DARK and high >= MIDDLE


def channels_of(code: int) -> tuple[int, int, int]:
    """Return red, green and blue of 0xRRGGBB."""
    return code >> 16, code >> 8 & 255, code & 255


def _peaks(colours: NDArray, counts: NDArray) -> dict[int, int]:
    """Return which of (N, 3) colours others gather around, with their pixels."""
    left, chosen = np.ones(len(colours), bool), {}
    for index in np.argsort(-counts, kind="stable")[: 8 * MAX_COLOURS]:
        if not left[index]:
            continue
        distance = np.sqrt(((colours - colours[index]) ** 2).sum(axis=1))
        around = left & (distance <= LOSSY_DISTANCE)
        number, near = counts[around].sum(), counts[left & (distance <= NEAR)].sum()
        if number < MIN_PART * counts.sum():
            break
        if near >= GATHERED * number:
            chosen[int(index)] = int(number)
            left &= ~around
    return chosen
