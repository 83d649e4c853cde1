"""Pretrained encoders in a plan: what the user asks for, and what changes with one.

Which encoders there are, their shapes and their weights is known further up, where torch is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.errors import PlanError
from autoseg.fingerprint.fingerprint import Fingerprint, Intensities
from autoseg.plan.compose import decision
from autoseg.plan.encoders import USUAL_ENCODERS
from autoseg.plan.encoders import Shape as Shape
from autoseg.plan.expectation import with_renewed_accuracy
from autoseg.plan.overrides import with_cost
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan
from autoseg.plan.restated import BY_USER
from autoseg.plan.training import supervision_weights
from autoseg.record import PUBLISHED_WEIGHTS, Backbone, NetworkPlan, StagePlan
from autoseg.runtime.recipe import Channel

KERNEL = (3, 3)
OWN_CONVS = 2
"""Convolutions of a stage of our own above the encoder, as in a plain U-Net."""
MIN_OWN_FEATURES = 16
"""Features at full resolution: fewer lose outlines, more cost most of a step."""
DECODER_CONVS = 2
BYTE_RANGE = (0.0, 255.0)
UNIT_RANGE = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A pretrained encoder that a user asks for."""

    configuration: str
    model: str
    """Name of the encoder."""
    weights: str
    """`PUBLISHED_WEIGHTS`, `NO_WEIGHTS`, or a file."""
    assignments: tuple[str, ...] = ()
    """As given."""
    reason: str = BY_USER


def split_backbones(plan: Plan, assignments: Sequence[str]) -> tuple[list[Asked], list[str]]:
    """Return the encoders asked for by `2d.network.backbone=NAME`, and the other assignments.

    `2d.network.weights` says where an encoder's weights are; without it, what is published.

    Raises
    ------
    PlanError
        Weights are named without an encoder, or an encoder for a network that is not 2D.
    """
    given = dict(part.split("=", 1) for part in assignments if "=" in part)
    given = {key.strip(): value.strip() for key, value in given.items()}
    asked, taken = [], set()
    for item in plan.configurations:
        name, weights = f"{item.name}.network.backbone", f"{item.name}.network.weights"
        if given.get(name, "null") in ("null", "none"):
            if weights in given:
                raise _alone(weights, name)
            continue
        if len(item.patch_size) != 2:
            raise _not_flat(item)
        own = tuple(part for part in assignments if part.split("=")[0].strip() in (name, weights))
        taken.update(own)
        asked.append(
            Asked(
                configuration=item.name,
                model=given[name],
                weights=given.get(weights, PUBLISHED_WEIGHTS),
                assignments=own,
            )
        )
    others = [part for part in assignments if part not in taken]
    return asked, [part.replace("backbone=none", "backbone=null") for part in others]


def names_backbone(assignments: Sequence[str]) -> bool:
    """Return whether a user says which pretrained encoder to take, or that none is wanted."""
    keys = [part.split("=")[0].strip() for part in assignments]
    return any(key.endswith(".network.backbone") for key in keys)


def with_backbone(
    plan: Plan, asked: Asked, backbone: Backbone, shape: Shape, fingerprint: Fingerprint
) -> Plan:
    """Return the plan with a pretrained encoder in one configuration, and all that follows from it.

    The stages become the encoder's, with stages of our own above them up to full resolution; the
    patch is rounded to a multiple of its strides; images are normalised as its weights were
    trained; costs grow or shrink with the network.

    Parameters
    ----------
    plan, asked
        What was planned, and what the user wants instead.
    backbone
        What the network's plan keeps of the encoder.
    shape
        Of the encoder.
    fingerprint
        Of the data set.
    """
    old = plan.configuration(asked.configuration)
    network = _network(old.network, backbone, shape)
    strides = network.total_strides
    patch = tuple(
        max(1, round(size / stride)) * stride
        for size, stride in zip(old.patch_size, strides, strict=True)
    )
    channels = pretrained_channels(fingerprint, backbone)
    recipe = replace(old.recipe, channels=channels, order="resample-normalise")
    weights = supervision_weights(network.num_supervised)
    new = old.revised(
        network=network,
        patch_size=patch,
        recipe=recipe,
        training=old.training.revised(supervision_weights=weights),
    )
    new = with_cost(new, old)
    configurations = tuple(new if item.name == new.name else item for item in plan.configurations)
    reasons = _explained(asked, old, new)
    names = [item.name for item in reasons]
    if len(configurations) == 1:  # nothing is normalised otherwise any more
        names += [f"normalisation of {channel.name}" for channel in channels]
    kept = tuple(item for item in plan.decisions if item.name not in names)
    return with_renewed_accuracy(
        plan.revised(configurations=configurations, decisions=(*kept, *reasons))
    )


