"""From a data set to a plan: `autoseg plan`."""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from autoseg.check.findings import check_fingerprint
from autoseg.dataset.dataset import Dataset, Finding, Findings
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec
from autoseg.dataset.splits import DEFAULT_FOLDS, Splits, make_splits, read_splits, splits_json
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.fingerprint.fingerprint_dataset import measure_dataset
from autoseg.fingerprint.nnunet_file import load_fingerprint
from autoseg.machine import Machine, measure_machine, usable_cpus, usable_memory
from autoseg.pipeline.run_record import RunRecord, load_run
from autoseg.pipeline.supersede import settle
from autoseg.plan.export_nnunet import to_nnunet
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import Plan
from autoseg.plan.registry import load_planner
from autoseg.plan.request import PlanRequest
from autoseg.workspace import SUFFIX, Workspace, write_text

RAM_FRACTION = 0.7
"""All our processes together may use this part of the machine's or container's memory."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a user may ask of a plan."""

    dataset: Path
    workspace: Path | None = None
    spec: Path | None = None
    planner: str = "auto"
    budget_s: float | None = None
    memory_bytes: int | None = None
    ram_bytes: int | None = None
    device: str = "auto"
    num_folds: int | None = None
    splits: Path | None = None
    group_by: str | None = None
    overrides: tuple[str, ...] = ()
    seed: int = 0
    replan: bool = False
    export_nnunet: bool = False
    command: tuple[str, ...] = ()
    """As typed, for the report."""
    machine_file: Path | None = None
    """Keeps the best speed that was ever measured of this machine; None: measured anew."""


@dataclass(frozen=True, kw_only=True)
class PlanOutcome:
    """A plan with what led to it."""

    workspace: Workspace
    dataset: Dataset
    fingerprint: Fingerprint
    findings: tuple[Finding, ...]
    plan: Plan
    superseded: Path | None
    """Where the training of an earlier plan was moved."""


def make_plan(
    options: PlanOptions, on_case: Callable[[str, int, int], None] = lambda *_: None
) -> PlanOutcome:
    """Measure a data set, plan, and write both into a workspace.

    Nothing is written to the workspace's records before everything is known; a plan that differs
    from one that folds were trained with needs `replan`, which moves those folds aside.

    Parameters
    ----------
    options
        What to plan, for what.
    on_case
        Called after each measured case with its id, how many are done, and how many there are.

    Raises
    ------
    AutosegError
        All problems of the data set at once; an unknown planner; an unwritable workspace.
    """
    planner = load_planner(options.planner)
    spec = load_spec(options.spec) if options.spec else None
    dataset = open_dataset(options.dataset, spec, options.group_by)
    workspace = _writable(options.workspace or Path(f"{dataset.name}{SUFFIX}"))
    machine = _machine(workspace, options.machine_file)
    fingerprint, findings = measure_dataset(
        dataset,
        workspace.measured,
        num_workers=machine.num_cpus,
        ram_bytes=options.ram_bytes or int(RAM_FRACTION * machine.memory_bytes),
        on_case=_counted(on_case, len(dataset.cases)),
    )
    splits, more = _splits(dataset, options)
    findings = (*findings, *more, *check_fingerprint(fingerprint, dataset.cases))
    request = plan_request(options, fingerprint, machine, num_folds=len(splits))
    plan = apply_overrides(planner(request), options.overrides)
    plan = plan.revised(device_index=machine.resolve_device(options.device)[1])
    plan, superseded = settle(workspace, plan, splits_json(splits), replan=options.replan)
    write_text(workspace.dataset, dataset.to_json())
    write_text(workspace.fingerprint, fingerprint.to_json())
    write_text(workspace.findings, Findings(findings=findings).to_json())
    write_text(workspace.splits, splits_json(splits))
    write_text(workspace.plan, plan.to_json())
    load_run(workspace, plan, options.command, machine)
    if options.export_nnunet:
        content = json.dumps(to_nnunet(plan, fingerprint), indent=2, sort_keys=True)
        write_text(workspace.nnunet_plans, content + "\n")
    return PlanOutcome(
        workspace=workspace,
        dataset=dataset,
        fingerprint=fingerprint,
        findings=findings,
        plan=plan,
        superseded=superseded,
    )


