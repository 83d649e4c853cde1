"""`autoseg pretrain`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options


def pretrain(
    workspace: options.WorkspaceOption = None,
    configuration: Annotated[
        str | None, typer.Option("--configuration", help="Default: the one that suits best.")
    ] = None,
    budget: options.BudgetOption = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps, no clock.")
    ] = None,
    fold: Annotated[
        str,
        typer.Option("--fold", help="Leave out the validation images of this fold; all: of none."),
    ] = "all",
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of further images, without labels.")
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Learn from images without their labels, for `train --init`; run again, it goes on."""
    from autoseg.cli import display
    from autoseg.cli.progress import Progress
    from autoseg.cli.shared import interruptible, open_workspace, typed
    from autoseg.pipeline.pretraining import PretrainOptions
    from autoseg.pipeline.pretraining import pretrain as learn

    if budget is not None and steps is not None:
        raise typer.BadParameter("give one of --budget and --steps")
    wanted = PretrainOptions(
        workspace=open_workspace(workspace),
        configuration=configuration,
        budget_s=budget,
        steps=steps,
        fold=fold,
        images=images,
        command=typed(),
    )
    with interruptible(typed()) as should_stop, Progress() as progress:
        outcome = learn(wanted, progress.on_event, should_stop)
    if json_:
        display.print_json(outcome.to_dict())
        return
    display.print_pretraining(outcome, wanted.workspace)
