"""`autoseg check`."""

from autoseg.cli import options


def check(
    dataset: options.DatasetArgument,
    spec: options.SpecOption = None,
    group_by: options.GroupOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List everything wrong with DATASET, each finding with its files and its remedy."""
    from autoseg.cli import display
    from autoseg.pipeline.planning import check_dataset

    with display.Progress() as progress:
        findings = check_dataset(
            dataset, spec, group_by, lambda _, done, total: progress.update("check", done, total)
        )
    if json_:
        display.print_json([item.model_dump(mode="json") for item in findings])
        return
    display.print_findings(findings)
    print(f"{len(findings)} findings, none of them stops a plan")
