"""Losses that are a mean over voxels of a function of the true class's probability.

In formulas p is that probability, by softmax. Means are over the voxels of the whole batch that are
not ignored.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from autoseg.train.loss_terms.prediction import Prediction, mean_where


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """-sum w log p / sum w; w is the weight of the voxel's class, 1 without weights.

    Equal weights: Ronneberger et al. 2015 (arXiv:1505.04597); class weights: Long et
    al. 2015 and torch's `CrossEntropyLoss`, whose normalisation this is.
    """

    weights: tuple[float, ...] = ()
    """One a class, or none."""

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        if not self.weights:
            return mean_where(-prediction.log_true, prediction.counted)
        weights = prediction.logits.new_tensor(self.weights, dtype=prediction.log_true.dtype)
        each = weights[prediction.targets.classes] * prediction.counted  # (B, V)
        tiny = torch.finfo(each.dtype).tiny
        return -(each * prediction.log_true).sum() / each.sum().clamp(min=tiny)


@dataclass(frozen=True, kw_only=True)
class Focal:
    """-mean a (1 - p) ** gamma log p: Lin et al. 2017 (arXiv:1708.02002, equation 5).

    a is `alpha` for foreground and 1 - alpha for background voxels; 1 for both without it.
    """

    gamma: float
    alpha: float | None = None

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        log_true = prediction.log_true
        tiny = torch.finfo(log_true.dtype).tiny
        wrong = (-torch.expm1(log_true)).clamp(min=tiny)  # 1 - p, exact where p is almost 1
        each = -log_true * wrong**self.gamma
        if self.alpha is not None:
            each = each * torch.where(prediction.targets.classes > 0, self.alpha, 1 - self.alpha)
        return mean_where(each, prediction.counted)


@dataclass(frozen=True, kw_only=True)
class HardestCrossEntropy:
    """Mean of -log p over the hardest voxels of the batch: top-k and OHEM cross-entropy.

    Counted are those with p below `below`, and in any case the `fraction` with the lowest p (at
    least one voxel): Wu et al. 2016, "High-performance Semantic Segmentation Using Very Deep Fully
    Convolutional Networks" (arXiv:1604.04339). With `below` 0 it is the plain top-k of
    nnU-Net's TopKLoss. Waits for the device: how many voxels there are is data.
    """

    fraction: float
    below: float = 0.0

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the term."""
        counted = prediction.counted
        each = torch.where(
            counted > 0, -prediction.log_true, -1.0
        ).flatten()  # ignored: never hardest
        count = math.ceil(self.fraction * int(counted.sum()))
        if self.below > 0:
            count = max(count, int((each > -math.log(self.below)).sum()))
        return torch.topk(each, count, sorted=False).values.sum() / max(count, 1)
