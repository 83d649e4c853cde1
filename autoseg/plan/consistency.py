"""What must hold between the numbers of a plan."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from autoseg.errors import PlanError
from autoseg.plan.augmentation import augmentation_problems
from autoseg.plan.losses import loss_problems
from autoseg.plan.plan import ConfigurationPlan, Plan

WEIGHT_TOLERANCE = 1e-6
ABOVE_ZERO, NOT_NEGATIVE, WHOLE = "above 0", "0 or more", "1 or more"
PART = "from 0 to 1"
RANGES: Mapping[str, str] = MappingProxyType(
    {
        "num_folds": ABOVE_ZERO,
        "num_threads": ABOVE_ZERO,
        "memory_bytes": ABOVE_ZERO,
        "ram_bytes": ABOVE_ZERO,
        "nsd_tolerance": ABOVE_ZERO,
        "spacing": ABOVE_ZERO,
        "peak_lr": ABOVE_ZERO,
        "batch_size": WHOLE,
        "patch_size": WHOLE,
        "foreground_fraction": PART,
        "ema_decay": PART,
        "momentum": PART,
        "overlap": "between 0 and 1",
        "region_margin": NOT_NEGATIVE,
    }
)
"""Which numbers the fields of a plan take, by their names."""


def load_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises
    ------
    PlanError
        Its numbers contradict each other: all contradictions at once.
    AutosegError
        It cannot be read as a plan of this version.
    """
    plan = Plan.load(path)
    problems = plan_problems(plan)
    if problems:
        raise PlanError(
            found="\n".join(f"{path.name}: {line}" for line in problems),
            expected="a plan that can be trained",
            fix=f"undo the change to {path.name}, or run `autoseg plan` again",
        )
    return plan


def range_problem(name: str, value: object) -> str | None:
    """Return which numbers a field takes if a value is none of them, else None.

    Parameters
    ----------
    name
        Of the field alone: "batch_size".
    value
        A number, or several; what is neither is right as far as this goes.
    """
    numbers = value if isinstance(value, list | tuple) else [value]
    if all(_is_within(number, RANGES.get(name)) for number in numbers):
        return None
    return RANGES[name]


def _is_within(value: object, limits: str | None) -> bool:
    if limits is None or isinstance(value, bool) or not isinstance(value, int | float):
        return True
    if limits == PART:
        return 0 <= value <= 1
    if limits == RANGES["overlap"]:
        return 0 <= value < 1
    if limits == NOT_NEGATIVE:
        return value >= 0
    return value > 0 if limits == ABOVE_ZERO else value >= 1


def _out_of_range(above: str, record: object, names: Iterable[str]) -> Iterator[str]:
    """Yield which fields of a record have numbers that they do not take."""
    for name in names:
        value = getattr(record, name)
        limits = range_problem(name, value)
        if limits is not None:
            yield f"{above}{name} is {value}, not {limits}"


def plan_problems(plan: Plan) -> list[str]:
    """Return what contradicts itself in a plan, one line a problem; empty for a good plan."""
    names = [item.name for item in plan.configurations]
    problems = [f"two configurations are named {name}" for name in names if names.count(name) > 1]
    if not names:
        problems.append("the plan has no configuration")
    elif not any(item.train_by_default for item in plan.configurations):
        problems.append("no configuration is trained by default")
    numbers = ("num_folds", "num_threads", "memory_bytes", "ram_bytes", "nsd_tolerance")
    problems += _out_of_range("", plan, numbers)
    for item in plan.configurations:
        problems += [f"{item.name}.{line}" for line in _configuration_problems(plan, item)]
    return problems


def _configuration_problems(plan: Plan, item: ConfigurationPlan) -> Iterator[str]:
    names = [other.name for other in plan.configurations]
    if item.previous_stage is not None and item.previous_stage not in names:
        yield f"previous_stage is {item.previous_stage}, which is not planned"
    if item.region_margin is not None and item.previous_stage is None:
        yield "region_margin is set, but no previous stage says where something is"
    yield from _out_of_range("", item, ["batch_size", "region_margin"])
    yield from _network_problems(plan, item)
    yield from _recipe_problems(item)
    yield from _training_problems(item)


