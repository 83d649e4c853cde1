"""`autoseg preprocess`."""

from typing import Annotated

import typer

from autoseg.cli import options, parse


def preprocess(
    workspace: options.WorkspaceOption = None,
    configurations: Annotated[
        str | None, typer.Option("--configurations", help="Default: 2d and 3d, all but cascades.")
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Prepare all cases: crop, resample, normalise, store; `train` also does what is missing."""
    from autoseg.cli import display
    from autoseg.cli.progress import Progress
    from autoseg.cli.shared import interruptible, open_workspace, typed
    from autoseg.pipeline.training import prepare_workspace

    place = open_workspace(workspace)
    names = parse.words(configurations) if configurations else None
    with interruptible(typed()) as should_stop, Progress() as progress:
        prepared = prepare_workspace(place, names, progress.on_event, should_stop)
    if json_:
        display.print_json({"workspace": str(place.root), "configurations": list(prepared)})
        return
    print(f"prepared {', '.join(prepared)} in {place.root}")
