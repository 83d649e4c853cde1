"""Validation on whole cases: some of them while training, and the scores at its end.

Letters in shapes: K classes, S image axes, S' axes of the prepared array.
"""

import json
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from autoseg.dataset.annotated import judged_regions, without_unknown
from autoseg.dataset.case import read_case
from autoseg.dataset.label_values import IGNORE, to_values
from autoseg.evaluate.score import score_case
from autoseg.evaluate.scores import CaseScore
from autoseg.infer.predict import count_tiles, mirroring, predict_prepared, predict_rows
from autoseg.network.execution import Execution
from autoseg.runtime.cascade import Previous, voxel_margins
from autoseg.runtime.geometry import Geometry
from autoseg.runtime.images import TABLE_FORMAT, is_image, output_ending, write_labels
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_rows
from autoseg.runtime.sums import Rows
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines
from autoseg.train.out_of_fold import (
    MAX_CASE_VALUES,
    forget_case,
    note_limit,
    store_case,
    stored_cases,
)
from autoseg.train.schedule import BRANCH_AT, LOOK_FRACTION
from autoseg.workspace import append_line

MAX_QUICK_CASES = 16
FORWARD_FRACTION = 1 / 3
"""Work of predicting a batch, in training steps: backward takes twice what forward does."""
MIN_PLATEAU_CASES = 3
"""Fewer cases do not tell a gain from chance."""
MIN_BRANCH_STEPS = 10
"""A copy that has learnt for fewer steps tells nothing."""
TIMED_FRACTION = 0.02
"""Part of the steps' work so far that measuring how long validation takes may cost."""
CASE_S = 0.05
"""Seconds of a validation case that do not grow with it."""
VALUE_S = 5e-7
"""Seconds that restoring and scoring takes for each voxel and class, about."""
EVERYWHERE = 0.95
"""Part of all voxels from which a class counts as found everywhere: some at borders differ."""
MAX_WAITING = 1
"""Predicted cases that are restored and scored meanwhile: each holds the logits of an image."""


@dataclass(frozen=True)
class Seen:
    """What a model finds in some cases, their voxels pooled."""

    dice: list[float | None]
    """Of each foreground class; empty without cases. None for a class that none of them has: a
    voxel found there, or not, would make the mean over classes jump."""
    everywhere: int | None = None
    """The foreground class that nearly every voxel was given, and few of them have."""


def see(
    job: FoldJob,
    model: nn.Module,
    execution: Execution,
    case_ids: Sequence[str],
    listeners: Listeners,
) -> Seen:
    """Return what a model finds in cases, on the prepared grid.

    Raises
    ------
    Interrupted
        The caller asked to stop.
    """
    counts = []
    for case_id in case_ids:
        listeners.stop_if_asked(job.name)
        counts.append(overlaps(job, model, execution, case_id))
    if not counts:
        return Seen([])
    inner, total = np.sum(counts, axis=0)
    voxels = np.sum([job.store.info(case_id).class_voxels for case_id in case_ids], axis=0)
    dice = [
        float(2 * a / b) if n and b else None
        for a, b, n in zip(inner, total, voxels[1:], strict=True)
    ]
    return Seen(dice, _everywhere(total - voxels[1:], voxels))


def _everywhere(found: NDArray[np.integer], voxels: NDArray[np.integer]) -> int | None:
    """Return the foreground class that is found nearly everywhere, where it mostly is not.

    Parameters
    ----------
    found
        Voxels given to each foreground class.
    voxels
        That each class has, the background first.
    """
    index = int(np.argmax(found))
    is_filled = found[index] > EVERYWHERE * voxels.sum()
    return index + 1 if is_filled and voxels[index + 1] < found[index] / 2 else None


def spread_cases(job: FoldJob) -> list[str]:
    """Return at most `MAX_QUICK_CASES` validation cases, evenly from the first to the last.

    Cases without foreground, which tell little, are taken only where there are no others.
    """
    store = job.store
    full = [name for name in job.val_cases if any(store.info(name).class_voxels[1:])]
    cases = full or job.val_cases
    count = min(MAX_QUICK_CASES, len(cases))
    chosen = np.linspace(0, len(cases) - 1, count).round().astype(int)
    return [cases[index] for index in chosen]


def plateau_cases(job: FoldJob, num_steps: int) -> list[str]:
    """Return the validation cases that annealed copies of a run of `num_steps` are judged by."""
    chosen, spent = [], 0.0
    for case_id in spread_cases(job):
        spent += prediction_work(job, case_id)
        if spent <= LOOK_FRACTION * num_steps:
            chosen.append(case_id)
    return chosen


