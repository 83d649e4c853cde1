"""Mean Dice that a budget buys: the validation cases of one fold, for several seeds.

`python benchmarks/accuracy.py DATASET` trains fold 0 of 5 once for each seed.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from autoseg.evaluate.statistics import summarise
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace
from benchmarks.ours import autoseg


def validate(arguments: argparse.Namespace, seed: int, folder: Path) -> float:
    """Train fold 0 with a seed; print and return the best configuration's mean Dice."""
    workspace = Workspace(folder / f"seed_{seed}.autoseg")
    words = ["-w", workspace.root, "--budget", arguments.budget, "--folds", str(arguments.folds)]
    data = arguments.data.absolute()
    autoseg("plan", data, *words, "--seed", str(seed), *spec_words(arguments), folder=folder)
    taken = autoseg("train", "-w", workspace.root, "--folds", "0", folder=folder)
    means = []
    for path in sorted(workspace.training.glob("*/fold_0/result.json")):
        result = FoldResult.load(path)
        summary = summarise(result.scores)
        mean = summary.foreground.dice.mean or 0.0
        classes = ", ".join(f"{item.dice.mean or 0.0:.4f}" for item in summary.classes)
        print(
            f"seed {seed} {result.configuration}: Dice {mean:.4f} ({classes}) of "
            f"{len(result.scores)} cases after {result.num_steps} steps, {taken} in all",
            flush=True,
        )
        means.append(mean)
    return max(means)


def spec_words(arguments: argparse.Namespace) -> list[str | Path]:
    """Return the options of `autoseg plan` that declare the data set."""
    words: list[str | Path] = []
    if arguments.spec:
        words += ["--spec", arguments.spec.absolute()]
    if arguments.group_by:
        words += ["--group-by", arguments.group_by]
    return words


def main() -> None:
    """Train once for each seed and print each score and their mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--group-by")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keep", type=Path, help="folder for the workspaces; default: removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as temporary:
        folder = (arguments.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        means = [validate(arguments, seed, folder) for seed in arguments.seeds]
    print(f"mean of {len(means)} seeds: Dice {statistics.mean(means):.4f}")


if __name__ == "__main__":
    main()
