"""Whether a compiled network trains faster: tried once, where it can neither hang nor crash a fold.

A compiler may take minutes, fail, or never end. So another process builds the same network, has it
compiled (`torch.compile`) and measures its steps on the fold's own batches; after a limit it is
killed. Its answer, and why it was or was not followed, is in the fold's settings.json.
"""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import torch

from autoseg.network.execution import Execution
from autoseg.train.job import FoldJob

KINDS = ("cpu", "cuda")
"""Kinds of devices that torch compiles for."""
TRIED_FRACTION = 0.02
"""Part of the time that trying may take."""
LEAST_S = 60.0
"""Nothing is compiled in less."""
MOST_S = 300.0
"""What takes longer is as good as hanging."""


class Compiled(NamedTuple):
    """What a trial has found."""

    seconds: float
    """Of a step; infinite where nothing was measured."""
    taken_s: float
    """By the trial: compiling once more takes about as long."""
    why: str
    """What happened, where nothing was measured."""


class Decision(NamedTuple):
    """What follows from it."""

    execution: Execution
    seconds: float
    """Of a step."""
    why: str


def decide(job: FoldJob, execution: Execution, seconds: float, left_s: float) -> Decision:
    """Return how the network is executed, compiled only where that pays.

    Parameters
    ----------
    execution, seconds
        What is fastest without a compiler, and what a step takes then.
    left_s
        For the whole training.
    """
    limit_s = min(MOST_S, TRIED_FRACTION * left_s)
    if execution.kind not in KINDS:
        return Decision(execution, seconds, f"not tried on {execution.kind}")
    if limit_s < LEAST_S:
        why = f"not tried: {TRIED_FRACTION:.0%} of {left_s:.0f} s are too short to compile in"
        return Decision(execution, seconds, why)
    found = measured(job, execution, limit_s)
    if not math.isfinite(found.seconds):
        return Decision(execution, seconds, found.why)
    why = f"a step takes {found.seconds:.4g} s compiled and {seconds:.4g} s as it is"
    saved_s = (1 - found.seconds / seconds) * left_s
    if saved_s <= found.taken_s:
        return Decision(execution, seconds, f"{why}: too little for compiling once more")
    return Decision(replace(execution, compiled=True), found.seconds, why)


def as_planned(job: FoldJob, execution: Execution) -> Decision | None:
    """Return what the plan says, without a look at any clock; None where it leaves it open."""
    wanted = job.planned.training.compiled
    if wanted is None:
        return None
    if wanted and execution.kind not in KINDS:
        return Decision(execution, 0.0, f"planned, but there is no compiler for {execution.kind}")
    return Decision(replace(execution, compiled=wanted), 0.0, "as planned")


def keep_going() -> None:
    """Let a network run as it is wherever the compiler, which could do it before, fails after all.

    Compilers are quick to fail where another version or a full disk comes between; a fold goes on.
    """
    from torch._dynamo import config

    config.suppress_errors = True


def measured(job: FoldJob, execution: Execution, limit_s: float) -> Compiled:
    """Return what steps of the compiled network take, measured by another process.

    After `limit_s` seconds it is killed, with all that it has started.
    """
    if execution.kind == "cuda":
        torch.cuda.empty_cache()  # what was compared before leaves its memory to the trial
    content = pickle.dumps((job, replace(execution, compiled=True), limit_s))
    with subprocess.Popen(
        [sys.executable, "-m", "autoseg.train.compiled_step"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(content, timeout=limit_s)
        except subprocess.TimeoutExpired:
            return Compiled(math.inf, limit_s, f"compiling did not end within {limit_s:.0f} s")
        finally:
            _kill(process)
    return _read(output, errors, process.returncode)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, if any of them lives."""
    with suppress(ProcessLookupError, PermissionError):  # the latter where only its rest is there
        os.killpg(process.pid, signal.SIGKILL)


def _read(output: bytes, errors: bytes, code: int) -> Compiled:
    try:
        line = json.loads(output.splitlines()[-1])
        return Compiled(float(line["seconds"]), float(line["taken_s"]), "")
    except (IndexError, ValueError, KeyError, TypeError):
        lines = errors.decode(errors="replace").strip().splitlines() or ["without a word"]
        why = f"compiling failed (exit code {code}): {lines[-1][:200]}"
        return Compiled(math.inf, 0.0, why)
