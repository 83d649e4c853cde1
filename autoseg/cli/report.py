"""`autoseg report`."""

from autoseg.cli import options


def report(
    workspace: options.WorkspaceOption = None,
    images: options.ImagesOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Write report.html from what is there: one file, offline."""
    from autoseg.cli import display
    from autoseg.cli.shared import open_workspace
    from autoseg.pipeline.choices import keep_images
    from autoseg.report.render import render_report

    place = open_workspace(workspace)
    render_report(place, images=keep_images(place, asked=images))
    display.print_json({"report": str(place.report)}) if json_ else print(place.report)
