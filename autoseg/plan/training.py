"""How a fold is trained: two recipes, each measured as a whole."""

from autoseg.plan.augmentation import light_augmentation, nnunet_augmentation
from autoseg.plan.optimizers import OPTIMIZERS
from autoseg.plan.plan import TrainingPlan

NNUNET_STEPS = 250_000
"""1000 epochs of 250 steps."""
CLIP_NORM = 12.0
"""Largest norm of a step's gradient: only outliers are cut."""
FOREGROUND_FRACTION = 0.33
"""A third of each batch shows foreground for sure: small structures would rarely be seen."""


def num_supervised(num_stages: int) -> int:
    """Return how many resolutions get a head: all decoder stages but the coarsest."""
    return max(1, num_stages - 2)


def supervision_weights(count: int) -> tuple[float, ...]:
    """Return loss weights that halve with each coarser resolution and sum to 1."""
    weights = [0.5**level for level in range(count)]
    return tuple(weight / sum(weights) for weight in weights)


def sgd_training(patch_size: tuple[int, ...], *, supervised: int, batch_dice: bool) -> TrainingPlan:
    """Return nnU-Net's training: SGD with Nesterov momentum and a polynomial decay."""
    usual = OPTIMIZERS["sgd"]
    return TrainingPlan(
        optimizer="sgd",
        peak_lr=usual.peak_lr,
        momentum=usual.momentum,
        weight_decay=usual.weight_decay,
        poly_power=0.9,
        warmup_steps=usual.warmup_steps,
        max_gradient_norm=CLIP_NORM,
        ema_decay=0.0,
        batch_dice=batch_dice,
        supervision_weights=supervision_weights(supervised),
        foreground_fraction=FOREGROUND_FRACTION,
        augmentation=nnunet_augmentation(patch_size),
        default_steps=NNUNET_STEPS,
        default_budget_s=None,
    )


def adamw_training(
    patch_size: tuple[int, ...], *, supervised: int, batch_dice: bool
) -> TrainingPlan:
    """Return training for a few thousand steps: AdamW from a high rate down to zero."""
    usual = OPTIMIZERS["adamw"]
    return TrainingPlan(
        optimizer="adamw",
        peak_lr=usual.peak_lr,
        momentum=usual.momentum,
        weight_decay=usual.weight_decay,
        poly_power=0.9,
        warmup_steps=usual.warmup_steps,
        max_gradient_norm=CLIP_NORM,
        ema_decay=0.99,
        batch_dice=batch_dice,
        supervision_weights=supervision_weights(supervised),
        foreground_fraction=FOREGROUND_FRACTION,
        augmentation=light_augmentation(patch_size),
        default_steps=None,
        default_budget_s=None,
    )
