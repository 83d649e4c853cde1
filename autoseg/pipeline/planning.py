"""From a data set to a plan: `autoseg plan`."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from autoseg.check.masks import reading_notes
from autoseg.dataset.dataset import Dataset, Finding, Findings
from autoseg.dataset.problems import DatasetProblems
from autoseg.dataset.spec import spec_json
from autoseg.dataset.split_files import splits_json
from autoseg.dataset.splits import DEFAULT_FOLDS, Splits
from autoseg.errors import AutosegError
from autoseg.fingerprint.copies import near_copies
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.fingerprint.nnunet_file import load_fingerprint
from autoseg.machine import Machine, measure_machine, usable_memory
from autoseg.pipeline.backbones import apply_settings, encoder_at_hand
from autoseg.pipeline.checking import RAM_FRACTION, SpecChoice, choose_spec, require_place
from autoseg.pipeline.evidence import read_evidence
from autoseg.pipeline.examining import Examined, make_survey, measured_findings, open_sound
from autoseg.pipeline.known_machines import known_machine, load_machine, remembered
from autoseg.pipeline.run_record import RunRecord, load_run
from autoseg.pipeline.setting_checks import POSSIBLE, USUAL, refuse_other_axes, refuse_settings
from autoseg.pipeline.splitting import SplitBy, SplitOptions, choose_splits
from autoseg.pipeline.supersede import settle
from autoseg.plan.backbones import names_backbone
from autoseg.plan.budget import refuse_short_budget
from autoseg.plan.export_nnunet import nnunet_json
from autoseg.plan.fits import fitting_plan, memory_findings, memory_limit, refuse_misfits
from autoseg.plan.overrides import check_settings
from autoseg.plan.plan import Plan
from autoseg.plan.registry import load_planner
from autoseg.plan.request import PlanRequest
from autoseg.workspace import Workspace, writable_workspace, write_text


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What a user may ask of a plan."""

    dataset: Path
    workspace: Path | None = None
    spec: Path | None = None
    """None: the workspace's, if there is one."""
    skip_broken: bool = False
    """Leave out cases with errors, which the workspace's spec.json then names."""
    planner: str = "auto"
    budget_s: float | None = None
    memory_bytes: int | None = None
    ram_bytes: int | None = None
    device: str = "auto"
    num_folds: int | None = None
    splits: Path | None = None
    split_by: SplitBy = "folds"
    group_by: str | None = None
    overrides: tuple[str, ...] = ()
    seed: int = 0
    replan: bool = False
    export_nnunet: bool = False
    preview_augmentation: bool = False
    """Draw contact sheets of training patches, too."""
    command: tuple[str, ...] = ()
    """As typed, for the report."""
    machine_file: Path | None = None
    """Keeps how fast this machine is known to be (see `known_machines`); None: measured anew."""
    machine: Path | None = None
    """What `autoseg doctor --json` has printed on the machine to plan for; None: this one."""
    after: Path | None = None
    """Workspace of a finished run that the plan is to learn from."""


