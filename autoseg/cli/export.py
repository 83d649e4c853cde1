"""`autoseg export`."""

from typing import Annotated

import typer

from autoseg.cli import options


def export(
    workspace: options.WorkspaceOption = None,
    verification_case: Annotated[
        str, typer.Option("--verification-case", help="CASE, synthetic or none.")
    ] = "synthetic",
    json_: options.JsonOption = False,
) -> None:
    """Write the artifact model/ and model.zip, verified against the training framework."""
    from autoseg.cli import display
    from autoseg.cli.progress import Progress
    from autoseg.cli.shared import open_workspace
    from autoseg.dataset.dataset import Dataset
    from autoseg.pipeline import finishing
    from autoseg.plan.consistency import load_plan

    place = open_workspace(workspace)
    plan, dataset = load_plan(place.plan), Dataset.load(place.dataset)
    finishing.choose(plan, dataset, place)
    with Progress() as progress:
        finishing.export(
            plan,
            dataset,
            place,
            verification_case=verification_case,
            on_event=progress.on_event,
        )
    if json_:
        display.print_json({"model": str(place.model), "zip": str(place.model_zip)})
        return
    print(f"model: {place.model}\nzip: {place.model_zip}")
