"""Predicting without some of the channels: an absent one is NaN for the network.

Letters in shapes: C channels of the model, S spatial axes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .errors import AutosegError
from .images import Image
from .manifest import Manifest
from .prepare import Prepared


def parse_missing(manifest: Manifest, words: Sequence[str]) -> tuple[int, ...]:
    """Return which channels are absent, from their names or their numbers (0 is the first).

    Raises
    ------
    AutosegError
        No such channel, none left, or a model that has never done without one.
    """
    names = manifest.channels
    if not words:
        return ()
    unknown = [word for word in words if word not in names and not _is_number(word, len(names))]
    if unknown:
        listed = ", ".join(f"{index} ({name})" for index, name in enumerate(names))
        raise AutosegError(
            found=f"--missing {', '.join(unknown)}",
            expected=f"channels of this model: {listed}",
            fix="correct --missing",
        )
    if not all(item.missing_channels for item in manifest.configurations):
        raise AutosegError(
            found="--missing with a model that was always given all channels",
            expected="a model that was trained with channels left out",
            fix="plan with --set augmentation.channel_dropout_probability=0.2 and train again",
        )
    missing = {names.index(word) if word in names else int(word) for word in words}
    if len(missing) == len(names):
        raise AutosegError(
            found=f"--missing {', '.join(words)}: every channel",
            expected="at least one channel that is there",
            fix="correct --missing",
        )
    return tuple(sorted(missing))


def _is_number(word: str, num_channels: int) -> bool:
    return word.isdecimal() and int(word) < num_channels


def with_places(image: Image, missing: Sequence[int], num_channels: int) -> Image:
    """Return an image (C, *S) that is 0 in the missing channels, whether it holds them or not.

    An image of any other number of channels is returned as it is, to be refused.
    """
    if len(image.array) == num_channels:
        array = image.array.copy()
    elif len(image.array) == num_channels - len(missing):
        array = np.zeros((num_channels, *image.shape), image.array.dtype)
        array[[index for index in range(num_channels) if index not in missing]] = image.array
    else:
        return image
    array[list(missing)] = 0
    return replace(image, array=array)


def mark_missing(part: Prepared, missing: Sequence[int]) -> Prepared:
    """Return a prepared image whose missing channels are NaN, and stay it where it is filled up."""
    array, mean = part.array.copy(), part.mean.copy()
    array[list(missing)] = np.nan
    mean[list(missing)] = np.nan
    return replace(part, array=array, mean=mean)
