"""Normalisation constants of an image whose blocks are seen one after the other.

Letters in shapes: C channels, B spatial axes of a block.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .normalise import (
    RANGE_PERCENTILES,
    STD_FLOOR,
    given_constants,
    moments,
    pretrained_constants,
)
from .recipe import Channel

MAX_COUNTED = 1 << 16
"""Different whole numbers whose voxels are counted, for percentiles."""


class BlockConstants:
    """`normalise.constants` of an image seen block by block, without a region."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self._channels = channels
        self._sums = [_sums(channel) for channel in channels]

    @property
    def are_open(self) -> bool:
        """Whether the image has to be seen at all."""
        return any(given_constants(channel) is None for channel in self._channels)

    def add(self, block: NDArray) -> None:
        """Take (C, *B) into account."""
        for values, channel, sums in zip(block, self._channels, self._sums, strict=True):
            if given_constants(channel) is None:
                sums.add(values)

    def result(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `mean` and `std` (C,)."""
        pairs = [
            given_constants(channel) or sums.constants()
            for channel, sums in zip(self._channels, self._sums, strict=True)
        ]
        return (
            np.array([mean for mean, _ in pairs], dtype=np.float32),
            np.array([max(std, STD_FLOOR) for _, std in pairs], dtype=np.float32),
        )


def can_be_counted(channel: Channel, dtype: np.dtype) -> bool:
    """Return whether a channel's constants can be had block by block: percentiles need counts."""
    needs_range = channel.scheme == "pretrained" and None in (channel.lower, channel.upper)
    return not needs_range or (dtype.kind in "iu" and dtype.itemsize <= 2)


def _sums(channel: Channel) -> "_Moments | _Counts":
    return _Counts(channel) if channel.scheme == "pretrained" else _Moments(channel)


class _Moments:
    """Range and moments of clipped values."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._count, self._mean = 0, 0.0
        self._squares = 0.0
        """Sum of squared deviations from the mean."""
        self._low, self._high = math.inf, -math.inf

    def add(self, values: NDArray) -> None:
        """Take values into account: Chan, Golub and LeVeque (1983), formula 1.5."""
        channel = self._channel
        if channel.lower is not None or channel.upper is not None:
            values = np.clip(values, channel.lower, channel.upper)
        self._low = min(self._low, float(values.min()))
        self._high = max(self._high, float(values.max()))
        mean, std = moments(values)
        total, step = self._count + values.size, mean - self._mean
        self._squares += std * std * values.size
        self._squares += step * step * self._count * values.size / total
        self._mean += step * values.size / total
        self._count = total

    def constants(self) -> tuple[float, float]:
        """Return mean and standard deviation, or for "unit" the lowest value and the range."""
        if self._channel.scheme == "unit":
            return self._low, self._high - self._low
        return self._mean, math.sqrt(self._squares / self._count)


class _Counts:
    """How often whole numbers come, for the range between two percentiles."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._counts = np.zeros(2 * MAX_COUNTED, np.int64)

    def add(self, values: NDArray) -> None:
        """Take values into account; nothing where the channel's bounds tell the range."""
        if None in (self._channel.lower, self._channel.upper):
            found, counts = np.unique(values, return_counts=True)
            self._counts[found.astype(np.int64) + MAX_COUNTED] += counts

    def constants(self) -> tuple[float, float]:
        """Return mean and std that an encoder's weights ask for."""
        if None not in (self._channel.lower, self._channel.upper):
            return pretrained_constants(self._channel, (0.0, 1.0))
        reached = np.cumsum(self._counts)
        ends = [self._percentile(reached, percent) for percent in RANGE_PERCENTILES]
        return pretrained_constants(self._channel, (ends[0], ends[1]))

    def _percentile(self, reached: NDArray[np.int64], percent: float) -> float:
        """Return the percentile as numpy defines it, between the two nearest values."""
        place = (reached[-1] - 1) * percent / 100
        below = math.floor(place)
        low, high = (
            int(np.searchsorted(reached, rank, side="right")) - MAX_COUNTED
            for rank in (below, min(below + 1, int(reached[-1]) - 1))
        )
        return low + (high - low) * (place - below)
