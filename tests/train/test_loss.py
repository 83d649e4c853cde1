from typing import Any

import pytest
import torch
from torch.nn import functional

from autoseg.train.loss import IGNORE, DeepSupervised, DiceAndCrossEntropy, downsample_labels


def reference(logits, labels, batch_dice):
    """The same loss from a one-hot target and autograd."""
    valid = labels != IGNORE
    cross_entropy = functional.cross_entropy(logits, labels, ignore_index=IGNORE)
    p = logits.softmax(1) * valid[:, None]
    target = functional.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1)
    target = target * valid[:, None]
    axes = ([0] if batch_dice else []) + list(range(2, logits.ndim))
    overlap = (p * target).sum(axes)[..., 1:]
    total = (p + target).sum(axes)[..., 1:]
    return cross_entropy - ((2 * overlap + 1e-5) / (total + 1e-5)).mean()


def example(shape=(3, 4, 6, 8), *, ignored=0.0, dtype=torch.float32) -> Any:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORE
    return logits, labels


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
def test_loss_and_gradient_equal_the_one_hot_form(batch_dice, ignored):
    logits, labels = example(ignored=ignored)
    expected = reference(logits, labels, batch_dice)
    (expected_slope,) = torch.autograd.grad(expected, logits)
    found = DiceAndCrossEntropy(batch_dice=batch_dice)(logits, labels)
    (slope,) = torch.autograd.grad(found, logits)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(slope, expected_slope, rtol=1e-4, atol=1e-8)


def test_batch_dice_and_image_dice_differ():
    logits, labels = example()
    labels[0] = 0
    found = [DiceAndCrossEntropy(batch_dice=flag)(logits, labels).item() for flag in (True, False)]
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int64])
def test_labels_may_be_any_signed_integers(dtype):
    logits, labels = example(ignored=0.2)
    loss = DiceAndCrossEntropy(batch_dice=True)
    assert loss(logits, labels.to(dtype)).item() == loss(logits, labels).item()


def test_wholly_ignored_batch_has_no_gradient():
    logits, labels = example(ignored=1.1)
    loss = DiceAndCrossEntropy(batch_dice=False)(logits, labels)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad.abs().max() == 0


def test_ignored_logits_have_no_gradient():
    logits, labels = example(ignored=0.5)
    DiceAndCrossEntropy(batch_dice=False)(logits, labels).backward()
    ignored = (labels == IGNORE)[:, None].expand_as(logits)
    assert logits.grad[ignored].abs().max() == 0
    assert logits.grad[~ignored].abs().min() > 0


def test_half_precision_gradients_survive_the_loss_scale():
    logits, labels = example((1, 3, 64, 64), dtype=torch.float16)
    (65536 * DiceAndCrossEntropy(batch_dice=False)(logits, labels)).backward()
    expected, _ = example((1, 3, 64, 64), dtype=torch.float16)
    exact: Any = expected.detach().float().requires_grad_()
    (65536 * reference(exact, labels, False)).backward()
    assert logits.grad.dtype == torch.float16
    torch.testing.assert_close(logits.grad.float(), exact.grad, rtol=2e-3, atol=1e-4)


def test_perfect_prediction_approaches_minus_one():
    _, labels = example()
    logits = 50.0 * functional.one_hot(labels, 4).movedim(-1, 1).float()
    loss = DiceAndCrossEntropy(batch_dice=False)(logits, labels)
    assert loss.item() == pytest.approx(-1.0, abs=1e-4)


def test_labels_are_downsampled_as_nearest_exact():
    labels = torch.randint(0, 5, (2, 12, 8, 6))
    expected = functional.interpolate(labels[:, None].float(), (3, 4, 6), mode="nearest-exact")
    torch.testing.assert_close(downsample_labels(labels, (3, 4, 6)), expected[:, 0].long())


def test_deep_supervision_sums_weighted_resolutions():
    logits, labels = example((2, 3, 8, 8))
    coarse = functional.avg_pool2d(logits, 2)
    inner = DiceAndCrossEntropy(batch_dice=True)
    loss = DeepSupervised(inner, weights=(0.75, 0.25))
    expected = 0.75 * inner(logits, labels) + 0.25 * inner(coarse, labels[:, 1::2, 1::2])
    assert loss((logits, coarse), labels).item() == pytest.approx(expected.item())


def test_single_output_needs_no_tuple():
    logits, labels = example()
    inner = DiceAndCrossEntropy(batch_dice=True)
    assert DeepSupervised(inner, weights=(1.0,))(logits, labels) == inner(logits, labels)
