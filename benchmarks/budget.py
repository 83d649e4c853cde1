"""How well budgets are kept: plan and train with each, and compare the time with what was given.

`python benchmarks/budget.py DATASET --budgets 5m 15m 40m` prints a line for each: active time over
budget (a run should use 80 to 105 %), peak memory of all processes, folds trained and dropped, and
what was kept for finishing beside what that took. Time of planning is not part of a budget.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from autoseg.cli.parse import seconds
from autoseg.train.lines import read_lines
from autoseg.workspace import Workspace
from benchmarks.measure import Measurement
from benchmarks.ours import autoseg

LEAST, MOST = 0.80, 1.05
"""Parts of its budget that a run should use."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One run."""

    data: str
    budget_s: float
    seconds: float
    peak_bytes: int
    folds: int
    """With a result."""
    dropped: int
    kept_s: float | None
    """For finishing, as last estimated."""
    finishing_s: float | None

    @property
    def used(self) -> float:
        """Part of the budget."""
        return self.seconds / self.budget_s

    def __str__(self) -> str:
        return (
            f"{self.data}, budget {self.budget_s:.0f} s: {self.seconds:.0f} s ({self.used:.1%}), "
            f"{self.peak_bytes / 1e6:.0f} MB, {self.folds} folds trained, {self.dropped} dropped; "
            f"kept {self.kept_s} s for finishing, which took {self.finishing_s} s"
        )


def main() -> None:
    """Run all budgets of the arguments; leave with 1 where one was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="data set")
    parser.add_argument("--spec", type=Path, help="JSON file that declares labels and channels")
    parser.add_argument("--budgets", nargs="+", default=["5m", "15m", "40m"])
    parser.add_argument("--folds", help="as for `autoseg train`; default: all")
    parser.add_argument("--results", type=Path, help="file that a JSON line a run is added to")
    arguments = parser.parse_args()
    rows = [run(arguments, budget) for budget in arguments.budgets]
    if arguments.results is not None:
        with arguments.results.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)
    sys.exit(not all(LEAST <= row.used <= MOST for row in rows))


def run(arguments: argparse.Namespace, budget: str) -> Row:
    """Plan and train within a budget in a temporary folder; print and return what it took."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        place = Workspace(folder / "run.autoseg")
        words: list[str | Path] = ["plan", arguments.data.absolute(), "-w", place.root]
        if arguments.spec is not None:
            words += ["--spec", arguments.spec.absolute()]
        autoseg(*words, "--budget", budget, folder=folder)
        chosen = [] if arguments.folds is None else ["--folds", arguments.folds]
        took = autoseg("train", "-w", place.root, *chosen, folder=folder)
        row = row_of(place, arguments.data.name, seconds(budget), took)
    print(row, flush=True)
    return row


def row_of(place: Workspace, data: str, budget_s: float, took: Measurement) -> Row:
    """Return what a finished run says about its budget."""
    events = read_lines(place.events)
    kept = [line["finishing_s"] for line in events if line["event"] == "shared"]
    finished = [sum(line["seconds"].values()) for line in events if line["event"] == "finished"]
    return Row(
        data=data,
        budget_s=budget_s,
        seconds=took.seconds,
        peak_bytes=took.peak_bytes,
        folds=len(list(place.training.glob("*/fold_*/result.json"))),
        dropped=sum(line["event"] == "dropped" for line in events),
        kept_s=kept[-1] if kept else None,
        finishing_s=finished[-1] if finished else None,
    )


if __name__ == "__main__":
    main()
