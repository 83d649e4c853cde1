"""`autoseg import`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli import options

if TYPE_CHECKING:
    from autoseg.pipeline.importing import Imported


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
    """Look at DATASET, show what is understood, write a spec to edit and a picture of cases.

    Files that do not pair are listed, and left out by the spec. Exit code 2 if an error remains,
    which would stop a plan.
    """
    from autoseg.cli import display
    from autoseg.cli.main import USER_ERROR
    from autoseg.cli.progress import Progress
    from autoseg.dataset.spec import load_spec
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
    if json_:
        display.print_json(content_of(imported))
    else:
        show(imported)
    if imported.errors:
        raise typer.Exit(USER_ERROR)


def content_of(imported: "Imported") -> dict[str, object]:
    """Return what was understood for programs."""
    from autoseg.pipeline.import_facts import class_rows, facts, next_command, notices, unknown

    return {
        **_written(imported),
        "understood": dict(facts(imported)),
        "classes": [
            dict(zip(("name", "value", "share", "cases"), row, strict=True))
            for row in class_rows(imported)
        ],
        "unknown": unknown(imported),
        "notices": notices(imported),
        "problems": [item.model_dump(mode="json") for item in imported.problems],
        "errors": [item.model_dump(mode="json") for item in imported.errors],
        "next": next_command(imported),
        "declaration": imported.spec.model_dump(mode="json", exclude_defaults=True),
    }


def show(imported: "Imported") -> None:
    """Print what was understood, what stops a plan, what was written, and the next command."""
    from autoseg.cli import display
    from autoseg.pipeline import import_facts

    display.print_table("Understood", ("", ""), import_facts.facts(imported))
    columns = ("class", "value", f"share of {import_facts.samples(imported)}", "cases")
    display.print_table("Classes", columns, import_facts.class_rows(imported))
    open_questions = [(line,) for line in import_facts.unknown(imported)]
    if open_questions:
        display.print_table("Not known by looking", ("",), open_questions)
    display.print_findings(imported.problems)
    for line in import_facts.notices(imported):
        print(line)
    for what, path in _written(imported).items():
        print(f"{what}: {path}" if path else f"no {what}: no case can be read")
    display.print_findings(imported.errors)
    print(f"next: {shlex.join(import_facts.next_command(imported))}")


def _written(imported: "Imported") -> dict[str, str]:
    return {"spec": str(imported.spec_path), "picture": str(imported.picture_path or "")}
