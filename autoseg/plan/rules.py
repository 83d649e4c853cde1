"""Rules about spacing, axes, intensities and batches: nnU-Net's, as pure functions of numbers.

Axes are ZYX (2D images: YX) in the images' order until `Grid.transpose` is applied, and in prepared
order after it. Sizes may end in .5: a median over an even number of cases does.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autoseg.check.pairs import mirror_pairs
from autoseg.fingerprint.fingerprint import Fingerprint, Intensities
from autoseg.plan.plan import SidePair
from autoseg.runtime.recipe import Channel

ANISOTROPY_RATIO = 3.0
"""An axis is coarse when its spacing, and its lack of voxels, exceed the others' by this factor."""
FEW_SLICES = 20
"""Volumes with fewer slices than this, far apart, are better seen slice by slice."""
COARSE_AXIS_PERCENTILE = 10.0
"""A coarse axis is resampled to this percentile: at the median, finer cases would lose slices of
the few they have, and interpolation between far slices invents anatomy."""
COARSE_AXIS_MARGIN = 1e-5
"""Keeps a coarse axis the coarsest when its percentile is finer than the other axes."""
FLAT_SPACING = 999.0
"""Spacing across the plane of a 2D image: the plane's normal always is the coarsest axis."""
MASK_THRESHOLD = 0.75
"""Below this part of the image left after cropping, statistics leave out the cropped background."""
MIN_STD = 1e-8
"""Keeps a constant channel from dividing by zero."""
MIN_BATCH = 2
"""Fewer images a step make the gradient, and Dice over the batch, too noisy."""
LOWRES_COVERAGE = 0.25
"""A patch that covers less of the median image than this lacks context: plan a coarser one too."""
LOWRES_STEP = 1.03
"""Growth of the spacing while a coarser configuration is sought."""
LOWRES_SIMILAR = 2.0
"""Axes finer than the coarsest by more than this factor are coarsened first, alone."""
LOWRES_MIN_GAIN = 2.0
"""A coarser configuration with more than half of the voxels is not worth training."""

SCHEMES = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "zscore",
    "rescale_to_0_1": "unit",
    "rgb_to_0_1": "rgb",
}
"""Normalisation by channel name, case ignored; every other name gets `zscore`."""

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """The common grid of all cases."""

    transpose: tuple[int, ...]
    """Axis i of the prepared array is axis ``transpose[i]`` of the image."""
    spacing: tuple[float, ...]
    """Prepared order, one entry an image axis."""
    median_shape: tuple[float, ...]
    """Prepared order, after resampling to `spacing`."""
    num_cases: int
    median_slices: float
    """Voxels along the first prepared axis before resampling (2D images: 1; signals: all)."""

    @property
    def num_voxels(self) -> float:
        """Voxels of all cases, as far as the median tells."""
        return math.prod(self.median_shape) * self.num_cases

    @property
    def is_sliced(self) -> bool:
        """Whether 2d suits better than 3d (`are_slices_apart`)."""
        return are_slices_apart(self.spacing, self.median_slices)

    @property
    def is_volume(self) -> bool:
        """Whether the images have three axes of more than one voxel."""
        return len(self.median_shape) == 3 and self.median_shape[0] != 1


def image_grid(fingerprint: Fingerprint) -> Grid:
    """Return spacing, axis order and median shape of a data set."""
    flat = fingerprint.dimensions == 2
    spacings = np.array([case.spacing for case in fingerprint.cases], dtype=np.float64)
    shapes = np.array([case.shape_after_crop for case in fingerprint.cases], dtype=np.int64)
    if flat:
        num_cases = len(shapes)
        spacings = np.column_stack([np.full(num_cases, FLAT_SPACING), spacings])
        shapes = np.column_stack([np.ones(num_cases, dtype=np.int64), shapes])
    target = target_spacing(spacings, shapes)
    order = transpose_axes(target)
    median = median_shape(spacings, shapes)
    first = 1 if flat else 0  # a 2D image lacks the first axis
    return Grid(
        transpose=tuple(axis - first for axis in order[first:]),
        spacing=tuple(float(target[axis]) for axis in order[first:]),
        median_shape=tuple(float(median[axis]) for axis in order[first:]),
        num_cases=len(shapes),
        median_slices=float(np.median(shapes[:, order[0]])),
    )


