"""`autoseg ensemble`."""

from autoseg.cli import options


def ensemble(workspace: options.WorkspaceOption = None, json_: options.JsonOption = False) -> None:
    """Choose the ensemble and the post-processing on out-of-fold predictions."""
    from autoseg.cli import display
    from autoseg.cli.shared import open_workspace
    from autoseg.dataset.dataset import Dataset
    from autoseg.pipeline.finishing import choose
    from autoseg.pipeline.summary import summarise_run
    from autoseg.plan.consistency import load_plan

    place = open_workspace(workspace)
    choose(load_plan(place.plan), Dataset.load(place.dataset), place)
    summary = summarise_run(place)
    if json_:
        display.print_json(summary)
        return
    display.print_choice(summary["ensemble"], summary["postprocessing"])
