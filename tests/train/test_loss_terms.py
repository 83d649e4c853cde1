"""Every loss against its formula, finite differences and its promises.

`reference_...` write each formula with one-hot targets, as in the papers.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from autoseg.plan.losses import LOSSES
from autoseg.record import LossPlan
from autoseg.train.loss import (
    IGNORE,
    DeepSupervised,
    DiceAndCrossEntropy,
    Loss,
    build_named_loss,
)
from autoseg.train.loss_terms import sums
from autoseg.train.loss_terms.boundary import Boundary, signed_distances
from autoseg.train.loss_terms.centreline import CentrelineDice, soft_skeleton
from autoseg.train.loss_terms.overlap import Dice, FocalDice, GeneralisedDice, Tversky
from autoseg.train.loss_terms.regions import RegionCrossEntropy, RegionDiceAndCrossEntropy
from autoseg.train.loss_terms.voxelwise import CrossEntropy, Focal, HardestCrossEntropy

NAMES = sorted(LOSSES)
NUM_CLASSES = 3
PARAMETERS: dict[str, Any] = {
    "weighted_ce": {"class_weights": (0.5, 1.0, 2.0)},
    "regions": {"regions": ((1, 2), (2,))},
    "dice_focal": {"focal_alpha": 0.7},
    "topk_ce": {"hardest_fraction": 0.4},
    "dice_topk": {"hardest_fraction": 0.4},
    "cldice": {"skeleton_iterations": 1},
    "dice_ce_cldice": {"skeleton_iterations": 1},
}


def distances(mask):
    return np.asarray(distance_transform_edt(mask))


def named(name, *, batch_dice=False) -> Any:
    plan = LossPlan(kind=name, **PARAMETERS.get(name, {}))
    return build_named_loss(plan, batch_dice=batch_dice, distance_transform=distances)


def value(term, logits, labels, annotated=None) -> Any:
    return Loss(((1, term),))(logits, labels, annotated)


def example(shape=(2, NUM_CLASSES, 5, 6), *, dtype=torch.float64, seed=0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator)
    return logits, labels


def one_hot(labels, num_classes=NUM_CLASSES):
    return functional.one_hot(labels, num_classes).movedim(-1, 1).double()


def two_voxels(p=(0.8, 0.4)) -> Any:
    """One image of two voxels and two classes, the first voxel foreground; p of the foreground."""
    foreground = torch.tensor(p, dtype=torch.float64)
    logits = torch.stack([torch.zeros(2), (foreground / (1 - foreground)).log()])
    return logits.double()[None], torch.tensor([[1, 0]])


BY_HAND = [
    (CrossEntropy(), -(math.log(0.8) + math.log(0.6)) / 2),
    (CrossEntropy(weights=(1.0, 3.0)), -(3 * math.log(0.8) + math.log(0.6)) / 4),
    (RegionCrossEntropy(), -(math.log(0.8) + math.log(0.6)) / 2),
    (Dice(), 1 - 1.6 / 2.2),
    (Dice(power=2), 1 - 1.6 / (0.64 + 0.16 + 1)),
    (FocalDice(beta=2.0), 1 - math.sqrt(1.6 / 2.2)),
    (Focal(gamma=2.0), -(0.04 * math.log(0.8) + 0.16 * math.log(0.6)) / 2),
    (Focal(gamma=2.0, alpha=0.9), -(0.036 * math.log(0.8) + 0.016 * math.log(0.6)) / 2),
    (
        Tversky(false_positive_weight=0.3, false_negative_weight=0.7),
        1 - 0.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2),
    ),
    (
        Tversky(false_positive_weight=0.3, false_negative_weight=0.7, gamma=4 / 3),
        (1 - 0.8 / 1.06) ** 0.75,
    ),
    (HardestCrossEntropy(fraction=0.5), -math.log(0.6)),
    (HardestCrossEntropy(fraction=0.1, below=0.7), -math.log(0.6)),
    (HardestCrossEntropy(fraction=0.1, below=0.9), -(math.log(0.8) + math.log(0.6)) / 2),
    (GeneralisedDice(), 1 - 2 * (0.8 + 0.6) / (2.2 + 1.8)),
    (RegionDiceAndCrossEntropy(), -(math.log(0.8) + math.log(0.6)) / 2 + 1 - 1.6 / 2.2),
    (Boundary(distance_transform=distances), 0.4 / 2),  # distances 0 and 1
]


@pytest.mark.parametrize(("term", "expected"), BY_HAND, ids=lambda item: type(item).__name__)
def test_two_voxels_give_what_the_formula_gives(term, expected):
    assert value(term, *two_voxels()).item() == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("batch", [False, True])
def test_dice_equals_the_one_hot_form(power, batch):
    logits, labels = example()
    p, y = logits.softmax(1)[:, 1:], one_hot(labels)[:, 1:]
    axes = [0, 2, 3] if batch else [2, 3]
    total = (p**power).sum(axes) + y.sum(axes)
    expected = 1 - ((2 * (p * y).sum(axes) + 1e-5) / (total + 1e-5)).mean()
    found = value(Dice(batch=batch, power=power), logits, labels)
    torch.testing.assert_close(found, expected)
    found, expected = (torch.autograd.grad(item, logits)[0] for item in (found, expected))
    torch.testing.assert_close(found, expected)


def test_generalised_dice_weighs_an_absent_class_like_the_rarest():
    logits, labels = example((1, 3, 4, 4))
    labels[labels == 2] = 1
    labels[0, 0, 0] = 0
    p, y = (item.flatten(2).sum(2)[0] for item in (logits.softmax(1), one_hot(labels)))
    overlap = (logits.softmax(1) * one_hot(labels)).flatten(2).sum(2)[0]
    weights = 1 / y.square()
    weights[2] = weights[:2].max()
    expected = 1 - 2 * (weights * overlap).sum() / (weights * (p + y)).sum()
    assert value(GeneralisedDice(), logits, labels).item() == pytest.approx(
        expected.item(), abs=1e-4
    )


def test_regions_are_unions_of_class_probabilities():
    logits, labels = example()
    regions = ((1, 2), (2,))
    p = logits.softmax(1)
    q = torch.stack([p[:, 1] + p[:, 2], p[:, 2]], dim=1)
    t = torch.stack([labels > 0, labels == 2], dim=1).double()
    entropy = functional.binary_cross_entropy(q, t)
    found = value(RegionCrossEntropy(regions=regions), logits, labels)
    torch.testing.assert_close(found, entropy)
    dice = (2 * (q * t).sum((2, 3)) + 1e-5) / ((q + t).sum((2, 3)) + 1e-5)
    both = value(RegionDiceAndCrossEntropy(regions=regions), logits, labels)
    torch.testing.assert_close(both, entropy + 1 - dice.mean())


def test_with_two_classes_binary_cross_entropy_is_the_sigmoid_of_the_logits_difference():
    logits, labels = example((2, 2, 5, 6))
    difference = logits[:, 1] - logits[:, 0]
    expected = functional.binary_cross_entropy_with_logits(difference, labels.double())
    torch.testing.assert_close(value(RegionCrossEntropy(), logits, labels), expected)


def test_a_hopelessly_wrong_region_is_still_corrected():
    logits = torch.tensor([[[0.0], [500.0]]], requires_grad=True)
    value(RegionCrossEntropy(), logits, torch.zeros(1, 1, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1, 0] == pytest.approx(1.0)


def test_the_skeleton_of_a_bar_is_its_centreline():
    bar = torch.zeros(1, 7, 11)
    bar[:, 2:5, 1:10] = 1
    skeleton = soft_skeleton(bar, torch.ones(1, 7, 11, dtype=torch.bool), 3)
    assert skeleton[0, 3, 2:9].min() == 1
    assert skeleton[0, [0, 1, 2, 4, 5, 6], 2:9].max() == 0


def test_cldice_prefers_a_connected_tube_of_the_same_dice():
    labels = torch.zeros(1, 9, 20, dtype=torch.int64)
    labels[:, 3:6] = 1
    broken, thin = labels.clone(), labels.clone()
    broken[:, 3:6, 8:12] = 0  # 12 voxels
    thin[:, 3, 2:14] = 0  # as many
    scores = [
        value(CentrelineDice(iterations=3), 20 * one_hot(item, 2), labels).item()
        for item in (broken, thin)
    ]
    dice = [value(Dice(), 20 * one_hot(item, 2), labels).item() for item in (broken, thin)]
    assert dice[0] == pytest.approx(dice[1])
    assert scores[0] > scores[1] + 0.05


@pytest.mark.parametrize("index", [0, 1])
def test_cldice_is_not_content_with_one_class_everywhere(index):
    """Such a prediction has no centreline, whose precision must not count as perfect."""
    labels = torch.zeros(1, 9, 20, dtype=torch.int64)
    labels[:, 3:6] = 1
    everywhere = 20 * one_hot(torch.full_like(labels, index), 2)
    assert value(CentrelineDice(iterations=3), everywhere, labels).item() > 0.99


def test_cldice_is_content_where_nothing_is_and_nothing_is_found():
    labels = torch.zeros(1, 9, 20, dtype=torch.int64)
    loss = value(CentrelineDice(iterations=3), 50 * one_hot(labels, 2), labels)
    assert loss.item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("shape", [(12,), (6, 7), (5, 6, 7)])
def test_cldice_works_along_any_number_of_axes(shape):
    logits, labels = example((2, 3, *shape), dtype=torch.float32)
    loss = value(CentrelineDice(iterations=2), logits, labels)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert 0 < loss.item() < 1


def test_signed_distances_are_negative_inside_and_count_voxels():
    labels = torch.zeros(1, 9, dtype=torch.int64)
    labels[0, 3:8] = 1
    found = signed_distances(labels, 3, distances)
    assert found[0, 1].tolist() == [3, 2, 1, 0, -1, -2, -1, 0, 1]
    assert found[0, [0, 2]].abs().max() == 0


def test_a_class_that_fills_the_image_has_no_boundary():
    found = signed_distances(torch.ones(1, 4, 4, dtype=torch.int64), 2, distances)
    assert found.abs().max() == 0


@pytest.mark.parametrize("batch_dice", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_finite_differences(name, batch_dice):
    logits, labels = example((2, NUM_CLASSES, 3, 3))
    labels[0, 0, :2] = IGNORE
    loss = named(name, batch_dice=batch_dice)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits,), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_with_missing_classes_equal_finite_differences(name):
    logits, labels = example((2, NUM_CLASSES, 3, 3))
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    labels[1][labels[1] == 2] = 0
    loss = named(name)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, annotated), (logits,), fast_mode=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_dice", [False, True])
def test_ignored_voxels_are_as_if_cropped_away(name, batch_dice):
    logits, labels = example((2, NUM_CLASSES, 8, 6))
    inside = labels.clone()
    inside[:, 5:] = IGNORE
    loss = named(name, batch_dice=batch_dice)
    whole, cropped = loss(logits, inside), loss(logits[:, :, :5], labels[:, :5])
    torch.testing.assert_close(whole, cropped)
    gradients = [torch.autograd.grad(item, logits)[0] for item in (whole, cropped)]
    torch.testing.assert_close(*gradients)


def extremes():
    labels = torch.zeros(2, 6, 6, dtype=torch.int64)
    labels[:, 1:3, 1:4] = 1
    labels[:, 4:, 2:] = 2
    right, wrong = 200.0 * one_hot(labels), 200.0 * one_hot((labels + 1) % 3)
    empty_class = labels.clamp(max=1)
    background, full = torch.zeros_like(labels), torch.full_like(labels, 2)
    nothing = torch.full_like(labels, IGNORE)
    targets = (labels, empty_class, background, full, nothing)
    return itertools.product((right, wrong, torch.zeros_like(right)), targets)


REDUCED = itertools.product(("dice_ce", "regions", "focal"), (torch.bfloat16, torch.float16))


@pytest.mark.parametrize(("name", "dtype"), [*((n, torch.float32) for n in NAMES), *REDUCED])
def test_values_and_gradients_are_finite_at_extremes(name, dtype):
    for logits, labels in extremes():
        logits = logits.to(dtype).requires_grad_()
        loss = named(name)(logits, labels)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
        assert gradient.dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_better_predictions_have_a_lower_loss(name):
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, 2:6, 1:4] = 1
    labels[:, 3:7, 5:7] = 2
    noise = torch.randn((1, 3, 8, 8), generator=torch.Generator().manual_seed(1)).double()
    values = [
        named(name)(noise + confidence * one_hot(labels), labels).item()
        for confidence in (-2, 0, 2, 4, 8)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.01


# The mean of ohem_ce rises when the easiest voxel of its set leaves the set.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "ohem_ce"])
def test_a_step_down_the_gradient_lowers_the_loss(name):
    logits, labels = example((2, NUM_CLASSES, 8, 8))
    loss = named(name)
    before = loss(logits, labels)
    (gradient,) = torch.autograd.grad(before, logits)
    after = loss(logits - 1e-3 * gradient / gradient.norm(), labels)
    assert after.item() < before.item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device_limit", [7, 40])
def test_slabs_change_nothing(name, device_limit, monkeypatch):
    logits, labels = example((3, NUM_CLASSES, 4, 5))
    labels[1, 2:] = IGNORE
    whole = named(name)(logits, labels)
    monkeypatch.setattr(sums, "CPU_SLAB_VALUES", device_limit)
    parts = named(name)(logits, labels)
    torch.testing.assert_close(parts, whole)
    gradients = [torch.autograd.grad(item, logits)[0] for item in (whole, parts)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_logits_give_the_same(name):
    logits, labels = example((2, NUM_CLASSES, 4, 6))
    last: Any = logits.detach().to(memory_format=torch.channels_last).requires_grad_()
    values = [named(name)(item, labels) for item in (logits, last)]
    torch.testing.assert_close(*values)
    gradients = [
        torch.autograd.grad(item, z)[0] for item, z in zip(values, (logits, last), strict=True)
    ]
    torch.testing.assert_close(*gradients)


def test_logits_of_any_layout_get_their_gradient():
    logits, labels = example((2, NUM_CLASSES, 4, 6))
    mixed: Any = logits.detach().transpose(2, 3).contiguous().transpose(2, 3).requires_grad_()
    for z in (logits, mixed):
        DiceAndCrossEntropy(batch_dice=True)(z, labels).backward()
    torch.testing.assert_close(mixed.grad, logits.grad)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_that_is_not_annotated_may_be_predicted_as_background(name):
    """Moving probability between background and a missing class changes nothing."""
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[:, 2:6, 1:4] = 1
    annotated = torch.tensor([[True, True, False]])
    background, other = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    background[:, 0], other[:, 2] = 3.0, 3.0
    found = [named(name)(item.double(), labels, annotated) for item in (background, other)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PARAMETERS])
def test_a_case_with_a_missing_class_is_one_of_the_remaining_classes(name):
    """Marginal logits with fewer classes give the same loss."""
    logits, labels = example((2, 3, 5, 6))
    labels = labels.clamp(max=1)
    annotated = torch.tensor([[True, True, False]] * 2)
    fewer = torch.stack([logits[:, [0, 2]].logsumexp(1), logits[:, 1]], dim=1)
    torch.testing.assert_close(named(name)(logits, labels, annotated), named(name)(fewer, labels))


def test_voxels_of_a_class_that_is_not_annotated_are_ignored():
    logits, labels = example()
    annotated = torch.tensor([[True, True, False]] * 2)
    loss = named("dice_ce")
    expected = loss(logits, labels.masked_fill(labels == 2, IGNORE), annotated)
    torch.testing.assert_close(loss(logits, labels, annotated), expected)


def test_background_that_is_not_annotated_is_ignored():
    logits, labels = example()
    annotated = torch.tensor([[False, True, True]] * 2)
    loss = named("dice_ce")
    expected = loss(logits, labels.masked_fill(labels == 0, IGNORE))
    torch.testing.assert_close(loss(logits, labels, annotated), expected)


def test_classes_that_are_not_annotated_do_not_count_in_batch_dice():
    logits, labels = example()
    labels[1] = labels[1].clamp(max=1)
    annotated = torch.tensor([[True, True, True], [True, True, False]])
    p = logits.softmax(1)
    p_of_2, y_of_2 = p[0, 2], labels[0] == 2
    p_of_1, y_of_1 = p[:, 1], labels == 1
    dice = [
        (2 * (q * y).sum() + 1e-5) / (q.sum() + y.sum() + 1e-5)
        for q, y in ((p_of_1, y_of_1), (p_of_2, y_of_2))
    ]
    expected = 1 - torch.stack(dice).mean()
    torch.testing.assert_close(value(Dice(batch=True), logits, labels, annotated), expected)


def test_all_classes_annotated_is_the_same_as_no_word_of_it():
    logits, labels = example()
    loss = named("dice_ce")
    everything = torch.ones(2, NUM_CLASSES, dtype=torch.bool)
    torch.testing.assert_close(loss(logits, labels, everything), loss(logits, labels))


def test_deep_supervision_passes_on_what_is_annotated():
    logits, labels = example((2, NUM_CLASSES, 4, 4))
    annotated = torch.tensor([[True, True, False]] * 2)
    inner = named("dice_ce")
    loss = DeepSupervised(inner, weights=(1.0,))
    torch.testing.assert_close(loss(logits, labels, annotated), inner(logits, labels, annotated))


def test_labels_of_a_network_without_padding_lose_their_margin():
    logits, labels = example((2, NUM_CLASSES, 4, 6))
    wide = functional.pad(labels, (2, 2, 3, 3), value=2)
    inner = named("dice_ce")
    found = DeepSupervised(inner, weights=(1.0,))(logits, wide)
    torch.testing.assert_close(found, inner(logits, labels))


def test_both_ways_to_sum_by_class_agree():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand((2, 1, 50), generator=generator)
    index = torch.randint(0, 4, (2, 1, 50), generator=generator)
    found = sums.scattered(values, index, 5), sums.compared(values, index, 5)
    torch.testing.assert_close(*found)
    assert found[0].shape == (2, 5)


@pytest.mark.slow
def test_many_voxels_are_counted_to_the_last():
    labels = torch.ones(1, 2**25, dtype=torch.int8)
    found = sums.softmax_sums(
        torch.zeros(1, 2, 2**25), sums.targets_of(labels, torch.float32), power=1
    )
    assert found.volume[0, 1] == 2**25
    assert found.overlap[0, 1] == 2**24
