"""`--set KEY=VALUE`: changes to a plan, checked like a plan that is read."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from autoseg.errors import AutosegError, PlanError, nearest
from autoseg.plan.consistency import plan_problems
from autoseg.plan.cost import TRAINING_FACTOR
from autoseg.plan.counting import forward_operations, num_parameters
from autoseg.plan.memory import (
    BYTES_PER_PARAMETER,
    FIXED_BYTES,
    RECOMPUTED_FRACTION,
    feature_values,
)
from autoseg.plan.optimizers import unused, usual_with
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan
from autoseg.plan.restated import BY_USER, restated
from autoseg.plan.setting_keys import (
    CONFIGURATIONS,
    FIXED_FIELDS,
    SHORT,
    Wrong,
    problem,
)
from autoseg.record import NetworkPlan


class _Assignment(NamedTuple):
    text: str
    keys: tuple[str, ...]
    value: object


def apply_overrides(plan: Plan, assignments: Sequence[str]) -> Plan:
    """Return the plan with "3d_fullres.batch_size=4" and the like applied, costs adjusted.

    A key starts with a configuration's name or a field of the plan; entries of lists are given by
    their index. `training`, and its parts `loss` and `augmentation`, mean those of every
    configuration, `3d_fullres.loss` that of one; set to a word, `loss` is the kind of loss. Another
    optimiser brings the numbers that it is usually run with. Values are JSON, or
    numbers separated by commas, or plain words.

    Raises
    ------
    PlanError
        An unknown key (the nearest one is named), a value of the wrong type, a number that nothing
        would read, or a plan that would contradict itself.
    """
    if not assignments:
        return plan
    content = json.loads(plan.to_json())
    names = [item["name"] for item in content["configurations"]]
    check_settings(assignments, names)
    parsed = [_parse(text) for text in assignments]
    singles = [single for item in parsed for single in _of_training(item, names)]
    for assignment in singles:
        _assign(content, assignment)
    _fill_regions(content)
    _refuse_unused(content, plan)
    needs = list(_needs(content, plan, singles))
    for assignment in needs:
        _assign(content, assignment)
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
        with_cost(new, old)
        for new, old in zip(changed.configurations, plan.configurations, strict=True)
    )
    decisions = _decided(plan.decisions, parsed, BY_USER)
    decisions = _decided(decisions, needs, "What was set needs it.")
    return restated(changed.revised(configurations=configurations, decisions=decisions), plan)


def check_settings(
    assignments: Sequence[str],
    names: Sequence[str] = CONFIGURATIONS,
    likely: Sequence[str] = (),
) -> None:
    """Refuse settings that no plan takes; they can be told before anything is measured.

    Parameters
    ----------
    assignments
        KEY=VALUE each.
    names
        Of the plan's configurations, where it is made.
    likely
        Those of them to propose, best first; empty: all.

    Raises
    ------
    PlanError
        Keys that are unknown (the one that may be meant is named) or set twice, and values of
        another type: all at once.
    """
    parsed = [_parse(text) for text in assignments]
    wrong = [found for item in parsed if (found := _problem(item, names, likely)) is not None]
    wrong += _set_twice(parsed)
    if not wrong:
        return
    found, expected, fix = ("\n".join(dict.fromkeys(parts)) for parts in zip(*wrong, strict=True))
    raise PlanError(found=f"--set {found}", expected=expected, fix=fix)


def _problem(assignment: _Assignment, names: Sequence[str], likely: Sequence[str]) -> Wrong | None:
    """Return why no plan takes an assignment; pretrained encoders have keys of their own."""
    if assignment.keys[1:] in (("network", "backbone"), ("network", "weights")):
        return None
    single = _of_training(assignment, names)[0]
    return problem(single.keys, single.value, names, text=assignment.text, likely=likely)


def _set_twice(parsed: Sequence[_Assignment]) -> list[Wrong]:
    """Return keys that are given different values."""
    values: dict[tuple[str, ...], list[_Assignment]] = {}
    for item in parsed:
        values.setdefault(item.keys, []).append(item)
    return [
        Wrong(" and ".join(item.text for item in items), "one value for each key", "leave one out")
        for items in values.values()
        if any(item.value != items[0].value for item in items)
    ]


def user_settings(plan: Plan) -> tuple[str, ...]:
    """Return what a user has set in a plan, each as KEY=VALUE."""
    settings: list[str] = []
    for decision in plan.decisions:
        given = decision.inputs.get("set", "") if decision.reason == BY_USER else ""
        settings += re.split(r" (?=[\w.]+=)", given) if given else []  # encoders: several in one
    return tuple(settings)


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


def _of_training(assignment: _Assignment, names: Sequence[str]) -> list[_Assignment]:
    """Return what an assignment means where its key is short for one of the training, or itself."""
    keys = assignment.keys
    owners, rest = ([keys[0]], keys[1:]) if keys[0] in names else (names, keys)
    if rest[:1] == ("training",):
        rest = rest[1:]
    if not rest or (rest[0] not in SHORT and keys[0] != "training"):
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


def _refuse_unused(content: dict[str, Any], plan: Plan) -> None:
    """Raise a PlanError if a number was changed that optimiser and schedule do not read."""
    problems = [
        f"{before.name}.training.{line}"
        for item, before in zip(content["configurations"], plan.configurations, strict=True)
        for line in unused(before.training.model_dump(), item["training"])
    ]
    if problems:
        raise PlanError(
            found="--set: " + "\n".join(problems),
            expected="numbers that training reads",
            fix="leave them out, or set the optimizer or the schedule that reads them",
        )


def _needs(
    content: dict[str, Any], plan: Plan, assignments: Sequence[_Assignment]
) -> Iterator[_Assignment]:
    """Yield what some of the assignments need besides, where the user says nothing of it."""
    given = {item.keys for item in assignments}
    for item, before in zip(content["configurations"], plan.configurations, strict=True):
        name, network = item["name"], item["network"]
        needs: dict[tuple[str, ...], object] = {}
        needs |= usual_with(before.training.model_dump(), item["training"])
        if (name, "network", "padding") in given and network["padding"] == "valid":
            needs |= _needs_of_valid(item)
        if item["training"]["augmentation"]["channel_dropout_probability"]:
            needs["network", "missing_channels"] = True
        for keys, value in needs.items():
            if (name, *keys) not in given:
                yield _Assignment("", (name, *keys), value)


def _needs_of_valid(item: dict[str, Any]) -> dict[tuple[str, ...], object]:
    """Return what a configuration of valid convolutions needs.

    Their output keeps the size that was planned, so the patch grows by the margins around it.
    """
    network = NetworkPlan.from_json(json.dumps(item["network"]), f"{item['name']}.network")
    return {
        ("network", "downsampling"): "max",
        ("network", "num_supervised"): 1,
        ("training", "supervision_weights"): [1.0],
        ("patch_size",): list(network.patch_around(item["patch_size"])),
    }


def _assign(content: dict[str, Any], assignment: _Assignment) -> None:
    """Set one value in a plan's JSON form."""
    configurations = {item["name"]: item for item in content["configurations"]}
    place: Any = {**content, **configurations, **dict.fromkeys(SHORT)}  # for longer keys
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
    return PlanError(
        found=f"unknown key {key!r} in --set {assignment.text}",
        expected=f"one of {', '.join(known)}" if known else "nothing below this value",
        fix=f"correct the key{nearest(key, known)}",
    )