def can_see_plateau(job: FoldJob, num_steps: int) -> bool:
    """Return whether a fold is to end at a plateau, and has the cases and the time to see one.

    One cycle has no trunk: while its rate rises, copies would tell of the rate, not of the time.
    """
    if job.planned.training.schedule == "one_cycle":
        return False
    if not job.stops_at_plateau or num_steps * BRANCH_AT[0] < MIN_BRANCH_STEPS:
        return False
    return len(plateau_cases(job, num_steps)) >= MIN_PLATEAU_CASES


def overlaps(
    job: FoldJob, model: nn.Module, execution: Execution, case_id: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return of each foreground class the voxels in both prediction and reference, and in either.

    On the prepared grid, without mirroring; those in both count twice in the second.
    """
    labels = np.asarray(job.store.labels(case_id)[:])
    image = np.asarray(job.store.image(case_id)[:])
    found = np.empty_like(labels)
    predicted = predict_rows(
        model,
        image,
        job.planned,
        execution=execution,
        mirror_axes=(),
        previous=found_before(job, case_id),
    )
    for rows in predicted:
        found[rows.start : rows.stop] = rows.values.argmax(axis=0)
    found[labels == IGNORE] = IGNORE
    found = without_unknown(found, job.case(case_id), job.plan.labels, fill=0)
    classes = range(1, job.planned.network.num_classes)
    pairs = [(labels == index, found == index) for index in classes]
    inner = [np.count_nonzero(true & seen) for true, seen in pairs]
    total = [np.count_nonzero(true) + np.count_nonzero(seen) for true, seen in pairs]
    return np.array(inner), np.array(total)


def prediction_work(job: FoldJob, case_id: str) -> float:
    """Return what predicting a case without mirroring costs, in training steps."""
    shape = job.store.info(case_id).shape[1:]
    return FORWARD_FRACTION * count_tiles(shape, job.planned) / job.planned.batch_size


def validation_work(job: FoldJob) -> float:
    """Return what predicting all validation cases costs, in training steps."""
    versions = 2 ** len(mirroring(job.planned))
    return versions * sum(prediction_work(job, case_id) for case_id in job.val_cases)


def expected_validation(job: FoldJob, seconds_per_step: float) -> float:
    """Return the seconds that validation should take, from what a training step takes."""
    shapes = [job.store.info(case_id).shape[1:] for case_id in job.val_cases]
    values = sum(math.prod(shape) for shape in shapes) * job.planned.network.num_classes
    fixed_s = CASE_S * len(shapes) + VALUE_S * values
    return validation_work(job) * seconds_per_step + fixed_s


def timed_validation(
    job: FoldJob, model: nn.Module, execution: Execution, *, step: int, seconds_per_step: float
) -> float:
    """Return the seconds that validation should take, from doing the smallest case just now.

    Where that is dear for the steps done so far, from what a step takes.
    """
    case_id = min(job.val_cases, key=lambda name: prediction_work(job, name))
    work = 2 ** len(mirroring(job.planned)) * prediction_work(job, case_id)
    if work > TIMED_FRACTION * step:
        return expected_validation(job, seconds_per_step)
    part = work / validation_work(job)
    start = time.monotonic()
    _score(job, case_id, predict_case(job, model, execution, case_id))
    return (time.monotonic() - start) / part


def validate(
    job: FoldJob, model: nn.Module, execution: Execution, listeners: Listeners
) -> tuple[tuple[CaseScore, ...], float]:
    """Predict every validation case on its own grid, write and score it; goes on where it stopped.

    Returns
    -------
    tuple
        The scores in the order of `job.val_cases`, and the seconds it took.
    """
    done, seconds = _read_scores(job)
    left = [case_id for case_id in job.val_cases if case_id not in done]
    stored = stored_cases(job)
    reason = note_limit(job, stored) if left else None
    if reason is not None:
        listeners.on_progress({"event": "note", "text": reason})
    waiting: deque[Future[tuple[CaseScore, float]]] = deque()

    def collect(most: int) -> float:
        spent = 0.0
        while len(waiting) > most:
            score, case_s = waiting.popleft().result()
            done[score.case_id] = score
            spent += case_s
            listeners.on_progress(_progress(job, len(done)))
        return spent

    last = time.monotonic()
    # One thread restores, writes and scores a case while the next one is predicted.
    with ThreadPoolExecutor(1, thread_name_prefix="validation") as pool:
        for case_id in left:
            listeners.stop_if_asked(job.name)
            rows = predict_case(job, model, execution, case_id)
            now = time.monotonic()
            finish = partial(_finish_case, job, case_id, rows, now - last, keep=case_id in stored)
            if isinstance(rows, list):
                waiting.append(pool.submit(finish))
                last = now
                seconds += collect(MAX_WAITING)
                continue
            seconds += collect(0)
            waiting.append(Future())
            waiting[0].set_result(finish())  # the network runs meanwhile
            last = time.monotonic()
        seconds += collect(0)
    return tuple(done[case_id] for case_id in job.val_cases), seconds


def prediction_path(job: FoldJob, case_id: str) -> Path:
    """Return where the prediction of a validation case is written."""
    path = Path(job.case(case_id).images[0])
    # A case that is a part of a file, or a folder, gets the ending that the layout names.
    is_plain = is_image(path) or path.suffix.lower() == TABLE_FORMAT
    ending = output_ending(path) if is_plain else job.dataset.file_ending
    return job.folder.validation / f"{case_id}{ending}"


def predict_case(
    job: FoldJob, model: nn.Module, execution: Execution, case_id: str
) -> Iterable[Rows]:
    """Return the logits of a validation case, as the plan predicts, from its first row to its last.

    They are a list of one, or predicted while they are read, if they are too many for memory.
    """
    predict = partial(
        predict_rows if _is_huge(job, case_id) else predict_prepared,
        model,
        np.asarray(job.store.image(case_id)[:]),
        job.planned,
        execution=execution,
        mirror_axes=mirroring(job.planned),
        previous=found_before(job, case_id),
    )
    found = predict()
    return [Rows(0, found)] if isinstance(found, np.ndarray) else found


def found_before(job: FoldJob, case_id: str) -> Previous | None:
    """Return what the previous stage found in a case that it had not seen; None without a stage."""
    if job.previous is None:
        return None
    return Previous(
        labels=np.asarray(job.previous.labels(case_id)[:]),
        num_classes=len(job.plan.labels.names),
        margins=voxel_margins(job.planned.region_margin, job.store.info(case_id).spacing),
    )


def _is_huge(job: FoldJob, case_id: str) -> bool:
    """Return whether a case's logits are never held together; then they are not stored, too."""
    shape = job.store.info(case_id).shape[1:]
    return job.planned.network.num_classes * math.prod(shape) > MAX_CASE_VALUES


def _finish_case(
    job: FoldJob, case_id: str, rows: Iterable[Rows], seconds: float, *, keep: bool
) -> tuple[CaseScore, float]:
    """Restore a prediction to the image's grid, write it in the user's values, score it.

    `seconds` is what predicting took so far; what it takes while rows are read is added.
    `keep`: store the probabilities, too; else those of an earlier training go.
    """
    start = time.monotonic()
    classes, geometry, score = _score(job, case_id, rows)
    if not isinstance(rows, list):
        seconds += time.monotonic() - start
    write_labels(prediction_path(job, case_id), to_values(classes, job.plan.labels), geometry)
    if keep:
        (whole,) = rows
        store_case(job, case_id, whole.values, geometry.spacing)
    else:
        forget_case(job.folder, case_id)
    line = {"score": score.model_dump(mode="json"), "seconds": seconds}
    append_line(job.folder.scores, line)
    return score, seconds


def _score(job: FoldJob, case_id: str, rows: Iterable[Rows]) -> tuple[NDArray, Geometry, CaseScore]:
    """Return a prediction's classes (*S) on the image's grid, that grid, and the scores."""
    placement = Placement.from_dict(job.store.info(case_id).placement)
    classes, _ = restore_rows(rows, placement)
    image, reference = read_case(job.dataset, job.case(case_id))
    score = score_case(
        case_id,
        without_unknown(classes, job.case(case_id), job.plan.labels, fill=0),
        reference,
        image.geometry.spacing,
        len(job.plan.labels.names),
        job.plan.nsd_tolerance,
        judged_regions(job.case(case_id), job.plan.labels),
    )
    return classes, image.geometry, score


def _read_scores(job: FoldJob) -> tuple[dict[str, CaseScore], float]:
    """Return the scores that an interrupted validation has written, and the seconds it took."""
    scores: dict[str, CaseScore] = {}
    seconds = 0.0
    for line in keep_lines(job.folder.scores):
        score = CaseScore.from_json(json.dumps(line["score"]), job.folder.scores.name)
        if prediction_path(job, score.case_id).exists():
            scores[score.case_id] = score
            seconds += line["seconds"]
    return scores, seconds


def _progress(job: FoldJob, count: int) -> dict[str, object]:
    return {
        "event": "validated",
        **job.place,
        "done": count,
        "total": len(job.val_cases),
    }
