"""Losses of regions: sets of classes that may overlap, such as a whole tumour and its core.

The network has one output a class and a softmax. The probability q of a region is the sum of its
classes' probabilities, which is the sigmoid of a difference of logits:

    q = sigmoid(logsumexp of the region's logits - logsumexp of all other logits)

and its target t is whether the voxel's class is in it. So every region has a sigmoid loss of its
own, labels stay indices, and prediction is the same arg-max as ever. A region made of one class is
"one against the rest"; with two classes, background and foreground, q = sigmoid(z_1 - z_0), and
binary cross-entropy is cross-entropy. (Regions as in Bakas et al. 2018, arXiv:1811.02629; nnU-Net
gives each region an output instead.)

A region counts for an image if all its classes are annotated. Letters: B batch, K classes,
R regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoseg.train.loss_terms.overlap import overlaps_of
from autoseg.train.loss_terms.prediction import Prediction, mean_where
from autoseg.train.loss_terms.sums import RegionSums, region_sums

Regions = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class RegionCrossEntropy:
    """Binary cross-entropy: mean over voxels and regions of -t log q - (1 - t) log(1 - q)."""

    regions: Regions = ()
    """Classes of each region; none: every foreground class is one."""

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        members, counted = _members(prediction, self.regions)
        sums = region_sums(prediction.logits, prediction.targets, members)
        return _cross_entropy(prediction, sums, counted)


@dataclass(frozen=True, kw_only=True)
class RegionDiceAndCrossEntropy:
    """Binary cross-entropy as above plus 1 - mean over regions of (2 O + s) / (P + Y + s).

    P, Y and O are the sums of q, t and t q, over the whole batch if `batch`.
    """

    regions: Regions = ()
    batch: bool = False

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        members, counted = _members(prediction, self.regions)
        sums = region_sums(prediction.logits, prediction.targets, members)
        found = overlaps_of(sums, counted, batch=self.batch)
        dice = mean_where(found.dice(), found.counted)
        return _cross_entropy(prediction, sums, counted) + 1 - dice


def _cross_entropy(prediction: Prediction, sums: RegionSums, counted: Tensor) -> Tensor:
    voxels = prediction.counted.sum(1, keepdim=True)  # (B, 1)
    return -(sums.likelihood * counted).sum() / (voxels * counted).sum().clamp(min=1)


def _members(prediction: Prediction, regions: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return which classes make up each region, (R, K), and which count for each image, (B, R)."""
    classes = range(1, prediction.num_classes)
    rows = regions or tuple((index,) for index in classes)
    table = [[index in row for index in range(prediction.num_classes)] for row in rows]
    members = torch.tensor(table, device=prediction.logits.device)
    counted = (prediction.annotated.unsqueeze(1) | ~members).all(dim=2)
    return members, counted
