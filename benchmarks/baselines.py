"""Dice of two predictions that anybody could make, to read a trained model's against.

*Largest class everywhere*: every voxel gets the foreground class with the most voxels (with the
background it would be 0 for every class). *Plain threshold*: each class is what lies above or below
one percentile of its image's intensities, the best side and percentile chosen on the very
cases that are scored, so the figure flatters the threshold.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Dataset
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec

PERCENTILES = np.arange(0.5, 100, 0.5)


def cases_of(dataset: Dataset) -> Iterator[tuple[NDArray, NDArray]]:
    """Yield the intensities and the class of every annotated voxel, case by case."""
    for case in dataset.cases:
        image, labels = read_case(dataset, case)
        annotated = labels >= 0
        yield image.array[0][annotated], labels[annotated]


def everywhere(counts: NDArray) -> NDArray:
    """Return the mean Dice of each foreground class when the largest of them is everywhere.

    A case without a class counts for it only where it is predicted; NaN where no case counts.

    Parameters
    ----------
    counts : (N, K) int
        Voxels of each class, background first, in each case.
    """
    largest = 1 + int(np.argmax(counts[:, 1:].sum(axis=0)))
    dice = np.zeros(counts[:, 1:].shape)
    sizes = counts[:, largest]
    dice[:, largest - 1] = 2 * sizes / (sizes + counts.sum(axis=1))
    dice[counts[:, 1:] == 0] = np.nan
    dice[:, largest - 1][sizes == 0] = 0.0  # predicted, and not there
    counted = (~np.isnan(dice)).sum(axis=0)
    return np.nansum(dice, axis=0) / np.where(counted, counted, np.nan)


def threshold_dice(values: NDArray, labels: NDArray, num_classes: int) -> NDArray:
    """Return (K - 1, 2, T) the Dice of each class, side (above, below) and percentile."""
    bins = np.searchsorted(np.percentile(values, PERCENTILES), values, side="right")
    size = len(PERCENTILES) + 1
    all_above = _above(np.bincount(bins, minlength=size))
    dice = np.empty((num_classes - 1, 2, len(PERCENTILES)))
    for index in range(1, num_classes):
        inside = bins[labels == index]
        above = _above(np.bincount(inside, minlength=size))
        below = len(inside) - above
        dice[index - 1, 0] = 2 * above / np.maximum(len(inside) + all_above, 1)
        dice[index - 1, 1] = 2 * below / np.maximum(len(inside) + len(values) - all_above, 1)
    return dice


def _above(histogram: NDArray) -> NDArray:
    """Return how many values are at or above each percentile."""
    return histogram[::-1].cumsum()[::-1][1:]


def main() -> None:
    """Score both on the data set in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    arguments = parser.parse_args()
    spec = load_spec(arguments.spec) if arguments.spec else None
    dataset = open_dataset(arguments.data.absolute(), spec, None)
    num_classes = len(dataset.labels.names)
    counts, dice = [], []
    for values, labels in cases_of(dataset):
        counts.append(np.bincount(labels, minlength=num_classes))
        dice.append(threshold_dice(values, labels, num_classes))
    best = np.mean(dice, axis=0).max(axis=(1, 2))
    for name, found in (
        ("largest class everywhere", everywhere(np.array(counts))),
        ("plain threshold", best),
    ):
        names = dataset.labels.names[1:]
        classes = ", ".join(f"{n} {d:.3f}" for n, d in zip(names, found, strict=True))
        print(f"{name}: mean Dice {np.nanmean(found):.3f} ({classes})")


if __name__ == "__main__":
    main()
