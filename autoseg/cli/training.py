"""Training with its display, for the commands that train."""

from collections.abc import Sequence
from dataclasses import replace

from autoseg.cli import display
from autoseg.cli.progress import Progress
from autoseg.cli.shared import interruptible, machine_file
from autoseg.pipeline.training import TrainOptions


def run_training(options: TrainOptions, *, as_json: bool, track: Sequence[str] = ()) -> None:
    """Train with progress; Ctrl-C saves, names the command that goes on, and exits 130.

    Parameters
    ----------
    track
        Trackers that follow, as users name them (see `autoseg.track.targets`).
    """
    from autoseg.pipeline.summary import summarise_run
    from autoseg.pipeline.training import train_model
    from autoseg.track.follow import followed
    from autoseg.track.targets import open_trackers

    command = display.train_command(options.workspace)
    if options.command[1:2] == ("train",):
        command = options.command
    trackers = open_trackers(options.workspace, track)
    with (
        interruptible(command) as should_stop,
        Progress() as progress,
        followed(options.workspace, trackers, progress.note),
    ):
        known = replace(options, machine_file=machine_file())
        train_model(known, progress.on_event, should_stop)
    summary = summarise_run(options.workspace)
    if as_json:
        display.print_json(summary)
        return
    display.print_summary(summary)
