"""`autoseg plan --what-if` and `--compare`: plans that are shown and not written."""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

from autoseg.cli import parse
from autoseg.errors import counted

if TYPE_CHECKING:
    from autoseg.pipeline.comparing import Difference
    from autoseg.plan.plan import Plan
    from autoseg.plan.what_if import WhatIf
    from autoseg.workspace import Workspace

WHAT_IF, COMPARE = "--what-if", "--compare"
PAIR = re.compile(r"[a-z_]+=")
"""How a KEY=VALUE begins; a folder of such a name can be written ./KEY=VALUE."""
KEYS = {
    "memory": "memory_bytes",
    "ram": "ram_bytes",
    "budget": "budget_s",
    "device": "device",
    "gpu": "gpu",
    "cpus": "num_cpus",
    "folds": "num_folds",
    "planner": "planner",
}
"""Keys of `--what-if`, and the fields of `WhatIf` that they set."""
NAMED_GPU = re.compile(r"cuda:(\D.*|.*\d\D.*|\d{3,})")
"""A device with a name in place of an index: cuda:A100, cuda:4090."""
LEAST = {"cpus": 1, "folds": 2}
EXAMPLES = {"memory": "24GB", "ram": "64GB", "budget": "8h", "cpus": "8", "folds": "2"}
"""A value of each key whose values are checked here."""
SHOWN_WITH = {"dataset", "workspace", "what_if", "compare", "json_"}
"""Parameters of `plan` that go with these options; all others are about a plan that is made."""


class PlanCommand(TyperCommand):
    """`plan`, whose `--what-if` takes several words, and whose `--compare` takes one or none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Read the command line, and refuse options that a view would pass over."""
        rest = super().parse_args(ctx, spread(args))
        if ctx.params.get("what_if") or ctx.params.get("compare") is not None:
            for parameter in self.params:
                _refuse_unused(ctx, parameter)
        return rest


def _refuse_unused(ctx: Any, parameter: Any) -> None:  # noqa: ANN401
    source = ctx.get_parameter_source(parameter.name)
    if parameter.name in SHOWN_WITH or source is None or source.name != "COMMANDLINE":
        return
    option = parameter.opts[0]
    key = option.removeprefix("--")
    fix = f"write {WHAT_IF} {key}=..." if key in KEYS else f"leave {option} out"
    raise typer.BadParameter(
        f"{option} is for a plan that is made; {WHAT_IF} and {COMPARE} only show plans: {fix}"
    )


def spread(words: Sequence[str]) -> list[str]:
    """Return a command line with `--what-if` before each KEY=VALUE, `--compare=` for one alone."""
    found: list[str] = []
    is_listing = False
    for index, word in enumerate(words):
        following = words[index + 1 : index + 2]
        if word == COMPARE and (not following or following[0].startswith("-")):
            word = f"{COMPARE}="
        if is_listing and PAIR.match(word) and found[-1] != WHAT_IF:
            found.append(WHAT_IF)
        elif not PAIR.match(word):
            is_listing = word.startswith(WHAT_IF)
        found.append(word)
    return found


def parse_what_if(texts: Sequence[str]) -> "WhatIf":
    """Return what is different, from texts of one or several KEY=VALUE.

    Raises
    ------
    PlanError
        A key that is unknown or given twice, a value that is no duration, size or number, a
        graphics processor that is not known.
    """
    from autoseg.errors import PlanError, nearest
    from autoseg.plan.what_if import WhatIf

    values: dict[str, object] = {}
    for text in texts:
        for pair in re.split(r"\s+(?=[a-z_]+=)", text.strip()):
            key, separator, value = (part.strip() for part in pair.partition("="))
            if key not in KEYS or not separator or not value:
                raise PlanError(
                    found=f"{WHAT_IF} {pair}",
                    expected=f"KEY=VALUE with one of the keys {', '.join(KEYS)}",
                    fix=f"write it like memory=24GB{nearest(key, list(KEYS))}",
                )
            named = NAMED_GPU.fullmatch(value) if key == "device" else None
            if named is not None:
                key, value = "gpu", named.group(1)
            if KEYS[key] in values:
                raise PlanError(
                    found=f"{key} twice in {WHAT_IF}", expected="each key once", fix="leave one out"
                )
            values[KEYS[key]] = _value(key, value)
    return WhatIf(**values)  # type: ignore[arg-type]


def _value(key: str, text: str) -> object:
    if key in LEAST:
        if not text.isdecimal() or int(text) < LEAST[key]:
            raise _not_a(f"a number of {LEAST[key]} or more", key, text)
        return int(text)
    if key == "gpu":
        return _gpu(text)
    if key == "budget":
        return _read(parse.seconds, "a duration with its unit", key, text)
    if key in ("memory", "ram"):
        return _read(parse.size, "a size with its unit", key, text)
    return text


