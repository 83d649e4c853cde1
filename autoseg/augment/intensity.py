"""Random changes of a patch's intensities, with nnU-Net's distribution (batchgeneratorsv2).

Each transform is frozen and draws nothing when applied: the same transform gives the same patch.
The library draws from global generators while it applies, and runs on torch's threads, whose number
changes its sums; these are numpy, faster, and the same everywhere.

Letters in shapes: C channels, P axes of the patch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from autoseg.augment.padding import mirrored
from autoseg.plan.plan import AugmentationPlan

CHANNEL_PROBABILITY = 0.5
"""Blur and low resolution, where they happen, change each channel with this chance (nnU-Net)."""

BLUR_TRUNCATE = 6.0
"""A blur's kernel has the odd length nearest to this many sigma plus a half (batchgeneratorsv2)."""

TINY = 1e-7
"""Smallest range or deviation to divide by."""


class Transform(Protocol):
    """A drawn change of intensities."""

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        ...


@final
@dataclass(frozen=True)
class Noise:
    """Independent Gaussian noise of one strength on all channels."""

    std: float
    seed: int
    """Of the generator that the noise comes from."""

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        count = image.size
        raw = np.random.SFC64(self.seed).random_raw(-(-count // 4))
        levels = np.frombuffer(raw, np.uint16, count).reshape(image.shape)
        image += (normal_levels() * np.float32(self.std)).take(levels)


@final
@dataclass(frozen=True)
class Blur:
    """Gaussian blur, a sigma for each axis of each channel; no sigmas leave a channel as it is."""

    sigmas: tuple[tuple[float, ...], ...]
    """Voxels."""

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        for channel, sigmas in zip(image, self.sigmas, strict=True):
            for axis, sigma in enumerate(sigmas):
                blur_axis(channel, axis, blur_kernel(sigma))


@final
@dataclass(frozen=True)
class Brightness:
    """Each channel times a factor."""

    factors: tuple[float, ...]

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        for channel, factor in zip(image, self.factors, strict=True):
            channel *= np.float32(factor)


@final
@dataclass(frozen=True)
class Contrast:
    """Each channel's distance from its mean times a factor, kept within the channel's range."""

    factors: tuple[float, ...]

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        for channel, factor in zip(image, self.factors, strict=True):
            mean, lowest, highest = channel.mean(), channel.min(), channel.max()
            channel -= mean
            channel *= np.float32(factor)
            channel += mean
            np.clip(channel, lowest, highest, out=channel)


@final
@dataclass(frozen=True)
class LowResolution:
    """Each channel made smaller by nearest neighbour and larger again linearly."""

    scales: tuple[tuple[float, ...], ...]
    """For each channel a factor for each axis, at most 1; none leave the channel as it is."""

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        for channel, scales in zip(image, self.scales, strict=True):
            if not scales:
                continue
            sizes = [round(n * scale) for n, scale in zip(channel.shape, scales, strict=True)]
            small: NDArray = channel
            for axis, size in enumerate(sizes):
                small = small.take(nearest_positions(channel.shape[axis], size), axis=axis)
            for axis, n in enumerate(channel.shape):
                small = stretch(small, axis, n)
            channel[...] = small


@final
@dataclass(frozen=True)
class Gamma:
    """Each channel's values, scaled to 0 to 1, to a power; its mean and deviation are kept."""

    exponents: tuple[float, ...]
    sign: int
    """-1 for the curve of the negative image, else 1."""

    def apply(self, image: NDArray[np.float32]) -> None:
        """Change an image (C, *P) in place."""
        for channel, exponent in zip(image, self.exponents, strict=True):
            mean = channel.mean()
            spread = deviation(channel - mean)
            lowest, highest = channel.min(), channel.max()
            channel -= lowest if self.sign > 0 else highest
            channel *= self.sign / max(highest - lowest, np.float32(TINY))
            np.power(channel, np.float32(exponent), out=channel)
            channel -= channel.mean()
            channel *= self.sign * spread / max(deviation(channel), np.float32(TINY))
            channel += mean


def draw_intensity(
    rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]
) -> tuple[Transform, ...]:
    """Draw the changes of one patch of `shape` (C, *P), in the order in which they are applied."""
    drawings = (
        (plan.noise_probability, _draw_noise),
        (plan.blur_probability, _draw_blur),
        (plan.brightness_probability, _draw_brightness),
        (plan.contrast_probability, _draw_contrast),
        (plan.low_resolution_probability, _draw_low_resolution),
        (plan.inverted_gamma_probability, _draw_inverted_gamma),
        (plan.gamma_probability, _draw_gamma),
    )
    return tuple(draw(rng, plan, shape) for chance, draw in drawings if rng.random() < chance)


def draw_factor(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a factor: below and above 1 with equal chances, uniform in either half of `limits`.

    Limits on one side of 1 have one half.
    """
    low, high = limits
    is_lower = rng.random() < 0.5
    if low < 1 and (is_lower or high <= 1):
        return rng.uniform(low, min(high, 1))
    return rng.uniform(max(low, 1), high)


@cache
def normal_levels() -> NDArray[np.float32]:
    """Return equally likely values that together have a normal distribution of deviation 1.

    Looking 16 random bits up among them takes a fifth of the time of drawing normal numbers. They
    end at 4.3, which one voxel in 60,000 exceeds.
    """
    count = 1 << 16
    normal = NormalDist()
    levels = np.array([normal.inv_cdf((i + 0.5) / count) for i in range(count)])
    return (levels / levels.std()).astype(np.float32)


def blur_axis(channel: NDArray[np.float32], axis: int, kernel: NDArray[np.float64]) -> None:
    """Correlate an array in place with a symmetric kernel along one axis, its ends mirrored."""
    reach, n = len(kernel) // 2, channel.shape[axis]
    lead = (slice(None),) * axis
    positions = mirrored(np.arange(-reach, n + reach), n)
    wide = channel.take(positions, axis=axis)
    channel *= np.float32(kernel[reach])
    for offset in range(reach):
        pair = (
            wide[(*lead, slice(offset, offset + n))]
            + wide[(*lead, slice(2 * reach - offset, 2 * reach - offset + n))]
        )
        pair *= np.float32(kernel[offset])
        channel += pair


def blur_kernel(sigma: float) -> NDArray[np.float64]:
    """Return a Gaussian kernel of odd length whose sum is 1."""
    length = round(sigma * BLUR_TRUNCATE + 0.5)
    if length % 2 == 0:
        length += 1 if sigma * BLUR_TRUNCATE + 0.5 >= length else -1
    kernel = np.exp(-0.5 * ((np.arange(length) - length // 2) / sigma) ** 2)
    return kernel / kernel.sum()


def deviation(centred: NDArray[np.float32]) -> np.float32:
    """Return the standard deviation, of n - 1, of values whose mean is 0."""
    return np.sqrt(np.square(centred).sum() / np.float32(max(centred.size - 1, 1)))


def nearest_positions(n: int, size: int) -> NDArray[np.intp]:
    """Return which of `n` voxels lie nearest to the middles of `size` larger ones."""
    return np.minimum(((np.arange(size) + 0.5) * (n / size)).astype(np.intp), n - 1)


def linear_positions(
    size: int, n: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Return between which two of `size` voxels each of `n` smaller ones lies.

    Returns
    -------
    low, high
        (n,) each; beyond the middles of the outermost voxels both are the same.
    weight
        (n,) of the value at `high`, 0 to 1.
    """
    places = np.clip((np.arange(n) + 0.5) * (size / n) - 0.5, 0, size - 1)
    low = places.astype(np.intp)
    return low, np.minimum(low + 1, size - 1), (places - low).astype(np.float32)


def stretch(array: NDArray[np.float32], axis: int, n: int) -> NDArray[np.float32]:
    """Return `array` linearly interpolated to `n` voxels along one axis, borders repeated."""
    size = array.shape[axis]
    if size == n:
        return array
    low, high, weight = linear_positions(size, n)
    result = array.take(high, axis=axis)
    base = array.take(low, axis=axis)
    result -= base
    result *= weight.reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    result += base
    return result


def _draw_noise(rng: np.random.Generator, plan: AugmentationPlan, _: Sequence[int]) -> Noise:
    return Noise(std=rng.uniform(*plan.noise_std), seed=int(rng.integers(2**63)))


def _draw_blur(rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]) -> Blur:
    num_axes = len(shape) - 1
    return Blur(
        tuple(
            tuple(rng.uniform(*plan.blur_sigma) for _ in range(num_axes))
            if rng.random() < CHANNEL_PROBABILITY
            else ()
            for _ in range(shape[0])
        )
    )


def _draw_brightness(
    rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]
) -> Brightness:
    return Brightness(tuple(draw_factor(rng, plan.brightness) for _ in range(shape[0])))


def _draw_contrast(
    rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]
) -> Contrast:
    return Contrast(tuple(draw_factor(rng, plan.contrast) for _ in range(shape[0])))


def _draw_low_resolution(
    rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]
) -> LowResolution:
    """Draw one factor for all axes of a channel; planar changes leave the first axis alone."""
    num_axes = len(shape) - 1
    untouched = num_axes - 2 if plan.planar else 0
    return LowResolution(
        tuple(
            (1.0,) * untouched + (rng.uniform(*plan.low_resolution),) * (num_axes - untouched)
            if rng.random() < CHANNEL_PROBABILITY
            else ()
            for _ in range(shape[0])
        )
    )


def _draw_inverted_gamma(
    rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]
) -> Gamma:
    return Gamma(tuple(draw_factor(rng, plan.gamma) for _ in range(shape[0])), sign=-1)


def _draw_gamma(rng: np.random.Generator, plan: AugmentationPlan, shape: Sequence[int]) -> Gamma:
    return Gamma(tuple(draw_factor(rng, plan.gamma) for _ in range(shape[0])), sign=1)
