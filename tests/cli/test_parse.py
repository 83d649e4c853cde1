import re
from typing import get_args

import pytest
import typer

from autoseg.cli import parse
from autoseg.cli.options import PlanBudgetOption
from autoseg_planners import auto


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("20m", 1200), ("2h", 7200), ("1h30m", 5400), ("0.5 h", 1800), ("1d", 86400)],
)
def test_durations_are_read_as_users_write_them(text, expected):
    assert parse.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "20", "m", "-5m", "2 hours and", "0s", "1h30"])
def test_nonsense_durations_are_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="20m"):
        parse.seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8GB", 8_000_000_000), ("8GiB", 8 * 2**30), ("500 MB", 500_000_000), ("1.5kb", 1500)],
)
def test_gb_are_powers_of_ten_and_gib_powers_of_two(text, expected):
    assert parse.size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "8 apples", "-1GB", "0GB"])
def test_nonsense_sizes_are_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="8GB"):
        parse.size(text)


def test_a_size_whose_unit_was_forgotten_is_no_number_of_bytes():
    with pytest.raises(typer.BadParameter, match="'24' without a unit"):
        parse.size("24")
    assert parse.size("8000000000") == 8 * 10**9


def test_the_default_budget_in_the_help_is_that_of_the_planner():
    (option,) = get_args(PlanBudgetOption)[1:]
    times = [parse.seconds(text) for text in re.findall(r"\d+h", option.help or "")]
    assert times == [auto.CPU_BUDGET_S, auto.GPU_BUDGET_S]


def test_words_ignore_blanks_and_empty_parts():
    assert parse.words("2d, 3d_fullres,") == ("2d", "3d_fullres")


def test_a_region_has_a_name_and_values():
    assert parse.region("whole tumour = 1, 2") == ("whole tumour", (1, 2))


@pytest.mark.parametrize("text", ["", "tumour", "=1", "tumour=", "tumour=a", "tumour=1.5"])
def test_a_nonsense_region_is_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="tumour=1,2"):
        parse.region(text)
