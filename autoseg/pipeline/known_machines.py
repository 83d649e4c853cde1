"""What is known about how fast machines are: a file in the user's cache directory.

It keeps, for each machine that the user has worked on, the best matrix product, the measurement of
`autoseg doctor --measure`, and what the newest trained folds took.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.machine import Device, Machine, StepSpeed, TrainedSpeed, measure_machine
from autoseg.plan.cost import step_cost
from autoseg.plan.plan import Plan
from autoseg.plan.speed import KEPT_RUNS, base_speed, measured_speed, trained_key
from autoseg.record import Record
from autoseg.train.lines import read_lines
from autoseg.train.lock import held
from autoseg.train.records import RunSettings
from autoseg.workspace import FoldFolder, write_text

MAX_MACHINES = 8
"""Machines that are kept: containers and affinities of one computer count as several."""
MIN_INTERVALS = 8
"""Measured parts of a run, of which the fastest quarter counts."""
MAX_SPREAD = 1.25
"""Median over lower quartile of a run's steps beyond which other programs have disturbed it."""
MAX_LOAD = 1.5
"""Programs that want to compute, for each processor, beyond which the machine is busy."""
LOCK_WAIT_S = 2.0
"""Nobody holds the file's lock for longer than it takes to write; no command waits longer."""
DOCTOR_EXTRAS = ("versions", "cache", "free_bytes")
"""What `autoseg doctor --json` prints besides the machine."""


class KnownMachines(Record):
    """Content of the file; the newest machine comes last."""

    schema_version: Literal[1] = 1
    machines: tuple[Machine, ...]


def known_machine(machine: Machine, path: Path) -> Machine | None:
    """Return what the file knows of a machine, None if nothing."""
    return next((item for item in _load(path) if item.is_like(machine)), None)


def remembered(machine: Machine, path: Path) -> Machine:
    """Return the machine with all that the file knows of it, and keep its speed if it is better."""
    with _alone(path):
        known = known_machine(machine, path)
        if known is not None and known.flops >= machine.flops:
            return known
        best = machine if known is None else faster(known, machine.flops)
        _keep(best, path)
    return best


def faster(machine: Machine, flops: float) -> Machine:
    """Return the machine with a better matrix product than was known.

    What is expected of its processor follows from the product where it was not measured; what
    folds have taken against that changes with it, so that their steps stay as long as they were.
    """
    factor = flops / machine.flops if measured_speed(machine, "cpu") is None else 1.0
    trained = tuple(
        item.revised(ratio=item.ratio * factor) if item.device == "cpu" else item
        for item in machine.trained
    )
    return machine.revised(flops=flops, trained=trained)


def keep_speed(machine: Machine, speed: StepSpeed, path: Path) -> Machine:
    """Return the machine with a new measurement, now kept; what folds have shown before is over."""
    key = (speed.device, speed.precision)
    with _alone(path):
        now = known_machine(machine, path) or machine
        others = [item for item in now.speeds if (item.device, item.precision) != key]
        folds = [item for item in now.trained if (item.device, item.precision) != key]
        measured = now.revised(speeds=(*others, speed), trained=tuple(folds))
        _keep(measured, path)
    return measured


def load_machine(path: Path) -> Machine:
    """Return the machine in a file that a user names: what `autoseg doctor --json` prints.

    Raises
    ------
    AutosegError
        There is no such file, or something else is in it.
    """
    fix = "write one with `autoseg doctor --json > machine.json` on the machine that will train"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AutosegError(
            found=f"{path} cannot be read as a machine: {error}",
            expected="what `autoseg doctor --json` prints",
            fix=fix,
        ) from None
    if isinstance(content, dict):
        content = {key: item for key, item in content.items() if key not in DOCTOR_EXTRAS}
    try:
        return Machine.from_json(json.dumps(content), path.name)
    except AutosegError as error:
        raise AutosegError(
            found=error.found, expected="what `autoseg doctor --json` prints", fix=fix
        ) from None


