"""What can go wrong in a training, as rules on numbers that it logs anyway.

Each rule answers with a `Trouble`, which says what was seen and what helps, or with None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from autoseg.plan.after import OVERFITTING_GAP
from autoseg.record import Record

Kind = Literal[
    "not finite",
    "collapse",
    "class lost",
    "only background",
    "constant output",
    "weak gradient",
    "gap",
]

FOUND_DICE = 0.3
"""From this Dice on a class counts as found: what is lost must have been there."""
LOST_DICE = 0.05
"""Below this Dice a class that was found counts as lost: noise between looks is smaller."""
LOST_TO_CONSTANT = 0.1
"""Mean Dice by which a network must have been better for one class everywhere to be a collapse."""
LATE = 0.5
"""Part of a run after which a network that has found nothing needs another plan. Before, hard data
look like that too."""
WEAK_GRADIENT = 1e-3
"""Gradient of the first layer relative to the bottleneck's, below which the first layer hardly
learns: common advice on vanishing gradients."""
LOWER_LR = 0.5
"""Factor of the learning rate after going back to a checkpoint."""


class Trouble(Record):
    """Something that goes wrong, as events.jsonl and the report tell it."""

    kind: Kind
    subject: str = ""
    """The class it is about, if it is about one."""
    step: int
    found: str
    fix: str


def has_collapsed(best: Sequence[float | None], now: Sequence[float | None]) -> bool:
    """Return whether a network that had found something has lost everything.

    Parameters
    ----------
    best
        Highest Dice that each foreground class has had so far, None where it has had none.
    now
        Dice of each class at this look.
    """
    known = [value for value in now if value is not None]
    had = [value for value in best if value is not None]
    return bool(known and had) and max(had) >= FOUND_DICE and max(known) < LOST_DICE


def lost_classes(
    best: Sequence[float | None], now: Sequence[float | None], names: Sequence[str], step: int
) -> list[Trouble]:
    """Return the classes that had been found and are so no more; `names` are theirs."""
    return [
        Trouble(
            kind="class lost",
            subject=name,
            step=step,
            found=f"class {name} has been lost: its Dice was {had:.2f} and is {dice:.2f} at step "
            f"{step}",
            fix="plan with a lower learning rate or with more patches around foreground "
            "(training.peak_lr, training.foreground_fraction)",
        )
        for had, dice, name in zip(best, now, names, strict=True)
        if had is not None and dice is not None and had >= FOUND_DICE and dice < LOST_DICE
    ]


def only_background(now: Sequence[float | None], *, step: int, progress: float) -> Trouble | None:
    """Return the trouble of a network that has found nothing of any class late in its run.

    Parameters
    ----------
    progress
        Part of the run that is done, 0 to 1.
    """
    known = [value for value in now if value is not None]
    if progress < LATE or not known or max(known) > 0.0:
        return None
    return Trouble(
        kind="only background",
        step=step,
        found=f"after {progress:.0%} of the run no voxel of any class is found",
        fix="look at the masks with `autoseg check`; train for longer; or plan with "
        "--set loss=dice_focal and more patches around foreground (training.foreground_fraction)",
    )


def constant_output(name: str, *, step: int, progress: float) -> Trouble | None:
    """Return the trouble of a network that gives all voxels one foreground class late in its run.

    Parameters
    ----------
    name
        Of that class.
    progress
        Part of the run that is done, 0 to 1.
    """
    if progress < LATE:
        return None
    return Trouble(
        kind="constant output",
        subject=name,
        step=step,
        found=f"after {progress:.0%} of the run nearly every voxel is given class {name}",
        fix="plan with a lower learning rate (training.peak_lr), or with a loss that counts "
        "background, too (--set loss=dice_ce)",
    )


def weak_gradient(first: float, bottleneck: float, step: int) -> Trouble | None:
    """Return the trouble of a first layer that hardly learns.

    Parameters
    ----------
    first, bottleneck
        Root mean square of the gradient over the weights of the first convolution and of the
        deepest stage's first one.
    """
    if not (math.isfinite(first) and 0.0 < bottleneck < math.inf):
        return None
    if first >= WEAK_GRADIENT * bottleneck:
        return None
    return Trouble(
        kind="weak gradient",
        step=step,
        found=f"the gradient of the first layer is {first / bottleneck:.1e} of the bottleneck's at "
        f"step {step}",
        fix="plan with residual blocks (network.encoder=residual), with normalisation, or with "
        "fewer stages",
    )


def gap(train_dice: float | None, val_dice: float | None, step: int) -> Trouble | None:
    """Return the trouble of a network that has learnt its training cases by heart."""
    if train_dice is None or val_dice is None or train_dice - val_dice <= OVERFITTING_GAP:
        return None
    return Trouble(
        kind="gap",
        step=step,
        found=f"Dice is {train_dice:.2f} on training cases and {val_dice:.2f} on validation cases",
        fix="`autoseg plan --after` this workspace plans a narrower network or more weight decay",
    )


def best_so_far(lines: Sequence[Mapping[str, object]]) -> list[float | None]:
    """Return the highest Dice of each class in lines of metrics.jsonl; empty without any look."""
    best: list[float | None] = []
    for line in lines:
        found = line.get("class_dice")
        if isinstance(found, list):
            best = better(best, found)
    return best


def better(best: Sequence[float | None], now: Sequence[float | None]) -> list[float | None]:
    """Return the higher of two Dice values for each class; None is lower than any."""
    if not best:
        return list(now)
    return [
        b if a is None else a if b is None else max(a, b) for a, b in zip(best, now, strict=True)
    ]
