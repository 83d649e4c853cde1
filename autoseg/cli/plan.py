"""`autoseg plan`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options, parse


def plan(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder of images and masks.")
    ] = None,
    workspace: options.NewWorkspaceOption = None,
    spec: options.SpecOption = None,
    planner: Annotated[str, typer.Option("--planner", help="Who decides.")] = "auto",
    budget: options.BudgetOption = None,
    memory: Annotated[
        int | None,
        typer.Option("--memory", parser=parse.size, metavar="SIZE", help="Of the training device."),
    ] = None,
    ram: Annotated[
        int | None,
        typer.Option("--ram", parser=parse.size, metavar="SIZE", help="Of all processes together."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    folds: Annotated[int | None, typer.Option("--folds", min=2, help="How many folds.")] = None,
    splits: Annotated[
        Path | None, typer.Option("--splits", help="Folds as in nnU-Net's splits_final.json.")
    ] = None,
    group_by: options.GroupOption = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE overrides one decision.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every random number.")] = 0,
    replan: Annotated[
        bool, typer.Option("--replan", help="Move training of another plan to superseded/.")
    ] = False,
    export_nnunet: Annotated[
        bool, typer.Option("--export-nnunet", help="Also write nnUNetPlans.json.")
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
    from autoseg.cli.session import log_to, typed
    from autoseg.pipeline.planning import PlanOptions, make_plan, plan_from_fingerprint
    from autoseg.workspace import Workspace

    if (dataset is None) == (fingerprint is None):
        raise typer.BadParameter("name a DATASET, or a --fingerprint FILE, not both")
    wanted = PlanOptions(
        dataset=dataset or Path(),
        workspace=workspace,
        spec=spec,
        planner=planner,
        budget_s=budget,
        memory_bytes=memory,
        ram_bytes=ram,
        device=device,
        num_folds=folds,
        splits=splits,
        group_by=group_by,
        overrides=tuple(set_ or ()),
        seed=seed,
        replan=replan,
        export_nnunet=export_nnunet,
        command=typed(),
    )
    if fingerprint is not None:
        made = plan_from_fingerprint(wanted, fingerprint, dataset_json)
        display.print_json(made.model_dump(mode="json")) if json_ else display.print_plan(made)
        return
    with display.Progress() as progress:
        outcome = make_plan(wanted, lambda _, done, total: progress.update("measure", done, total))
    log_to(Workspace(outcome.workspace.root))
    if json_:
        display.print_json(outcome.plan.model_dump(mode="json"))
        return
    display.print_outcome(outcome)
