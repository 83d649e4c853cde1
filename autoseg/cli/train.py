"""`autoseg train`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options, parse

STEPS_PER_EPOCH = 250
"""nnU-Net's epoch."""


def train(
    workspace: options.WorkspaceOption = None,
    budget: options.BudgetOption = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps a fold, no clock.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="The same in epochs of 250 steps.")
    ] = None,
    configurations: Annotated[
        str | None, typer.Option("--configurations", help="E.g. 2d,3d_fullres.")
    ] = None,
    folds: Annotated[
        str | None, typer.Option("--folds", help="Indices such as 0,1, or all.")
    ] = None,
    workers: options.WorkersOption = 1,
    devices_per_fold: Annotated[
        int,
        typer.Option("--devices-per-fold", min=1, help="GPUs, or processes, that share a fold."),
    ] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option("--init", metavar="MODEL", help="Begin with its weights: model, checkpoint."),
    ] = None,
    verification_case: Annotated[
        str, typer.Option("--verification-case", help="CASE, synthetic or none.")
    ] = "synthetic",
    track: options.TrackOption = None,
    images: options.ImagesOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Train, validate, choose, export, verify and report; run again, it goes on from there."""
    from autoseg.cli.shared import open_workspace, typed
    from autoseg.cli.training import run_training
    from autoseg.pipeline.training import TrainOptions

    if sum(item is not None for item in (budget, steps, epochs)) > 1:
        raise typer.BadParameter("give one of --budget, --steps and --epochs")
    place = open_workspace(workspace)
    wanted = TrainOptions(
        workspace=place,
        budget_s=budget,
        steps=epochs * STEPS_PER_EPOCH if epochs is not None else steps,
        configurations=parse.words(configurations) if configurations else None,
        folds=parse.words(folds) if folds else None,
        num_workers=workers,
        devices_per_fold=devices_per_fold,
        address=address,
        images=images,
        initial=init,
        verification_case=verification_case,
        command=typed(),
    )
    run_training(wanted, as_json=json_, track=track or ())
