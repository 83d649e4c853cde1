"""`autoseg plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli import options, parse

if TYPE_CHECKING:
    from autoseg.pipeline.planning import PlanOptions


def plan(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder of images and masks.")
    ] = None,
    workspace: options.NewWorkspaceOption = None,
    spec: options.SpecOption = None,
    skip_broken: options.SkipBrokenOption = False,
    planner: options.PlannerOption = "auto",
    budget: options.PlanBudgetOption = None,
    memory: options.MemoryOption = None,
    ram: options.RamOption = None,
    device: options.DeviceOption = "auto",
    machine: Annotated[
        Path | None,
        typer.Option(
            "--machine",
            metavar="FILE",
            help="Plan for the machine in FILE, as `autoseg doctor --json` prints it there.",
        ),
    ] = None,
    folds: options.FoldsOption = None,
    splits: options.SplitsOption = None,
    split_by: options.SplitByOption = "folds",
    group_by: options.GroupOption = None,
    set_: options.SetOption = None,
    seed: options.SeedOption = 0,
    replan: options.ReplanOption = False,
    export_nnunet: Annotated[
        bool, typer.Option("--export-nnunet", help="Also write nnUNetPlans.json.")
    ] = False,
    search: Annotated[
        float | None,
        typer.Option(
            "--search",
            parser=parse.seconds,
            metavar="TIME",
            help="Then search for a better plan, as `autoseg search --budget TIME` does.",
        ),
    ] = None,
    preview_augmentation: Annotated[
        bool,
        typer.Option(
            "--preview-augmentation", help="Also draw training patches as they will be changed."
        ),
    ] = False,
    fingerprint: Annotated[
        Path | None, typer.Option("--fingerprint", help="Plan from a fingerprint, without data.")
    ] = None,
    dataset_json: Annotated[
        Path | None, typer.Option("--dataset-json", help="Beside nnU-Net's own fingerprint.")
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(
            "--after", metavar="WORKSPACE", help="Learn from a finished run what bounded it."
        ),
    ] = None,
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="KEY=VALUE...",
            help="Only show the plan of a workspace for other means: memory, ram, budget, device, "
            "gpu, cpus, folds, planner.",
        ),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare",
            metavar="[OTHER]",
            help="Only show what differs from the plan of another workspace, or from now.",
        ),
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Measure DATASET and write a plan that says what was decided and why."""
    if what_if or compare is not None:
        from autoseg.cli.plan_views import planned_workspace, show_plans

        place = planned_workspace(dataset, workspace)
        show_plans(place, what_if or (), compare, as_json=json_)
        return
    from autoseg.cli.shared import machine_file, typed
    from autoseg.pipeline.planning import PlanOptions

    if (dataset is None) == (fingerprint is None):
        raise typer.BadParameter("name a DATASET, or a --fingerprint FILE, not both")
    wanted = PlanOptions(
        dataset=dataset or Path(),
        workspace=workspace,
        spec=spec,
        skip_broken=skip_broken,
        planner=planner,
        budget_s=budget,
        memory_bytes=memory,
        ram_bytes=ram,
        device=device,
        num_folds=folds,
        splits=splits,
        split_by=split_by,
        group_by=group_by,
        overrides=tuple(set_ or ()),
        seed=seed,
        replan=replan,
        export_nnunet=export_nnunet,
        preview_augmentation=preview_augmentation,
        command=typed(),
        machine_file=machine_file(),
        machine=machine,
        after=after,
    )
    if search is not None:
        from autoseg.plan.search_budget import refuse_short_search

        refuse_short_search(search)  # before anything is measured
    if fingerprint is not None:
        _plan_fingerprint(wanted, fingerprint, dataset_json, search, as_json=json_)
        return
    _plan_dataset(wanted, search, as_json=json_)


def _plan_fingerprint(
    wanted: "PlanOptions",
    fingerprint: Path,
    dataset_json: Path | None,
    search_s: float | None,
    *,
    as_json: bool,
) -> None:
    """Print the plan for a fingerprint alone."""
    from autoseg.cli import display
    from autoseg.pipeline.planning import plan_from_fingerprint

    for name, is_given in (
        ("--preview-augmentation", wanted.preview_augmentation),
        ("--search", search_s is not None),
    ):
        if is_given:
            raise typer.BadParameter(f"{name} needs a DATASET, not a --fingerprint")
    made = plan_from_fingerprint(wanted, fingerprint, dataset_json)
    display.print_json(made.model_dump(mode="json")) if as_json else display.print_plan(made)


def _plan_dataset(wanted: "PlanOptions", search_s: float | None, *, as_json: bool) -> None:
    """Plan, print the plan, and search for a better one where that is asked for."""
    from autoseg.cli import display
    from autoseg.cli.planning import run_planning

    outcome = run_planning(wanted)
    if not as_json:
        display.print_outcome(outcome)
    elif search_s is None:
        display.print_json(outcome.plan.model_dump(mode="json"))
    if search_s is not None:
        from autoseg.cli.searching import search_from

        search_from(outcome.workspace, search_s, replan=wanted.replan, as_json=as_json)
