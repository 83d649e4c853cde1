"""Losses of the overlap of each class with its prediction.

In formulas, for one class: P is the sum of its probabilities p over the voxels that are not
ignored, Y the number of voxels y that it is true of, O the sum of p over these. Means are over the
annotated foreground classes and, unless `batch`, over images; with `batch` the sums run over the
whole batch first ("batch Dice").
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from autoseg.train.loss_terms.prediction import Prediction, mean_where
from autoseg.train.loss_terms.sums import RegionSums, SoftmaxSums

SMOOTH = 1e-5
"""Added above and below, so that a class that is absent and not predicted scores 1."""


@dataclass(frozen=True, kw_only=True)
class Dice:
    """1 - mean (2 O + s) / (P + Y + s), s = SMOOTH.

    With `power` 2 the denominator sums squares, P of p ** 2 and Y of y ** 2 = y: V-Net's form
    (Milletari et al. 2016, arXiv:1606.04797). With 1: Drozdzal et al. 2016
    (arXiv:1608.04117), as a mean over classes.
    """

    batch: bool = False
    power: int = 1

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        found = _overlaps(prediction, batch=self.batch, power=self.power).foreground()
        return 1 - mean_where(found.dice(), found.counted)


@dataclass(frozen=True, kw_only=True)
class FocalDice:
    """Mean of 1 - D ** (1 / beta), D the smoothed Dice of a class.

    A class that is hard, D near 0, has the steepest slope for beta above 1. Wang and Chung 2018,
    "Focal Dice Loss and Image Dilation for Brain Tumor Segmentation" (doi:
    10.1007/978-3-030-00889-5_14), with equal class weights.
    """

    beta: float
    batch: bool = False

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        found = _overlaps(prediction, batch=self.batch).foreground()
        return mean_where(1 - found.dice() ** (1 / self.beta), found.counted)


@dataclass(frozen=True, kw_only=True)
class Tversky:
    """Mean of (1 - T) ** (1 / gamma), T = (O + s) / (O + a (P - O) + b (Y - O) + s).

    a weighs false positives and b false negatives. gamma 1: Salehi et al. 2017 (arXiv:1706.05721);
    a = b = 1/2 is Dice. Other gamma: focal Tversky, Abraham and Khan 2018 (arXiv:1810.07842), there
    4/3. Where 1 - T is below SMOOTH, its slope, which would
    have no bound, is 0.
    """

    false_positive_weight: float
    false_negative_weight: float
    gamma: float = 1.0
    batch: bool = False

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        sums = _overlaps(prediction, batch=self.batch).foreground()
        extra = self.false_positive_weight * (sums.predicted - sums.overlap)
        missed = self.false_negative_weight * (sums.volume - sums.overlap)
        found = sums.overlap + SMOOTH
        lost = 1 - found / (found + extra + missed)
        if self.gamma != 1:
            lost = lost.clamp(min=SMOOTH) ** (1 / self.gamma)
        return mean_where(lost, sums.counted)


@dataclass(frozen=True, kw_only=True)
class GeneralisedDice:
    """1 - (2 sum_k w_k O_k + s) / (sum_k w_k (P_k + Y_k) + s), w_k = 1 / Y_k ** 2.

    Over all classes, the background too, then the mean over images. Sudre et al. 2017
    (arXiv:1707.03237). A class that is absent weighs as much as the rarest one
    present: its own weight would have no bound.
    """

    batch: bool = False

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        sums = _overlaps(prediction, batch=self.batch)
        present = sums.volume > 0
        weights = torch.where(present, 1 / sums.volume.clamp(min=1).square(), 0)
        rarest = weights.amax(dim=1, keepdim=True)
        weights = torch.where(present, weights, rarest) * sums.counted
        found = 2 * (weights * sums.overlap).sum(1)
        total = (weights * (sums.predicted + sums.volume)).sum(1)
        return 1 - ((found + SMOOTH) / (total + SMOOTH)).mean()


class Overlaps(NamedTuple):
    """P, O, Y of each image (or one for the whole batch) and class, and whether they count."""

    predicted: Tensor
    overlap: Tensor
    volume: Tensor
    counted: Tensor

    def dice(self) -> Tensor:
        """Return (2 O + s) / (P + Y + s)."""
        return (2 * self.overlap + SMOOTH) / (self.predicted + self.volume + SMOOTH)

    def foreground(self) -> "Overlaps":
        """Return those of all classes but the first."""
        return self._make(item[:, 1:] for item in self)


def overlaps_of(sums: SoftmaxSums | RegionSums, counted: Tensor, *, batch: bool) -> Overlaps:
    """Return the overlaps of classes or regions, (B, K), over the batch as one image if `batch`."""
    parts = (sums.predicted, sums.overlap, sums.volume)
    if not batch:
        return Overlaps(*parts, counted)
    total = [(item * counted).sum(0, keepdim=True) for item in parts]
    return Overlaps._make((*total, counted.any(0, keepdim=True)))


def _overlaps(prediction: Prediction, *, batch: bool, power: int = 1) -> Overlaps:
    return overlaps_of(prediction.sums(power=power), prediction.annotated, batch=batch)