def pretrained_channels(fingerprint: Fingerprint, backbone: Backbone) -> tuple[Channel, ...]:
    """Return the normalisation that the weights were trained with, a channel of ours each.

    What counts as 0 and as 1 is a property of the data: see `value_range`.
    """
    rows = zip(
        fingerprint.channels, fingerprint.intensities, backbone.mean, backbone.std, strict=True
    )
    channels = []
    for name, known, mean, std in rows:
        lower, upper = value_range(fingerprint, name, known)
        channels.append(
            Channel(name=name, scheme="pretrained", lower=lower, upper=upper, mean=mean, std=std)
        )
    return tuple(channels)


def value_range(
    fingerprint: Fingerprint, name: str, known: Intensities
) -> tuple[float | None, float | None]:
    """Return which values of a channel are black and white, or None twice: each image's own.

    Pictures of 8 bits have 0 to 255 whatever they show, fractions 0 to 1; CT numbers mean the same
    in every image, so the data set's range is taken. All other units are arbitrary.
    """
    dtypes = {case.dtype for case in fingerprint.cases}
    if name.casefold() == "ct":
        return known.percentile_00_5, known.percentile_99_5
    if dtypes == {"uint8"} or name.casefold() == "rgb_to_0_1":
        return BYTE_RANGE
    is_float = all(dtype is not None and dtype.startswith("float") for dtype in dtypes)
    if is_float and known.min >= 0 and known.max <= 1:
        return UNIT_RANGE
    return None, None


def _network(old: NetworkPlan, backbone: Backbone, shape: Shape) -> NetworkPlan:
    """Return a network with the encoder's stages below our own."""
    own = [2**level for level in range(shape.reductions[0].bit_length() - 1)]
    finest = max(MIN_OWN_FEATURES, shape.features[0] // 2 ** len(own))
    features = [*(finest * size for size in own), *shape.features]
    spans = [*own, *shape.reductions]
    stages = tuple(
        StagePlan(
            features=count,
            kernel_size=KERNEL,
            strides=(span // above,) * 2,
            num_blocks=OWN_CONVS if level < len(own) else 1,
        )
        for level, (count, span, above) in enumerate(
            zip(features, spans, [1, *spans[:-1]], strict=True)
        )
    )
    return old.revised(
        encoder="plain",
        downsampling="strided",
        padding="same",
        squeeze_reduction=None,
        stages=stages,
        decoder_convs=DECODER_CONVS,
        num_supervised=max(1, min(old.num_supervised, len(stages) - 1)),
        backbone=backbone,
    )


def _explained(asked: Asked, old: ConfigurationPlan, new: ConfigurationPlan) -> list[Decision]:
    """Return the decisions that a pretrained encoder brings."""
    name, backbone = new.name, new.network.backbone
    assert backbone is not None
    channel = new.recipe.channels[0]
    black_white = "each image's own"
    if channel.lower is not None and channel.upper is not None:
        black_white = f"{channel.lower:g} to {channel.upper:g}"
    found = [
        decision(
            f"{name}.network.backbone",
            f"{backbone.model}, weights {Path(asked.weights).name}",
            rule="with_backbone",
            reason=asked.reason,
            set=" ".join(asked.assignments),
        ),
        decision(
            f"{name}.network",
            new.network.extent,
            rule="with_backbone",
            reason=f"The encoder makes the lowest {backbone.num_stages}.",
            parameters=backbone.parameters,
        ),
        decision(
            f"{name}.normalisation",
            f"mean {_listed(backbone.mean)}; std {_listed(backbone.std)}",
            rule="pretrained_channels",
            reason="The encoder's weights were trained on values of 0 to 1 normalised so.",
            black_to_white=black_white,
        ),
    ]
    if new.patch_size == old.patch_size:
        return found
    rounded = decision(
        f"{name}.patch_size",
        new.patch_size,
        rule="with_backbone",
        reason="Rounded to a multiple of the encoder's strides.",
        before=old.patch_size,
        strides=new.network.total_strides,
    )
    return [*found, rounded]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _alone(weights: str, name: str) -> PlanError:
    return PlanError(
        found=f"--set {weights}=... without an encoder",
        expected="weights of a pretrained encoder",
        fix=f"add --set {name}=NAME, such as {USUAL_ENCODERS[0]}, or leave the weights out",
    )


def _not_flat(item: ConfigurationPlan) -> PlanError:
    axes = len(item.patch_size)
    return PlanError(
        found=f"a pretrained encoder for {item.name}, whose network sees "
        f"{axes} {'axis' if axes == 1 else 'axes'}",
        expected="a configuration that sees pictures or slices: encoders were trained on pictures",
        fix="set 2d.network.backbone, if the plan has 2d, or leave it out",
    )
