"""`autoseg check`."""

from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli import options

if TYPE_CHECKING:
    from autoseg.pipeline.checking import CheckOutcome


def check(
    dataset: options.DatasetArgument,
    workspace: options.NewWorkspaceOption = None,
    spec: options.SpecOption = None,
    group_by: options.GroupOption = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Write the safe remedies as a spec into the workspace.")
    ] = False,
    skip_broken: Annotated[
        bool,
        typer.Option("--skip-broken", help="With --fix: leave out cases with errors, too."),
    ] = False,
    headers: Annotated[
        bool, typer.Option("--headers", help="Look at names and headers only, not at pixels.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """List everything wrong with DATASET, each finding with its files and its remedy.

    Exit code 2 if an error remains, which would stop a plan. DATASET itself is never changed.
    """
    from autoseg.cli import display
    from autoseg.cli.main import USER_ERROR
    from autoseg.cli.progress import Progress
    from autoseg.pipeline.checking import CheckOptions, check_dataset, check_listing

    if skip_broken and not fix:
        raise typer.BadParameter("--skip-broken writes into a spec: add --fix")
    if headers and fix:
        raise typer.BadParameter("--fix needs pixels: leave --headers out")
    wanted = CheckOptions(
        dataset=dataset,
        workspace=workspace,
        spec=spec,
        group_by=group_by,
        fix=fix,
        skip_broken=skip_broken,
    )
    run = check_listing if headers else check_dataset
    with Progress() as progress:
        outcome = run(wanted, lambda _, done, total: progress.update("check", done, total))
    if json_:
        display.print_json(content_of(outcome))
    else:
        display.print_findings(outcome.findings)
        display.print_changes(outcome.changes, outcome.spec_file)
        print(display.count_findings(outcome.findings))
    if outcome.has_errors:
        raise typer.Exit(USER_ERROR)


def content_of(outcome: "CheckOutcome") -> dict[str, object]:
    """Return a check's outcome for programs."""
    dataset = outcome.dataset
    return {
        "findings": [item.model_dump(mode="json") for item in outcome.findings],
        "spec": str(outcome.spec_file) if outcome.spec_file else None,
        "set": outcome.changes,
        "dataset": None
        if dataset is None
        else {
            "name": dataset.name,
            "root": str(dataset.root),
            "layout": dataset.layout,
            "num_cases": len(dataset.cases),
            "num_groups": len({case.group for case in dataset.cases}),
            "channels": dataset.channels,
            "labels": dict(zip(dataset.labels.names, dataset.labels.values, strict=True)),
            "excluded": dataset.excluded,
        },
    }
