"""The command `autoseg`: it translates arguments into calls, and errors into exit codes."""

import json
import logging
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import typer

from autoseg.cli.check import check
from autoseg.cli.demo import demo
from autoseg.cli.doctor import doctor
from autoseg.cli.ensemble import ensemble
from autoseg.cli.evaluate import evaluate
from autoseg.cli.export import export
from autoseg.cli.import_ import import_
from autoseg.cli.import_model import import_model
from autoseg.cli.plan import plan
from autoseg.cli.plan_views import PlanCommand
from autoseg.cli.predict import predict
from autoseg.cli.preprocess import preprocess
from autoseg.cli.pretrain import pretrain
from autoseg.cli.report import report
from autoseg.cli.run import run
from autoseg.cli.search import search
from autoseg.cli.track import track
from autoseg.cli.train import train
from autoseg.runtime.errors import AutosegError

COMMANDS = (
    plan,
    search,
    train,
    pretrain,
    track,
    predict,
    evaluate,
    check,
    import_,
    import_model,
    run,
    demo,
    preprocess,
    ensemble,
    export,
    report,
    doctor,
)
USER_ERROR = 2
OUR_ERROR = 1


def make_app() -> typer.Typer:
    """Return the application with all commands."""
    app = typer.Typer(
        name="autoseg",
        help="From a folder of images and masks to a verified segmentation model.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in COMMANDS:
        name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name, cls=PlanCommand if command is plan else None)(command)
    app.callback()(_version_option)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 the user can fix it, 1 our fault."""
    logger = logging.getLogger("autoseg")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.NullHandler())  # what users see is printed, the rest goes to a file
    warnings.filterwarnings("ignore", module=r"PIL\b")  # of EXIF data, which viewers pass over too
    try:
        make_app()(list(arguments) if arguments is not None else None)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USER_ERROR
    except AutosegError as error:
        print(error, file=sys.stderr)
        if "--json" in (sys.argv[1:] if arguments is None else arguments):
            parts = {"found": error.found, "expected": error.expected, "fix": error.fix}
            print(json.dumps({"error": parts}, indent=2))
        logger.error("%s", error)
        return USER_ERROR
    except Exception:
        return _report_our_fault()
    return 0


def _report_our_fault() -> int:
    """Print the traceback and the name of the file that keeps it."""
    text = traceback.format_exc()
    handlers = logging.getLogger("autoseg").handlers
    files = [Path(item.baseFilename) for item in handlers if isinstance(item, logging.FileHandler)]
    if files:
        logging.getLogger("autoseg").error("%s", text)
    else:
        with tempfile.NamedTemporaryFile(
            "w", prefix="autoseg-", suffix=".log", delete=False
        ) as file:
            file.write(text)
            files = [Path(file.name)]
    print(text, file=sys.stderr)
    print(f"autoseg: this is a fault of autoseg; the log is in {files[0]}", file=sys.stderr)
    return OUR_ERROR


def _print_version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        from importlib.metadata import version

        print(f"autoseg {version('autoseg-unet')}")
        raise typer.Exit


def _version_option(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
) -> None:
    """From a folder of images and masks to a verified segmentation model."""
