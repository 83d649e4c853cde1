"""Sums of probabilities over voxels and their gradients, computed in slabs.

A loss of class probabilities mostly needs a few numbers an image and class, and one number a voxel:
the logarithm of the probability of its true class. Both are made from the logits slab by slab, and
so is the gradient, from probabilities that are computed again: besides the logits and their
gradient no array of K classes is ever whole, and there is no one-hot target.

Letters in shapes: B batch, K classes, R regions, S spatial axes, V voxels of one image, and in a
slab M images of N voxels.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = -1
"""The label of voxels that count nowhere."""

CPU_SLAB_VALUES = 2**19
"""Values of one slab: two megabytes stay in a core's cache."""
DEVICE_SLAB_VALUES = 2**23
"""The same elsewhere: few and long kernels."""


class Targets(NamedTuple):
    """Labels as they are used."""

    classes: Tensor
    """True class, 0 where ignored, (B, V) int64."""
    counted: Tensor
    """1, and 0 where ignored, (B, V), in the type of the sums."""


class SoftmaxSums(NamedTuple):
    """What losses of classes need, (B, K) each but the last; ignored voxels add nothing."""

    predicted: Tensor
    """Sum of probabilities, or of their squares."""
    overlap: Tensor
    """Sum of probabilities over the voxels of the class."""
    volume: Tensor
    """Voxels of the class."""
    log_true: Tensor
    """Log-probability of the true class, 0 where ignored, (B, V)."""


class RegionSums(NamedTuple):
    """What losses of unions of classes need, (B, R) each; ignored voxels add nothing.

    A region's probability q is the sum of its classes' probabilities; its target t is whether the
    true class is one of them.
    """

    predicted: Tensor
    """Sum of q."""
    overlap: Tensor
    """Sum of t q."""
    volume: Tensor
    """Sum of t."""
    likelihood: Tensor
    """Sum of t log q + (1 - t) log(1 - q)."""


def targets_of(labels: Tensor, dtype: torch.dtype) -> Targets:
    """Return labels (B, *S) of 0 to K - 1 or IGNORE, any signed integers, as they are used."""
    labels = labels.flatten(1)
    return Targets(labels.clamp(min=0).long(), (labels != IGNORE).to(dtype))


def softmax_sums(logits: Tensor, targets: Targets, *, power: int) -> SoftmaxSums:
    """Return the sums of logits (B, K, *S), the predicted one of probabilities ** `power`, 1 or 2.

    In float64 for logits of float64, else in float32.
    """
    return SoftmaxSums(*_SoftmaxSums.apply(logits, *targets, power))  # pyright: ignore


def region_sums(logits: Tensor, targets: Targets, members: Tensor) -> RegionSums:
    """Return the sums of regions of logits (B, K, *S).

    Parameters
    ----------
    members : (R, K) bool
        Which classes make up each region.
    """
    return RegionSums(*_RegionSums.apply(logits, *targets, members))  # pyright: ignore


