"""What `auto` changes in a configuration whose patch, batch and width are decided.

Each change is a rule of `autoseg.plan`; here they are asked in turn.
"""

import math
from dataclasses import dataclass

from autoseg.plan.after import bounded_by, decay_after, width_after
from autoseg.plan.augmentation import nnunet_augmentation
from autoseg.plan.backbones import Asked, with_backbone
from autoseg.plan.compose import decision
from autoseg.plan.cost import configuration_cost
from autoseg.plan.encoders import fetching, sees_colours
from autoseg.plan.foreground import (
    affords_skeletons,
    foreground_share,
    loss_of,
    oversampling,
    tube_width,
)
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan
from autoseg.plan.request import PlanRequest
from autoseg.plan.rules import Grid
from autoseg.plan.sizing import Limits
from autoseg.plan.small_sets import (
    DECAY_FACTOR,
    STRONGER,
    augmentation_strength,
    decay_factor,
    dropout,
    passes,
)
from autoseg.plan.variants import Means, candidates, variant
from autoseg.plan.variation import with_augmentation, with_width
from autoseg.record import PUBLISHED_WEIGHTS, LossPlan


@dataclass(frozen=True)
class Advised:
    """What holds for all configurations."""

    foreground_fraction: float
    loss: LossPlan
    share: float | None
    """Part of an image that is foreground."""
    decisions: tuple[Decision, ...]


def advised(request: PlanRequest) -> Advised:
    """Return what the foreground asks for."""
    fingerprint = request.fingerprint
    share, width = foreground_share(fingerprint.cases), tube_width(fingerprint)
    regions = [region.classes for region in fingerprint.labels.regions]
    fraction = oversampling(share)
    loss = loss_of(share, width, regions, can_afford_skeletons=affords_skeletons(request.device))
    known = "unknown" if share is None else f"{share:.2%}"
    thin = "no" if width is None else f"{width:.1f} voxels wide"
    decisions = (
        decision(
            "oversampling",
            fraction.value,
            rule="oversampling",
            reason=fraction.reason,
            foreground=known,
        ),
        decision(
            "loss",
            loss.value.kind,
            rule="loss_of",
            reason=loss.reason,
            foreground=known,
            tubes=thin,
            regions=len(regions),
        ),
    )
    return Advised(fraction.value, loss.value, share, decisions)


def adapted(
    request: PlanRequest, grid: Grid, limits: Limits, item: ConfigurationPlan, common: Advised
) -> tuple[ConfigurationPlan, list[Decision]]:
    """Return a configuration as the data, and a run before, ask for it, and what was decided."""
    training = item.training.revised(
        foreground_fraction=common.foreground_fraction, loss=common.loss
    )
    item = _priced(request, item.revised(training=training))
    usual_decay = item.training.weight_decay
    item, decisions = _varied(request, limits, item, common.share)
    item, more = _after(request, limits, item)
    decisions += more
    item, told = _regularised(request, grid, item, usual_decay)
    decisions += [told] if item.train_by_default else []  # the table is long enough
    return _priced(request, item), decisions


def _varied(
    request: PlanRequest, limits: Limits, item: ConfigurationPlan, share: float | None
) -> tuple[ConfigurationPlan, list[Decision]]:
    """Return the configuration with the variant of the U-Net that suits it."""
    num_downsamplings = len(item.network.stages) - 1
    tried = candidates(len(item.patch_size), num_downsamplings, share)
    means = Means(limits.target_steps, limits.memory_bytes)
    found = variant(item, tried, means, lambda changed: _priced(request, changed))
    network = found.value.network
    if not tried:
        return found.value, []
    words = [network.encoder, *(["attention"] if network.decoder != "plain" else [])]
    told = decision(
        f"{item.name}.variant",
        " ".join(words) if network.decoder != "nested" else "nested",
        rule="variant",
        reason=found.reason,
        downsamplings=num_downsamplings,
        steps=int(item.cost.train_seconds / item.cost.step_seconds),
    )
    return found.value, [told]


def _regularised(
    request: PlanRequest, grid: Grid, item: ConfigurationPlan, usual_decay: float
) -> tuple[ConfigurationPlan, Decision]:
    """Return the configuration with what keeps it from learning few cases by heart.

    More weight decay than that, which a run before has asked for, stays as it is.
    """
    part = 1 - 1 / max(2, request.num_folds)
    num_cases = grid.num_cases * part
    seen = _passes(grid, item, part)
    is_short = request.device == "cpu"
    drop, decay = dropout(num_cases, seen), decay_factor(num_cases, seen)
    strength = augmentation_strength(num_cases, seen, is_short=is_short)
    wanted = max(item.training.weight_decay, usual_decay * decay.value)
    training = item.training.revised(weight_decay=wanted)
    if is_short and strength.value == "usual":
        training = training.revised(augmentation=nnunet_augmentation(item.patch_size))
    network = item.network.revised(dropout=drop.value)
    item = item.revised(network=network, training=training)
    if strength.value == "strong":
        item = with_augmentation(item, STRONGER)
    told = decision(
        f"{item.name}.regularisation",
        f"{strength.value} augmentation, dropout {drop.value:g}, "
        f"weight decay {item.training.weight_decay:g}",
        rule="augmentation_strength, dropout, decay_factor",
        reason=strength.reason,
        cases=round(num_cases),
        passes=round(seen),
    )
    return item, told


