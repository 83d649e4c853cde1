"""`autoseg import`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli import options


def import_(
    dataset: options.DatasetArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The spec; default: ./<name>.json.")
    ] = None,
    spec: options.SpecOption = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Of three cases; default: beside the spec.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Look at DATASET, show what is understood, write a spec to edit and a picture of cases."""
    from autoseg.cli import display
    from autoseg.cli.progress import Progress
    from autoseg.dataset.spec import load_spec
    from autoseg.pipeline.import_facts import class_rows, facts, unknown
    from autoseg.pipeline.importing import ImportOptions, import_dataset

    wanted = ImportOptions(
        dataset=dataset,
        spec=output,
        picture=picture,
        start=load_spec(spec) if spec else None,
        overwrite=overwrite,
    )
    with Progress() as progress:
        imported = import_dataset(
            wanted, lambda _, done, total: progress.update("look", done, total)
        )
    written = {"spec": str(imported.spec_path), "picture": str(imported.picture_path or "")}
    if json_:
        content = {
            **written,
            "understood": dict(facts(imported)),
            "classes": [
                dict(zip(("name", "value", "share", "cases"), row, strict=True))
                for row in class_rows(imported)
            ],
            "unknown": unknown(imported),
            "declaration": imported.spec.model_dump(mode="json", exclude_defaults=True),
        }
        display.print_json(content)
        return
    display.print_table("Understood", ("", ""), facts(imported))
    columns = ("class", "value", "share of voxels", "cases")
    display.print_table("Classes", columns, class_rows(imported))
    open_questions = [(line,) for line in unknown(imported)]
    if open_questions:
        display.print_table("Not known by looking", ("",), open_questions)
    for what, path in written.items():
        print(f"{what}: {path}" if path else f"no {what}: no case can be read")
    print(f"next: {shlex.join(('autoseg', 'plan', str(dataset), '--spec', written['spec']))}")