def precision_of(logits: Tensor) -> torch.dtype:
    """Return the type in which a loss is computed."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


Slab = tuple[slice, slice, Tensor, Tensor, Tensor]


def _slabs(logits: Tensor, index: Tensor, counted: Tensor) -> Iterator[Slab]:
    """Yield images, voxels, logits (M, K, N), true classes and whether they count (M, 1, N)."""
    num_images, num_classes, num_voxels = logits.shape
    limit = CPU_SLAB_VALUES if logits.device.type == "cpu" else DEVICE_SLAB_VALUES
    columns = max(1, min(num_voxels, limit // num_classes))
    rows = max(1, limit // (num_classes * columns))
    for row in range(0, num_images, rows):
        images = slice(row, row + rows)
        for column in range(0, num_voxels, columns):
            voxels = slice(column, column + columns)
            part = logits[images, :, voxels].to(counted.dtype)
            places = (images, voxels)
            yield *places, part, index[places].unsqueeze(1), counted[places].unsqueeze(1)


class _SoftmaxSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        index: Tensor,
        counted: Tensor,
        power: int,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, index, counted)
        ctx.power = power
        predicted = counted.new_zeros(logits.shape[:2])
        overlap, volume = torch.zeros_like(predicted), torch.zeros_like(predicted)
        log_true = torch.empty_like(counted)
        for images, voxels, part, true, weight in _slabs(logits.flatten(2), index, counted):
            log_p = part.log_softmax(dim=1)  # (M, K, N)
            found = log_p.gather(1, true).mul_(weight)  # (M, 1, N)
            log_true[images, voxels] = found.squeeze(1)
            p = log_p.mul_(power).exp_() if power > 1 else log_p.exp_()
            predicted[images] += torch.bmm(p, weight.mT).squeeze(2)
            overlap[images] += _by_class(found.exp_().mul_(weight), true, p.shape[1])
            volume[images] += _by_class(weight, true, p.shape[1])
        ctx.mark_non_differentiable(volume)
        return predicted, overlap, volume, log_true

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *slopes: Tensor,
    ) -> tuple[Tensor | None, ...]:
        logits, index, counted = ctx.saved_tensors
        of_predicted, of_overlap, _, of_log = slopes
        flat = logits.flatten(2)
        gradient = torch.empty_like(flat)
        for images, voxels, part, true, weight in _slabs(flat, index, counted):
            p = part.softmax(dim=1)  # (M, K, N)
            of_true = of_overlap[images].gather(1, true.squeeze(1)).unsqueeze(1)  # (M, 1, N)
            of_true = (of_true * p.gather(1, true) + of_log[images, None, voxels]) * weight
            of_p = of_predicted[images].unsqueeze(2)  # (M, K, 1)
            if ctx.power > 1:
                of_p = ctx.power * of_p * p ** (ctx.power - 1)
                inner = (of_p * p).sum(1, keepdim=True)
            else:
                inner = torch.bmm(of_p.mT, p)  # (M, 1, N)
            # By z: p (g - sum(p g)) for g by p, and h (1 at the true class, less p) for h by log p.
            part = p.mul_(torch.addcmul(inner.mul_(weight).add_(of_true).neg_(), of_p, weight))
            gradient[images, :, voxels] = part.scatter_add_(1, true, of_true)
        return gradient.view(logits.shape), None, None, None


def _by_class(values: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """Return the sum of values (M, 1, N) over the voxels of each class, (M, K)."""
    # Adding to few places at once is slow on a GPU, and its order changes from run to run.
    total = scattered if values.device.type == "cpu" else compared
    return total(values, index, num_classes)


def scattered(values: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """Return the sum of values (M, 1, N) by index, each added to its class, (M, K)."""
    sums = values.new_zeros(len(values), num_classes)
    return sums.scatter_add_(1, index.squeeze(1), values.squeeze(1))


def compared(values: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """Return the sum of values (M, 1, N) by index, a masked sum for each class, (M, K)."""
    classes = torch.arange(num_classes, device=values.device).unsqueeze(1)
    return torch.where(index == classes, values, 0).sum(2)


class _RegionSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        index: Tensor,
        counted: Tensor,
        members: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits, index, counted, members)
        inside = members.to(counted.dtype)  # (R, K)
        sums = counted.new_zeros(4, len(logits), len(members))
        for images, _, part, true, weight in _slabs(logits.flatten(2), index, counted):
            p = part.softmax(dim=1)  # (M, K, N)
            target = inside[:, true.squeeze(1)].movedim(0, 1)  # (M, R, N)
            q = inside @ p
            of_side = _side(p, target, inside).log_()
            parts = torch.stack([q, q * target, target, of_side])
            sums[:, images] += (parts * weight).sum(3)
        predicted, overlap, volume, likelihood = (item.clone() for item in sums)
        ctx.mark_non_differentiable(volume)
        return predicted, overlap, volume, likelihood

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,  # noqa: ANN401
        *slopes: Tensor,
    ) -> tuple[Tensor | None, ...]:
        logits, index, counted, members = ctx.saved_tensors
        inside = members.to(counted.dtype)
        of_predicted, of_overlap, _, of_likelihood = (item.unsqueeze(2) for item in slopes)
        flat = logits.flatten(2)
        gradient = torch.empty_like(flat)
        for images, voxels, part, true, weight in _slabs(flat, index, counted):
            p = part.softmax(dim=1)
            target = inside[:, true.squeeze(1)].movedim(0, 1)  # (M, R, N)
            # d log s / dz is p / s for the classes of s, the side that is true, less p for all;
            # where s underflows, p / s is 0 and the wrong class is still pushed down.
            of_side = of_likelihood[images] / _side(p, target, inside)
            of_q = of_predicted[images] + target * of_overlap[images]
            of_p = inside.mT @ (target * of_side + of_q)
            of_p = of_p + (1 - inside).mT @ ((1 - target) * of_side)
            inner = (of_q * (inside @ p) + of_likelihood[images]).sum(1, keepdim=True)
            gradient[images, :, voxels] = p * (of_p - inner) * weight
        return gradient.view(logits.shape), None, None, None


def _side(p: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Return the probability of what is true of each region, never 0, (M, R, N).

    1 - q is the sum over the other classes: that loses no digits where q is almost 1.
    """
    side = torch.where(target > 0, inside @ p, (1 - inside) @ p)
    return side.clamp_(min=torch.finfo(p.dtype).tiny)
