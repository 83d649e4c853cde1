"""run.json: with what, on what and how often a workspace was worked on."""

import shlex
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from autoseg.machine import Machine, measure_machine
from autoseg.plan.plan import Plan
from autoseg.record import Record, autoseg_version
from autoseg.workspace import Workspace, write_text

NAMED_PACKAGES = ("torch", "numpy", "scipy", "SimpleITK", "onnxruntime", "onnx", "ray", "blosc2")


class RunRecord(Record):
    """The origin of a workspace's results."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    versions: dict[str, str]
    """Of the packages that results depend on."""
    machine: Machine
    seed: int
    plan_digest: str
    commands: tuple[str, ...]
    """Every command that worked towards this plan's results, as typed."""
    active_s: dict[str, float]
    """Wall-clock seconds of work by request, without the time between a stop and the next start."""


def load_run(
    workspace: Workspace, plan: Plan, command: Sequence[str], machine: Machine | None = None
) -> RunRecord:
    """Return the record of this plan's run with one more command, a new one if there is none."""
    line = shlex.join(command)
    digest = plan.digest()
    if workspace.run.exists():
        run = RunRecord.load(workspace.run)
        if run.plan_digest == digest:
            commands = (*run.commands, line) if line else run.commands
            run = run.revised(commands=commands)
            write_text(workspace.run, run.to_json())
            return run
    run = RunRecord(
        autoseg_version=autoseg_version(),
        versions=_versions(),
        machine=machine or measure_machine(),
        seed=plan.seed,
        plan_digest=digest,
        commands=(line,) if line else (),
        active_s={},
    )
    write_text(workspace.run, run.to_json())
    return run


def _versions() -> dict[str, str]:
    """Return the installed version of each named package."""
    found = {}
    for name in NAMED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
