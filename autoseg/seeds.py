"""One seed in the plan, an independent stream of random numbers for every place that draws."""

import hashlib

import numpy as np


def stream_seed(seed: int, *place: str | int) -> int:
    """Return a 63-bit seed for one place, the same on every machine and in every process."""
    text = repr((seed, *place)).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def stream(seed: int, *place: str | int) -> np.random.Generator:
    """Return the generator of one place, e.g. ``stream(plan.seed, "augment", fold, step)``."""
    return np.random.default_rng(stream_seed(seed, *place))