def _read(reader: Callable[[str], object], kind: str, key: str, text: str) -> object:
    try:
        return reader(text)
    except typer.BadParameter:
        raise _not_a(kind, key, text) from None


def _not_a(kind: str, key: str, text: str) -> Exception:
    """Return why a key does not take a value, and a value that it takes."""
    from autoseg.errors import PlanError

    unit = EXAMPLES[key].lstrip("0123456789")
    is_number = text.replace(".", "", 1).isdecimal() and float(text) > 0
    example = f"{text}{unit}" if unit and is_number else EXAMPLES[key]
    return PlanError(
        found=f"{key}={text} in {WHAT_IF}", expected=kind, fix=f"write it like {key}={example}"
    )


def _gpu(text: str) -> object:
    """Return the graphics processor that "A100", "A100:80GB" or "RTX 4090" means."""
    from autoseg.plan.what_if import find_gpu

    match = re.fullmatch(r"(.*?)[\s:_-]+(\d+(?:\.\d+)?\s*[GM]i?B)", text, re.IGNORECASE)
    if match is None:
        return find_gpu(text)
    return find_gpu(match.group(1), parse.size(match.group(2)))


def planned_workspace(dataset: Path | None, root: Path | None) -> "Workspace":
    """Return the workspace that is named, that of a data set, or the only one here.

    Raises
    ------
    WorkspaceError
        There is none with a plan.
    """
    from autoseg.workspace import SUFFIX, find_workspace, named_workspace

    if root is None and dataset is None:
        return find_workspace(Path.cwd())
    return named_workspace(root or Path(f"{(dataset or Path()).resolve().name}{SUFFIX}"))


def show_plans(
    workspace: "Workspace", what_if: Sequence[str], compare: str | None, *, as_json: bool
) -> None:
    """Print the plan of a workspace as it would be with other means, or beside another plan.

    Parameters
    ----------
    workspace
        With a plan.
    what_if
        KEY=VALUE each; empty: the plan as it is.
    compare
        A workspace or a plan.json; "": the workspace's own plan; None: nothing is compared.
    as_json
        Print one JSON document.
    """
    from autoseg.pipeline.comparing import load_other
    from autoseg.plan.consistency import load_plan

    name, other = workspace.root.name, None if not compare else load_other(Path(compare))
    if not what_if:
        if other is None:
            raise _nothing_to_compare()
        _print_both((name, load_plan(workspace.plan)), (str(compare), other), as_json=as_json)
        return
    now, then = _imagined(workspace, what_if)
    title = f"{name}, what if {' '.join(what_if)}"
    if compare is None:
        _print_one(title, then, as_json=as_json)
        return
    first = (f"{name} now", now) if other is None else (compare, other)
    _print_both(first, (title, then), as_json=as_json)


def _imagined(workspace: "Workspace", what_if: Sequence[str]) -> "tuple[Plan, Plan]":
    """Return the plan as it is and as it would be; what does not fit there is told."""
    from autoseg.pipeline.what_if import imagine

    found = imagine(workspace, parse_what_if(what_if))
    if found.left_out is not None:
        print(f"left out, because it does not fit there: {found.left_out}", file=sys.stderr)
    return found.now, found.then


def _nothing_to_compare() -> Exception:
    from autoseg.errors import PlanError

    return PlanError(
        found=f"{COMPARE} with nothing to compare",
        expected="a second workspace or plan.json, or other means",
        fix=f"write {COMPARE} OTHER, or {WHAT_IF} KEY=VALUE {COMPARE}",
    )


def _print_one(title: str, plan: "Plan", *, as_json: bool) -> None:
    from autoseg.cli import display

    if as_json:
        display.print_json(plan.model_dump(mode="json"))
        return
    print(f"{title} (nothing is written)")
    display.print_plan(plan)
    display.print_expected_time(plan)


def _print_both(first: "tuple[str, Plan]", second: "tuple[str, Plan]", *, as_json: bool) -> None:
    """Print what differs between two plans with their titles."""
    from autoseg.cli import display
    from autoseg.pipeline.comparing import compare_plans

    found, titles = compare_plans(first[1], second[1]), (first[0], second[0])
    if as_json:
        rows = [asdict(row) for row in found.differences]
        display.print_json({"plans": titles, "differences": rows, "keys": found.keys})
        return
    if not found.differences and not found.keys:
        print(f"{' and '.join(titles)} decide the same, at the same expected cost")
        return
    rows = [(row.name, row.first, row.second, _why(row)) for row in found.differences]
    display.print_table("What differs", ("", *titles, "why"), rows)
    if found.keys:
        print(
            f"{counted(len(rows), 'row')} for {counted(found.shared_keys, 'setting')} of what both "
            "plans have, and for what they cost; --json lists every setting by its key"
        )


def _why(row: "Difference") -> str:
    """Return the reasons of both sides, or the one that they share."""
    reasons = dict.fromkeys(reason for reason in (row.first_reason, row.second_reason) if reason)
    return " -> ".join(reasons)
