"""`autoseg track`."""

from typing import Annotated

import typer

from autoseg.cli import options


def track(
    workspace: options.WorkspaceOption = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", metavar="TRACKER", help=options.TRACKERS_HELP),
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Give what a workspace has logged to TensorBoard or MLflow, as far as they lack it."""
    from autoseg.cli import display
    from autoseg.cli.shared import open_workspace
    from autoseg.errors import counted
    from autoseg.track.targets import feed_all

    place = open_workspace(workspace)
    fed = feed_all(place, to or ("tensorboard",))
    if json_:
        display.print_json({"workspace": str(place.root), "points": fed})
        return
    for target, count in fed.items():
        print(f"{target}: {counted(count, 'new point')}")
