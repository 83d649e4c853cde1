"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import parse

DatasetArgument = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Folder of images and masks.")
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Workspace; default: the only *.autoseg here."),
]
NewWorkspaceOption = Annotated[
    Path | None,
    typer.Option("--workspace", "-w", help="Where to write; default: ./<name>.autoseg."),
]
SpecOption = Annotated[
    Path | None, typer.Option("--spec", help="JSON file that declares labels, channels, groups.")
]
GroupOption = Annotated[
    str | None,
    typer.Option("--group-by", help="Regular expression; its first group names the patient."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget", parser=parse.seconds, metavar="TIME", help="Wall-clock time, e.g. 20m or 2h."
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Folds trained at the same time (over 1: Ray).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
NoImagesOption = Annotated[
    bool, typer.Option("--no-images", help="Leave pictures of cases out of the report.")
]
