"""run.json: with what, on what and how often a workspace was worked on."""

import hashlib
import json
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Literal, Self, final

from pydantic import Field

from autoseg.errors import AutosegError, counted
from autoseg.machine import Machine, measure_machine
from autoseg.plan.plan import Plan
from autoseg.record import Record, autoseg_version
from autoseg.train.lock import held
from autoseg.workspace import Workspace, write_text

NAMED_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "SimpleITK",
    "pillow",
    "tifffile",
    "blosc2",
    "edt",
    "connected-components-3d",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "ray",
    "optuna",
    "pydantic",
)
OPTIONAL_PACKAGES = ("timm", "wfdb", "pydicom", "highdicom", "zarr")
"""Named where they are installed."""
KEEP_EVERY_S = 30.0
"""Active time is written this often: a kill loses no more."""
LOCK_WAIT_S = 30.0
"""Nobody holds the workspace's lock for longer than a file takes to write."""


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
    """Characters that are none (of file names in another encoding) are written as escapes."""
    active_s: dict[str, float]
    """Wall-clock seconds of work by unfinished request, without the time between a stop and the
    next start."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of what the work was done on: the files "dataset" and "splits", the "fingerprint" as
    the plan has it."""
    changes: tuple[str, ...] = ()
    """What later commands found changed: versions, the machine, a file. The same seed gives the
    same weights as long as nothing is."""

    def to_json(self) -> str:
        """Return the record as JSON that people read: umlauts as they were typed."""
        content = json.loads(super().to_json())
        return json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def load_run(
    workspace: Workspace, plan: Plan, command: Sequence[str], machine: Machine | None = None
) -> RunRecord:
    """Return the record of this plan's run with one more command, a new one if there is none.

    Parameters
    ----------
    machine
        That the plan is for; None: this one.
    """
    line = shlex.join(command).encode(errors="backslashreplace").decode()
    digest = plan.digest()
    with held(workspace.lock, LOCK_WAIT_S):
        run = RunRecord.load(workspace.run) if workspace.run.exists() else None
        if run is None or run.plan_digest != digest:
            run = _new_run(plan, digest, machine or measure_machine())
        run = _compared(run, plan, workspace, machine)
        if line:
            run = run.revised(commands=(*run.commands, line))
        write_text(workspace.run, run.to_json())
    return run


def _new_run(plan: Plan, digest: str, machine: Machine) -> RunRecord:
    return RunRecord(
        autoseg_version=autoseg_version(),
        versions=package_versions(),
        machine=machine,
        seed=plan.seed,
        plan_digest=digest,
        commands=(),
        active_s={},
    )


def _compared(
    run: RunRecord, plan: Plan, workspace: Workspace, machine: Machine | None
) -> RunRecord:
    """Return a record with what holds now, and with what has changed since it was written."""
    now = machine or measure_machine(run.machine.flops)
    versions, digests = package_versions(), _digests(plan, workspace)
    before = {"autoseg": run.autoseg_version, **run.versions, **run.digests}
    after = {"autoseg": autoseg_version(), **versions, **digests}
    found = [
        f"{name}: {old}, then {after[name]}"
        for name, old in before.items()
        if after.get(name, old) != old
    ]
    if not now.is_like(run.machine):
        found.append(f"machine: {_told(run.machine)}, then {_told(now)}")
    new = [text for text in found if text not in run.changes]
    return run.revised(
        autoseg_version=after["autoseg"],
        versions=versions,
        digests=digests,
        changes=(*run.changes, *new),
    )


def _digests(plan: Plan, workspace: Workspace) -> dict[str, str]:
    """Return the SHA-256 of what results depend on, as far as it is there."""
    files = {"dataset": workspace.dataset, "splits": workspace.splits}
    found = {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in files.items()
        if path.exists()
    }
    return {**found, "fingerprint": plan.fingerprint_digest}


def _told(machine: Machine) -> str:
    """Return what tells machines apart."""
    parts = [machine.system, f"Python {machine.python}", counted(machine.num_cpus, "processor")]
    parts += [f"{machine.memory_bytes} bytes of memory", *(gpu.name for gpu in machine.gpus)]
    return " ".join(parts)


@final
class ActiveTime:
    """How long a request has been worked on, in this process and in those before it.

    A context manager: the time is kept when the body ends with an error or a stop, and forgotten
    when the request is completed, so that the same request can be made again.
    """

    def __init__(self, workspace: Workspace, request: str) -> None:
        self._workspace, self._request = workspace, request
        self._before_s = RunRecord.load(workspace.run).active_s.get(request, 0.0)
        self._started = self._kept = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall-clock seconds until now."""
        return self._before_s + time.monotonic() - self._started

    def watched(self, should_stop: Callable[[], bool]) -> Callable[[], bool]:
        """Return `should_stop`, which is asked at every step; the time is kept on the way."""

        def ask() -> bool:
            if time.monotonic() - self._kept >= KEEP_EVERY_S:
                self._keep()
            return should_stop()

        return ask

    def __enter__(self) -> Self:
        """Begin to work."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Forget the time of a completed request, keep that of any other."""
        if kind is None:
            self._write(None)
        else:
            self._keep()

    def _keep(self) -> None:
        with suppress(AutosegError):  # no reason to end the work, or to hide why it ended
            self._write(self.seconds)
        self._kept = time.monotonic()

    def _write(self, active_s: float | None) -> None:
        with held(self._workspace.lock, LOCK_WAIT_S):
            run = RunRecord.load(self._workspace.run)
            others = {key: value for key, value in run.active_s.items() if key != self._request}
            mine = {} if active_s is None else {self._request: active_s}
            write_text(self._workspace.run, run.revised(active_s={**others, **mine}).to_json())


def package_versions() -> dict[str, str]:
    """Return the installed version of each named package, and of the optional ones there are."""
    found = {}
    for name in (*NAMED_PACKAGES, *OPTIONAL_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name in NAMED_PACKAGES:
                found[name] = "not installed"
    return found
