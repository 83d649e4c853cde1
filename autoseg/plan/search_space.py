"""What a search may change: a narrow space around one configuration, derived from its plan.

Every point of it becomes `--set` words, so that a winner is a plan like any other. The ranges are
as wide as published winners lay apart: of nine searched nnU-Nets none had a learning rate more than
2.4 times from its default, seven oversampled foreground more, and seven augmented more
(Auto-nnU-Net, arXiv 2505.16561).
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from autoseg.plan.plan import ConfigurationPlan
from autoseg.plan.training import num_supervised
from autoseg.plan.variation import (
    MIN_STAGES,
    UNTOUCHED,
    equal_patches,
    further_stage,
    patch_word,
    variant_of,
    with_augmentation,
    with_depth,
    with_loss,
    with_normalisation,
    with_patch,
    with_supervision,
    with_variant,
    with_width,
)
from autoseg.record import Record

SPACE_VERSION = 1
"""Raised when the same values mean another plan, so that old studies are not gone on with."""
LEARNING_RATE = (0.3, 3.0)
AUGMENTATION = (0.3, 2.0)
FOREGROUND = (0.5, 0.4)
"""From half of the planned fraction to this much more."""
WIDTHS = (0.75, 1.0, 1.5)
LOSSES = ("dice_ce", "dice_topk", "dice_focal")
"""Losses that serve any data: the usual one, and two that look more at what is hard."""
TIED_LOSSES = ("regions", "bce", "dice_bce")
"""Losses of overlapping classes, which others would tell apart wrongly."""
NEIGHBOURS: tuple[Mapping[str, float | str], ...] = (
    {"learning_rate": 2.0},
    {"foreground": 0.58, "augmentation": 1.4},
    {"width": 1.5},
    {"learning_rate": 0.5},
)
"""What is tried first: one step from a good plan. With all of it changed at once, most points of
the space are worse than the plan, and few trials would only tell that. The learning rate matters
most; the other two numbers are the medians of the nine published winners."""
AS_PLANNED = "the plan as it is"
"""What a user reads of trial 0, and of the plan that finalists are compared with."""
MAX_SUPERVISED = 3
"""Resolutions with heads where deep supervision is tried: coarser ones teach little."""

Values = Mapping[str, float | str]
"""One point: a value for each dimension."""


class Dimension(Record):
    """One thing that a search may change."""

    name: str
    default: float | str
    """What the plan has."""
    options: tuple[float | str, ...] = ()
    """What may be chosen; empty: any number from `low` to `high`."""
    low: float = 0.0
    high: float = 0.0
    is_log: bool = False
    """Whether ratios count, not differences."""

    def clipped(self, value: object) -> float | str | None:
        """Return the value, as far as it can be had here; None if it cannot."""
        if self.options:
            return next((item for item in self.options if item == value), None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return min(self.high, max(self.low, float(value)))


def search_space(item: ConfigurationPlan) -> tuple[Dimension, ...]:
    """Return what may be changed in a configuration; what leaves no choice is left out."""
    return tuple(_dimensions(item))


def _dimensions(item: ConfigurationPlan) -> Iterator[Dimension]:
    training = item.training
    yield _ratio("learning_rate", LEARNING_RATE)
    fraction = training.foreground_fraction
    low, high = fraction * FOREGROUND[0], min(1.0, fraction + FOREGROUND[1])
    yield Dimension(name="foreground", default=fraction, low=low, high=high)
    if any(_strengths(item)):
        yield _ratio("augmentation", AUGMENTATION)
    kind = training.loss.kind
    if kind not in TIED_LOSSES:
        yield _choice("loss", kind, LOSSES)
    yield from _network_dimensions(item)
    schemes = {channel.scheme for channel in item.recipe.channels} & {"zscore", "unit"}
    if len(schemes) == 1:
        yield _choice("normalisation", schemes.pop(), ("zscore", "unit"))


def _network_dimensions(item: ConfigurationPlan) -> Iterator[Dimension]:
    """Yield what may be changed in the network, and in its patch, which must fit it."""
    network, count = item.network, item.network.num_supervised
    if network.backbone is not None or network.padding != "same":
        return  # the weights of an encoder, and the margins of valid convolutions, fix the rest
    yield _choice("width", 1.0, WIDTHS)
    depths = [0.0]
    if len(network.stages) > MIN_STAGES:
        depths.insert(0, -1.0)
    if further_stage(item) is not None:
        depths.append(1.0)
    if len(depths) > 1:
        yield _choice("depth", 0.0, depths)
    variant = variant_of(network)
    if variant is not None:
        yield _choice("variant", variant, ("plain", "residual", "attention"))
    shapes = equal_patches(item)
    if shapes:
        yield _choice("patch", patch_word(item.patch_size, item.batch_size), shapes)
    usual = min(MAX_SUPERVISED, num_supervised(len(network.stages)))
    on = count if count > 1 else usual
    if on > 1 and network.decoder != "nested":
        yield _choice("supervision", "on" if count > 1 else "off", ("on", "off"))


def neighbours(space: Sequence[Dimension]) -> list[Values]:
    """Return the points of `NEIGHBOURS` that a space has."""
    usual = {item.name: item.default for item in space}
    found = []
    for changes in NEIGHBOURS:
        near = {
            item.name: item.clipped(changes[item.name]) for item in space if item.name in changes
        }
        known = {name: value for name, value in near.items() if value is not None}
        if known:
            found.append({**usual, **known})
    return found


def varied(item: ConfigurationPlan, values: Values) -> ConfigurationPlan:
    """Return the configuration at a point of its space; costs are left to `with_cost`.

    Raises
    ------
    ValueError
        The values do not go together.
    """
    for name, change in CHANGES.items():
        if name in values:
            item = change(item, values[name])
    return item


def assignments(old: ConfigurationPlan, new: ConfigurationPlan) -> tuple[str, ...]:
    """Return the `--set` words that make one configuration of another."""
    before, after = (item.model_dump(mode="json", exclude={"cost"}) for item in (old, new))
    return tuple(f"{old.name}.{key}={value}" for key, value in _changes(before, after, ""))


def describe(space: Sequence[Dimension], values: Values) -> str:
    """Return what differs from the plan in words: "width 1.5, loss dice_topk"."""
    parts = [
        f"{item.name} {_shown(values[item.name])}"
        for item in space
        if item.name in values and values[item.name] != item.default
    ]
    return ", ".join(parts) or AS_PLANNED


def _changes(old: object, new: object, key: str) -> Iterator[tuple[str, str]]:
    """Yield keys and new values as JSON of what differs; lists of plain values are values."""
    if old == new:
        return
    if isinstance(old, list) and isinstance(new, list) and _is_nested(old, new):
        old, new = (dict(enumerate(part)) for part in (old, new))
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield key, json.dumps(new)
        return
    for name in new:
        yield from _changes(old[name], new[name], f"{key}.{name}".lstrip("."))


def _is_nested(old: list, new: list) -> bool:
    """Return whether two lists hold as many objects, which are compared one by one."""
    return len(old) == len(new) and all(isinstance(item, dict) for item in (*old, *new))


def _ratio(name: str, limits: tuple[float, float]) -> Dimension:
    return Dimension(name=name, default=1.0, low=limits[0], high=limits[1], is_log=True)


def _choice(name: str, default: float | str, options: Sequence[float | str]) -> Dimension:
    """Return a choice among options; the default is one of them."""
    rest = options if default in options else (default, *options)
    return Dimension(name=name, default=default, options=tuple(rest))


def _strengths(item: ConfigurationPlan) -> Iterator[float]:
    for name, value in item.training.augmentation:
        if name.endswith("_probability") and name not in UNTOUCHED:
            yield value


def _with_learning_rate(item: ConfigurationPlan, factor: float) -> ConfigurationPlan:
    if factor == 1:
        return item
    rate = _short(item.training.peak_lr * factor)
    return item.revised(training=item.training.revised(peak_lr=rate))


def _with_foreground(item: ConfigurationPlan, fraction: float) -> ConfigurationPlan:
    if fraction == item.training.foreground_fraction:
        return item
    return item.revised(training=item.training.revised(foreground_fraction=_short(fraction)))


def _with_heads(item: ConfigurationPlan, word: str) -> ConfigurationPlan:
    """Return the configuration with deep supervision on or off."""
    if word == "off":
        return with_supervision(item, 1)
    usual = min(MAX_SUPERVISED, num_supervised(len(item.network.stages)))
    return with_supervision(item, max(item.network.num_supervised, usual))


def _short(value: float) -> float:
    """Return a number of three digits: more would claim what no search can know."""
    return float(f"{value:.3g}")


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


CHANGES: Mapping[str, Callable[[ConfigurationPlan, Any], ConfigurationPlan]] = MappingProxyType(
    {
        "width": with_width,
        "supervision": _with_heads,  # before the depth, which may leave fewer resolutions
        "depth": lambda item, change: with_depth(item, round(change)),
        "variant": with_variant,
        "patch": with_patch,
        "normalisation": with_normalisation,
        "loss": with_loss,
        "augmentation": with_augmentation,
        "learning_rate": _with_learning_rate,
        "foreground": _with_foreground,
    }
)
"""What each dimension does, in the order in which it is done."""
