"""What the commands print: tables on a terminal, plain lines elsewhere."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.report.text import duration, size

if TYPE_CHECKING:
    from autoseg.dataset.dataset import Finding
    from autoseg.evaluate.evaluation import Evaluation
    from autoseg.pipeline.planning import PlanOutcome
    from autoseg.plan.plan import Plan
    from autoseg.workspace import Workspace

SEVERITIES = ("error", "warning", "note")
MAX_SHOWN = 3
"""Files, and what was found in them, that one row of findings names."""
MAX_SITES = 6
"""As many sites are not named one by one."""
LINE_INTERVAL_S = 10.0
"""Without a terminal, a line of progress at most this often."""


def print_json(content: object) -> None:
    """Print one JSON document."""
    print(json.dumps(content, indent=2, sort_keys=True))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn by rich on a terminal, tab-separated lines elsewhere."""
    if not sys.stdout.isatty():
        print(title)
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
    """Print what was found about the data, worst first; one row for findings with one remedy."""
    from autoseg.dataset.problems import grouped

    order = sorted(findings, key=lambda item: SEVERITIES.index(item.severity))
    rows = [
        (
            group[0].severity,
            _several([name for item in group for name in item.files], ", "),
            _several([item.found for item in group], "; "),
            group[0].expected,
            group[0].remedy,
        )
        for group in grouped(order)
    ]
    if rows:
        print_table("Findings", ("", "files", "found", "expected", "remedy"), rows)


def count_findings(findings: Sequence["Finding"]) -> str:
    """Return "3 findings: 1 error, 2 notes"."""
    counts = [
        (sum(item.severity == severity for item in findings), severity) for severity in SEVERITIES
    ]
    parts = ", ".join(f"{n} {severity}{'s' * (n > 1)}" for n, severity in counts if n)
    if not parts:
        return "no findings"
    return f"{len(findings)} finding{'s' * (len(findings) > 1)}: {parts}"


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
    return f"{shown}{between}and {more} more" if more > 0 else shown


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
            duration(item.cost.train_seconds),
            size(item.cost.memory_bytes),
            size(item.cost.disk_bytes),
            item.why,
        )
        for item in plan.configurations
    ]
    columns = ("configuration", "trained", "parameters", "a fold", "memory", "disk", "why")
    print_table("Configurations: expected time, memory and disk", columns, rows)


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
    trained = [item for item in outcome.plan.configurations if item.train_by_default]
    total_s = sum(item.cost.train_seconds for item in trained) * outcome.plan.num_folds
    names = ", ".join(item.name for item in trained)
    print(f"training {names} on {outcome.plan.num_folds} folds: about {duration(total_s)}")
    if outcome.superseded is not None:
        print(f"the earlier training was moved to {outcome.superseded}")
    print(f"workspace: {outcome.workspace.root}")
    print(f"next: {shlex.join(train_command(outcome.workspace))}")


def print_folds(outcome: "PlanOutcome") -> None:
    """Print how many cases, groups and sites each fold is trained and validated on."""
    cases = {case.id: case for case in outcome.dataset.cases}

    def counts(ids: Sequence[str]) -> str:
        text = f"{len(ids)} cases"
        groups = {cases[case_id].group for case_id in ids}
        if len(groups) < len(ids):
            text += f" in {len(groups)} groups"
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


class Progress:
    """Progress of long work on standard error; a context manager."""

    def __init__(self) -> None:
        self._bars = None
        self._tasks: dict[str, object] = {}
        self._last_line: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "Progress":
        """Start drawing when there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bars = Bars(
                *columns,
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if self._bars is not None:
            self._bars.stop()

    def update(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` parts of the work called `name` are done."""
        if self._bars is None:
            self._line(name, done, total, note)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)  # type: ignore[arg-type]

    def _line(self, name: str, done: int, total: int, note: str) -> None:
        """Print a plain line, not too often."""
        now = time.monotonic()
        left = self._left(name, done, total, now)
        if done < total and now - self._last_line.get(name, 0.0) < LINE_INTERVAL_S:
            return
        self._last_line[name] = now
        parts = [part for part in (f"{name}: {done}/{total}", note, left) if part]
        print("  ".join(parts), file=sys.stderr, flush=True)

    def _left(self, name: str, done: int, total: int, now: float) -> str:
        """Return the time that is left at the pace since the work was first seen."""
        start, done_before = self._first.setdefault(name, (now, done))
        if not done_before < done < total:
            return ""
        return f"{duration((total - done) * (now - start) / (done - done_before))} left"

    def on_event(self, event: Mapping[str, object]) -> None:
        """Show an event of the pipeline or of a fold."""
        if event.get("event") == "prepared":
            self.update(
                f"prepare {event['configuration']}", _int(event["done"]), _int(event["total"])
            )
        elif event.get("event") == "validated":
            name = f"validate {event['configuration']} fold {event['fold']}"
            self.update(name, _int(event["done"]), _int(event["total"]))
        elif event.get("event") == "dropped":
            print(
                f"{event['configuration']} fold {event['fold']} is not trained: "
                f"{event.get('reason', 'the budget is too short')}",
                file=sys.stderr,
                flush=True,
            )
        elif event.get("event") == "note":
            print(event["text"], file=sys.stderr, flush=True)
        elif event.get("event") == "step":
            print(f"{event['name']} ...", file=sys.stderr, flush=True)
        elif "step" in event and "num_steps" in event:
            name = f"{event.get('configuration')} fold {event.get('fold')}"
            self.update(name, _int(event["step"]), _int(event["num_steps"]), _note(event))


def _int(value: object) -> int:
    """Return a count from an event."""
    return int(value) if isinstance(value, (int, float)) else 0


def _note(event: Mapping[str, object]) -> str:
    """Return loss, Dice, rate and speed of a training event, as far as they are there."""
    parts = [
        f"{label} {value:{form}}"
        for label, key, form in (
            ("loss", "loss", ".3f"),
            ("Dice", "dice", ".3f"),
            ("lr", "lr", ".1e"),
            ("patches/s", "patches_per_second", ".1f"),
        )
        if isinstance(value := event.get(key), float)
    ]
    return "  ".join(parts)


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
        print(f"ensemble: {member['configuration']}, folds {', '.join(member['folds'])}")
    print(f"why: {ensemble['reason']}")
    if ensemble["summary"] is not None:
        dice = _score(ensemble["summary"]["foreground"], "dice")
        cases = ensemble["summary"]["num_cases"]
        print(f"Dice: {dice}, mean of the classes, {cases} out-of-fold cases, no post-processing")
    print(f"post-processing: {postprocessing['reason']}")
    if postprocessing["steps"] and postprocessing["dice_cross_fitted"] is not None:
        dice = postprocessing["dice_cross_fitted"]
        print(f"Dice with post-processing, cross-fitted: {dice:.3f}")


def print_summary(summary: Mapping) -> None:
    """Print what a run came to: scores of each fold, and where model and report are."""
    for fold in summary["folds"]:
        title = f"{fold['configuration']} fold {fold['fold']}: {fold['steps']} steps in "
        title += duration(fold["train_seconds"])
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


def print_evaluation(evaluation: "Evaluation") -> None:
    """Print scores by class and by case, and the references that no prediction matches."""
    print_table("By case, lowest Dice first", *evaluation.case_table())
    print_table("By class (mean and 95 % bootstrap interval)", *evaluation.table())
    if evaluation.not_predicted:
        print(f"not predicted, in no score: {', '.join(evaluation.not_predicted)}")
