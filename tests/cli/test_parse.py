import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from autoseg.cli import parse


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


@given(st.floats(1, 1e6))
def test_every_duration_has_a_text_with_a_unit(duration_s):
    assert parse.duration_text(duration_s).split()[-1] in {"s", "min"}


def test_sizes_for_people_use_units_of_a_thousand():
    assert parse.size_text(8_000_000_000) == "8.0 GB"
    assert parse.size_text(999) == "999 B"


def test_words_ignore_blanks_and_empty_parts():
    assert parse.words("2d, 3d_fullres,") == ("2d", "3d_fullres")
