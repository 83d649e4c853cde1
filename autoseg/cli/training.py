"""Training with its display, for the commands that train."""

import shlex
import sys

import typer

from autoseg.cli import display
from autoseg.cli.session import stop_on_signal
from autoseg.pipeline.training import TrainOptions

INTERRUPTED = 130


def run_training(options: TrainOptions, *, as_json: bool) -> None:
    """Train with progress; Ctrl-C saves, names the command that goes on, and exits 130."""
    from autoseg.pipeline.summary import summarise_run
    from autoseg.pipeline.training import train_model
    from autoseg.train.fold import Interrupted

    try:
        with stop_on_signal() as should_stop, display.Progress() as progress:
            train_model(options, progress.on_event, should_stop)
    except (Interrupted, KeyboardInterrupt):
        command = display.train_command(options.workspace)
        if options.command[1:2] == ("train",):
            command = shlex.join(options.command)
        print(f"stopped; everything is saved. To go on: {command}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    summary = summarise_run(options.workspace)
    if as_json:
        display.print_json(summary)
        return
    display.print_summary(summary)
