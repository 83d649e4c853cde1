"""docs/planning.md names every constant with its value."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "planning.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]
OWN = ("foreground", "small_sets", "variants", "after", "encoders")
UNLISTED = {"MIN_SKELETON_ITERATIONS", "USUAL_ENCODERS"}
"""Details that are no rule's threshold."""


def named(words):
    for word in words.split(", "):
        module, name = word.strip("`").split(".")
        yield getattr(importlib.import_module(f"autoseg.plan.{module}"), name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} {row[1]}")
def test_every_rule_and_constant_is_what_the_page_says(row):
    rules, constant, value, _ = row
    assert all(callable(rule) for rule in named(rules))
    if constant:
        (found,) = named(constant)
        assert found == float(value)


def test_no_constant_is_missing_on_the_page():
    listed = {row[1].strip("`") for row in ROWS}
    for module in OWN:
        source = inspect.getsource(importlib.import_module(f"autoseg.plan.{module}"))
        names = set(re.findall(r"^([A-Z_]{2,}) = ", source, re.M)) - UNLISTED
        assert {f"{module}.{name}" for name in names} <= listed
