"""`autoseg search`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options, parse


def search(
    workspace: options.WorkspaceOption = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            parser=parse.seconds,
            metavar="TIME",
            help="Wall-clock time: half to try plans, half to confirm the best, e.g. 1h.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Optimiser steps a training, no clock.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", min=2, help="Try no more plans than this.")
    ] = None,
    prior: Annotated[
        list[Path] | None,
        typer.Option(
            "--prior", metavar="STUDY", help="Earlier search whose best trials are tried early."
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Trainings at the same time (over 1: Ray).")
    ] = 1,
    address: Annotated[
        str | None, typer.Option("--address", help="Of a running Ray cluster.")
    ] = None,
    replan: options.ReplanOption = False,
    json_: options.JsonOption = False,
) -> None:
    """Improve the plan of a workspace, on evidence only; run again, it goes on from there."""
    from autoseg.cli.searching import run_search
    from autoseg.cli.shared import open_workspace, typed
    from autoseg.pipeline.searching import SearchOptions

    if (budget is None) == (steps is None):
        raise typer.BadParameter("give --budget TIME, or --steps N, not both")
    wanted = SearchOptions(
        workspace=open_workspace(workspace),
        budget_s=budget,
        steps=steps,
        num_trials=trials,
        priors=tuple(prior or ()),
        num_workers=workers,
        address=address,
        replan=replan,
        command=typed(),
    )
    run_search(wanted, as_json=json_)
