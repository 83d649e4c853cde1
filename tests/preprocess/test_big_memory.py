"""A picture of hundreds of megabytes goes through check, plan and preprocess in bounded memory."""

import pytest

from autoseg.testing.big_pictures import write_pictures
from benchmarks.measure import measure
from benchmarks.ours import AUTOSEG

EDGE = 12_000
MAX_BYTES = 900_000_000
"""Of all processes: the program, and two workers with some slabs each."""


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"tile": (512, 512)}, {"rowsperstrip": 16}], ids=str)
def test_memory_does_not_grow_with_the_size_of_pictures(tmp_path, options):
    shape = (EDGE, EDGE)
    data = write_pictures(
        tmp_path / "data", num_cases=2, shape=shape, values=(0, 1), bigtiff=True, **options
    )
    workspace = tmp_path / "work"
    plan = ("plan", data, "-w", workspace, "--budget", "1h", "--planner", "nnunet")
    for command in (("check", data), plan, ("preprocess", "-w", workspace)):
        with (tmp_path / "output").open("w") as log:
            taken = measure((AUTOSEG, *command), log=log)
        assert taken.exit_code == 0, (tmp_path / "output").read_text(encoding="utf-8")
        assert taken.peak_bytes < MAX_BYTES
