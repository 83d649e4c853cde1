"""Two plans side by side: what they decide differently, what that costs, and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoseg.pipeline.supersede import by_key
from autoseg.plan.compose import text
from autoseg.plan.consistency import load_plan
from autoseg.plan.expectation import expected_accuracy, planned_steps
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.record import LossPlan, NetworkPlan
from autoseg.report.text import MISSING, duration, size
from autoseg.workspace import named_workspace


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One line of a comparison; the reasons are empty where no decision is recorded."""

    name: str
    first: str
    second: str
    first_reason: str = ""
    second_reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What differs between two plans."""

    differences: tuple[Difference, ...]
    keys: dict[str, tuple[str | None, str | None]]
    """Every value that differs, as JSON, by the keys that `--set` takes; None: the plan has no
    such key. Costs and reasons are not among them."""
    shared_keys: int
    """How many of them belong to what both plans have: the plan, and configurations of one name."""


def load_other(path: Path) -> Plan:
    """Return the plan in a file, or of a workspace.

    Raises
    ------
    AutosegError
        There is none.
    """
    return load_plan(path if path.is_file() else named_workspace(path).plan)


def compare_plans(first: Plan, second: Plan) -> Comparison:
    """Return what two plans decide differently, with the reasons of both."""
    facts = [dict(_facts(plan)) for plan in (first, second)]
    for plan, own in zip((first, second), facts, strict=True):
        for decision in plan.decisions:
            own.setdefault(decision.name, decision.value)
    reasons = [{item.name: item.reason for item in plan.decisions} for plan in (first, second)]
    networks = _networks(first), _networks(second)
    differences = []
    for name in dict.fromkeys([*facts[0], *facts[1]]):
        one, other = (own.get(name, MISSING) for own in facts)
        if one == other and networks[0].get(name) != networks[1].get(name):
            other += ", other kernels or strides"
        if one != other:
            row = Difference(
                name=name,
                first=one,
                second=other,
                first_reason=reasons[0].get(name, ""),
                second_reason=reasons[1].get(name, ""),
            )
            differences.append(row)
    keys = [by_key(plan) for plan in (first, second)]
    changed = {
        key: (keys[0].get(key), keys[1].get(key))
        for key in dict.fromkeys([*keys[0], *keys[1]])
        if keys[0].get(key) != keys[1].get(key) and not key.endswith(".why")
    }
    names = [{item.name for item in plan.configurations} for plan in (first, second)]
    alone = names[0] ^ names[1]
    shared = sum(key.partition(".")[0] not in alone for key in changed)
    return Comparison(differences=tuple(differences), keys=changed, shared_keys=shared)


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield names and values of what a plan is, the names of its decisions where they have one."""
    yield "data", f"{plan.dataset_name} ({plan.fingerprint_digest[:8]})"
    yield "planner", plan.planner
    yield "device", plan.device
    yield "memory", size(plan.memory_bytes)
    yield "memory of all processes", size(plan.ram_bytes)
    yield "budget", _budget(plan)
    yield "folds", str(plan.num_folds)
    yield "seed", str(plan.seed)
    for item in plan.configurations:
        for name, value in _configuration(plan, item):
            yield f"{item.name}.{name}", value


def _budget(plan: Plan) -> str:
    """Return the time of a training, given or what its planner takes by itself."""
    if plan.budget_s is not None:
        return duration(plan.budget_s)
    longest = max(item.training.default_budget_s or 0.0 for item in plan.configurations)
    if longest:
        return f"{duration(longest)}, the default"
    steps = max(item.training.default_steps or 0 for item in plan.configurations)
    return f"{steps:,} steps a fold"


def _configuration(plan: Plan, item: ConfigurationPlan) -> Iterator[tuple[str, str]]:
    training, cost = item.training, item.cost
    yield "train_by_default", text(item.train_by_default)
    yield "spacing", f"{text(item.recipe.spacing)} {plan.unit}"
    yield "normalisation", ", ".join(channel.scheme for channel in item.recipe.channels)
    yield "patch_size", text(item.patch_size)
    yield "batch_size", text(item.batch_size)
    yield "network", _network(item.network)
    yield "loss", _loss(training.loss)
    yield "optimiser", f"{training.optimizer}, learning rate {training.peak_lr:g}"
    yield "schedule", training.schedule.replace("_", " ")
    yield "parameters", f"{cost.parameters / 1e6:.2f} M"
    yield "a step", duration(cost.step_seconds)
    if item.train_by_default:
        steps = planned_steps(plan, item)
        yield "a fold", duration(cost.train_seconds)
        yield "accuracy", f"{expected_accuracy(item, steps).accuracy}, {steps:,.0f} steps"
    yield "expected memory", size(cost.memory_bytes)
    yield "disk", size(cost.disk_bytes)


def _networks(plan: Plan) -> dict[str, NetworkPlan]:
    return {f"{item.name}.network": item.network for item in plan.configurations}


def _network(network: NetworkPlan) -> str:
    """Return blocks, depth and width, and whatever else is not as in a plain U-Net."""
    parts = [f"{network.encoder}, {network.extent}"]
    others = dict(network.variants)
    if network.backbone is not None:
        others["backbone"] = network.backbone.model
    parts += [f"{name} {value}" for name, value in others.items()]
    return ", ".join(parts)


def _loss(loss: LossPlan) -> str:
    """Return the kind of loss with the parameters that differ from their defaults."""
    usual = LossPlan()
    changed = [f"{name} {value}" for name, value in loss if value != getattr(usual, name)]
    return ", ".join([loss.kind, *(part for part in changed if not part.startswith("kind "))])
