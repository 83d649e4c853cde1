"""Strict reading of JSON into plain frozen dataclasses, without dependencies.

Unknown, missing and mistyped fields are refused, all at once, each with its path inside the file.
"""

import dataclasses
import json
import math
import types
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import AutosegError

T = TypeVar("T")
SCALARS = {int: "an integer", float: "a finite number", str: "a text", bool: "true or false"}


class Mismatch:
    """Stands where a value could not be read; its problems are already in the list."""


def parse_json(kind: type[T], text: str | bytes, source: str) -> T:
    """Return the dataclass `kind` that is written in `text`; `source` names it in errors.

    Raises
    ------
    AutosegError
        One line a problem.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise refusal([f"not JSON: {error}"], source) from None
    problems: list[str] = []
    value = _parse(kind, content, "", problems)
    if problems or not isinstance(value, kind):
        raise refusal(problems, source)
    return value


def write_json(record: object) -> str:
    """Return a dataclass as JSON with sorted keys, two spaces of indent and a final newline."""
    assert dataclasses.is_dataclass(record)
    assert not isinstance(record, type)
    text = json.dumps(dataclasses.asdict(record), indent=2, sort_keys=True, allow_nan=False)
    return text + "\n"


def refusal(problems: list[str], source: str) -> AutosegError:
    """Return the error that lists what is wrong with a file."""
    return AutosegError(
        found="\n".join(f"{source}: {problem}" for problem in problems),
        expected=f"{source} as `autoseg export` writes it",
        fix=f"undo the change to {source}, or export the model again",
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse(kind: Any, value: object, where: str, problems: list[str]) -> Any:  # noqa: ANN401
    """Return `value` as `kind`, or `Mismatch` after noting the problem."""
    if dataclasses.is_dataclass(kind):
        return _parse_fields(kind, value, where, problems)
    origin = get_origin(kind)
    if origin is tuple:
        return _parse_items(get_args(kind)[0], value, where, problems)
    if origin is Literal:
        expected = "one of " + ", ".join(repr(option) for option in get_args(kind))
        fits = any(value == item and type(value) is type(item) for item in get_args(kind))
        return value if fits else _mismatch(expected, value, where, problems)
    if origin in (Union, types.UnionType):
        rest = next(option for option in get_args(kind) if option is not type(None))
        return None if value is None else _parse(rest, value, where, problems)
    return _parse_scalar(kind, value, where, problems)


def _parse_scalar(kind: type, value: object, where: str, problems: list[str]) -> object:
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is kind and (kind is not float or math.isfinite(value)):  # type: ignore[arg-type]
        return value
    return _mismatch(SCALARS[kind], value, where, problems)


def _parse_items(kind: Any, value: object, where: str, problems: list[str]) -> object:  # noqa: ANN401
    if not isinstance(value, list):
        return _mismatch("a list", value, where, problems)
    items = enumerate(value)
    return tuple(_parse(kind, item, f"{where}[{index}]", problems) for index, item in items)


def _parse_fields(kind: Any, value: object, where: str, problems: list[str]) -> object:  # noqa: ANN401
    if not isinstance(value, dict):
        return _mismatch("an object with named fields", value, where, problems)
    before = len(problems)
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    problems.extend(_wrong_names(fields, value, where))
    parsed = {
        name: _parse(hints[name], item, _join(where, name), problems)
        for name, item in value.items()
        if name in fields
    }
    return kind(**parsed) if len(problems) == before else Mismatch()


def _wrong_names(
    fields: dict[str, dataclasses.Field], value: dict[str, object], where: str
) -> Iterator[str]:
    for name in sorted(set(value) - set(fields)):
        yield f"{_join(where, name)}: unknown field"
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            yield f"{_join(where, name)}: missing field"


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _mismatch(expected: str, value: object, where: str, problems: list[str]) -> Mismatch:
    found = json.dumps(value)
    found = found if len(found) <= 80 else found[:77] + "..."
    problems.append(f"{where or 'content'}: expected {expected}, found {found}")
    return Mismatch()