@dataclass(frozen=True, kw_only=True)
class PlanOutcome:
    """A plan with what led to it."""

    workspace: Workspace
    dataset: Dataset
    fingerprint: Fingerprint
    findings: tuple[Finding, ...]
    splits: Splits
    plan: Plan
    superseded: Path | None
    """Where the training of an earlier plan was moved."""
    sheets: tuple[Path, ...] = ()
    """Contact sheets of the augmentation, where they were asked for."""
    spec_file: Path | None = None
    """What was declared stands here; None: nothing was."""


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
        All problems of the data set at once; a budget that no training can keep; an unknown
        planner; an unwritable workspace.
    """
    refuse_short_budget(options.budget_s)
    refuse_settings(options.overrides, options.dataset, options.workspace, options.spec)
    planner = load_planner(options.planner)
    given = None if options.machine is None else load_machine(options.machine)
    wanted = _split_options(options)
    chosen = choose_spec(options.dataset, options.workspace, options.spec, options.group_by)
    if options.workspace is None:
        require_place(options.dataset, chosen.workspace)
    examined = _sound(options, chosen, wanted, on_case)
    dataset, fingerprint = examined.dataset, examined.fingerprint
    assert dataset is not None, "what cannot be opened was refused"
    assert fingerprint is not None, "what cannot be measured was refused"
    workspace = writable_workspace(chosen.workspace)
    machine = _machine(workspace, options) if given is None else given
    alike = near_copies(fingerprint.cases)
    splits, more = choose_splits(dataset, fingerprint, wanted, examined.given, alike)
    findings = (*examined.findings, *reading_notes(dataset), *more)
    findings += measured_findings(examined, alike)
    request = plan_request(options, fingerprint, machine, num_folds=len(splits))
    if not names_backbone(options.overrides):
        request = replace(request, find_encoder=partial(encoder_at_hand, workspace=workspace))
    planned = fitting_plan(planner, request)
    plan = apply_settings(planned, options.overrides, fingerprint, workspace)
    refuse_misfits(plan, planned, request)
    plan = plan.revised(device_index=machine.resolve_device(options.device)[1])
    findings += memory_findings(plan, memory_limit(plan, planned, request))
    plan, superseded = settle(workspace, plan, splits_json(splits), replan=options.replan)
    if examined.spec != chosen.spec:
        write_text(workspace.spec, spec_json(examined.spec))
    outcome = PlanOutcome(
        workspace=workspace,
        dataset=dataset,
        fingerprint=fingerprint,
        findings=findings,
        splits=splits,
        plan=plan,
        superseded=superseded,
        spec_file=chosen.file if examined.spec == chosen.spec else workspace.spec,
    )
    is_exported = options.export_nnunet or workspace.nnunet_plans.exists()
    workspace.nnunet_plans.unlink(missing_ok=True)  # it never is of another plan than plan.json
    _write(outcome)
    load_run(workspace, plan, options.command, machine)
    if is_exported:
        write_text(workspace.nnunet_plans, nnunet_json(plan, fingerprint))
    if not options.preview_augmentation:
        return outcome
    from autoseg.pipeline.preview import preview_augmentation  # loads what draws: 0.4 s

    return replace(outcome, sheets=preview_augmentation(dataset, plan, workspace))


def _write(outcome: PlanOutcome) -> None:
    """Write the records of a plan into its workspace."""
    workspace = outcome.workspace
    write_text(workspace.dataset, outcome.dataset.to_json())
    write_text(workspace.fingerprint, outcome.fingerprint.to_json())
    write_text(workspace.findings, Findings(findings=outcome.findings).to_json())
    write_text(workspace.splits, splits_json(outcome.splits))
    write_text(workspace.plan, outcome.plan.to_json())


def _sound(
    options: PlanOptions,
    chosen: SpecChoice,
    splits: SplitOptions,
    on_case: Callable[[str, int, int], None],
) -> Examined:
    """Return the measured data set without errors; what is measured stays in the workspace."""
    ram_bytes = options.ram_bytes or int(RAM_FRACTION * usable_memory())

    def survey(dataset: Dataset) -> tuple[Fingerprint | None, tuple[Finding, ...]]:
        refuse_other_axes(options.overrides, dataset)
        folder = writable_workspace(chosen.workspace).measured  # not made before it is needed
        return make_survey(folder, ram_bytes, on_case)(dataset)

    try:
        return open_sound(
            options.dataset, chosen.spec, splits, survey, skip_broken=options.skip_broken
        )
    except DatasetProblems as error:
        is_option = options.group_by is not None
        raise error.with_place(chosen.file, group_option=is_option) from None


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
        after=None
        if options.after is None
        else read_evidence(options.after, fingerprint.labels.names),
    )


def _machine(workspace: Workspace, options: PlanOptions) -> Machine:
    """Return this machine, with the speed that an earlier plan of the workspace was made for.

    How fast a machine is just now depends on what else runs; planning again must not give another
    plan for that. Measurements are another matter: they are taken as long as nothing is trained,
    and after that when a new plan is asked for.
    """
    earlier = None
    if workspace.run.exists():
        with suppress(AutosegError):  # of another version: measured anew
            earlier = RunRecord.load(workspace.run).machine
    if earlier is None or not earlier.is_like(measure_machine(earlier.flops)):
        return _this_machine(options)
    if options.machine_file is None:
        return earlier
    known = known_machine(earlier, options.machine_file)
    is_settled = workspace.training.exists() and not options.replan
    if (
        known is None
        or is_settled
        or (known.speeds, known.trained)
        == (
            earlier.speeds,
            earlier.trained,
        )
    ):
        return earlier
    return known


def _this_machine(options: PlanOptions) -> Machine:
    machine = measure_machine()
    return machine if options.machine_file is None else remembered(machine, options.machine_file)


def _split_options(options: PlanOptions) -> SplitOptions:
    """Return what is asked of the folds."""
    return SplitOptions(
        splits=options.splits,
        split_by=options.split_by,
        num_folds=options.num_folds,
        seed=options.seed,
    )


def plan_from_fingerprint(options: PlanOptions, path: Path, dataset_json: Path | None) -> Plan:
    """Return the plan for a fingerprint alone: ours, or nnU-Net's with its dataset.json.

    Writes nothing; the machine is this one unless the options say otherwise.
    """
    refuse_short_budget(options.budget_s)
    planner = load_planner(options.planner)
    fingerprint = load_fingerprint(path, dataset_json)
    axes = fingerprint.dimensions
    check_settings(options.overrides, POSSIBLE[axes], USUAL[axes])
    num_folds = options.num_folds or min(DEFAULT_FOLDS, len(fingerprint.cases))
    machine = _this_machine(options) if options.machine is None else load_machine(options.machine)
    request = plan_request(options, fingerprint, machine, num_folds=num_folds)
    planned = fitting_plan(planner, request)
    plan = apply_settings(planned, options.overrides, fingerprint)
    refuse_misfits(plan, planned, request)
    return plan
