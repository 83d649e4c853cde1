"""Dice that network variants and losses reach on fold 0 of 5 of real data within equal budgets.

`python benchmarks/variants.py DATASET --variants plain residual --losses dice_ce cldice` trains
every combination once for each seed. Each run adds a line to `--results`; runs that have theirs are
not repeated, so an interrupted table goes on with the same command.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType

from autoseg.evaluate.statistics import summarise
from autoseg.plan.losses import LOSSES
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace
from benchmarks.ours import autoseg

Run = tuple[str, str, int]
"""Variant, loss and seed."""

VARIANTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "plain": (),
        "residual": ("encoder=residual",),
        "bottleneck": ("encoder=bottleneck",),
        "mednext": ("encoder=mednext",),
        "squeeze": ("encoder=residual", "squeeze_reduction=16"),
        "attention": ("decoder=attention",),
        "nested": ("decoder=nested",),
        "linear": ("upsampling=linear",),
        "shuffle": ("upsampling=shuffle",),
        "max": ("downsampling=max",),
        "batch": ("norm=batch",),
        "group": ("norm=group",),
        "dropout": ("dropout=0.3",),
        "valid": ("padding=valid",),
    }
)
"""Fields of the network plan that make a variant."""


def rows(path: Path) -> list[dict]:
    """Return the finished runs in a file of results."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def missing(arguments: argparse.Namespace) -> Iterator[Run]:
    """Yield the runs that the file of results lacks, one seed after the other."""
    known = [
        (row["data"], row["budget"], row["variant"], row["loss"], row["seed"])
        for row in rows(arguments.results)
    ]
    for seed, variant, loss in product(arguments.seeds, arguments.variants, arguments.losses):
        if (arguments.data.name, arguments.budget, variant, loss, seed) not in known:
            yield variant, loss, seed


def train_once(arguments: argparse.Namespace, run: Run, folder: Path) -> dict:
    """Train fold 0 of one combination and return its row."""
    variant, loss, seed = run
    root = folder / "run.autoseg"
    words = ["plan", arguments.data.absolute(), "-w", root, "--folds", "5", "--seed", str(seed)]
    words += ["--budget", arguments.budget, "--set", f"loss={loss}"]
    if arguments.spec:
        words += ["--spec", arguments.spec.absolute()]
    for assignment in (*VARIANTS[variant], *arguments.set):
        words += ["--set", f"{arguments.configuration}.network.{assignment}"]
    for assignment in arguments.loss_set:
        words += ["--set", f"loss.{assignment}"]
    autoseg(*words, folder=folder)
    chosen = ["--folds", "0", "--configurations", arguments.configuration]
    taken = autoseg("train", "-w", root, *chosen, folder=folder)
    workspace = Workspace(root)
    (path,) = workspace.training.glob("*/fold_0/result.json")
    result = FoldResult.load(path)
    summary = summarise(result.scores)
    return {
        "data": arguments.data.name,
        "budget": arguments.budget,
        "variant": variant,
        "loss": loss,
        "seed": seed,
        "dice": summary.foreground.dice.mean,
        "classes": [item.dice.mean for item in summary.classes],
        "cases": len(result.scores),
        "steps": result.num_steps,
        "seconds": round(taken.seconds, 1),
    }


def table(arguments: argparse.Namespace) -> str:
    """Return the means over seeds as a Markdown table, a variant a row and a loss a column."""
    own = [
        row
        for row in rows(arguments.results)
        if (row["data"], row["budget"]) == (arguments.data.name, arguments.budget)
    ]
    losses = list(dict.fromkeys(row["loss"] for row in own))
    lines = ["| variant | " + " | ".join(losses) + " |", "|---|" + "---|" * len(losses)]
    for variant in dict.fromkeys(row["variant"] for row in own):
        cells = [variant]
        for loss in losses:
            found = [
                row["dice"] or 0.0
                for row in own
                if (row["variant"], row["loss"]) == (variant, loss)
            ]
            cells.append(f"{statistics.mean(found):.3f} ({len(found)})" if found else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--configuration", default="2d")
    parser.add_argument("--budget", default="10m")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["plain"])
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=["dice_ce"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=[], help="further FIELD=VALUE of the network")
    parser.add_argument("--loss-set", nargs="+", default=[], help="FIELD=VALUE of the loss")
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one a run")
    arguments = parser.parse_args()
    for run in list(missing(arguments)):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            row = json.dumps(train_once(arguments, run, Path(folder)))
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(row + "\n")
        print(row, flush=True)
    print(table(arguments))


if __name__ == "__main__":
    main()
