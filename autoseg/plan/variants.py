"""Rules about variants of the U-Net: which one is tried, and when it is taken.

A plain U-Net is as good as its variants where it is well configured (Isensee et al. 2024,
arXiv:2404.09556), so each variant needs a reason and must leave the steps that a plain one needs.
"""

from collections.abc import Callable
from dataclasses import dataclass

from autoseg.plan.advice import Advice
from autoseg.plan.foreground import TINY
from autoseg.plan.plan import ConfigurationPlan
from autoseg.plan.variation import with_variant

DEEP = 5
"""More downsamplings than this: residual blocks, through which gradients reach the first stages
(He et al. 2016, arXiv:1512.03385). In nnU-Net they gained 0.2 to 0.7 Dice on most sets
(ResEnc M over the plain network: ACDC, BTCV, LiTS, KiTS)."""
SPARE_FOR_RESIDUAL = 2.0
"""A residual step costs 1.6 plain ones, and with equal minutes the plain network was ahead as long
as both were short of steps (reports/variants.md): taken where this many times the wanted remain."""
SPARE_FOR_ATTENTION = 4.0
"""Attention gates (Oktay et al. 2018, arXiv:1804.03999) were made for small organs; they are taken
for tiny structures where they leave this many times the steps that are wanted."""
SPARE_FOR_NESTED = 16.0
"""U-Net++ (Zhou et al. 2018, arXiv:1807.10165): the same, but a step costs four plain ones
(reports/variants.md), so that it must leave four times as many again."""


@dataclass(frozen=True)
class Candidate:
    """A variant that is worth trying."""

    name: str
    spare: float
    """How many times the wanted steps it must leave."""
    reason: str


@dataclass(frozen=True)
class Means:
    """What a fold of a configuration may use."""

    wanted_steps: float
    memory_bytes: int


def candidates(num_axes: int, num_downsamplings: int, share: float | None) -> tuple[Candidate, ...]:
    """Return the variants to try, the first that fits being taken.

    Parameters
    ----------
    num_axes, num_downsamplings
        Of the network. Signals, of which none of the sources speaks, get a plain one.
    share
        Part of an image that is foreground, None where it is not known.
    """
    found = []
    if num_axes > 1 and num_downsamplings > DEEP:
        reason = f"More than {DEEP} downsamplings: shortcuts let gradients reach the first stages"
        found.append(Candidate("residual", SPARE_FOR_RESIDUAL, reason))
    if num_axes > 1 and share is not None and share < TINY:
        reason = f"Less than {TINY:.1%} of an image is foreground, and time is to spare"
        found.append(Candidate("nested", SPARE_FOR_NESTED, reason))
        found.append(Candidate("attention", SPARE_FOR_ATTENTION, reason))
    return tuple(found)


def varied(item: ConfigurationPlan, name: str) -> ConfigurationPlan:
    """Return the configuration with another variant of the U-Net."""
    if name == "nested":
        return item.revised(network=item.network.revised(decoder="nested"))
    return with_variant(item, name)


def variant(
    item: ConfigurationPlan,
    tried: tuple[Candidate, ...],
    means: Means,
    priced: Callable[[ConfigurationPlan], ConfigurationPlan],
) -> Advice[ConfigurationPlan]:
    """Return the configuration as the first candidate that fits, else as it is.

    Parameters
    ----------
    item, tried, means
        The plain network, what may take its place, and within which limits.
    priced
        Returns a configuration with the cost of its network.
    """
    for candidate in tried:
        changed = priced(varied(item, candidate.name))
        if _fits(changed, candidate, means):
            return Advice(changed, f"{candidate.reason}; the budget bears it.")
    if not tried:
        return Advice(item, "Nothing calls for more than a plain U-Net.")
    names = " or ".join(candidate.name for candidate in tried)
    return Advice(item, f"{names.capitalize()} would leave too few steps, or not fit the memory.")


def _fits(item: ConfigurationPlan, candidate: Candidate, means: Means) -> bool:
    """Return whether a configuration leaves the steps that the candidate must, within memory."""
    steps = item.cost.train_seconds / item.cost.step_seconds
    wanted = candidate.spare * means.wanted_steps
    return steps >= wanted and item.cost.memory_bytes <= means.memory_bytes