def with_cost(new: ConfigurationPlan, old: ConfigurationPlan) -> ConfigurationPlan:
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
        memory_bytes=_memory(new, old),
    )
    return new.revised(cost=cost)


def _operations(item: ConfigurationPlan) -> float:
    forward = forward_operations(item.network, item.patch_size)
    passes = TRAINING_FACTOR + (1 if item.training.recompute else 0)
    return passes * item.batch_size * forward


def _memory(new: ConfigurationPlan, old: ConfigurationPlan) -> int:
    """Return the memory of a configuration in which features take as much as in another."""
    fixed = [
        FIXED_BYTES + BYTES_PER_PARAMETER * num_parameters(item.network) for item in (new, old)
    ]
    features = max(0, old.cost.memory_bytes - fixed[1])
    return round(fixed[0] + features * _values(new) / _values(old))


def _values(item: ConfigurationPlan) -> float:
    values = feature_values(item.network, item.patch_size, item.network.num_classes)
    kept = RECOMPUTED_FRACTION if item.training.recompute else 1.0
    return item.batch_size * values * kept


def _decided(
    decisions: tuple[Decision, ...], assignments: Sequence[_Assignment], reason: str
) -> tuple[Decision, ...]:
    """Return the decisions, the assignments in place of the planner's."""
    own = {".".join(item.keys): item for item in assignments}
    kept = tuple(item for item in decisions if item.name not in own)
    return kept + tuple(
        Decision(
            name=name,
            value=json.dumps(item.value),
            rule="apply_overrides",
            inputs={"set": item.text},
            reason=reason,
        )
        for name, item in own.items()
    )
