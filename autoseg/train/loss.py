"""Losses by name, each a weighted sum of terms, with deep supervision.

Logits are (B, K, *S), labels class indices (B, *S) with IGNORE where nothing counts; no one-hot
target is made. What each term computes, and from which paper, is said where it is defined, in
`autoseg.train.loss_terms`.

Letters in shapes: B batch, K classes, S spatial axes. Class 0 is background.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, final

import torch
from torch import Tensor, nn

from autoseg.errors import nearest
from autoseg.network.decoders import centre
from autoseg.record import LossPlan
from autoseg.train.loss_terms.boundary import Boundary, DistanceTransform
from autoseg.train.loss_terms.centreline import CentrelineDice
from autoseg.train.loss_terms.overlap import Dice, FocalDice, GeneralisedDice, Tversky
from autoseg.train.loss_terms.prediction import Prediction, Term
from autoseg.train.loss_terms.regions import RegionCrossEntropy, RegionDiceAndCrossEntropy
from autoseg.train.loss_terms.sums import IGNORE as IGNORE
from autoseg.train.loss_terms.voxelwise import CrossEntropy, Focal, HardestCrossEntropy

Terms = tuple[tuple[float, Term], ...]


class SegmentationLoss(Protocol):
    """What compares logits (B, K, *S) with labels (B, *S)."""

    def __call__(
        self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None, /
    ) -> Tensor:
        """Return a scalar; `annotated` (B, K) says which classes each image annotates."""
        ...


@final
class Loss(nn.Module):
    """The weighted sum of terms."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        self.terms = terms

    def forward(self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        """Return the loss of logits (B, K, *S) for labels (B, *S).

        Parameters
        ----------
        annotated : (B, K) bool
            Which classes each image annotates, if not all: see `Prediction`.
        """
        prediction = Prediction(logits, labels, annotated)
        return torch.stack([weight * term(prediction) for weight, term in self.terms]).sum()


@final
class DiceAndCrossEntropy(nn.Module):
    """Mean cross entropy minus mean soft Dice of the foreground classes, nnU-Net's loss.

    Isensee et al. 2021 (doi:10.1038/s41592-020-01008-z): -1 when all is right. The gradient is
    that of the sum of the terms `CrossEntropy` and `Dice`, which is 1 higher.

    Parameters
    ----------
    batch_dice
        Dice over the whole batch taken together instead of the mean over its images.
    power
        Of the probabilities in the denominator of Dice, 1 or 2.
    """

    def __init__(self, *, batch_dice: bool, power: int = 1) -> None:
        super().__init__()
        self.dice = Dice(batch=batch_dice, power=power)

    def forward(self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> Tensor:
        """Return the loss of logits (B, K, *S) for labels (B, *S) of 0 to K - 1 or IGNORE."""
        prediction = Prediction(logits, labels, annotated)
        return self.dice(prediction) - 1 + CrossEntropy()(prediction)


@final
class DeepSupervised(nn.Module):
    """The weighted sum of a loss at several resolutions, each with labels of its own size.

    Parameters
    ----------
    loss
        Called with logits (B, K, *S) and labels (B, *S), and with `annotated` if it is given.
    weights
        Weight of each resolution, finest first.
    """

    def __init__(self, loss: Callable[..., Tensor], *, weights: tuple[float, ...]) -> None:
        super().__init__()
        self.loss = loss
        self.weights = weights

    def forward(
        self,
        logits: Tensor | tuple[Tensor, ...],
        labels: Tensor,
        annotated: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of logits, finest first, for labels (B, *S).

        The finest logits may be smaller than the labels, by the same margin at both sides: then a
        network without padding made them, and the labels' margin does not count.
        """
        levels = (logits,) if isinstance(logits, Tensor) else logits
        labels = crop_labels(labels, tuple(levels[0].shape[2:]))
        known = () if annotated is None else (annotated,)
        terms = [
            weight * self.loss(level, downsample_labels(labels, tuple(level.shape[2:])), *known)
            for weight, level in zip(self.weights, levels, strict=True)
            if weight > 0
        ]
        return torch.stack(terms).sum()


def crop_labels(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return the centre of labels (B, *S), of `shape`."""
    return centre(labels.unsqueeze(1), shape).squeeze(1)


def downsample_labels(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return labels (B, *S) at `shape` by nearest neighbour: the voxel at each cell's centre.

    Parameters
    ----------
    labels : (B, *S)
        Every axis of S is a multiple of the axis of `shape`.
    """
    factors = [n // m for n, m in zip(labels.shape[1:], shape, strict=True)]
    return labels[(slice(None), *(slice(f // 2, None, f) for f in factors))]


def build_named_loss(
    plan: LossPlan, *, batch_dice: bool, distance_transform: DistanceTransform
) -> SegmentationLoss:
    """Return the loss of that kind with the plan's parameters.

    Raises
    ------
    ValueError
        There is no such kind; the nearest one is said. Plans are checked when they are read.
    """
    if plan.kind == "dice_ce":
        return DiceAndCrossEntropy(batch_dice=batch_dice, power=plan.dice_power)
    table = _terms(plan, batch=batch_dice, distance_transform=distance_transform)
    if plan.kind not in table:
        near = nearest(plan.kind, ("dice_ce", *table))
        raise ValueError(f"no loss is called {plan.kind!r}{near}")
    return Loss(table[plan.kind])


def _terms(
    plan: LossPlan, *, batch: bool, distance_transform: DistanceTransform
) -> Mapping[str, Terms]:
    """Return what each named loss adds up, with its parameters from the plan."""
    entropy = CrossEntropy()
    dice = Dice(batch=batch, power=plan.dice_power)
    focal = Focal(gamma=plan.focal_gamma, alpha=plan.focal_alpha)
    hardest = HardestCrossEntropy(fraction=plan.hardest_fraction)
    below = HardestCrossEntropy(fraction=plan.hardest_fraction, below=plan.hardest_below)
    weights = (plan.false_positive_weight, plan.false_negative_weight)
    tversky, focal_tversky = (
        Tversky(
            false_positive_weight=weights[0],
            false_negative_weight=weights[1],
            gamma=gamma,
            batch=batch,
        )
        for gamma in (1.0, plan.focal_tversky_gamma)
    )
    tubes = CentrelineDice(iterations=plan.skeleton_iterations, batch=batch)
    surface = Boundary(distance_transform=distance_transform)
    return {
        "ce": ((1, entropy),),
        "weighted_ce": ((1, CrossEntropy(weights=plan.class_weights)),),
        "bce": ((1, RegionCrossEntropy()),),
        "dice": ((1, dice),),
        "dice_bce": ((1, RegionDiceAndCrossEntropy(batch=batch)),),
        "focal": ((1, focal),),
        "dice_focal": ((1, dice), (1, focal)),
        "focal_dice": ((1, FocalDice(beta=plan.focal_dice_beta, batch=batch)),),
        "tversky": ((1, tversky),),
        "focal_tversky": ((1, focal_tversky),),
        "topk_ce": ((1, hardest),),
        "ohem_ce": ((1, below),),
        "dice_topk": ((1, dice), (1, hardest)),
        "generalised_dice": ((1, GeneralisedDice(batch=batch)),),
        "cldice": ((1 - plan.cldice_weight, dice), (plan.cldice_weight, tubes)),
        "dice_ce_cldice": (
            (1 - plan.cldice_weight, dice),
            (1, entropy),
            (plan.cldice_weight, tubes),
        ),
        "dice_ce_boundary": ((1, dice), (1, entropy), (plan.boundary_weight, surface)),
        "regions": ((1, RegionDiceAndCrossEntropy(regions=plan.regions, batch=batch)),),
    }
