"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Literal

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
SkipBrokenOption = Annotated[
    bool,
    typer.Option("--skip-broken", help="Leave out cases with errors; a spec names them."),
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
PlanBudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget",
        parser=parse.seconds,
        metavar="TIME",
        help="Wall-clock time of training; auto's default: 2h on a CPU, 12h on a GPU.",
    ),
]
PlannerOption = Annotated[
    str, typer.Option("--planner", help="Who decides: auto, nnunet, resenc_m, resenc_l, ...")
]
MemoryOption = Annotated[
    int | None,
    typer.Option("--memory", parser=parse.size, metavar="SIZE", help="Of the training device."),
]
RamOption = Annotated[
    int | None,
    typer.Option("--ram", parser=parse.size, metavar="SIZE", help="Of all processes together."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
FoldsOption = Annotated[int | None, typer.Option("--folds", min=2, help="How many folds.")]
SplitsOption = Annotated[
    Path | None,
    typer.Option("--splits", help="Folds as in nnU-Net's splits_final.json or MONAI's data list."),
]
SplitByOption = Annotated[
    Literal["folds", "site"],
    typer.Option("--split-by", help="folds, or site: one fold a site, trained on all others."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE overrides one decision.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of every random number.")]
ReplanOption = Annotated[
    bool, typer.Option("--replan", help="Move training of another plan to superseded/.")
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=1, help="Folds trained at the same time (over 1: Ray).")
]
TRACKERS_HELP = "tensorboard[=FOLDER] or mlflow[=URI]; may be given several times."
TrackOption = Annotated[
    list[str] | None, typer.Option("--track", metavar="TRACKER", help=TRACKERS_HELP)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document for programs.")]
ImagesOption = Annotated[
    bool | None,
    typer.Option(
        "--images/--no-images", help="Pictures of cases in the report: kept until changed."
    ),
]
