"""`autoseg evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder of predicted masks.")],
    references: Annotated[Path, typer.Argument(help="Folder of reference masks.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the scores as JSON.")
    ] = None,
    ignore: Annotated[
        int | None, typer.Option("--ignore", help="Value of voxels without annotation.")
    ] = None,
    background: Annotated[
        int | None, typer.Option("--background", help="Its value; default: the lowest found.")
    ] = None,
    nsd_tolerance: Annotated[
        float | None, typer.Option("--nsd-tolerance", help="In mm, seconds or pixels.")
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", help="Also score values together, e.g. tumour=1,2; repeatable."),
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Compare predicted masks with references: Dice, IoU, HD95, NSD by case and class."""
    from autoseg.cli import display, parse
    from autoseg.evaluate.folders import evaluate_folders
    from autoseg.workspace import write_text

    evaluation = evaluate_folders(
        predictions,
        references,
        ignore=ignore,
        background=background,
        tolerance=nsd_tolerance,
        regions=dict(map(parse.region, region or ())),
    )
    if output is not None:
        write_text(output, evaluation.to_json())
    if json_:
        display.print_json(evaluation.model_dump(mode="json"))
        return
    display.print_evaluation(evaluation)
