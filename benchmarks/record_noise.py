"""Scores of one plan trained again and again: same folds, same cases, another seed each time.

`python -m benchmarks.record_noise DATASET --steps 100 --seeds 0 1 2 3 --results noise.jsonl`
plans once, so that the folds are the same for all seeds, and adds a line for every case of every
training. Trainings that have their lines are not repeated: an interrupted record goes on with the
same command.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.split_files import read_splits
from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore
from autoseg.evaluate.statistics import case_mean
from autoseg.plan.consistency import load_plan
from autoseg.train.job import FoldJob, TrialPlace
from autoseg.workspace import Workspace, write_text
from benchmarks.ours import autoseg

Run = tuple[str, int]
"""Fold and seed."""


def load_scores(path: Path) -> list[HeldOutScore]:
    """Return the scores that were recorded until now."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [HeldOutScore.from_json(line, path.name) for line in lines]


def plan_once(arguments: argparse.Namespace) -> Workspace:
    """Return the planned workspace with all cases prepared; nothing is done twice."""
    workspace = Workspace(arguments.workspace.absolute())
    if not workspace.plan.exists():
        words: list[str | Path] = ["--folds", str(arguments.num_folds), "--seed", "0"]
        words += ["--budget", arguments.budget]
        if arguments.spec:
            words += ["--spec", arguments.spec.absolute()]
        for assignment in arguments.set:
            words += ["--set", assignment]
        workspace.root.parent.mkdir(parents=True, exist_ok=True)
        data = arguments.data.absolute()
        autoseg("plan", data, "-w", workspace.root, *words, folder=workspace.root.parent)
    autoseg("preprocess", "-w", workspace.root, folder=workspace.root.parent)
    return workspace


def train_run(workspace: Workspace, run: Run, configuration: str, steps: int) -> list[HeldOutScore]:
    """Train one fold with one seed and return the scores of its validation cases."""
    from autoseg.train.fold import train_fold

    fold, seed = run
    plan, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    split = read_splits(workspace.splits, dataset.cases)[int(fold)]
    name = f"fold_{fold}_seed_{seed}"
    job = FoldJob(
        plan=plan.revised(seed=seed),
        dataset=dataset,
        root=workspace.root,
        configuration=configuration,
        fold=fold,
        train_cases=split.train,
        val_cases=split.val,
        device=plan.device,
        num_threads=plan.num_threads,
        num_steps=steps,
        trial=TrialPlace(
            name=name,
            folder=workspace.root / "noise" / name,
            prepared=workspace.preprocessed(configuration),
        ),
    )
    result = train_fold(job, lambda _: None, lambda: False)
    return [
        HeldOutScore(
            candidate=INCUMBENT, fold=fold, seed=seed, case=item.case_id, dice=case_mean(item)
        )
        for item in result.scores
    ]


def main() -> None:
    """Train what is missing, one seed after the other, and tell the mean of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--budget", default="20m", help="that the network is sized for")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--num-folds", type=int, default=5)
    parser.add_argument("--folds", nargs="+", default=["0", "1"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--configuration", help="default: the plan's first")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    scores = load_scores(arguments.results)
    workspace = plan_once(arguments)
    configuration = arguments.configuration or load_plan(workspace.plan).configurations[0].name
    done = {(item.fold, item.seed) for item in scores}
    for seed, fold in product(arguments.seeds, arguments.folds):
        if (fold, seed) in done:
            continue
        start = time.perf_counter()
        new = train_run(workspace, (fold, seed), configuration, arguments.steps)
        scores += new
        lines = (json.dumps(item.model_dump(mode="json"), sort_keys=True) for item in scores)
        write_text(arguments.results.absolute(), "\n".join(lines) + "\n")
        known = [item.dice for item in new if item.dice is not None]
        taken = time.perf_counter() - start
        mean = sum(known) / len(known)
        print(f"fold {fold} seed {seed}: mean Dice {mean:.4f}, {taken:.0f} s", flush=True)


if __name__ == "__main__":
    main()