def _passes(grid: Grid, item: ConfigurationPlan, train_fraction: float) -> float:
    """Return how often each voxel of the training cases is shown."""
    is_flat = len(item.patch_size) < len(grid.spacing)
    slices = grid.median_slices if is_flat else 1.0
    num_voxels = grid.num_cases * slices * math.prod(item.median_shape)
    batch_voxels = item.batch_size * math.prod(item.patch_size)
    steps = item.cost.train_seconds / item.cost.step_seconds
    return passes(steps, batch_voxels, num_voxels, train_fraction)


def _after(
    request: PlanRequest, limits: Limits, item: ConfigurationPlan
) -> tuple[ConfigurationPlan, list[Decision]]:
    """Return the configuration changed by what a run before it was bounded by."""
    before = None if request.after is None else request.after.of(item.name)
    if before is None:
        return item, []
    bound = bounded_by(before)
    width = width_after(bound.value, before.width)
    decay = decay_after(bound.value, before.width, before.weight_decay, DECAY_FACTOR)
    changed, reasons = item, [bound.reason]
    now = item.network.stages[0].features
    is_wanted = width.value < now if bound.value == "data" else width.value > now
    if bound.value in ("data", "network") and is_wanted:
        wider = _priced(request, with_width(item, width.value / now))
        steps = wider.cost.train_seconds / wider.cost.step_seconds
        fits = steps >= limits.min_steps and wider.cost.memory_bytes <= limits.memory_bytes
        changed = wider if fits or bound.value == "data" else item
        said = width.reason if width.value != before.width else "It stays as narrow as it was."
        reasons.append(said if changed is wider else "A wider one does not fit memory and time.")
    is_more = decay.value > before.weight_decay or changed is item
    if is_more and decay.value > changed.training.weight_decay:
        changed = changed.revised(training=changed.training.revised(weight_decay=decay.value))
        reasons.append(decay.reason)
    told = decision(
        f"{item.name}.after",
        "unknown" if bound.value == "unknown" else f"bounded by {bound.value}",
        rule="bounded_by, width_after, decay_after",
        reason=" ".join(reasons),
        folds=len(before.folds),
        width=changed.network.stages[0].features,
        weight_decay=changed.training.weight_decay,
    )
    return changed, [told]


def _priced(request: PlanRequest, item: ConfigurationPlan) -> ConfigurationPlan:
    """Return a configuration with the cost of its network; time and disk stay what they were."""
    cost = configuration_cost(
        item.network,
        item.patch_size,
        batch_size=item.batch_size,
        device=request.device,
        machine=request.machine,
        dataset_voxels=0.0,
        training=item.training,
    )
    kept = {"train_seconds": item.cost.train_seconds, "disk_bytes": item.cost.disk_bytes}
    return item.revised(cost=cost.revised(**kept))


def with_known_encoder(request: PlanRequest, limits: Limits, plan: Plan) -> Plan:
    """Return a plan for colour pictures with a pretrained encoder, if one is at hand and fits."""
    if not sees_colours(request.fingerprint):
        return plan
    (item,) = plan.configurations
    key = f"{item.name}.network.backbone"
    found = request.find_encoder(request.fingerprint)
    if found is None:
        reason = f"No weights are on this machine; {fetching(key)}"
        return _told(plan, decision(key, "none", rule="sees_colours", reason=reason))
    asked = Asked(
        configuration=item.name,
        model=found.backbone.model,
        weights=PUBLISHED_WEIGHTS,
        reason="Colour pictures, and weights trained on such are on this machine.",
    )
    changed = with_backbone(plan, asked, found.backbone, found.shape, request.fingerprint)
    cost = changed.configurations[0].cost
    is_quick = cost.train_seconds / cost.step_seconds >= limits.min_steps
    if is_quick and cost.memory_bytes <= limits.memory_bytes:
        return changed
    reason = f"{asked.model} is at hand, but too large for the time or the memory."
    return _told(plan, decision(key, "none", rule="sees_colours", reason=reason))


def _told(plan: Plan, decided: Decision) -> Plan:
    return plan.revised(decisions=(*plan.decisions, decided))
