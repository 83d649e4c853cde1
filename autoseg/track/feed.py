"""From the files of a workspace to a tracker: what it does not have yet.

metrics.jsonl is the truth. Nothing here is asked by the training, and nothing here changes it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from uuid import uuid4

from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.evaluate.statistics import METRICS, defined_mean, foreground_mean, metric_table
from autoseg.plan.plan import Plan
from autoseg.record import Record
from autoseg.track.tracker import Fed, News, Point, Run, Tracker
from autoseg.train.lines import read_lines
from autoseg.train.readings import Reading, readings
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import FoldFolder, Workspace, write_text


class Tracked(Record):
    """A fold's name in all trackers: tracked.json, which goes where the fold goes."""

    schema_version: Literal[1] = 1
    run: str


def feed(workspace: Workspace, tracker: Tracker) -> int:
    """Give a tracker what is new in every fold of the workspace's plan; return how many points.

    Raises
    ------
    AutosegError
        A file of the workspace cannot be read or written.
    Exception
        Whatever the tracker raises.
    """
    if not workspace.plan.exists():
        return 0
    plan = Plan.load(workspace.plan)
    count = 0
    for folder, settings in _folds(workspace, plan.digest()):
        run = _run(workspace, plan, folder, settings)
        news = _news(workspace, plan, folder, settings, tracker.fed(run))
        if news.points or news.outcome:
            tracker.tell(run, news)
            count += len(news.points)
    return count


def _folds(workspace: Workspace, digest: str) -> Iterator[tuple[FoldFolder, RunSettings]]:
    """Yield the folds of a plan that have begun to train."""
    for path in sorted(workspace.training.glob("*/fold_*/settings.json")):
        settings = RunSettings.load(path)
        if settings.plan_digest == digest:
            yield FoldFolder(path.parent), settings


def _run(workspace: Workspace, plan: Plan, folder: FoldFolder, settings: RunSettings) -> Run:
    """Return a fold as trackers know it; the first time it gets its name."""
    if not folder.tracked.exists():
        write_text(folder.tracked, Tracked(run=uuid4().hex).to_json())
    planned = plan.configuration(settings.configuration)
    parameters = {
        "plan": plan.digest(),
        "planner": plan.planner,
        "configuration": settings.configuration,
        "fold": settings.fold,
        "seed": plan.seed,
        "device": settings.device,
        "precision": settings.precision,
        "batch_size": planned.batch_size,
        "patch_size": "x".join(map(str, planned.patch_size)),
        "optimizer": planned.training.optimizer,
        "peak_lr": planned.training.peak_lr,
        "loss": planned.training.loss,
    }
    return Run(
        id=Tracked.load(folder.tracked).run,
        workspace=workspace.root.stem,
        configuration=settings.configuration,
        fold=settings.fold,
        parameters={name: str(value) for name, value in parameters.items()},
        started_s=folder.settings.stat().st_mtime,
    )


def _news(
    workspace: Workspace, plan: Plan, folder: FoldFolder, settings: RunSettings, fed: Fed
) -> News:
    """Return what a tracker does not have of a fold."""
    names = plan.labels.names[1:]
    lines = read_lines(folder.metrics)
    found = readings(lines, plan.configuration(settings.configuration).batch_size)
    points = tuple(_point(item, names) for item in found if item.step > fed.step)
    outcome = _outcome(workspace, plan, folder.result)
    digest = hashlib.sha256(json.dumps(outcome, sort_keys=True).encode()).hexdigest()
    if not outcome or digest == fed.outcome:
        outcome, digest = {}, fed.outcome
    step = points[-1].step if points else fed.step
    return News(points=points, outcome=outcome, fed=fed.revised(step=step, outcome=digest))


def _point(reading: Reading, names: tuple[str, ...]) -> Point:
    classes = zip(names, reading.class_dice, strict=False)
    dice = {f"class_dice/{name}": value for name, value in classes if value is not None}
    return Point(step=reading.step, seconds=reading.seconds, values={**reading.values, **dice})


def _outcome(workspace: Workspace, plan: Plan, path: Path) -> Mapping[str, float]:
    """Return the scores of a fold that is finished; of its configuration, as far as it has come."""
    if not path.exists():
        return {}
    result = FoldResult.load(path)
    found: dict[str, float | None] = {
        "result/steps": result.num_steps,
        "result/train_seconds": result.train_seconds,
        "result/validation_seconds": result.validation_seconds,
    }
    if result.scores:
        by_class = defined_mean(metric_table(result.scores, "dice"))
        names = plan.labels.names[1:]
        found |= {f"result/{name}": foreground_mean(result.scores, name) for name in METRICS}
        found |= {
            f"result/class_dice/{name}": float(value)
            for name, value in zip(names, by_class, strict=True)
            if value == value  # of a class that no case has, there is none
        }
    found["result/dice_cross_fitted"] = _cross_fitted(workspace, result)
    return {name: value for name, value in found.items() if value is not None}


def _cross_fitted(workspace: Workspace, result: FoldResult) -> float | None:
    """Return the Dice of a fold's configuration with post-processing that other cases chose."""
    if not workspace.postprocessing.exists():
        return None
    choice = PostprocessingChoice.load(workspace.postprocessing)
    of = (choice.plan_digest, choice.configuration)
    return choice.dice_cross_fitted if of == (result.plan_digest, result.configuration) else None
