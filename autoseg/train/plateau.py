"""Ending a run early: copies of it are annealed on the way, and judged on whole validation cases.

A run's score says little before its learning rate has fallen. So at some parts of the run, each
twice the one before, it waits while a copy is annealed to zero in a fifth of the steps done so far.
When a copy is hardly better than the one before, which learnt for half as long, going on pays even
less: the copy's weights are the final ones. Else the run goes on as if nothing had happened.

All that a run decides on the way is in events.jsonl, from which an interrupted one goes on.
"""

import json
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from autoseg.infer.predict import load_network
from autoseg.train.checkpoint import copy_checkpoint, load_weights
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines, read_lines
from autoseg.train.pace import Pace
from autoseg.train.probe import execution_of
from autoseg.train.records import AnnealedEnd, RunSettings
from autoseg.train.schedule import ANNEALED_FRACTION, BRANCH_AT, Branch
from autoseg.train.task import BatchSource
from autoseg.train.training import FoldTraining, read_schedule
from autoseg.train.validation import overlaps, plateau_cases
from autoseg.train.watch import AstrayError
from autoseg.workspace import append_line

LOG = logging.getLogger("autoseg")

PLATEAU_GAIN = 0.003
"""Dice that training twice as long must promise, its noise included: two seeds of one plan differ
by about as much."""
MIN_CLASS_DICE = 0.1
"""A class below this is hardly found yet: its score stands still before it rises."""


def train_to_plateau(
    job: FoldJob,
    settings: RunSettings,
    batches: BatchSource,
    listeners: Listeners,
    pace: Pace,
) -> bool:
    """Train a fold until its last copy is judged; return whether one of them is the final state.

    Raises
    ------
    Interrupted
        The caller asked to stop; the same call goes on.
    TrainingError
        The run has gone astray, and may not go back again.
    """
    if not settings.stops_at_plateau:
        return False
    ends = list(annealed_ends(job))
    for index in range(len(BRANCH_AT)):
        if index == len(ends):
            end = _annealed(job, settings, batches, listeners, pace=pace, index=index)
            end = judged(end, ends[-1] if ends else None)
            line = {"event": "annealed", "branch": index, **end.model_dump(mode="json")}
            append_line(job.folder.events, line)
            ends.append(end)
        copy = replace(job, branch=index)
        if ends[index].is_plateau:
            _adopt(job, copy, ends[index])
            return True
        shutil.rmtree(copy.folder.root, ignore_errors=True)
    return False


def annealed_ends(job: FoldJob) -> tuple[AnnealedEnd, ...]:
    """Return what copies of a fold have reached so far, in order."""
    kept = AnnealedEnd.model_fields
    return tuple(
        AnnealedEnd.from_json(
            json.dumps({key: line[key] for key in kept if key in line}), job.folder.events.name
        )
        for line in read_lines(job.folder.events)
        if line["event"] == "annealed"
    )


def judged(end: AnnealedEnd, before: AnnealedEnd | None) -> AnnealedEnd:
    """Return an end with what it gained over the one before, and whether that is a plateau."""
    if before is None:
        return end
    pairs = zip(end.case_dice, before.case_dice, strict=True)
    gains = [now - then for now, then in pairs if now is not None and then is not None]
    if len(gains) < 2:
        return end
    gain, noise = float(np.mean(gains)), float(np.std(gains, ddof=1) / math.sqrt(len(gains)))
    is_learnt = all(dice is None or dice >= MIN_CLASS_DICE for dice in end.class_dice)
    # What is clearly worse than before is no plateau: its weights are not to be the final ones.
    is_plateau = is_learnt and -PLATEAU_GAIN <= gain + noise < PLATEAU_GAIN
    return end.revised(gain=gain, noise=noise, is_plateau=is_plateau)


def _annealed(
    job: FoldJob,
    settings: RunSettings,
    batches: BatchSource,
    listeners: Listeners,
    *,
    pace: Pace,
    index: int,
) -> AnnealedEnd:
    """Train to where copy `index` is made, anneal it, and return what it reaches."""
    copy = replace(job, branch=index)
    step = _branched_at(job, index)
    if step is None:
        schedule = read_schedule(job, settings.num_steps)
        trunk = FoldTraining(job, settings, batches, listeners, pace=pace, schedule=schedule)
        step = trunk.run(until=BRANCH_AT[index])
        del trunk  # its memory is the copy's
        _copy_checkpoint(job, copy)
        append_line(job.folder.events, {"event": "branched", "branch": index, "step": step})
    branch = Branch(step, max(1, round(ANNEALED_FRACTION * step)))
    case_ids = plateau_cases(job, settings.num_steps)
    try:
        if not copy.folder.final.exists():
            schedule = read_schedule(job, settings.num_steps)
            FoldTraining(
                copy, settings, batches, listeners, pace=pace, schedule=schedule, branch=branch
            ).run()
        cases, classes = _dice(copy, settings, case_ids, listeners)
    except AstrayError as error:  # of the copy alone: it tells nothing, and the fold goes on
        LOG.warning("%s; the fold goes on without this copy", error.found)
        cases, classes = _nothing(len(case_ids)), _nothing(job.planned.network.num_classes - 1)
    return AnnealedEnd(
        step=step,
        num_steps=branch.end,
        cases=tuple(case_ids),
        case_dice=cases,
        class_dice=classes,
        elapsed_s=pace.elapsed_s(),
    )


def _branched_at(job: FoldJob, index: int) -> int | None:
    """Return after how many steps a copy was made; None where it has to be made."""
    if not replace(job, branch=index).folder.last.exists():
        return None
    lines = read_lines(job.folder.events)
    steps = [
        line["step"] for line in lines if line["event"] == "branched" and line["branch"] == index
    ]
    return steps[-1] if steps else None


def _copy_checkpoint(job: FoldJob, copy: FoldJob) -> None:
    """Give a copy the state in which the fold waits."""
    shutil.rmtree(copy.folder.root, ignore_errors=True)  # of a process that was killed just here
    copy_checkpoint(job.folder.last, copy.folder.last)


def _dice(
    copy: FoldJob, settings: RunSettings, case_ids: Sequence[str], listeners: Listeners
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Return the mean Dice of each case and of each foreground class."""
    weights, _ = load_weights(copy.folder.final, settings.plan_digest)
    execution = execution_of(settings)
    model = execution.place(load_network(copy.planned.network, weights))
    rows = []
    for case_id in case_ids:
        listeners.stop_if_asked(copy.name)
        inner, total = overlaps(copy, model, execution, case_id)
        rows.append(np.where(total > 0, 2 * inner / np.maximum(total, 1), np.nan))
    table = np.array(rows)  # (N, K - 1)
    return _means(table), _means(table.T)


def _nothing(count: int) -> tuple[float | None, ...]:
    """Return Dice values of which none is known."""
    return (None,) * count


def _means(table: NDArray[np.float64]) -> tuple[float | None, ...]:
    """Return the mean of what is a number in each row; None where nothing is."""
    known = [row[~np.isnan(row)] for row in table]
    return tuple(float(row.mean()) if len(row) else None for row in known)


def _adopt(job: FoldJob, copy: FoldJob, end: AnnealedEnd) -> None:
    """Make a copy's end the fold's: its weights, and its log from where it was made."""
    if not job.folder.final.exists():
        lines = read_lines(copy.folder.metrics)
        keep_lines(job.folder.metrics, lambda line: line["step"] <= end.step)
        for line in lines:
            if line["step"] > end.step:
                append_line(job.folder.metrics, line)
        copy.folder.final.replace(job.folder.final)
    shutil.rmtree(copy.folder.root, ignore_errors=True)
