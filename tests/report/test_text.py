import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from autoseg.report import text


@given(st.floats(0, 1e6))
def test_every_duration_has_a_text_with_a_unit(seconds):
    assert text.duration(seconds).split()[-1] in {"s", "min"}


def test_durations_are_as_exact_as_people_need_them():
    times = (0.351, 42.4, 1000, 7500)
    assert [text.duration(t) for t in times] == ["0.35 s", "42 s", "17 min", "2 h 05 min"]


def test_sizes_use_units_of_a_thousand():
    assert text.size(8_000_000_000) == "8.0 GB"
    assert text.size(999) == "999 B"
    assert text.size(None) == text.MISSING


def test_importing_it_costs_the_command_line_nothing():
    code = "import autoseg.report.text, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