def plan_request(
    options: PlanOptions, fingerprint: Fingerprint, machine: Machine, *, num_folds: int
) -> PlanRequest:
    """Return what a planner is asked, with the machine's own limits where none are given."""
    return PlanRequest(
        fingerprint=fingerprint,
        machine=machine,
        device=machine.resolve_device(options.device)[0],
        memory_bytes=options.memory_bytes,
        ram_bytes=options.ram_bytes or int(RAM_FRACTION * machine.memory_bytes),
        budget_s=options.budget_s,
        num_folds=num_folds,
        seed=options.seed,
    )


def _machine(workspace: Workspace, machine_file: Path | None) -> Machine:
    """Return this machine, with the speed that an earlier plan of the workspace was made for.

    How fast a machine is just now depends on what else runs; planning again must not give another
    plan for that.
    """
    machine = measure_machine()
    if workspace.run.exists():
        with suppress(AutosegError):  # of another version: measured anew
            earlier = RunRecord.load(workspace.run).machine
            if earlier.is_like(machine):
                return earlier
    return machine if machine_file is None else remembered(machine, machine_file)


def remembered(machine: Machine, path: Path) -> Machine:
    """Return the machine with the best speed measured so far, which the file keeps."""
    with suppress(AutosegError):  # no file yet, or one of another version
        known = Machine.load(path)
        if known.is_like(machine) and known.flops >= machine.flops:
            return known
    with suppress(WorkspaceError):  # without a home, the next plan measures again
        write_text(path, machine.to_json())
    return machine


def _counted(on_case: Callable[[str, int, int], None], total: int) -> Callable[[str], None]:
    """Return a listener that adds how many cases are done."""
    done: list[str] = []

    def listen(case_id: str) -> None:
        done.append(case_id)
        on_case(case_id, len(done), total)

    return listen


def _splits(dataset: Dataset, options: PlanOptions) -> tuple[Splits, tuple[Finding, ...]]:
    """Return the folds that were given, or balanced ones."""
    if options.splits is not None:
        return read_splits(options.splits, dataset.cases), ()
    splits, findings = make_splits(dataset.cases, options.num_folds, options.seed)
    return splits, tuple(findings)


def _writable(root: Path) -> Workspace:
    """Return the workspace after making sure, before any work, that it can be written."""
    probe = root / f".{uuid4().hex[:8]}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise WorkspaceError(
            found=f"{root} cannot be written: {error.strerror or error}",
            expected="a folder that can be made or written",
            fix="choose another folder with -w, or change its permissions",
        ) from error
    return Workspace(root.absolute())


def plan_from_fingerprint(options: PlanOptions, path: Path, dataset_json: Path | None) -> Plan:
    """Return the plan for a fingerprint alone: ours, or nnU-Net's with its dataset.json.

    Writes nothing; the machine is this one unless the options say otherwise.
    """
    planner = load_planner(options.planner)
    fingerprint = load_fingerprint(path, dataset_json)
    num_folds = options.num_folds or min(DEFAULT_FOLDS, len(fingerprint.cases))
    request = plan_request(options, fingerprint, measure_machine(), num_folds=num_folds)
    return apply_overrides(planner(request), options.overrides)


def check_dataset(
    root: Path,
    spec: Path | None,
    group_by: str | None,
    on_case: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Finding, ...]:
    """Return everything that is noteworthy about a data set; what is wrong is raised at once."""
    dataset = open_dataset(root, load_spec(spec) if spec else None, group_by)
    with tempfile.TemporaryDirectory() as folder:
        fingerprint, findings = measure_dataset(
            dataset,
            Path(folder),
            num_workers=usable_cpus(),
            ram_bytes=int(RAM_FRACTION * usable_memory()),
            on_case=_counted(on_case, len(dataset.cases)),
        )
    _, more = make_splits(dataset.cases, None, 0)
    return (*findings, *more, *check_fingerprint(fingerprint, dataset.cases))
