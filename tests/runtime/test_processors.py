"""How many processors this process may use."""

import subprocess
import sys

import pytest

from autoseg.runtime.processors import LARGE_BLOCK, usable_cpus


@pytest.mark.parametrize("text", ["100000 100000", "50000 100000"])
def test_the_quota_of_a_container_is_respected(tmp_path, text):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == 1


@pytest.mark.parametrize("text", ["max 100000", "", "800000000 100000"])
def test_without_a_tight_quota_the_affinity_counts(tmp_path, text):
    everything = usable_cpus(tmp_path / "nothing")
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cpus(tmp_path) == everything


def test_the_older_kind_of_quota_is_respected(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == 1


FREEING = """
import numpy as np
from autoseg.runtime.processors import LARGE_BLOCK, resident_bytes, return_large_blocks

return_large_blocks()
before, _ = resident_bytes()
arrays = [np.ones(LARGE_BLOCK + size, np.uint8) for size in range(0, 1 << 20, 1 << 18)]
kept = arrays[1::2]
held, _ = resident_bytes()
del arrays
left, _ = resident_bytes()
print(held - before, held - left)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_freed_arrays_leave_the_process_at_once():
    # In a new process: what earlier tests have freed here would be used again.
    found = subprocess.run([sys.executable, "-c", FREEING], capture_output=True, check=True)
    taken, returned = map(int, found.stdout.split())
    assert taken > 0.9 * 4 * LARGE_BLOCK
    assert returned > 0.9 * 2 * LARGE_BLOCK
