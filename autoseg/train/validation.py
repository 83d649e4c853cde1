"""Validation on whole cases: quick looks while training, and the scores at its end.

Letters in shapes: K classes, S image axes, S' axes of the prepared array.
"""

import json
import time
from collections import deque
from collections.abc import Iterator
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
from autoseg.runtime.images import TABLE_FORMAT, is_image, output_ending, write_labels
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_labels
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines
from autoseg.workspace import append_line

MAX_QUICK_CASES = 16
QUICK_FRACTION = 0.04
"""Part of the steps' work that quick looks may cost."""
FORWARD_FRACTION = 1 / 3
"""Work of predicting a batch, in training steps: backward takes twice what forward does."""
MAX_WAITING = 1
"""Predicted cases that are restored and scored meanwhile: each holds the logits of an image."""


class QuickLook:
    """Dice of a few cases on the prepared grid, while training; costs a small part of it.

    Which cases it takes depends on numbers of steps and tiles only, never on a clock.
    """

    def __init__(self, job: FoldJob, first_step: int) -> None:
        self._job = job
        self._spent = QUICK_FRACTION * first_step  # in training steps
        count = min(MAX_QUICK_CASES, len(job.val_cases))
        chosen = np.linspace(0, len(job.val_cases) - 1, count).round().astype(int)
        self._case_ids = [job.val_cases[index] for index in chosen]

    def dice(self, model: nn.Module, execution: Execution, step: int) -> list[float | None]:
        """Return the Dice of each foreground class, pooled over cases; empty if too dear."""
        num_classes = self._job.planned.network.num_classes
        overlap, volume = np.zeros(num_classes), np.zeros(num_classes)
        case_ids = list(self._affordable(step))
        for case_id in case_ids:
            labels = np.asarray(self._job.store.labels(case_id)[:])
            logits = predict_prepared(
                model,
                np.asarray(self._job.store.image(case_id)[:]),
                self._job.planned,
                execution=execution,
                mirror_axes=(),
            )
            case = self._job.case(case_id)
            found = np.where(labels == IGNORE, IGNORE, logits.argmax(axis=0))
            found = without_unknown(found, case, self._job.plan.labels, fill=0)
            for index in range(1, num_classes):
                true, seen = labels == index, found == index
                overlap[index] += np.count_nonzero(true & seen)
                volume[index] += np.count_nonzero(true) + np.count_nonzero(seen)
        if not case_ids:
            return []
        pairs = zip(overlap[1:], volume[1:], strict=True)
        return [float(2 * inner / total) if total else None for inner, total in pairs]

    def _affordable(self, step: int) -> Iterator[str]:
        """Yield cases as long as the steps done allow their cost."""
        planned = self._job.planned
        for case_id in self._case_ids:
            shape = self._job.store.info(case_id).shape[1:]
            cost = FORWARD_FRACTION * count_tiles(shape, planned) / planned.batch_size
            if self._spent + cost > QUICK_FRACTION * step:
                return
            self._spent += cost
            yield case_id


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
            logits = predict_prepared(
                model,
                np.asarray(job.store.image(case_id)[:]),
                job.planned,
                execution=execution,
                mirror_axes=mirroring(job.planned),
            )
            now = time.monotonic()
            waiting.append(pool.submit(_finish_case, job, case_id, logits, now - last))
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


def _finish_case(
    job: FoldJob, case_id: str, logits: NDArray[np.float32], seconds: float
) -> tuple[CaseScore, float]:
    """Restore a prediction to the image's grid, write it in the user's values, score it."""
    placement = Placement.from_dict(job.store.info(case_id).placement)
    classes = restore_labels(logits, placement)
    image, reference = read_case(job.dataset, job.case(case_id))
    write_labels(prediction_path(job, case_id), to_values(classes, job.plan.labels), image.geometry)
    score = score_case(
        case_id,
        without_unknown(classes, job.case(case_id), job.plan.labels, fill=0),
        reference,
        image.geometry.spacing,
        len(job.plan.labels.names),
        job.plan.nsd_tolerance,
        judged_regions(job.case(case_id), job.plan.labels),
    )
    line = {"score": score.model_dump(mode="json"), "seconds": seconds}
    append_line(job.folder.scores, line)
    return score, seconds


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
        "configuration": job.configuration,
        "fold": job.fold,
        "done": count,
        "total": len(job.val_cases),
    }