def learn_from_folds(folders: Sequence[FoldFolder], plan: Plan, path: Path) -> Iterator[str]:
    """Correct the speed of this machine by folds that it has trained; yield what was learnt.

    A fold counts once, and by the fastest quarter of its steps. Where the machine was busy, or the
    steps differ much, it counts only if it was faster than expected: other programs make steps
    slower, never faster.

    Parameters
    ----------
    folders
        Of the folds; those that are not finished say nothing.
    """
    here = remembered(measure_machine(), path)
    for folder in folders:
        with _alone(path):
            machine = known_machine(here, path) or here
            found = trained_speed(folder, plan, machine, is_busy=_is_busy(machine))
            if found is None or found.run in {item.run for item in machine.trained}:
                continue
            same = [item for item in machine.trained if trained_key(item) == trained_key(found)]
            others = [item for item in machine.trained if item not in same]
            here = machine.revised(trained=(*others, *(*same, found)[-KEPT_RUNS:]))
            _keep(here, path)
        yield f"{found.run}: a step took {found.ratio:.2f} times what was expected"


def trained_speed(
    folder: FoldFolder, plan: Plan, machine: Machine, *, is_busy: bool
) -> TrainedSpeed | None:
    """Return what the steps of a trained fold took against what was expected of them.

    None where that says nothing: another plan, another machine or precision, too short a run, or
    slow steps on a busy machine; and where the run has no end, or left no settings.
    """
    if not (folder.result.exists() and folder.settings.exists()):
        return None
    settings = RunSettings.load(folder.settings)
    device = _kind(settings)
    precision = machine.training_precision(device)
    is_whole = device != "cpu" or settings.num_threads == machine.num_cpus
    is_usual = device == "cuda" or settings.precision == precision
    steps = step_intervals(folder)
    if settings.plan_digest != plan.digest() or not is_whole or not is_usual:
        return None
    if len(steps) < MIN_INTERVALS or (device == "cuda" and not machine.gpus):
        return None
    item = plan.configuration(settings.configuration)
    _, expected_s = step_cost(
        item.network,
        item.patch_size,
        batch_size=item.batch_size,
        speed=base_speed(machine, device),
        training=item.training,
    )
    usual, median = np.percentile(steps, (25, 50))
    ratio = float(usual / expected_s)
    if ratio > 1 and (is_busy or median > MAX_SPREAD * usual):
        return None
    where = f"{settings.configuration} fold {settings.fold}"
    return TrainedSpeed(
        run=f"{plan.dataset_name} {where} (plan {settings.plan_digest[:8]})",
        device=machine.device_name(device),
        dimensions=len(item.patch_size),
        precision=precision,
        ratio=ratio,
    )


def step_intervals(folder: FoldFolder) -> list[float]:
    """Return the seconds a step in each part of a run; parts with a look at cases are left out."""
    return [
        (now["seconds"] - before["seconds"]) / (now["step"] - before["step"])
        for before, now in pairwise(read_lines(folder.metrics))
        if "dice" not in now and now["step"] > before["step"] and now["seconds"] > before["seconds"]
    ]


def _kind(settings: RunSettings) -> Device:
    return "cpu" if settings.device == "cpu" else "mps" if settings.device == "mps" else "cuda"


def _is_busy(machine: Machine) -> bool:
    """Return whether more wants to compute here than there are processors, over five minutes."""
    return hasattr(os, "getloadavg") and os.getloadavg()[1] > MAX_LOAD * machine.num_cpus


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let no other process change the file during the body, where that can be had at once."""
    with ExitStack() as stack:
        with suppress(AutosegError):  # no place to write, or somebody holds it: no reason to end
            stack.enter_context(held(path.with_name(f".{path.name}.lock"), LOCK_WAIT_S))
        yield


def _keep(machine: Machine, path: Path) -> None:
    """Write a machine into the file; without a place to write, the next plan measures again."""
    others = [item for item in _load(path) if not item.is_like(machine)]
    machines = (*others, machine)[-MAX_MACHINES:]
    with suppress(WorkspaceError):
        write_text(path, KnownMachines(machines=machines).to_json())


def _load(path: Path) -> tuple[Machine, ...]:
    """Return the machines in the file; none if there is no file, or one of another version."""
    with suppress(AutosegError):
        return KnownMachines.load(path).machines
    return ()
