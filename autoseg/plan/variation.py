"""One configuration made wider, deeper, of other blocks or patches: each consistent as a whole.

Pure functions `ConfigurationPlan -> ConfigurationPlan`; costs are left to `with_cost`. Patches are
ZYX (2D: YX), in prepared order.
"""

import itertools
import math
from dataclasses import replace

from autoseg.plan.plan import ConfigurationPlan
from autoseg.plan.training import num_supervised, supervision_weights
from autoseg.record import LossPlan, NetworkPlan, StagePlan

FEATURE_STEP = 4
"""Widths are rounded to multiples of this: processors work on several values at once."""
MIN_STAGES = 3
"""A shallower network sees too little of the image to tell structures apart."""
MIN_EDGE = 2
"""Feature maps get no smaller along an axis that a further stage halves."""
SHARED_LOSS = ("dice_power",)
"""Fields of a loss that mean the same in all losses of a search."""
RESIDUAL_BLOCKS = (1, 2)
"""Residual blocks of the first stage, and of all others: two convolutions each, so that the finest
stage costs what it cost before, and the cheaper ones gain."""
PLAIN_CONVS = 2
AXIS_STEP = 0.7
"""How much shorter one axis becomes where the others grow, about."""
EQUAL_COST = (0.8, 1.1)
"""Voxels of a batch, in those planned, that count as the same cost."""
HALVED = 0.8
"""Each axis of a smaller patch, of which a batch holds more: about half of the voxels in 3D."""
UNTOUCHED = (
    "mirror_probability",
    "side_mirror_probability",
    "channel_dropout_probability",
)
"""Probabilities that are no matter of strength: anatomy and missing channels decide them."""


def with_width(item: ConfigurationPlan, factor: float) -> ConfigurationPlan:
    """Return the configuration with this many times the features in every stage."""
    stages = tuple(
        stage.revised(features=_rounded(stage.features * factor, FEATURE_STEP))
        for stage in item.network.stages
    )
    return item if factor == 1 else item.revised(network=item.network.revised(stages=stages))


def with_depth(item: ConfigurationPlan, change: int) -> ConfigurationPlan:
    """Return the configuration with one stage less (-1) or one more (+1) at the coarse end.

    Raises
    ------
    ValueError
        The network is too shallow, or the coarsest feature maps cannot be halved.
    """
    if change == 0:
        return item
    stages = item.network.stages
    if change < 0:
        if len(stages) <= MIN_STAGES:
            raise ValueError(f"{len(stages)} stages cannot be fewer")
        return _with_stages(item, stages[:-1])
    deeper = further_stage(item)
    if deeper is None:
        raise ValueError("the coarsest feature maps cannot be halved")
    return _with_stages(item, (*stages, deeper))


