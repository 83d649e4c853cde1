"""Validation on whole cases: quick looks while training, and the scores at its end.

Letters in shapes: K classes, S image axes, S' axes of the prepared array.
"""

import json
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from autoseg.dataset.annotated import judged_regions, without_unknown
from autoseg.dataset.case import read_case
from autoseg.dataset.label_values import IGNORE, to_values
from autoseg.evaluate.score import score_case
from autoseg.evaluate.scores import CaseScore
from autoseg.infer.predict import count_tiles, mirroring, predict_prepared
from autoseg.network.execution import Execution
from autoseg.runtime.geometry import Geometry
from autoseg.runtime.images import TABLE_FORMAT, is_image, output_ending, write_labels
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_labels
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines
from autoseg.train.out_of_fold import note_limit, store_case, stored_cases
from autoseg.train.schedule import BRANCH_AT, LOOK_FRACTION
from autoseg.workspace import append_line

MAX_QUICK_CASES = 16
QUICK_FRACTION = 0.04
"""Part of the steps' work that quick looks may cost."""
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
MAX_WAITING = 1
"""Predicted cases that are restored and scored meanwhile: each holds the logits of an image."""


class QuickLook:
    """Dice of a few cases on the prepared grid, while training; costs a small part of it.

    Which cases it takes depends on numbers of steps and tiles only, never on a clock.
    """

    def __init__(self, job: FoldJob, first_step: int) -> None:
        self._job = job
        self._spent = QUICK_FRACTION * first_step  # in training steps
        self._case_ids = spread_cases(job)

    def dice(self, model: nn.Module, execution: Execution, step: int) -> list[float | None]:
        """Return the Dice of each foreground class, pooled over cases; empty if too dear."""
        return pooled_dice(self._job, model, execution, list(self._affordable(step)))

    def _affordable(self, step: int) -> Iterator[str]:
        """Yield cases as long as the steps done allow their cost."""
        for case_id in self._case_ids:
            cost = prediction_work(self._job, case_id)
            if self._spent + cost > QUICK_FRACTION * step:
                return
            self._spent += cost
            yield case_id


def pooled_dice(
    job: FoldJob, model: nn.Module, execution: Execution, case_ids: Sequence[str]
) -> list[float | None]:
    """Return the Dice of each foreground class, pooled over cases; empty for none."""
    if not case_ids:
        return []
    counts = [overlaps(job, model, execution, case_id) for case_id in case_ids]
    inner, total = np.sum(counts, axis=0)
    return [float(2 * a / b) if b else None for a, b in zip(inner, total, strict=True)]


def spread_cases(job: FoldJob) -> list[str]:
    """Return at most `MAX_QUICK_CASES` validation cases, evenly from the first to the last."""
    count = min(MAX_QUICK_CASES, len(job.val_cases))
    chosen = np.linspace(0, len(job.val_cases) - 1, count).round().astype(int)
    return [job.val_cases[index] for index in chosen]


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
    logits = predict_prepared(model, image, job.planned, execution=execution, mirror_axes=())
    found = np.where(labels == IGNORE, IGNORE, logits.argmax(axis=0))
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
    _score(job, case_id, _predict(job, model, execution, case_id))
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
            logits = _predict(job, model, execution, case_id)
            now = time.monotonic()
            keep = case_id in stored
            waiting.append(pool.submit(_finish_case, job, case_id, logits, now - last, keep=keep))
            last = now
            seconds += collect(MAX_WAITING)
        seconds += collect(0)
    return tuple(done[case_id] for case_id in job.val_cases), seconds


def prediction_path(job: FoldJob, case_id: str) -> Path:
    """Return where the prediction of a validation case is written."""
    path = Path(job.case(case_id).images[0])
    # A case that is a part of a file, or a folder, gets the ending that the layout names.
    is_plain = is_image(path) or path.suffix.lower() == TABLE_FORMAT
    ending = output_ending(path) if is_plain else job.dataset.file_ending
    return job.folder.validation / f"{case_id}{ending}"


def _predict(
    job: FoldJob, model: nn.Module, execution: Execution, case_id: str
) -> NDArray[np.float32]:
    """Return the logits (K, *S') of a validation case, as the plan predicts."""
    return predict_prepared(
        model,
        np.asarray(job.store.image(case_id)[:]),
        job.planned,
        execution=execution,
        mirror_axes=mirroring(job.planned),
    )


def _finish_case(
    job: FoldJob, case_id: str, logits: NDArray[np.float32], seconds: float, *, keep: bool
) -> tuple[CaseScore, float]:
    """Restore a prediction to the image's grid, write it in the user's values, score it.

    `keep`: store the probabilities, too.
    """
    classes, geometry, score = _score(job, case_id, logits)
    write_labels(prediction_path(job, case_id), to_values(classes, job.plan.labels), geometry)
    if keep:
        store_case(job, case_id, logits, geometry.spacing)
    line = {"score": score.model_dump(mode="json"), "seconds": seconds}
    append_line(job.folder.scores, line)
    return score, seconds


def _score(
    job: FoldJob, case_id: str, logits: NDArray[np.float32]
) -> tuple[NDArray, Geometry, CaseScore]:
    """Return a prediction's classes (*S) on the image's grid, that grid, and the scores."""
    placement = Placement.from_dict(job.store.info(case_id).placement)
    classes = restore_labels(logits, placement)
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
