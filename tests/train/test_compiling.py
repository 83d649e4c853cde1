import math
import sys
import time
from typing import Any

import pytest

from autoseg.network.execution import Execution
from autoseg.train import compiling
from autoseg.train.compiling import Compiled, decide, measured

CPU = Execution(device="cpu", precision="fp32")


@pytest.fixture
def tried(monkeypatch):
    """Return a function that sets what a trial finds; it tells with which limits it was tried."""
    limits = []

    def find(*found):
        def trial(job, execution, limit_s):
            limits.append(limit_s)
            return Compiled(*found)

        monkeypatch.setattr(compiling, "measured", trial)
        return limits

    return find


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Return a function that sets what the other process does, instead of compiling."""

    def write(text):
        path = tmp_path / "program.sh"
        path.write_text(f"#!/bin/sh\nshift 2\ncat > /dev/null\n{text}\n")
        path.chmod(0o755)
        monkeypatch.setattr(compiling.sys, "executable", str(path))

    return write


JOB: Any = "a job that can be pickled"


def test_a_network_that_is_much_faster_compiled_is_compiled(tried):
    limits = tried(0.5, 40.0, "")
    found = decide(JOB, CPU, 1.0, 4000.0)
    assert found.execution.compiled
    assert found.seconds == 0.5
    assert limits == [80.0]


@pytest.mark.parametrize(
    ("trial", "words"),
    [
        ((0.995, 40.0, ""), "too little"),
        ((1.5, 40.0, ""), "too little"),
        ((math.inf, 60.0, "compiling failed: no compiler"), "no compiler"),
    ],
)
def test_else_it_stays_as_it_is_with_the_reason(tried, trial, words):
    tried(*trial)
    found = decide(JOB, CPU, 1.0, 4000.0)
    assert (found.execution, found.seconds) == (CPU, 1.0)
    assert words in found.why


def test_nothing_is_tried_where_there_is_no_time(tried):
    limits = tried(0.1, 1.0, "")
    assert "too short" in decide(JOB, CPU, 1.0, 600.0).why
    assert "mps" in decide(JOB, Execution(device="mps", precision="fp32"), 1.0, 1e5).why
    assert limits == []


def test_a_trial_never_takes_long(tried):
    limits = tried(0.5, 40.0, "")
    decide(JOB, CPU, 1.0, 1e6)
    assert limits == [compiling.MOST_S]


def test_a_trial_tells_what_it_has_measured(program):
    program("""echo '{"seconds": 0.25, "taken_s": 30}'""")
    assert measured(JOB, CPU, 10.0) == (0.25, 30.0, "")


def test_a_trial_that_crashes_tells_why(program):
    program("echo no compiler >&2; exit 3")
    found = measured(JOB, CPU, 10.0)
    assert found.seconds == math.inf
    assert "exit code 3" in found.why
    assert "no compiler" in found.why


def test_a_trial_that_hangs_is_killed_with_all_it_has_started(program, tmp_path):
    program(f"(sleep 0.8; touch {tmp_path}/lives) & sleep 60")
    started = time.monotonic()
    found = measured(JOB, CPU, 0.3)
    assert time.monotonic() - started < 10
    assert "did not end" in found.why
    time.sleep(0.8)
    assert not (tmp_path / "lives").exists()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a C++ compiler")
def test_a_network_is_compiled_and_measured(make_job):
    found = measured(make_job(), CPU, 240.0)
    assert 0 < found.seconds < 60, found.why
