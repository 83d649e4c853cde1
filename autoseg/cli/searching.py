"""Searching with its display, for the commands that search."""

import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from autoseg.cli import display
from autoseg.cli.progress import Progress
from autoseg.cli.shared import interruptible
from autoseg.errors import counted
from autoseg.report.text import duration

if TYPE_CHECKING:
    from autoseg.pipeline.searching import SearchOptions
    from autoseg.plan.search import SearchSummary
    from autoseg.workspace import Workspace


def run_search(options: "SearchOptions", *, as_json: bool) -> None:
    """Search with progress; Ctrl-C saves, names the command that goes on, and exits 130."""
    from autoseg.pipeline.searching import search_plan

    with interruptible(options.command) as should_stop, Progress() as progress:

        def on_event(event: Mapping[str, object]) -> None:
            line = search_line(event)
            if line is None:
                progress.on_event(event)
            else:
                print(line, file=sys.stderr, flush=True)

        summary = search_plan(options, on_event, should_stop)
    if as_json:
        display.print_json(summary.model_dump(mode="json"))
        return
    print_search(summary)
    print(f"next: {shlex.join(display.train_command(options.workspace))}")


def search_from(workspace: "Workspace", budget_s: float, *, replan: bool, as_json: bool) -> None:
    """Search from the plan that was just made; the command that goes on plans nothing anew."""
    from autoseg.pipeline.searching import SearchOptions

    _, _, *place = display.train_command(workspace)
    words = ["autoseg", "search", *place, "--budget", f"{budget_s:g}s"]
    command = tuple(words + ["--replan"] * replan)
    options = SearchOptions(workspace=workspace, budget_s=budget_s, replan=replan, command=command)
    run_search(options, as_json=as_json)


def search_line(event: Mapping[str, object]) -> str | None:
    """Return what a search tells of itself in a line, None for an event of a training."""
    kind = event.get("event")
    if kind == "trial" and event["what"] == "begins":
        return f"trial {event['number']}: {event['differs']}"
    if kind == "trial":
        return f"trial {event['number']}: {_outcome(event)}"
    if kind == "confirming":
        return _confirming(event)
    if kind == "confirmed":
        left = _left(event, " left")
        return f"[{event['done']} of {event['total']}] {event['name']}: {_outcome(event)}{left}"
    return None


def _confirming(event: Mapping[str, object]) -> str:
    """Return what is trained to confirm, and how much that is."""
    finalists, folds, seeds, total, done = (
        event[key] for key in ("finalists", "folds", "seeds", "total", "done")
    )
    who = ", ".join(f"trial {number}" for number in _several(finalists))
    text = (
        f"Confirming on cases not searched on: {who} and the plan as it is, on "
        f"{counted(len(_several(folds)), 'fold')} ({', '.join(map(str, _several(folds)))}) with "
        f"{counted(len(_several(seeds)), 'seed')} each: {counted(int(str(total)), 'training')}"
    )
    done_already = f", {done} of them done already" if done else ""
    return f"{text}{done_already}{_left(event, '')}"


def _left(event: Mapping[str, object], word: str) -> str:
    """Return how long the trainings that are left will take, as far as that is known."""
    seconds = event.get("left_s")
    is_over = event.get("done") == event.get("total")
    return (
        f", about {duration(seconds)}{word}" if isinstance(seconds, float) and not is_over else ""
    )


def print_search(summary: "SearchSummary") -> None:
    """Print all trials, what was confirmed, and what became of the plan."""
    from autoseg.plan.search import optimism_words

    rows = [
        (
            str(row.number),
            row.state,
            "" if row.score is None else f"{row.score:.4f}",
            row.differs,
            row.reason,
        )
        for row in summary.trials
    ]
    display.print_table("Trials", ("trial", "state", "Dice", "what differs", "why"), rows)
    if summary.verdict is not None:
        found = [
            (
                item.candidate,
                f"{item.difference:+.4f}",
                f"{item.low:+.4f} to {item.high:+.4f}",
                f"{item.p_holm:.3g}",
                f"{item.num_cases} on {item.num_folds} folds, {item.num_seeds} seeds",
            )
            for item in summary.verdict.comparisons
        ]
        columns = ("candidate", "Dice", "95 % interval", "p (Holm)", "cases")
        display.print_table("Against the plan as it is, on cases not searched on", columns, found)
    if summary.optimism is not None:
        print(optimism_words(summary.optimism))
    print(summary.reason)
    for words in summary.applied:
        print(f"set {words}")


def _outcome(event: Mapping[str, object]) -> str:
    """Return how a training of a search ended: its Dice, or why there is none."""
    score, reason = event.get("score"), event.get("reason")
    if isinstance(score, float):
        return f"Dice {score:.4f}"
    return f"{event.get('state', 'failed')}: {reason}"


def _several(values: object) -> tuple[object, ...]:
    return values if isinstance(values, tuple) else (values,)
