"""Dice that a pretrained and a random encoder reach on fold 0 of real pictures in equal steps.

`python benchmarks/pretrained.py DATASET --spec SPEC --steps 150 --encoder tf_efficientnet_lite0
--weights FILE` trains both, in turn for each seed, and prints both and their difference. Plan,
patches, batches and normalisation are the same, and batch norm learns in both: the weights alone
differ. `--results FILE` keeps a line of JSON for each training.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from autoseg.dataset.dataset import Dataset
from autoseg.evaluate.statistics import summarise
from autoseg.pipeline.choices import TrainOptions, choose_folds
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.training import prepare_workspace
from autoseg.plan.consistency import load_plan
from autoseg.record import NO_WEIGHTS
from autoseg.train.fold import train_fold
from autoseg.train.job import FoldJob
from autoseg.workspace import Workspace

CONFIGURATION = "2d"


class Run(NamedTuple):
    """What one training gave."""

    dice: float
    """Mean over the foreground classes."""
    seconds: float


def run(arguments: argparse.Namespace, weights: str, seed: int) -> Run:
    """Plan, prepare and train fold 0, and validate it; nothing is exported."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        root = Path(folder) / "run.autoseg"
        network = f"{CONFIGURATION}.network"
        make_plan(
            PlanOptions(
                dataset=arguments.data,
                workspace=root,
                spec=arguments.spec,
                budget_s=arguments.planned_minutes * 60,
                seed=seed,
                overrides=(
                    f"{network}.backbone={arguments.encoder}",
                    f"{network}.weights={weights}",
                    f"{network}.backbone.frozen_norm=false",
                    "num_threads=1",
                    *arguments.set,
                ),
            )
        )
        return _train(arguments, Workspace(root.absolute()))


def _train(arguments: argparse.Namespace, workspace: Workspace) -> Run:
    prepare_workspace(workspace, [CONFIGURATION], lambda _: None)
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    options = TrainOptions(workspace=workspace, configurations=(CONFIGURATION,), folds=("0",))
    (choice,) = choose_folds(plan, dataset, options)
    every = max(1, len(choice.split.val) // arguments.validated)
    job = FoldJob(
        plan=plan,
        dataset=dataset,
        root=workspace.root,
        configuration=CONFIGURATION,
        fold="0",
        train_cases=choice.split.train,
        val_cases=choice.split.val[::every],
        device="cpu",
        num_threads=1,
        num_steps=arguments.steps,
    )
    started = time.monotonic()
    result = train_fold(job, lambda _: None, lambda: False)
    summary = summarise(result.scores)
    return Run(summary.foreground.dice.mean or 0.0, time.monotonic() - started)


def _keep(arguments: argparse.Namespace, name: str, seed: int, found: Run) -> None:
    """Add a line with what one training gave."""
    row = {"dataset": arguments.data.name, "weights": name, "seed": seed, "steps": arguments.steps}
    with arguments.results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row | found._asdict()) + "\n")


def main() -> None:
    """Train with and without pretrained weights and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="a file, or imagenet")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--planned-minutes", type=float, default=20.0, help="sizes the patch")
    parser.add_argument("--validated", type=int, default=30, help="about so many cases")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=[], help="further KEY=VALUE of the plan")
    parser.add_argument("--results", type=Path, help="a file that gains one line a training")
    arguments = parser.parse_args()
    differences = []
    for seed in arguments.seeds:
        runs = {}
        for name, weights in (("pretrained", arguments.weights), ("random", NO_WEIGHTS)):
            runs[name] = run(arguments, weights, seed)
            if arguments.results:
                _keep(arguments, name, seed, runs[name])
        difference = runs["pretrained"].dice - runs["random"].dice
        differences.append(difference)
        shown = ", ".join(f"{k} {v.dice:.4f} ({v.seconds:.0f} s)" for k, v in runs.items())
        print(f"{arguments.data.name} seed {seed}, {arguments.steps} steps: {shown}", flush=True)
        print(f"  difference {difference:+.4f}", flush=True)
    if len(differences) > 1:
        print(f"mean difference {statistics.mean(differences):+.4f}")


if __name__ == "__main__":
    main()
