"""Which keys `--set` knows, and which values they take: read off the records, before any plan."""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from autoseg.errors import counted, nearest
from autoseg.plan.consistency import range_problem
from autoseg.plan.losses import LOSSES
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.record import Record

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres", "1d")
"""What a plan may have."""
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
        "num_folds",
    }
)
"""What a plan records but nobody may set."""
SYNONYMS = {
    "lr": "training.peak_lr",
    "learning_rate": "training.peak_lr",
    "peak_learning_rate": "training.peak_lr",
    "optimiser": "training.optimizer",
    "scheduler": "training.schedule",
    "lr_scheduler": "training.schedule",
    "epochs": "training.default_steps",
    "steps": "training.default_steps",
    "oversampling": "training.foreground_fraction",
    "batch": "batch_size",
    "patch": "patch_size",
    "width": "network.stages.0.features",
    "base_features": "network.stages.0.features",
    "features": "network.stages.0.features",
    "depth": "network.stages",
    "deep_supervision": "network.num_supervised",
    "normalization": "recipe.channels.0.scheme",
    "normalisation": "recipe.channels.0.scheme",
    "target_spacing": "recipe.spacing",
    "tta": "recipe.test_time_mirroring",
    "mirroring": "recipe.mirror_axes",
    "threads": "num_threads",
    "memory": "memory_bytes",
    "ram": "ram_bytes",
    "budget": "budget_s",
}
"""Words that others use for a key: the key, without its configuration."""
OPTIONS = MappingProxyType({"num_folds": "--folds", "folds": "--folds"})
"""What is decided with the folds and cannot be set in a plan: the option that does it."""
BY_AXIS = ("patch_size", "median_shape", "spacing", "kernel_size", "strides")
"""Fields with one number for each axis."""
EXAMPLE = ("64", "96", "96")
SHORTEST = 5
"""Letters of a word of others that a mistyped one may be meant for."""
SHORT = ("loss", "augmentation")
"""Parts of the training that may be named without a configuration: they are then set in all."""
LIKE = 0.7
"""Words less like each other than this are not proposed for each other."""
WORDS: Mapping[object, str] = types.MappingProxyType(
    {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "a word",
        tuple[int, ...]: "whole numbers with commas between, such as 40,56,40",
        tuple[float, ...]: "numbers with commas between, such as 0.5,0.3,0.2",
        tuple[float, float]: "two numbers with a comma between, such as 0.7,1.4",
    }
)


class Wrong(NamedTuple):
    """What is wrong with a setting: the parts of an error."""

    found: str
    expected: str
    fix: str


def problem(
    keys: Sequence[str],
    value: object,
    names: Sequence[str],
    *,
    text: str,
    likely: Sequence[str] = (),
) -> Wrong | None:
    """Return why no plan takes a value at a key, or None.

    Parameters
    ----------
    keys
        The parts of the key, complete: with the configuration and "training".
    value
        As it would stand in plan.json.
    names
        Of the plan's configurations, or `CONFIGURATIONS` where it is not made yet.
    text
        The setting as given, for the message.
    likely
        Configurations to propose, best first; empty: all of `names`.
    """
    annotation: Any = _root(names)
    for place, part in enumerate(keys):
        below = _step(annotation, part)
        if below is None:
            return _unknown(keys, place, names if keys[0] in names else likely or names, text)
        annotation = below
    if keys[-1] == "kind" and value not in LOSSES:
        close = nearest(str(value), tuple(LOSSES))
        return Wrong(text, f"one of {', '.join(LOSSES)}", f"correct the loss{close}")
    try:
        TypeAdapter(annotation).validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return Wrong(text, in_words(annotation), "correct the value")
    return _wrong_axes(keys, value, text) or _wrong_range(keys, value, text)


def _wrong_axes(keys: Sequence[str], value: object, text: str) -> Wrong | None:
    """Return that a value has not one number for each axis of its configuration."""
    if keys[0] not in CONFIGURATIONS or keys[-1] not in BY_AXIS or not isinstance(value, list):
        return None
    axes = int(keys[0][0])
    if len(value) == axes:
        return None
    fix = f"give {counted(axes, 'number')}"
    if keys[-1] == "patch_size" and 0 < len(value) <= len(EXAMPLE):
        fix += f" such as {','.join(EXAMPLE[:axes])}, or name a configuration in {len(value)}D"
    return Wrong(
        f"{text}: {counted(len(value), 'number')}",
        f"one number for each of the {counted(axes, 'axis', 'axes')} of {keys[0]}",
        fix,
    )


def _wrong_range(keys: Sequence[str], value: object, text: str) -> Wrong | None:
    limits = range_problem(keys[-1], value)
    return None if limits is None else Wrong(text, f"{keys[-1]} {limits}", "correct the value")


def in_words(annotation: Any) -> str:  # noqa: ANN401
    """Return which values a type has."""
    options = _options(annotation)
    if type(None) in options:
        others = [option for option in options if option is not type(None)]
        return f"{in_words(others[0])}, or null"
    if typing.get_origin(annotation) is Literal:
        *first, last = (repr(item) for item in typing.get_args(annotation))
        return f"{', '.join(first)} or {last}" if first else last
    return WORDS.get(annotation, "JSON like that in plan.json")


def _root(names: Sequence[str]) -> dict[str, Any]:
    return {**_fields(Plan), **dict.fromkeys(names, ConfigurationPlan)}


def _step(annotation: Any, part: str) -> Any:  # noqa: ANN401
    """Return the type below a key, None where there is none."""
    fields = annotation if isinstance(annotation, dict) else _fields(annotation)
    if part in fields:
        return fields[part]
    element = _element(annotation)
    return element if element is not None and part.isdecimal() else None