def _network_problems(plan: Plan, item: ConfigurationPlan) -> Iterator[str]:
    network, dims = item.network, len(item.patch_size)
    num_labels = len(plan.labels.names)
    if network.num_classes != num_labels:
        yield f"network.num_classes is {network.num_classes}, not the {num_labels} labels"
    for index, stage in enumerate(network.stages):
        if not len(stage.kernel_size) == len(stage.strides) == dims:
            yield f"network.stages.{index} and patch_size have different numbers of axes"
            return
        if min(stage.features, stage.num_blocks, *stage.strides, *stage.kernel_size) < 1:
            yield f"network.stages.{index} has a number below 1"
            return
        if any(size % 2 == 0 for size in stage.kernel_size):
            yield f"network.stages.{index}.kernel_size is {stage.kernel_size}, not odd"
    problem = network.patch_problem(item.patch_size)
    if problem is not None:
        yield f"patch_size is {item.patch_size}, {problem}"
    yield from (f"network.{line}" for line in network.problems())


def _recipe_problems(item: ConfigurationPlan) -> Iterator[str]:
    recipe, dims = item.recipe, len(item.patch_size)
    if len(recipe.spacing) != dims or len(item.median_shape) != dims:
        yield "recipe.spacing, median_shape and patch_size have different numbers of axes"
    yield from _out_of_range("recipe.", recipe, ["spacing", "overlap"])
    if sorted(recipe.transpose) != list(range(len(recipe.transpose))):
        yield f"recipe.transpose is {recipe.transpose}, not an order of the axes"
    if len(recipe.transpose) < dims:
        yield "recipe.transpose has fewer axes than the network"
    if not set(recipe.mirror_axes) <= set(range(dims)):
        yield f"recipe.mirror_axes is {recipe.mirror_axes}; the network has {dims} axes"
    yield from _pretrained_problems(item)


def _pretrained_problems(item: ConfigurationPlan) -> Iterator[str]:
    """Yield where a pretrained encoder would see other values than those it was trained on.

    Nothing else would tell: such a network trains, and is merely worse.
    """
    backbone, recipe = item.network.backbone, item.recipe
    if backbone is None:
        for index, channel in enumerate(recipe.channels):
            if channel.scheme == "pretrained":
                yield f"recipe.channels.{index}.scheme is pretrained, but network.backbone is not"
        return
    if recipe.order != "resample-normalise":
        yield f"recipe.order is {recipe.order}; a pretrained encoder needs resample-normalise"
    asked = zip(recipe.channels, backbone.mean, backbone.std, strict=False)
    for index, (channel, mean, std) in enumerate(asked):
        if (channel.scheme, channel.mean, channel.std) != ("pretrained", mean, std):
            yield (
                f"recipe.channels.{index} has scheme {channel.scheme}, mean {channel.mean} and std "
                f"{channel.std}; the weights of {backbone.model} were trained with scheme "
                f"pretrained, mean {mean} and std {std}"
            )
        if (channel.lower is None) != (channel.upper is None):
            yield f"recipe.channels.{index} has one of lower and upper; both, or none, make a range"


def _training_problems(item: ConfigurationPlan) -> Iterator[str]:
    training = item.training
    count, weights = item.network.num_supervised, training.supervision_weights
    if len(weights) != count or abs(sum(weights) - 1) > WEIGHT_TOLERANCE:
        yield f"training.supervision_weights must be {count} numbers that sum to 1, not {weights}"
    numbers = ("peak_lr", "foreground_fraction", "ema_decay", "momentum")
    yield from _out_of_range("training.", training, numbers)
    if training.schedule == "one_cycle" and training.warmup_steps:
        yield (
            f"training.warmup_steps is {training.warmup_steps}, but the schedule one_cycle has a "
            "rise of its own; set training.warmup_steps=0"
        )
    if not 0 < training.reduce_factor < 1 or training.reduce_patience < 0:
        yield (
            f"training.reduce_factor is {training.reduce_factor} and reduce_patience "
            f"{training.reduce_patience}, not between 0 and 1, and 0 or more"
        )
    yield from (f"training.augmentation.{line}" for line in augmentation_problems(item))
    if training.augmentation.channel_dropout_probability and not item.network.missing_channels:
        yield (
            "training.augmentation.channel_dropout_probability is above 0, but "
            "network.missing_channels is false: the network could not tell absent from dark"
        )
    num_classes = item.network.num_classes
    yield from (f"training.loss.{line}" for line in loss_problems(training.loss, num_classes))
