"""`autoseg plan`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options


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
    json_: options.JsonOption = False,
) -> None:
    """Measure DATASET and write a plan that says what was decided and why."""
    from autoseg.cli import display
    from autoseg.cli.planning import run_planning
    from autoseg.cli.shared import machine_file, typed
    from autoseg.pipeline.planning import PlanOptions, plan_from_fingerprint

    if (dataset is None) == (fingerprint is None):
        raise typer.BadParameter("name a DATASET, or a --fingerprint FILE, not both")
    if fingerprint is not None and preview_augmentation:
        raise typer.BadParameter("--preview-augmentation needs a DATASET, not a --fingerprint")
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
    )
    if fingerprint is not None:
        made = plan_from_fingerprint(wanted, fingerprint, dataset_json)
        display.print_json(made.model_dump(mode="json")) if json_ else display.print_plan(made)
        return
    outcome = run_planning(wanted)
    if json_:
        display.print_json(outcome.plan.model_dump(mode="json"))
        return
    display.print_outcome(outcome)
