"""`autoseg demo`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options

DEMO_BUDGET_S = 75.0
NUM_CASES = 14
NUM_UNSEEN = 2


def demo(
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to make; it must not exist.")
    ] = Path("autoseg-demo"),
    budget: options.BudgetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Make a small 3D data set, plan, train two folds, export, predict: two minutes on a CPU."""
    from autoseg.cli import display
    from autoseg.cli.planning import run_planning
    from autoseg.cli.shared import machine_file, typed
    from autoseg.cli.training import run_training
    from autoseg.errors import WorkspaceError
    from autoseg.pipeline.planning import PlanOptions
    from autoseg.pipeline.training import TrainOptions
    from autoseg.runtime.runner import Model, PredictOptions, predict_files
    from autoseg.testing.synthetic import write_spheres

    if folder.exists():
        raise WorkspaceError(
            found=f"{folder} exists", expected="a folder to make", fix="name another one with -o"
        )
    style = {"shape": (16, 48, 48), "spacing": (3.0, 1.0, 1.0), "num_classes": 3}
    data = write_spheres(folder / "spheres", num_cases=NUM_CASES, seed=0, **style)
    unseen = write_spheres(folder / "unseen", num_cases=NUM_UNSEEN, seed=1, **style)
    wanted = PlanOptions(
        dataset=data,
        workspace=folder / "spheres.autoseg",
        budget_s=budget or DEMO_BUDGET_S,
        num_folds=2,
        machine_file=machine_file(),
    )
    outcome = run_planning(wanted)
    if not json_:
        display.print_outcome(outcome)
    run_training(TrainOptions(workspace=outcome.workspace, command=typed()), as_json=json_)
    predictions = folder / "predictions"
    model = Model(outcome.workspace.model)
    summary = predict_files(model, [unseen / "imagesTr"], predictions, PredictOptions())
    if not json_:
        print(f"predictions of {NUM_UNSEEN} unseen cases: {predictions}")
    if summary.exit_code:
        raise typer.Exit(summary.exit_code)