def median_shape(spacings: NDArray[np.float64], shapes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the median over cases of the shape after resampling to their target spacing.

    Image headers hold spacings in single precision, and so did those that nnU-Net's published plans
    were made from: 5.0 / 1.6 * 60 is 187.49 there, not the 187.5 of decimals written in a table.
    """
    stored = spacings.astype(np.float32).astype(np.float64)
    target = target_spacing(stored, shapes)
    cases = zip(shapes, stored, strict=True)
    return np.median([resampled_shape(*case, target) for case in cases], axis=0)


def target_spacing(spacings: NDArray[np.float64], shapes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the voxel spacing to which every case is resampled.

    The median over cases, but along a coarse axis with few voxels a finer percentile, never finer
    than the coarsest of the other axes. A single axis is not coarse beside others.

    Parameters
    ----------
    spacings : (N, D) float
        Voxel spacing of each case.
    shapes : (N, D) int
        Shape of each case after cropping, voxels.

    Returns
    -------
    (D,) float
        Target spacing.
    """
    target = np.percentile(spacings, 50, axis=0)
    if len(target) == 1:
        return target
    sizes = np.percentile(shapes, 50, axis=0)
    worst = int(np.argmax(target))
    coarsest_other = float(np.max(np.delete(target, worst)))
    is_coarse = target[worst] > ANISOTROPY_RATIO * coarsest_other
    is_short = sizes[worst] * ANISOTROPY_RATIO < np.min(np.delete(sizes, worst))
    if is_coarse and is_short:
        target[worst] = np.percentile(spacings[:, worst], COARSE_AXIS_PERCENTILE)
        if target[worst] < coarsest_other:
            target[worst] = coarsest_other + COARSE_AXIS_MARGIN
    return target


def are_slices_apart(spacing: Sequence[float], num_slices: float) -> bool:
    """Return whether slices are few and far apart, so that 2d suits better than 3d.

    Parameters
    ----------
    spacing : (D,) float
        Of the prepared images, the coarsest axis first.
    num_slices
        Along it.
    """
    first, *others = spacing
    is_coarse = bool(others) and first > ANISOTROPY_RATIO * max(others)
    return is_coarse and num_slices < FEW_SLICES


def transpose_axes(spacing: Sequence[float] | NDArray[np.float64]) -> tuple[int, ...]:
    """Return the order of axes that puts the coarsest (of equals, the first) in front."""
    coarsest = int(np.argmax(spacing))
    return (coarsest, *(axis for axis in range(len(spacing)) if axis != coarsest))


def resampled_shape(
    shape: Sequence[int] | NDArray[np.int64],
    spacing: Sequence[float] | NDArray[np.float64],
    target: Sequence[float] | NDArray[np.float64],
) -> tuple[int, ...]:
    """Return the shape after resampling from `spacing` to `target`, at least one voxel an axis."""
    # The order of the arithmetic and rounding half to even are nnU-Net's.
    return tuple(
        max(1, round(float(old) / float(new) * int(n)))
        for n, old, new in zip(shape, spacing, target, strict=True)
    )


def channels(fingerprint: Fingerprint) -> tuple[Channel, ...]:
    """Return clipping and normalisation of each channel, chosen by the channel's name."""
    use_mask = fingerprint.median_relative_size_after_cropping < MASK_THRESHOLD
    return tuple(
        _channel(name, known, use_mask=use_mask)
        for name, known in zip(fingerprint.channels, fingerprint.intensities, strict=True)
    )


def _channel(name: str, known: Intensities, *, use_mask: bool) -> Channel:
    scheme = SCHEMES.get(name.casefold(), "zscore")
    if scheme == "ct":
        return Channel(
            name=name,
            scheme="ct",
            lower=known.percentile_00_5,
            upper=known.percentile_99_5,
            mean=known.mean,
            std=max(known.std, MIN_STD),
        )
    if scheme == "rgb":
        return Channel(name=name, scheme="rgb", mean=0.0, std=255.0)
    if scheme == "none":
        return Channel(name=name, scheme="none", mean=0.0, std=1.0)
    if scheme == "unit":
        return Channel(name=name, scheme="unit")
    return Channel(name=name, scheme="zscore", use_mask=use_mask)


def mirror_axes(fingerprint: Fingerprint, grid: Grid, num_axes: int) -> tuple[int, ...]:
    """Return the axes of a network along which mirrored images are as plausible.

    Along them, mirroring swaps no left with its right. A signal has none: its samples follow each
    other in time or place, and nothing that it records runs backwards.

    Parameters
    ----------
    num_axes
        Of the network: the last ones of the prepared image.
    """
    if fingerprint.dimensions == 1:
        return ()
    swapping = {pair.axis for pair in mirror_pairs(fingerprint)}
    order = grid.transpose[-num_axes:]
    return tuple(index for index, axis in enumerate(order) if axis not in swapping)


def side_pairs(fingerprint: Fingerprint, grid: Grid, num_axes: int) -> tuple[SidePair, ...]:
    """Return the classes to swap wherever a network's axis is mirrored that swaps left and right.

    None for an axis that swaps more than pairs of classes: overlapping regions, or one class with
    several others.
    """
    if fingerprint.dimensions == 1:
        return ()
    index = {name: place for place, name in enumerate(fingerprint.labels.names)}
    order = grid.transpose[-num_axes:]
    pairs = []
    for place, axis in enumerate(order):
        names = [(p.first, p.second) for p in mirror_pairs(fingerprint) if p.axis == axis]
        swapped = [name for pair in names for name in pair]
        if len(set(swapped)) == len(swapped) and index.keys() >= set(swapped):
            pairs += [SidePair(axis=place, first=index[a], second=index[b]) for a, b in names]
    return tuple(pairs)


def largest_batch(num_voxels: float, patch_size: Sequence[int], max_covered: float) -> int:
    """Return the batch that shows the network `max_covered` of the data set in one step."""
    return round(num_voxels * max_covered / float(math.prod(patch_size)))


def batch_size(affordable: float, largest: int) -> int:
    """Return what memory affords, within what the data set bears, but at least `MIN_BATCH`."""
    return max(min(round(affordable), largest), MIN_BATCH)


def find_lowres(
    grid: Grid,
    patch_size: Sequence[int],
    plan_at: Callable[[tuple[float, ...], tuple[int, ...], float], tuple[tuple[int, ...], T]],
) -> tuple[tuple[float, ...], tuple[int, ...], T] | None:
    """Return spacing, median shape and plan of a coarser configuration; None if none is worth it.

    Parameters
    ----------
    grid
        Of the full resolution.
    patch_size
        Of the configuration at full resolution.
    plan_at
        Plans for a spacing, a median shape and a number of voxels of the data set; returns the
        patch size with the plan.
    """
    full, shape = grid.spacing, grid.median_shape
    spacing, found = full, None
    full_voxels = voxels = math.prod(shape)
    while math.prod(patch_size) / voxels < LOWRES_COVERAGE:
        spacing = _coarser(spacing)
        exact = [f / s * n for f, s, n in zip(full, spacing, shape, strict=True)]
        voxels = math.prod(exact)
        rounded = tuple(max(1, round(n)) for n in exact)
        patch_size, planned = plan_at(spacing, rounded, voxels * grid.num_cases)
        found = spacing, rounded, planned
    return found if full_voxels / voxels >= LOWRES_MIN_GAIN else None


def _coarser(spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Return a spacing grown along the axes much finer than the coarsest, or along all."""
    grown = [max(spacing) / s > LOWRES_SIMILAR for s in spacing]
    everything = not any(grown)
    return tuple(
        s * LOWRES_STEP if g or everything else s for s, g in zip(spacing, grown, strict=True)
    )
