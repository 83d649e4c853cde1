"""What a plan says of itself after a user has changed it: no number that no longer holds."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from autoseg.errors import duration
from autoseg.plan.expectation import planned_steps, with_renewed_accuracy
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan

BY_USER = "Set by the user."
"""Reason of what a user decided."""
BEFORE = " (Decided before what was set.)"
"""Follows reasons that may quote numbers of the plan as it was."""
COUNTED = "augmentation_strength, dropout, decay_factor"
SIZING_RULES = ("fit_budget", "fit_topology", "topology", "batch_size", "variant", COUNTED)
"""Rules whose reasons quote steps, memory or how often voxels are seen."""
SUBJECTS: Mapping[str, Callable[[ConfigurationPlan], object]] = MappingProxyType(
    {
        "oversampling": lambda item: item.training.foreground_fraction,
        "loss": lambda item: item.training.loss,
        "optimiser": lambda item: item.training.optimizer,
        "mirroring": lambda item: (item.recipe.mirror_axes, item.recipe.test_time_mirroring),
        "tile overlap": lambda item: item.recipe.overlap,
        "spacing": lambda item: item.recipe.spacing,
        "variant": lambda item: (item.network.encoder, item.network.decoder),
        "regularisation": lambda item: (
            item.network.dropout,
            item.training.weight_decay,
            item.training.augmentation,
        ),
    }
)
"""What decisions are about, by their names without the configuration's."""


def restated(new: Plan, old: Plan) -> Plan:
    """Return a changed plan whose times, reasons and expected accuracy are its own.

    Parameters
    ----------
    new
        With the costs of a step as they are now, and the decisions of the user among its own.
    old
        What was changed, with as many configurations.
    """
    pairs = [(item, old.configuration(item.name)) for item in new.configurations]
    configurations = tuple(_timed(new, item, old, before) for item, before in pairs)
    plan = new.revised(configurations=configurations)
    decisions = (_restated(decided, plan, old) for decided in plan.decisions)
    return with_renewed_accuracy(plan.revised(decisions=tuple(item for item in decisions if item)))


def _timed(
    plan: Plan, item: ConfigurationPlan, old: Plan, before: ConfigurationPlan
) -> ConfigurationPlan:
    """Return a configuration with the time of a fold, where other folds or hours change it."""
    seconds = planned_steps(plan, item) * item.cost.step_seconds
    if seconds != planned_steps(old, before) * before.cost.step_seconds and seconds > 0:
        item = item.revised(cost=item.cost.revised(train_seconds=seconds))
    if item.train_by_default != before.train_by_default and item.why == before.why:
        item = item.revised(why=BY_USER)
    return item


def _restated(decided: Decision, plan: Plan, old: Plan) -> Decision | None:
    """Return a decision as it holds for a changed plan, None if it does not hold any more."""
    if decided.reason == BY_USER:
        return decided
    if decided.name == "memory":
        return decided if plan.memory_bytes == old.memory_bytes else None
    if decided.name == "time of a fold":
        return _restated_time(decided, plan, old)
    name, _, about = decided.name.rpartition(".")
    pairs = [
        (item, old.configuration(item.name))
        for item in plan.configurations
        if item.name == name or (not name and item.train_by_default)
    ]
    subject = SUBJECTS.get(about)
    if subject is not None and pairs and all(subject(new) != subject(was) for new, was in pairs):
        return None
    return _resized(decided, *pairs[0]) if name and pairs else decided


def _restated_time(decided: Decision, plan: Plan, old: Plan) -> Decision:
    """Return how long a fold is trained now."""
    if (plan.budget_s, plan.num_folds, _trained(plan)) == (
        old.budget_s,
        old.num_folds,
        _trained(old),
    ):
        return decided
    inputs = decided.inputs | {"folds": str(plan.num_folds)}
    reason = decided.reason
    if plan.budget_s is not None and plan.budget_s != old.budget_s:
        inputs |= {"budget": duration(plan.budget_s)}
        reason = "What was set, less validation and export, divided among all folds."
    seconds = max(item.cost.train_seconds for item in plan.configurations if item.train_by_default)
    return decided.revised(value=duration(seconds), inputs=inputs, reason=reason)


def _trained(plan: Plan) -> int:
    return sum(item.train_by_default for item in plan.configurations)


def _resized(decided: Decision, item: ConfigurationPlan, before: ConfigurationPlan) -> Decision:
    """Return a decision about a configuration with the numbers that it has now."""
    if decided.rule not in SIZING_RULES or item.cost == before.cost:
        return decided
    cost, inputs = item.cost, dict(decided.inputs)
    inputs.pop("passes", None)
    if "step" in inputs:
        inputs["step"] = f"{cost.step_seconds:.2g} s"
    if "steps" in inputs:
        inputs["steps"] = str(int(cost.train_seconds / cost.step_seconds))
    value = decided.value
    if decided.name == f"{item.name}.network" and item.network.stages != before.network.stages:
        value = item.network.extent
    reason = decided.reason.removesuffix(BEFORE) + BEFORE
    return decided.revised(value=value, inputs=inputs, reason=reason)
