"""Rules about small data sets, which a long training shows again and again.

A data set is small by its cases, but a short training on it does not overfit: what counts is how
often each voxel is seen. Pure functions of numbers.
"""

from typing import Literal

from autoseg.plan.advice import Advice

SMALL_SET = 100
"""Cases to train on, below which a network may learn them by heart: the field's common advice."""
MANY_PASSES = 300.0
"""Each voxel is shown this often before that is feared. nnU-Net shows a liver 160 times and needs
nothing more; two hours on two cores show 20 pictures about 200 times. Not measured: chosen so that
short runs keep the recipes that were."""
SMALL_SET_DROPOUT = 0.1
"""After the lowest stage: the median of nine searched nnU-Nets is 0.08 (arXiv:2505.16561). Two
minutes with 0.3 cost nothing (reports/variants.md)."""
DECAY_FACTOR = 3.0
"""More weight decay than usual: with SGD, about the 1e-4 of He et al. 2016; searched nnU-Nets have
from 2e-6 to 1.4e-3."""
STRONGER = 1.4
"""How much more probable random changes become: the median of nine searched nnU-Nets, seven of
which changed images more than usual (arXiv:2505.16561)."""

Strength = Literal["light", "usual", "strong"]
"""nnU-Net's changes are the usual ones."""


def passes(
    num_steps: float, batch_voxels: float, num_voxels: float, train_fraction: float
) -> float:
    """Return how often each voxel of the training cases is seen.

    Parameters
    ----------
    num_steps
        Of one fold.
    batch_voxels
        Of all patches of a step.
    num_voxels
        Of all prepared cases.
    train_fraction
        Part of the cases that a fold trains on.
    """
    return num_steps * batch_voxels / max(1.0, num_voxels * train_fraction)


def may_overfit(num_cases: float, seen: float) -> bool:
    """Return whether so many training cases, each voxel seen so often, may be learnt by heart."""
    return num_cases < SMALL_SET and seen > MANY_PASSES


def dropout(num_cases: float, seen: float) -> Advice[float]:
    """Return the probability of dropout after the lowest stage."""
    if may_overfit(num_cases, seen):
        return Advice(SMALL_SET_DROPOUT, _reason(num_cases, seen, "Dropout keeps them from it"))
    return Advice(0.0, _usual(num_cases))


def decay_factor(num_cases: float, seen: float) -> Advice[float]:
    """Return how many times the usual weight decay is wanted."""
    if may_overfit(num_cases, seen):
        return Advice(DECAY_FACTOR, _reason(num_cases, seen, "Smaller weights remember less"))
    return Advice(1.0, _usual(num_cases))


def augmentation_strength(num_cases: float, seen: float, *, is_short: bool) -> Advice[Strength]:
    """Return how strongly patches are changed; `is_short`: the recipe is one of few steps."""
    if may_overfit(num_cases, seen):
        reason = _reason(num_cases, seen, "No two patches should look alike")
        return Advice("usual" if is_short else "strong", reason)
    if is_short:
        return Advice("light", "A short run learns faster from patches that are changed little.")
    return Advice("usual", _usual(num_cases))


def _reason(num_cases: float, seen: float, why: str) -> str:
    return (
        f"{num_cases:.0f} cases, each voxel shown about {seen:.0f} times, could be learnt by "
        f"heart. {why}."
    )


def _usual(num_cases: float) -> str:
    if num_cases < SMALL_SET:
        return "The cases are few, but not shown often enough to be learnt by heart."
    return f"There are {num_cases:.0f} cases to train on: enough."
