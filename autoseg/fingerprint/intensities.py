"""Intensities of the foreground over a data set, each case with the same weight."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.fingerprint.fingerprint import Intensities

PERCENTILES = (0.5, 50.0, 99.5)


def summarise(samples: Sequence[NDArray[np.floating]]) -> Intensities:
    """Return the statistics of one channel; every case counts the same, whatever its size.

    nnU-Net reaches this weighting by drawing equally many voxels of each case, with replacement.

    Parameters
    ----------
    samples : list of (N,) float
        Intensities of the foreground of each case; empty where it has none.
    """
    filled = [case for case in samples if len(case)]
    values = np.concatenate(filled)  # (N,)
    weights = np.concatenate([np.full(len(case), 1 / len(case), np.float32) for case in filled])
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    reached = np.cumsum(weights, dtype=np.float64)
    total = reached[-1]
    # The middle of each value's share, so that equal weights give the usual percentiles.
    middles = (reached - 0.5 * weights) / total
    low, middle, high = np.interp(np.divide(PERCENTILES, 100.0), middles, values)
    mean = float(np.dot(values.astype(np.float64), weights)) / total
    variance = float(np.dot(np.square(values - mean, dtype=np.float64), weights)) / total
    return Intensities(
        mean=float(mean),
        median=float(middle),
        std=float(np.sqrt(variance)),
        min=float(values[0]),
        max=float(values[-1]),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )
