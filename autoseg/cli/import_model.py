"""`autoseg import-model`."""

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options, parse


def import_model(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="nnU-Net's TRAINER__PLANS__CONFIGURATION, or an exported zip."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model.")],
    folds: Annotated[
        str | None, typer.Option("--folds", help="E.g. 0,1 or all; default: all that are there.")
    ] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", help="File name of the weights in each fold.")
    ] = "checkpoint_final.pth",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model that exists.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Make a model of what nnU-Net v2 has trained: `autoseg predict` gives the same labels."""
    from autoseg.cli import display
    from autoseg.errors import AutosegError
    from autoseg.export import imported
    from autoseg.train.nnunet import load_nnunet, opened

    if not source.exists():
        raise AutosegError(
            found=f"no file or folder {source}",
            expected="a folder that nnU-Net has trained in, one of its checkpoints, or a zip that "
            "it exported",
            fix="correct the path",
        )
    names = parse.words(folds) if folds else None
    with opened(source) as folder:
        model = load_nnunet(folder, folds=names, checkpoint=checkpoint)
        manifest = imported.import_model(model, output, overwrite=overwrite)
    item = manifest.configurations[0]
    agreement = min(check.label_agreement for check in item.parity)
    if json_:
        content = {"model": str(output), "configuration": item.name, "folds": list(item.folds)}
        display.print_json({**content, "label_agreement": agreement})
        return
    print(
        f"{manifest.name}, {item.name}, folds {', '.join(item.folds)}: the exported networks agree "
        f"with the checkpoints on {agreement:.4%} of a synthetic image\n"
        f"model: {output}\nnext: autoseg predict {output} INPUT... -o OUT"
    )
