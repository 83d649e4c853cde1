"""Cross entropy plus soft Dice on class indices, with deep supervision.

Letters in shapes: B batch, K classes, S spatial axes, V voxels of one image. Class 0 is background.
"""

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor, nn

IGNORE = -1
"""The label of voxels that count in neither term."""

SMOOTH = 1e-5
"""Added above and below in Dice, so that a class that is absent and not predicted scores 1."""


@final
class DiceAndCrossEntropy(nn.Module):
    """Mean cross entropy minus mean soft Dice of the foreground classes.

    Parameters
    ----------
    batch_dice
        Dice over the whole batch taken together instead of the mean over its images.
    """

    def __init__(self, *, batch_dice: bool) -> None:
        super().__init__()
        self.batch_dice = batch_dice

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, K, *S) for labels (B, *S) of 0 to K - 1 or IGNORE."""
        return _DiceAndCrossEntropy.apply(logits, labels, self.batch_dice)  # pyright: ignore


@final
class DeepSupervised(nn.Module):
    """The weighted sum of a loss at several resolutions, each with labels of its own size.

    Parameters
    ----------
    loss
        Called with logits (B, K, *S) and labels (B, *S).
    weights
        Weight of each resolution, finest first.
    """

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], *, weights: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.loss = loss
        self.weights = weights

    def forward(self, logits: Tensor | tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """Return the loss of logits, finest first, for labels (B, *S)."""
        levels = (logits,) if isinstance(logits, Tensor) else logits
        terms = [
            weight * self.loss(level, downsample_labels(labels, tuple(level.shape[2:])))
            for weight, level in zip(self.weights, levels, strict=True)
            if weight > 0
        ]
        return torch.stack(terms).sum()


def downsample_labels(labels: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return labels (B, *S) at `shape` by nearest neighbour: the voxel at each cell's centre.

    Parameters
    ----------
    labels : (B, *S)
        Every axis of S is a multiple of the axis of `shape`.
    """
    factors = [n // m for n, m in zip(labels.shape[1:], shape, strict=True)]
    return labels[(slice(None), *(slice(f // 2, None, f) for f in factors))]


class _DiceAndCrossEntropy(torch.autograd.Function):
    """Both terms and their gradient from one softmax: one (B, K, V) array is kept, no one-hot."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, batch_dice: bool) -> Tensor:  # noqa: ANN401, FBT001
        log_p = logits.flatten(2).float().log_softmax(dim=1)  # (B, K, V)
        labels = labels.flatten(1)  # (B, V)
        valid = (labels != IGNORE).float()
        index = labels.clamp(min=0).long().unsqueeze(1)  # (B, 1, V)
        num_valid = valid.sum().clamp(min=1.0)
        log_picked = log_p.gather(1, index).squeeze(1) * valid  # (B, V)
        p = log_p.exp_().mul_(valid.unsqueeze(1))
        picked = log_picked.exp() * valid  # (B, V): probability of the true class
        dice, weight, weight_true = _soft_dice(p, picked, labels, batch_dice=batch_dice)
        if ctx.needs_input_grad[0]:
            # d/dz of softmax: p * (g - sum(p g)), where g is weight plus, at the true class, more.
            true = torch.cat([torch.zeros_like(weight_true[:, :1]), weight_true], dim=1)
            slope = picked * true.gather(1, index.squeeze(1))  # (B, V)
            weight = torch.cat([torch.zeros_like(weight[:, :1]), weight], dim=1)  # (B, K)
            inner = torch.bmm(weight.unsqueeze(1), p) + slope.unsqueeze(1)  # (B, 1, V)
            gradient = p.mul_((weight.unsqueeze(2) - inner).add_(1.0 / num_valid))
            gradient.scatter_add_(1, index, (slope - valid / num_valid).unsqueeze(1))
            # fp16 would lose small values before the loss scale reaches them.
            kept = torch.bfloat16 if logits.dtype == torch.bfloat16 else torch.float32
            ctx.save_for_backward(gradient.to(kept).view(logits.shape))
            ctx.dtype = logits.dtype
        return -log_picked.sum() / num_valid - dice

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (gradient,) = ctx.saved_tensors
        return (gradient * outputs[0]).to(ctx.dtype), None, None


def _soft_dice(
    p: Tensor, picked: Tensor, labels: Tensor, *, batch_dice: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean foreground Dice and the loss's slopes by p, everywhere and at the true class.

    Parameters
    ----------
    p : (B, K, V)
        Probabilities, 0 where ignored.
    picked, labels : (B, V)
        Probability of the true class, and that class.
    """
    num_classes = p.shape[1]
    predicted = p[:, 1:].sum(dim=2)  # (B, K - 1)
    masks = (labels == index for index in range(1, num_classes))
    pairs = [((picked * mask).sum(1), mask.sum(1)) for mask in masks]
    overlap = torch.stack([pair[0] for pair in pairs], dim=1)
    volume = torch.stack([pair[1] for pair in pairs], dim=1).to(p.dtype)
    if batch_dice:
        predicted, overlap, volume = (
            item.sum(0, keepdim=True).expand_as(item) for item in (predicted, overlap, volume)
        )
    numerator = 2 * overlap + SMOOTH
    denominator = predicted + volume + SMOOTH
    # Under batch_dice every image holds the same ratio: its mean is the ratio, its slope the sum.
    count = num_classes - 1 if batch_dice else overlap.numel()
    weight = numerator / denominator.square() / count
    weight_true = -2.0 / denominator / count
    return (numerator / denominator).mean(), weight, weight_true
