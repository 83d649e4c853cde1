"""Whether the plan of `auto` is as good as plans that fit a data set by chance.

`python benchmarks/fixed_plans.py DATASET --budget 20m --results runs.jsonl` trains fold 0 of 5 with
the plan of `auto` and with six plans that are fixed before any data are seen but for the number of
axes: three widths, each with two patches. Each run adds a line to `--results`; runs that have
theirs are not repeated.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from autoseg.evaluate.statistics import summarise
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.search_space import assignments
from autoseg.plan.variation import with_width
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace
from benchmarks.ours import autoseg
from benchmarks.variants import rows

WIDTHS = (16, 24, 32)
"""Features of the first stage."""
PATCHES: Mapping[int, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {1: ((2048,), (4096,)), 2: ((128, 128), (256, 256)), 3: ((32, 32, 32), (48, 64, 48))}
)
"""Two patches that a user who does not look would take, by number of axes; each is rounded up to
what the network can take."""
BATCH = {1: 8, 2: 8, 3: 2}
AUTO = "auto"


def fixed(item: ConfigurationPlan, width: int, patch: tuple[int, ...]) -> ConfigurationPlan:
    """Return a configuration with the width, the patch and the batch of a fixed plan."""
    wide = with_width(item, width / item.network.stages[0].features)
    dims = len(patch)
    return wide.revised(patch_size=wide.network.patch_around(patch), batch_size=BATCH[dims])


def names(dims: int) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Return width and patch of the fixed plans for so many axes, by name."""
    return {
        f"{width} features, {'x'.join(map(str, patch))}": (width, patch)
        for width in WIDTHS
        for patch in PATCHES[dims]
    }


def train_once(arguments: argparse.Namespace, name: str, folder: Path) -> dict:
    """Plan by `auto`, change the plan into the named one, train fold 0, and return its row."""
    words = ["plan", arguments.data.absolute(), "-w", folder / "run.autoseg", "--folds", "5"]
    words += ["--budget", arguments.budget, "--seed", str(arguments.seed)]
    if arguments.spec:
        words += ["--spec", arguments.spec.absolute()]
    autoseg(*words, folder=folder)
    workspace = Workspace(folder / "run.autoseg")
    item = trained(Plan.load(workspace.plan))
    if name != AUTO:
        other = fixed(item, *names(len(item.patch_size))[name])
        for assignment in assignments(item, other):
            words += ["--set", assignment]
        autoseg(*words, folder=folder)
        item = trained(Plan.load(workspace.plan))
    autoseg("train", "-w", workspace.root, "--folds", "0", folder=folder)
    (path,) = workspace.training.glob("*/fold_0/result.json")
    result = FoldResult.load(path)
    return {
        "data": arguments.data.name,
        "budget": arguments.budget,
        "seed": arguments.seed,
        "plan": name,
        "configuration": item.name,
        "patch": item.patch_size,
        "batch": item.batch_size,
        "width": item.network.stages[0].features,
        "steps": result.num_steps,
        "dice": summarise(result.scores).foreground.dice.mean,
    }


def trained(plan: Plan) -> ConfigurationPlan:
    """Return the configuration that is trained by default."""
    return next(item for item in plan.configurations if item.train_by_default)


def verdict(found: dict[str, float]) -> str:
    """Return how `auto` stands among the fixed plans, of which there is at least one."""
    others = [dice for name, dice in found.items() if name != AUTO]
    best, median = max(others), statistics.median(others)
    return (
        f"auto {found[AUTO]:.4f}: {found[AUTO] - best:+.4f} to the best of {len(others)} fixed "
        f"plans, {found[AUTO] - median:+.4f} to their median"
    )


def main() -> None:
    """Train what is missing and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--spec", type=Path)
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dimensions", type=int, choices=PATCHES, required=True)
    parser.add_argument("--results", type=Path, required=True, help="JSON lines, one a run")
    arguments = parser.parse_args()
    key = (arguments.data.name, arguments.budget, arguments.seed)
    for name in (AUTO, *names(arguments.dimensions)):
        own = {row["plan"] for row in rows(arguments.results) if _key(row) == key}
        if name in own:
            continue
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            row = json.dumps(train_once(arguments, name, Path(folder)))
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(row + "\n")
        print(row, flush=True)
    found = {row["plan"]: row["dice"] or 0.0 for row in rows(arguments.results) if _key(row) == key}
    print(verdict(found))


def _key(row: dict) -> tuple[str, str, int]:
    return row["data"], row["budget"], row["seed"]


if __name__ == "__main__":
    main()
