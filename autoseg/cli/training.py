"""Training with its display, for the commands that train."""

from dataclasses import replace

from autoseg.cli import display
from autoseg.cli.progress import Progress
from autoseg.cli.shared import interruptible, machine_file
from autoseg.pipeline.training import TrainOptions


def run_training(options: TrainOptions, *, as_json: bool) -> None:
    """Train with progress; Ctrl-C saves, names the command that goes on, and exits 130."""
    from autoseg.pipeline.summary import summarise_run
    from autoseg.pipeline.training import train_model

    command = display.train_command(options.workspace)
    if options.command[1:2] == ("train",):
        command = options.command
    with interruptible(command) as should_stop, Progress() as progress:
        known = replace(options, machine_file=machine_file())
        train_model(known, progress.on_event, should_stop)
    summary = summarise_run(options.workspace)
    if as_json:
        display.print_json(summary)
        return
    display.print_summary(summary)