def _fields(annotation: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what may be set below a type: the fields of a record, nothing of a value."""
    for option in _options(annotation):
        found: dict[str, Any] = {}
        if isinstance(option, type) and issubclass(option, Record):
            found = {name: field.annotation for name, field in option.model_fields.items()}
        elif dataclasses.is_dataclass(option):
            hints = typing.get_type_hints(option)
            found = {item.name: hints[item.name] for item in dataclasses.fields(option)}
        if found:
            return {name: kind for name, kind in found.items() if name not in FIXED_FIELDS}
    return {}


def _element(annotation: Any) -> Any:  # noqa: ANN401
    """Return the type of a list's entries, None of what is no list."""
    for option in _options(annotation):
        if typing.get_origin(option) is tuple:
            return typing.get_args(option)[0]
    return None


def _options(annotation: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """Return the types of a union, or the one type."""
    is_union = typing.get_origin(annotation) in (types.UnionType, typing.Union)
    return typing.get_args(annotation) if is_union else (annotation,)


def _unknown(keys: Sequence[str], place: int, names: Sequence[str], text: str) -> Wrong:
    """Return what is wrong with a key from its part at `place` on."""
    part = keys[place]
    if place == 0 and part in CONFIGURATIONS:
        return Wrong(
            f"{text}, and the plan has no configuration {part}",
            f"one of {', '.join(names)}",
            "name a configuration that the plan has",
        )
    if place == 0 and part in OPTIONS:
        return Wrong(text, "a key whose value is free", f"give {OPTIONS[part]} instead")
    known = sorted({*_known(keys[:place], names), *(SHORT if place == 0 else ())})
    close = difflib.get_close_matches(part, known, n=1, cutoff=LIKE)
    near = [".".join([*keys[:place], word, *keys[place + 1 :]]) for word in close]
    near = [key for key in near if not _leads_nowhere(key, names)]
    same, like = _same(keys, names), _like(keys, names)
    proposed = [*near, *same, *like] if place == 0 else [*same, *near, *like]
    proposed = [_as_typed(key, keys, text) for key in proposed]
    fix = f"write {proposed[0]}=..." if proposed else "correct the key, or look it up in plan.json"
    is_of_first = bool(proposed) and proposed[0].startswith(f"{names[0]}.")
    if is_of_first and keys[0] not in names and len(names) > 1:
        fix += f", or with another configuration: {', '.join(names[1:])}"
    below = f" below {'.'.join(keys[:place])}" if place else ""
    expected = f"a key{below}: {', '.join(known)}" if known else f"nothing{below}"
    return Wrong(f"{text}: unknown key {part!r}", expected, fix)


def _known(keys: Sequence[str], names: Sequence[str]) -> dict[str, Any]:
    """Return the keys below some that are known, with their types."""
    annotation: Any = _root(names)
    for part in keys:
        annotation = _step(annotation, part)
    return annotation if isinstance(annotation, dict) else _fields(annotation)


def _as_typed(proposed: str, keys: Sequence[str], text: str) -> str:
    """Return a whole key without what was left out of the one that was given."""
    typed = text.removeprefix("--set ").partition("=")[0].split(".")
    above = ".".join(keys[: len(keys) - len(typed)]) + "."
    return proposed.removeprefix(above) if typed[0] in (*SHORT, "training") else proposed


def _leads_nowhere(key: str, names: Sequence[str]) -> bool:
    annotation: Any = _root(names)
    parts = key.split(".")
    above = {"training": (names[0],), **dict.fromkeys(SHORT, (names[0], "training"))}
    for part in [*above.get(parts[0], ()), *parts]:
        annotation = _step(annotation, part)
        if annotation is None:
            return True
    return False


def _same(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return whole keys that end in the same word, or in what others call so."""
    owner, word = _owner(keys, names), keys[-1]
    whole = ".".join((owner, *keys))
    found = [whole] if keys[0] not in names and not _leads_nowhere(whole, names) else []
    everything = _everything(owner)
    if word in SYNONYMS:
        key = SYNONYMS[word]
        found.append(key if key in everything else f"{owner}.{key}")
    return found + [key for key in everything if key.rpartition(".")[2] == word]


def _like(keys: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return whole keys that end in a word like the last one."""
    owner = _owner(keys, names)
    everything = _everything(owner)
    ends = {key.rpartition(".")[2]: key for key in reversed(everything)}
    ends |= {
        word: key if key in everything else f"{owner}.{key}"
        for word, key in SYNONYMS.items()
        if len(word) >= SHORTEST
    }
    close = difflib.get_close_matches(keys[-1], list(ends), n=1, cutoff=LIKE)
    return [ends[word] for word in close]


def _owner(keys: Sequence[str], names: Sequence[str]) -> str:
    """Return the configuration that a key names, or one that may be meant."""
    return keys[0] if keys[0] in names else names[0]


def _everything(owner: str) -> list[str]:
    """Return the keys of all values of a plan and of one configuration."""
    own = (".".join((owner, *path)) for path in _leaves(ConfigurationPlan, ()))
    return [*(".".join(path) for path in _leaves(Plan, ())), *own]


def _leaves(annotation: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:  # noqa: ANN401
    """Yield the paths of all values below a type; of lists of records, those of the first."""
    fields, element = _fields(annotation), _element(annotation)
    if not fields and element is not None and _fields(element):
        fields = {"0": element}
    if not fields and above:
        yield above
    for name, kind in fields.items():
        yield from _leaves(kind, (*above, name))
