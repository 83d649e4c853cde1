"""Channel dropout: whole channels of a patch are missing, so that a network learns to do without.

A missing channel is NaN, as where none is given when predicting.
"""

import numpy as np

from autoseg.plan.plan import AugmentationPlan


def draw_missing(
    rng: np.random.Generator, plan: AugmentationPlan, num_channels: int
) -> tuple[int, ...]:
    """Draw which channels of a patch are missing: each with the plan's chance, but never all.

    Nothing is drawn where the plan leaves it out.
    """
    if plan.channel_dropout_probability <= 0:
        return ()
    missing = rng.random(num_channels) < plan.channel_dropout_probability
    if missing.all():
        missing[rng.integers(num_channels)] = False
    return tuple(int(channel) for channel in np.flatnonzero(missing))
