"""`--set KEY=VALUE`: changes to a plan, checked like a plan that is read."""

import difflib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from autoseg.errors import AutosegError, PlanError
from autoseg.plan.consistency import plan_problems
from autoseg.plan.cost import TRAINING_FACTOR
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import feature_values
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan

FIXED_FIELDS = frozenset(
    {
        "schema_version",
        "autoseg_version",
        "planner",
        "fingerprint_digest",
        "configurations",
        "decisions",
        "cost",
        "name",
    }
)
"""What a plan records but nobody may set."""


class _Assignment(NamedTuple):
    text: str
    keys: tuple[str, ...]
    value: object


def apply_overrides(plan: Plan, assignments: Sequence[str]) -> Plan:
    """Return the plan with "3d_fullres.batch_size=4" and the like applied, costs adjusted.

    A key starts with a configuration's name or a field of the plan; entries of lists are given by
    their index. `loss` means the training loss of every configuration, `3d_fullres.loss` that of
    one; set to a word, it is the kind of loss. Values are JSON, or numbers separated by commas, or
    plain words.

    Raises
    ------
    PlanError
        An unknown key (the nearest one is named), a value of the wrong type, or a plan that would
        contradict itself.
    """
    if not assignments:
        return plan
    content = json.loads(plan.to_json())
    parsed = [_parse(text) for text in assignments]
    names = [item["name"] for item in content["configurations"]]
    for assignment in parsed:
        for single in _of_losses(assignment, names):
            _assign(content, single)
    _fill_regions(content)
    try:
        changed = Plan.from_json(json.dumps(content), "plan")
    except AutosegError as error:
        raise PlanError(
            found=error.found, expected="values of the type that each key has", fix="correct --set"
        ) from None
    problems = plan_problems(changed)
    if problems:
        raise PlanError(
            found="\n".join(problems),
            expected="a plan that fits together",
            fix="correct --set, or set what depends on it as well",
        )
    configurations = tuple(
        _with_cost(new, old)
        for new, old in zip(changed.configurations, plan.configurations, strict=True)
    )
    decisions = _decided(plan.decisions, parsed)
    return changed.revised(configurations=configurations, decisions=decisions)


def _parse(text: str) -> _Assignment:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise PlanError(
            found=f"--set {text!r}",
            expected="KEY=VALUE, e.g. 3d_fullres.batch_size=4",
            fix="write it like the example",
        )
    return _Assignment(text, tuple(key.strip().split(".")), _value(value.strip()))


def _value(text: str) -> object:
    """Return a JSON value, a list of values separated by commas, or the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        if "," in text:
            return [_value(part.strip()) for part in text.split(",")]
        return text


def _of_losses(assignment: _Assignment, names: Sequence[str]) -> list[_Assignment]:
    """Return what an assignment means where its key is short for training losses, or itself."""
    keys = assignment.keys
    owners, rest = ([keys[0]], keys[1:]) if keys[0] in names else (names, keys)
    if rest[:2] == ("training", "loss"):
        rest = rest[1:]
    elif rest[:1] != ("loss",):
        return [assignment]
    if rest == ("loss",) and isinstance(assignment.value, str):
        rest = ("loss", "kind")
    return [assignment._replace(keys=(owner, "training", *rest)) for owner in owners]


def _fill_regions(content: dict[str, Any]) -> None:
    """Give the loss of regions those of the data set where the user named none."""
    regions = [region["classes"] for region in content["labels"]["regions"]]
    for item in content["configurations"]:
        loss = item["training"]["loss"]
        if loss["kind"] == "regions" and not loss["regions"]:
            loss["regions"] = regions


def _assign(content: dict[str, Any], assignment: _Assignment) -> None:
    """Set one value in a plan's JSON form."""
    configurations = {item["name"]: item for item in content["configurations"]}
    place: Any = {**content, **configurations, "loss": None}  # "loss" is in place of longer keys
    *path, last = assignment.keys
    for key in path:
        place = place[_index(place, key, assignment)]
    target = content if not path else place
    target[_index(place, last, assignment)] = assignment.value


def _index(place: object, key: str, assignment: _Assignment) -> Any:  # noqa: ANN401
    """Return the dictionary key or list index that a word means."""
    known: list[str] = []
    if isinstance(place, dict):
        known = sorted(set(place) - FIXED_FIELDS)
        if key in known:
            return key
    if isinstance(place, list):
        known = [str(index) for index in range(len(place))]
        if key in known:
            return int(key)
    raise _unknown(key, known, assignment)


def _unknown(key: str, known: list[str], assignment: _Assignment) -> PlanError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else "correct the key"
    return PlanError(
        found=f"unknown key {key!r} in --set {assignment.text}",
        expected=f"one of {', '.join(known)}" if known else "nothing below this value",
        fix=hint,
    )


def _with_cost(new: ConfigurationPlan, old: ConfigurationPlan) -> ConfigurationPlan:
    """Return a configuration whose cost follows its new network, patch and batch.

    The machine is not known here: time and memory grow in proportion to operations and values.
    """
    if new == old:
        return new
    operations = _operations(new)
    ratio = operations / _operations(old)
    steps = new.training.default_steps
    seconds = old.cost.step_seconds * ratio
    cost = old.cost.revised(
        parameters=num_parameters(new.network),
        step_operations=operations,
        step_seconds=seconds,
        train_seconds=seconds * steps if steps else old.cost.train_seconds,
        memory_bytes=round(old.cost.memory_bytes * _values(new) / _values(old)),
    )
    return new.revised(cost=cost)


def _operations(item: ConfigurationPlan) -> float:
    forward = forward_operations(item.network, item.patch_size)
    return TRAINING_FACTOR * item.batch_size * forward


def _values(item: ConfigurationPlan) -> int:
    return item.batch_size * feature_values(item.network, item.patch_size, item.network.num_classes)


def _decided(
    decisions: tuple[Decision, ...], assignments: Sequence[_Assignment]
) -> tuple[Decision, ...]:
    """Return the decisions, those of the user in place of the planner's."""
    own = {".".join(item.keys): item for item in assignments}
    kept = tuple(item for item in decisions if item.name not in own)
    return kept + tuple(
        Decision(
            name=name,
            value=json.dumps(item.value),
            rule="apply_overrides",
            inputs={"set": item.text},
            reason="Set by the user.",
        )
        for name, item in own.items()
    )
