"""What the commands print: tables on a terminal, plain lines elsewhere."""

import json
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.errors import counted
from autoseg.report.text import duration, size

if TYPE_CHECKING:
    from autoseg.dataset.dataset import Finding
    from autoseg.evaluate.evaluation import Evaluation
    from autoseg.pipeline.planning import PlanOutcome
    from autoseg.pipeline.pretraining import PretrainOutcome
    from autoseg.plan.plan import Plan
    from autoseg.workspace import Workspace

STYLES = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}
"""Of severities, worst first, on a terminal."""
SEVERITIES = tuple(STYLES)
MAX_SHOWN = 3
"""Files, and what was found in them, that one block of findings names."""
MAX_SITES = 6
"""As many sites are not named one by one."""


def print_json(content: object) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=2, sort_keys=True))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn by rich on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        print(title)
        if any(columns):
            print("\t".join(columns))
        for row in rows:
            print("\t".join(cell.replace("\n", " ") for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_findings(findings: Sequence["Finding"]) -> None:
    """Print what was found about the data, worst first; one block for findings with one remedy."""
    from autoseg.dataset.problems import grouped

    order = sorted(findings, key=lambda item: SEVERITIES.index(item.severity))
    groups = grouped(order)
    if not sys.stdout.isatty():
        for group in groups:
            print("\n".join(block_lines(group)))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for group in groups:
        text = Text("\n".join(block_lines(group, console.width)))
        text.stylize(STYLES[group[0].severity], 0, len(group[0].severity))
        console.print(text, soft_wrap=True)


def block_lines(group: Sequence["Finding"], width: int | None = None) -> list[str]:
    """Return findings with one remedy as lines, wrapped between words where a width is given."""
    first = group[0]
    files = _several([name for item in group for name in item.files], ", ")
    cases = {item.case for item in group}
    if len(cases) > 1 and None not in cases:
        files += f" ({len(cases)} cases)"
    lines = [f"{first.severity}  {files}".rstrip()]
    for word, text in (
        ("found", _several([item.found for item in group], "; ")),
        ("expected", first.expected),
        ("remedy", first.remedy),
    ):
        lines += f"  {word}: {text}".replace("\n", "\n    ").split("\n")
    return lines if width is None else [part for line in lines for part in _wrapped(line, width)]


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line as several; names of files stay whole, even where they are longer."""
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line,
        width,
        subsequent_indent="    " if len(indent) < 4 else indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def count_findings(findings: Sequence["Finding"]) -> str:
    """Return "1 error, 2 notes", as many as there are blocks."""
    from autoseg.dataset.problems import grouped

    shown = [group[0].severity for group in grouped(findings)]
    counts = [(shown.count(severity), severity) for severity in SEVERITIES]
    return ", ".join(counted(n, severity) for n, severity in counts if n) or "no findings"


def print_changes(changes: Mapping[str, object], spec_file: Path | None) -> None:
    """Print which spec holds, and what was set in it just now."""
    if spec_file is not None:
        print(f"spec: {spec_file}")
    for name, value in changes.items():
        print(f"set {name}: {json.dumps(value)}")


def _several(texts: Sequence[str], between: str) -> str:
    """Return the first different ones of some texts, and how many more there are."""
    different = list(dict.fromkeys(texts))
    shown = between.join(different[:MAX_SHOWN])
    more = len(different) - MAX_SHOWN
    return f"{shown}{between.rstrip(', ')} and {more} more" if more > 0 else shown


def print_plan(plan: "Plan") -> None:
    """Print the decisions with their reasons and what each configuration will cost."""
    print_table(
        f"Plan by {plan.planner}: decisions",
        ("decision", "value", "why"),
        [(item.name, item.value, item.reason) for item in plan.decisions],
    )
    rows = [
        (
            item.name,
            "yes" if item.train_by_default else "no",
            f"{item.cost.parameters / 1e6:.2f} M",
            duration(item.cost.train_seconds if item.train_by_default else None),
            size(item.cost.memory_bytes),
            size(item.cost.disk_bytes),
            item.why,
        )
        for item in plan.configurations
    ]
    columns = ("configuration", "trained", "parameters", "a fold", "memory", "disk", "why")
    print_table("Configurations: expected time, memory and disk", columns, rows)


def print_expected_time(plan: "Plan") -> None:
    """Print how long the training of a plan takes."""
    trained = [item for item in plan.configurations if item.train_by_default]
    total_s = sum(item.cost.train_seconds for item in trained) * plan.num_folds
    names, folds = ", ".join(item.name for item in trained), counted(plan.num_folds, "fold")
    print(f"training {names} on {folds}: about {duration(total_s)}")


def print_outcome(outcome: "PlanOutcome") -> None:
    """Print a plan, what was found, and the command that goes on."""
    labels = outcome.dataset.labels
    if not outcome.dataset.labels_declared:
        rows = [
            (str(index), name, str(value))
            for index, (name, value) in enumerate(zip(labels.names, labels.values, strict=True))
        ]
        print_table(
            "Labels found in the masks (predictions get these values back)",
            ("class", "name", "value in the files"),
            rows,
        )
    if outcome.spec_file is not None:
        print(f"spec: {outcome.spec_file}")
    print_findings(outcome.findings)
    print_folds(outcome)
    print_plan(outcome.plan)
    print_expected_time(outcome.plan)
    if outcome.superseded is not None:
        print(f"the earlier training was moved to {outcome.superseded}")
    for sheet in outcome.sheets:
        print(f"augmentation: {sheet}")
    print(f"workspace: {outcome.workspace.root}")
    print(f"next: {shlex.join(train_command(outcome.workspace))}")


def print_folds(outcome: "PlanOutcome") -> None:
    """Print how many cases, groups and sites each fold is trained and validated on."""
    cases = {case.id: case for case in outcome.dataset.cases}

    def counts(ids: Sequence[str]) -> str:
        text = counted(len(ids), "case")
        groups = {cases[case_id].group for case_id in ids}
        if len(groups) < len(ids):
            text += f" in {counted(len(groups), 'group')}"
        sites = sorted({site for case_id in ids if (site := cases[case_id].site) is not None})
        return text + (f" of {', '.join(sites)}" if 0 < len(sites) < MAX_SITES else "")

    rows = [
        (str(index), counts(split.train), counts(split.val))
        for index, split in enumerate(outcome.splits)
    ]
    tested = [case.id for case in outcome.dataset.cases if case.split == "test"]
    title = f"Folds; kept out of all for testing: {counts(tested)}" if tested else "Folds"
    print_table(title, ("fold", "trained on", "validated on"), rows)


def train_command(workspace: "Workspace") -> tuple[str, ...]:
    """Return the words of the command that trains a workspace, as one can type it here."""
    root = workspace.root
    shown = root.relative_to(Path.cwd()) if root.is_relative_to(Path.cwd()) else root
    return ("autoseg", "train", "-w", str(shown))


def _score(summary: Mapping, metric: str) -> str:
    """Return a mean with its interval: "0.886 (0.871 to 0.899)"."""
    item = summary[metric]
    if item["mean"] is None:
        return "not defined"
    if item["low"] is None:
        return f"{item['mean']:.3f}"
    return f"{item['mean']:.3f} ({item['low']:.3f} to {item['high']:.3f})"


def score_rows(
    names: Sequence[str], summary: Mapping, regions: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """Return rows of name, cases and scores: classes and their mean, then the same of regions."""
    items = [*zip(names, summary["classes"], strict=True), ("mean", summary["foreground"])]
    if summary["region_mean"] is not None:
        items += zip(regions, summary["regions"], strict=True)
        items.append(("mean of regions", summary["region_mean"]))
    return [
        (
            name,
            str(item["dice"]["num_cases"]),
            *(_score(item, metric) for metric in ("dice", "iou", "hd95", "nsd")),
        )
        for name, item in items
    ]


SCORE_COLUMNS = ("class", "cases", "Dice", "IoU", "HD95", "NSD")


def print_choice(ensemble: Mapping, postprocessing: Mapping) -> None:
    """Print which folds make the model, how good they are, and what is done to predictions."""
    for member in ensemble["members"]:
        share = f", weight {member['weight']:g}" if member["weight"] < 1 else ""
        print(f"ensemble: {member['configuration']}, folds {', '.join(member['folds'])}{share}")
    print(f"why: {ensemble['reason']}")
    if ensemble["summary"] is not None:
        dice = _score(ensemble["summary"]["foreground"], "dice")
        cases = counted(ensemble["summary"]["num_cases"], "out-of-fold case")
        members = ensemble["members"]
        alone = f" of {members[0]['configuration']} alone" if len(members) > 1 else ""
        print(f"Dice{alone}: {dice}, mean of the classes, {cases}, no post-processing")
    print(f"post-processing: {postprocessing['reason']}")
    for tried in (*ensemble["tried"], *postprocessing["tried"]):
        setting = tried["best"] if tried["used"] else "as planned"
        print(f"{tried['name']}: {setting}. {tried['reason']}")
    if postprocessing["steps"] and postprocessing["dice_cross_fitted"] is not None:
        dice = postprocessing["dice_cross_fitted"]
        print(f"Dice with post-processing, cross-fitted: {dice:.3f}")


def print_summary(summary: Mapping) -> None:
    """Print what a run came to: scores of each fold, and where model and report are."""
    for fold in summary["folds"]:
        title = f"{fold['configuration']} fold {fold['fold']}: {fold['steps']} steps in "
        title += duration(fold["train_seconds"])
        if fold["plateau"] is not None:
            print(fold["plateau"])
        if fold["summary"] is None:
            print(f"{title}; trained on all cases, no validation")
            continue
        rows = score_rows(summary["classes"], fold["summary"], summary["regions"])
        print_table(title, SCORE_COLUMNS, rows)
    if "ensemble" in summary and "postprocessing" in summary:
        print_choice(summary["ensemble"], summary["postprocessing"])
    if "zip" in summary:
        print(f"model: {summary['model']}")
        print(f"zip: {summary['zip']['path']} ({size(summary['zip']['bytes'])})")
        inside = "a real image of the data set" if summary["has_real_images"] else "no real image"
        print(f"the model holds {inside} for its verification")
    if "report" in summary:
        print(f"report: {summary['report']}")


def print_pretraining(outcome: "PretrainOutcome", workspace: "Workspace") -> None:
    """Print what a pretraining has come to, which images it saw, and the command that uses it."""
    print(
        f"{outcome.configuration}: {counted(outcome.num_steps, 'step')} of denoising in "
        f"{duration(outcome.train_seconds)}, mean squared error of the noise {outcome.loss:.4f}"
    )
    seen = f"the images of {counted(outcome.num_cases, 'case')} without their labels"
    if outcome.num_unlabelled:
        seen += f", and {counted(outcome.num_unlabelled, 'further image')}"
    print(f"seen: {seen}")
    if outcome.fold == "all":
        print(
            "Every fold's validation images were seen, though not their labels; `--fold K` leaves "
            "out those of fold K, if its score is to be of images that nothing was learnt from."
        )
    else:
        print(f"fold {outcome.fold}: none of its validation images was seen; train no other fold")
    words = [*train_command(workspace), "--configurations", outcome.configuration]
    words += [] if outcome.fold == "all" else ["--folds", outcome.fold]
    print(f"To train from it: {shlex.join([*words, '--init', str(outcome.checkpoint)])}")


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print scores by class and by case, and the references that no prediction matches."""
    print_table("By case, lowest Dice first", *evaluation.case_table())
    print_table("By class (mean and 95 % bootstrap interval)", *evaluation.table())
    if evaluation.not_predicted:
        print(f"not predicted, in no score: {', '.join(evaluation.not_predicted)}")
