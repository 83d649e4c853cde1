import sys

import pytest

from benchmarks.measure import Measurement, measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

SIZE = 80_000_000
HOLD = f"memory = b'x' * {SIZE}; import time; time.sleep(0.5)"
# The middle process leaves at once, so that the last one's parent is gone.
ORPHAN = f"""
import subprocess, sys, time
middle = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", middle, {HOLD!r}])
time.sleep(0.7)
"""


def test_memory_and_time_of_a_process_are_seen():
    result = measure([sys.executable, "-c", HOLD])
    assert SIZE < result.peak_bytes < 2 * SIZE
    assert 0.5 < result.seconds < 5
    assert result.exit_code == 0


def test_a_process_whose_parent_is_gone_still_counts():
    assert measure([sys.executable, "-c", ORPHAN]).peak_bytes > SIZE


def test_the_exit_code_is_kept():
    assert measure([sys.executable, "-c", "raise SystemExit(3)"]).exit_code == 3


def test_output_goes_to_the_log(tmp_path):
    with (tmp_path / "log").open("w") as log:
        measure([sys.executable, "-c", "print('told')"], folder=tmp_path, log=log)
    assert (tmp_path / "log").read_text() == "told\n"


def test_commands_one_after_the_other_add_time_and_share_memory():
    assert Measurement(1, 10, 0) + Measurement(2, 5, 4) == Measurement(3, 10, 4)
