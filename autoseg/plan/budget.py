"""Dividing the hours of one `autoseg train` among what it is asked to do."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

from autoseg.errors import PlanError, Written, as_option, duration
from autoseg.plan.cost import TRAINING_FACTOR
from autoseg.plan.plan import Plan
from autoseg.plan.rules import are_slices_apart

FINISHING_FRACTION = 0.08
"""Part of the budget that a plan keeps for validation, ensemble, export and report: they grow with
the data. Training itself asks `finishing_seconds`, which knows the networks."""
FINISHING_S = 30.0
"""Part of the same that does not grow: loading torch, exporting and verifying one model."""
CHOOSING_S = 8.0
"""Ensemble, post-processing and report on one quiet core, seconds of computing."""
EXPORT_S = 14.0
"""A configuration's export that does not grow with its folds, the same: loading the exporter, the
proof, and the speed of each backend."""
BLOCK_S = 0.55
"""Export of one block of the encoder of one fold, with its part of the decoder, the same. Measured
on networks of 8 and 12 blocks: 9.8 and 15.3 s with one fold, 27.5 and 41.7 s with five."""
COMPARED_TILES = 8
"""Tiles that the proof predicts where an image is one: 2 cases by the network and 3 backends.
Along an axis longer than the patch they are two."""
FP32_SHARE = 0.4
"""Part of a matrix product's speed that the prediction of such a tile reaches."""
MIN_FOLD_S = 15.0
"""A fold with less than this is not worth its validation; folds are dropped instead."""

PREPARING_S = 60.0
"""What is proposed on top of the smallest budget: preparing cases counts, too."""

Fold = tuple[str, str]
"""Configuration and fold."""


def seconds_per_fold(available_s: float, num_folds: int, num_workers: int) -> float:
    """Return the training time of each fold when `num_workers` are trained at once.

    Parameters
    ----------
    available_s
        What is left of the budget, seconds.
    num_folds
        Folds of all configurations that are still to be trained.
    num_workers
        Folds trained at the same time.
    """
    rounds = math.ceil(num_folds / num_workers)
    return (available_s * (1.0 - FINISHING_FRACTION) - FINISHING_S) / rounds


def finishing_seconds(plan: Plan, folds: Sequence[Fold], flops: float) -> float:
    """Return the seconds of what comes after validation on one quiet core, when folds are trained.

    Choosing, the export with its proof, and the report.

    Parameters
    ----------
    plan
        Of the folds.
    folds
        All that the model may be made of, those of earlier calls included.
    flops
        float32 operations a second of the machine (`Machine.flops`).
    """
    total = CHOOSING_S
    for name, count in Counter(name for name, _ in folds).items():
        item = plan.configuration(name)
        blocks = sum(stage.num_blocks for stage in item.network.stages)
        operations = item.cost.step_operations / (TRAINING_FACTOR * item.batch_size)
        axes = zip(item.median_shape, item.patch_size, strict=True)
        tiles = COMPARED_TILES * math.prod(1 if size <= patch else 2 for size, patch in axes)
        proof_s = tiles * operations / (FP32_SHARE * flops)
        total += EXPORT_S + count * (blocks * BLOCK_S + proof_s)
    return total


def smallest_budget_s() -> int:
    """Return the seconds of which one fold of `MIN_FOLD_S` and what comes after it can be had.

    Preparing the cases, where they are not prepared yet, comes on top.
    """
    return math.ceil((MIN_FOLD_S + FINISHING_S) / (1.0 - FINISHING_FRACTION))


def refuse_short_budget(budget_s: float | None, written: Written = as_option) -> None:
    """Raise an error for a budget that no training can keep; None is no budget.

    Parameters
    ----------
    budget_s
        Seconds.
    written
        How the message names what to give instead.

    Raises
    ------
    PlanError
        It is below `smallest_budget_s`.
    """
    least = smallest_budget_s()
    if budget_s is None or budget_s >= least:
        return
    raise PlanError(
        found=f"a budget of {duration(budget_s)}",
        expected=f"time for preparing the cases, a fold of {MIN_FOLD_S:.0f} s and its export",
        fix=f"give {written('budget', f'{least + PREPARING_S:.0f}s')} or more",
    )


def preferred_order(plan: Plan, folds: Sequence[Fold]) -> tuple[Fold, ...]:
    """Return the folds by configuration, the one that suits best first; else as they come."""
    best = ("2d", "3d_fullres") if _is_sliced(plan) else ("3d_fullres", "2d")
    order = (*best, "3d_lowres", "3d_cascade_fullres")
    ranks = {name: rank for rank, name in enumerate(order)}
    return tuple(sorted(folds, key=lambda fold: ranks.get(fold[0], len(order))))


def kept_folds(ordered: Sequence[Fold], count: int) -> tuple[Fold, ...]:
    """Return at most `count` of the folds in preferred order.

    Whole configurations are dropped as long as there is another, the last first; then folds from
    the last.
    """
    names = list(dict.fromkeys(name for name, _ in ordered))
    kept = list(ordered)
    while len(kept) > count and len(names) > 1:
        last = names.pop()
        kept = [fold for fold in kept if fold[0] != last]
    return tuple(kept[:count])


def affordable(ordered: Sequence[Fold], fits: Callable[[Sequence[Fold]], bool]) -> tuple[Fold, ...]:
    """Return as many of the folds in preferred order as fit (see `kept_folds`); maybe none."""
    for count in range(len(ordered), 0, -1):
        kept = kept_folds(ordered, count)
        if kept and fits(kept):
            return kept
    return ()


def _is_sliced(plan: Plan) -> bool:
    full = next((item for item in plan.configurations if item.name == "3d_fullres"), None)
    return full is not None and are_slices_apart(full.recipe.spacing, full.median_shape[0])