def further_stage(item: ConfigurationPlan) -> StagePlan | None:
    """Return the stage that could follow the coarsest one, None if no axis can be halved."""
    stages = item.network.stages
    strides = item.network.total_strides
    edges = [size // stride for size, stride in zip(item.patch_size, strides, strict=True)]
    halved = tuple(2 if n % 2 == 0 and n // 2 >= MIN_EDGE else 1 for n in edges)
    if max(halved) == 1:
        return None
    last = stages[-1]
    is_widest = len(stages) > 1 and stages[-2].features >= last.features
    return last.revised(
        features=last.features if is_widest else 2 * last.features,
        kernel_size=(3,) * len(edges),
        strides=halved,
    )


def with_variant(item: ConfigurationPlan, variant: str) -> ConfigurationPlan:
    """Return the configuration as a plain U-Net, with residual blocks, or with attention gates."""
    if variant == variant_of(item.network):
        return item
    network = item.network
    is_residual = variant == "residual"
    stages = network.stages
    if is_residual != (network.encoder == "residual"):
        first, others = RESIDUAL_BLOCKS if is_residual else (PLAIN_CONVS, PLAIN_CONVS)
        stages = tuple(
            stage.revised(num_blocks=others if index else first)
            for index, stage in enumerate(stages)
        )
    return item.revised(
        network=network.revised(
            encoder="residual" if is_residual else "plain",
            decoder="attention" if variant == "attention" else "plain",
            stages=stages,
        )
    )


def variant_of(network: NetworkPlan) -> str | None:
    """Return which of the three variants a network is, None for any other."""
    is_usual = network.padding == "same" and network.backbone is None
    kinds = {
        ("plain", "plain"): "plain",
        ("residual", "plain"): "residual",
        ("plain", "attention"): "attention",
    }
    return kinds.get((network.encoder, network.decoder)) if is_usual else None


def with_patch(item: ConfigurationPlan, shape: str) -> ConfigurationPlan:
    """Return the configuration with a patch and a batch as `patch_word` writes them."""
    patch, batch = shape.split("*")
    sizes = tuple(int(size) for size in patch.split("x"))
    return item.revised(patch_size=sizes, batch_size=int(batch))


def patch_word(patch_size: tuple[int, ...], batch_size: int) -> str:
    """Return a patch and a batch as one word: "40x56x40*2"."""
    return f"{'x'.join(map(str, patch_size))}*{batch_size}"


def equal_patches(item: ConfigurationPlan) -> tuple[str, ...]:
    """Return other shapes of about the same cost: one axis shorter, or smaller patches but more.

    All can be taken by the network, and none reaches beyond the median image by more than the
    planned patch does.
    """
    patch, steps = item.patch_size, item.network.total_strides
    axes = range(len(patch)) if len(patch) > 1 else ()
    shapes = [(_lengthened(item, axis), item.batch_size) for axis in axes]
    smaller = tuple(_rounded(n * HALVED, s) for n, s in zip(patch, steps, strict=True))
    ratio = math.prod(patch) / math.prod(smaller)
    shapes.append((smaller, max(item.batch_size + 1, round(item.batch_size * ratio))))
    planned = item.batch_size * math.prod(patch)
    return tuple(
        dict.fromkeys(
            patch_word(sizes, batch)
            for sizes, batch in shapes
            if sizes != patch
            and EQUAL_COST[0] <= batch * math.prod(sizes) / planned <= EQUAL_COST[1]
        )
    )


def with_supervision(item: ConfigurationPlan, count: int) -> ConfigurationPlan:
    """Return the configuration with heads at so many resolutions; 1 is no deep supervision."""
    if count == item.network.num_supervised:
        return item
    return item.revised(
        network=item.network.revised(num_supervised=count),
        training=item.training.revised(supervision_weights=supervision_weights(count)),
    )


def with_normalisation(item: ConfigurationPlan, scheme: str) -> ConfigurationPlan:
    """Return the configuration with another scheme for the channels that have zscore or unit."""
    channels = tuple(
        replace(channel, scheme=scheme) if channel.scheme in ("zscore", "unit") else channel
        for channel in item.recipe.channels
    )
    return item.revised(recipe=replace(item.recipe, channels=channels))


def with_augmentation(item: ConfigurationPlan, factor: float) -> ConfigurationPlan:
    """Return the configuration with all random changes so many times as probable, at most 1."""
    if factor == 1:
        return item
    plan = item.training.augmentation
    changed = {
        name: min(1.0, round(value * factor, 3))
        for name, value in plan
        if name.endswith("_probability") and name not in UNTOUCHED
    }
    return item.revised(training=item.training.revised(augmentation=plan.revised(**changed)))


def with_loss(item: ConfigurationPlan, kind: str) -> ConfigurationPlan:
    """Return the configuration with another loss; what has no part in it takes its default."""
    loss = item.training.loss
    if kind == loss.kind:
        return item
    shared = {name: getattr(loss, name) for name in SHARED_LOSS}
    return item.revised(training=item.training.revised(loss=LossPlan(kind=kind, **shared)))


def _with_stages(item: ConfigurationPlan, stages: tuple[StagePlan, ...]) -> ConfigurationPlan:
    """Return the configuration with other stages, and heads at no more resolutions than usual."""
    count = min(item.network.num_supervised, num_supervised(len(stages)))
    return with_supervision(item, count).revised(
        network=item.network.revised(stages=stages, num_supervised=count)
    )


def _lengthened(item: ConfigurationPlan, short: int) -> tuple[int, ...]:
    """Return the patch with one axis shorter and the others as long as that makes up for.

    Of all patches that the network can take, the one whose axes come nearest to that.
    """
    patch, steps = item.patch_size, item.network.total_strides
    others = len(patch) - 1
    grown = AXIS_STEP ** (-1 / others)
    factors = [AXIS_STEP if axis == short else grown for axis in range(len(patch))]
    choices = []
    for axis, step in enumerate(steps):
        wanted = patch[axis] * factors[axis]
        most = max(patch[axis], math.ceil(item.median_shape[axis] / step) * step)
        down = max(step, int(wanted // step) * step)
        choices.append([size for size in (down, down + step) if size <= most] or [most])

    def distance(sizes: tuple[int, ...]) -> float:
        ratio = math.prod(sizes) / math.prod(patch)
        axes = zip(sizes, patch, factors, strict=True)
        return abs(math.log(ratio)) + sum(abs(math.log(n / (p * f))) for n, p, f in axes)

    return min(itertools.product(*choices), key=distance)


def _rounded(value: float, step: int) -> int:
    """Return the nearest multiple of a step, at least one."""
    return max(1, round(value / step)) * step
