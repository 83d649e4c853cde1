"""What a loss compares, and the numbers that its terms share.

Letters in shapes: B batch, K classes, S spatial axes, V voxels of one image. Class 0 is background.
"""

from typing import Protocol, final

import torch
from torch import Tensor

from autoseg.train.loss_terms.sums import (
    IGNORE,
    SoftmaxSums,
    precision_of,
    softmax_sums,
    targets_of,
)

IMPOSSIBLE = -1e4
"""Logit of a class that was merged into the background: its probability is exactly 0."""


@final
class Prediction:
    """Logits with their labels; sums are computed when a term asks, once.

    A case that annotates only some classes shows the others as background. Their probability is
    added to the background's (marginal loss: Shi et al. 2021, arXiv:2007.03868), so
    that they may be predicted there, and they count in no mean over classes. Voxels whose label is
    not annotated after all are ignored; so is the background if class 0 is not annotated.

    Parameters
    ----------
    logits : (B, K, *S)
    labels : (B, *S)
        0 to K - 1 or IGNORE.
    annotated : (B, K) bool, optional
        Which classes each image annotates; all of them by default. Merging keeps one more array
        of the logits' size.
    """

    def __init__(self, logits: Tensor, labels: Tensor, annotated: Tensor | None = None) -> None:
        self.logits = logits
        self.labels = labels
        self.annotated = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        if annotated is not None:
            self.annotated = annotated.to(logits.device)
            self.logits, self.labels = _merged(logits, labels, self.annotated)
        self.targets = targets_of(self.labels, precision_of(logits))
        self._sums: dict[int, SoftmaxSums] = {}

    @property
    def num_classes(self) -> int:
        """Background included."""
        return self.logits.shape[1]

    @property
    def counted(self) -> Tensor:
        """1 for each voxel that is not ignored, 0 for the others, (B, V)."""
        return self.targets.counted

    @property
    def log_true(self) -> Tensor:
        """Logarithm of the probability of the true class, 0 where ignored, (B, V)."""
        return self.sums(power=next(iter(self._sums), 1)).log_true

    def sums(self, *, power: int = 1) -> SoftmaxSums:
        """Return the sums of each class, the predicted one of probabilities ** power."""
        if power not in self._sums:
            self._sums[power] = softmax_sums(self.logits, self.targets, power=power)
        return self._sums[power]

    def probabilities(self) -> Tensor:
        """Return probabilities (B, K, *S): a whole array, for terms that need neighbours."""
        return self.logits.to(precision_of(self.logits)).softmax(dim=1)


class Term(Protocol):
    """One summand of a loss: a number for a whole batch."""

    def __call__(self, prediction: Prediction, /) -> Tensor:
        """Return a scalar, lower for a better prediction."""
        ...


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values that count, 0 if none does."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def _merged(logits: Tensor, labels: Tensor, annotated: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and labels with the classes that are not annotated merged into class 0."""
    kept = annotated.clone()
    kept[:, 0] = True
    spread = kept.view(*kept.shape, *(1,) * (logits.ndim - 2))  # (B, K, 1...)
    missing = ~spread
    missing[:, 0] = True
    logits = logits.to(precision_of(logits))
    rest = logits.masked_fill(~missing, -torch.inf).logsumexp(dim=1, keepdim=True)
    merged = torch.cat([rest, logits[:, 1:].masked_fill(~spread[:, 1:], IMPOSSIBLE)], dim=1)
    index = labels.flatten(1).long()
    known = annotated.gather(1, index.clamp(min=0)).view(labels.shape)
    return merged, labels.masked_fill(~known, IGNORE)
