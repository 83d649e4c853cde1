"""Probabilities of validation cases, kept small on disk for what is chosen after training.

A file holds log-probabilities on the prepared grid, a byte each: what they lose is far below what a
choice between thresholds or between networks could notice, and certain voxels, most of what a well
trained network gives, compress to nothing.

Letters in shapes: K classes, S' axes of the prepared array.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import counted
from autoseg.preprocess.store import file_stem
from autoseg.runtime.prepare import Placement
from autoseg.seeds import stream
from autoseg.train.job import FoldJob
from autoseg.workspace import FoldFolder, Workspace, append_line, write_bytes

STORED_BYTES = 2 << 30
"""Most that the stored cases of a workspace take, before they are compressed."""
CHOOSING_FRACTION = 0.02
"""Part of a budget that the choices from stored cases may take."""
VALUE_S = 1.5e-7
"""Seconds that they take for each class and voxel, on a quiet core (measured: 1.2e-7)."""
CASE_S = 0.03
"""Seconds of a case that do not grow with it."""
MAX_CASE_VALUES = 1 << 27
"""A case with more classes times voxels is not stored: restoring it takes 1 GiB of memory."""
LOWEST = 10.6
"""-log of the smallest probability that is told from 0: 1 in 40,000."""
BEND = 0.25
"""Where steps begin to grow with -log(probability): they are 0.4 % of the odds for what is certain,
1.5 % where two classes are alike."""
LAST = 255
"""The largest byte."""


@dataclass(frozen=True)
class StoredCase:
    """The probabilities of a validation case, as its fold predicts them."""

    case_id: str
    steps: NDArray[np.uint8]
    """(K, *S'): -log(probability) in steps (see `to_steps`)."""
    placement: Placement
    voxel_size: float
    """Product of the image's spacings."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """Return the log-probabilities (K, *S')."""
        scale = math.log1p(LOWEST / BEND) / LAST
        table = -BEND * np.expm1(np.arange(LAST + 1) * scale)
        return table.astype(np.float32)[self.steps]


def stored_cases(job: FoldJob) -> tuple[str, ...]:
    """Return the validation cases whose probabilities are stored: all, if the limit allows it.

    Each fold has its part of the limit and takes its cases in a drawn order, the same in every
    configuration, so that configurations can be compared on the cases of the smaller part.
    """
    if job.trial is not None or job.branch is not None:
        return ()
    left = _values_of_a_fold(job)
    chosen = []
    for index in stream(job.plan.seed, "stored", job.fold).permutation(len(job.val_cases)):
        case_id = job.val_cases[index]
        size = stored_values(job, case_id)
        if size <= MAX_CASE_VALUES:
            left -= size
            if left < 0:
                break
            chosen.append(case_id)
    return tuple(chosen)


def _values_of_a_fold(job: FoldJob) -> int:
    """Return how many probabilities a fold may store: its part of the limits on disk and time."""
    limit = STORED_BYTES
    if job.request is not None and job.request.budget_s is not None:
        limit = min(limit, int(CHOOSING_FRACTION * job.request.budget_s / VALUE_S))
    configurations = sum(item.train_by_default for item in job.plan.configurations)
    return limit // (max(1, configurations) * job.plan.num_folds)


def choosing_seconds(jobs: Sequence[FoldJob]) -> float:
    """Return what the choices from the stored cases of some folds take on a quiet core."""
    sizes = [stored_values(job, name) for job in jobs for name in stored_cases(job)]
    return VALUE_S * sum(sizes) + CASE_S * len(sizes)


def stored_values(job: FoldJob, case_id: str) -> int:
    """Return classes times voxels of a case, on the prepared grid or the image's: the larger."""
    placement = Placement.from_dict(job.store.info(case_id).placement)
    shapes = placement.prepared_shape, placement.image_shape
    return job.planned.network.num_classes * max(math.prod(shape) for shape in shapes)


def note_limit(job: FoldJob, chosen: tuple[str, ...]) -> str | None:
    """Write in the workspace's events that not all cases are stored; return it as a sentence."""
    if len(chosen) == len(job.val_cases) or job.trial is not None:
        return None
    reason = (
        f"{job.name}: the probabilities of {len(chosen)} of {counted(len(job.val_cases), 'case')} "
        f"are stored; the others would exceed the fold's part of {STORED_BYTES >> 30} GiB or of "
        f"the time for choosing ({CHOOSING_FRACTION:.0%} of the budget), or are too large for "
        "memory"
    )
    line = {"event": "stored", "configuration": job.configuration, "fold": job.fold}
    line |= {"cases": len(chosen), "of": len(job.val_cases), "reason": reason}
    append_line(Workspace(job.root).events, line)
    return reason


def store_case(
    job: FoldJob, case_id: str, logits: NDArray[np.float32], spacing: Sequence[float]
) -> None:
    """Write the probabilities of a validation case with logits (K, *S'), at once or not at all.

    `spacing` is the image's.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written.
    """
    placement = Placement.from_dict(job.store.info(case_id).placement)
    case = StoredCase(case_id, to_steps(logits), placement, math.prod(spacing))
    write_stored(job.folder, case, job.plan.digest())


def write_stored(folder: FoldFolder, case: StoredCase, plan_digest: str) -> None:
    """Write the probabilities of a case, at once or not at all."""
    about = {
        "case_id": case.case_id,
        "plan_digest": plan_digest,
        "placement": case.placement.to_dict(),
        "voxel_size": case.voxel_size,
    }
    write_bytes(_path(folder, case.case_id), _compressed(case.steps, json.dumps(about)))


def read_stored(folder: FoldFolder, case_id: str, plan_digest: str) -> StoredCase | None:
    """Return what is stored of a case; None where nothing of this plan is, or nothing readable."""
    import blosc2

    path = _path(folder, case_id)
    if not path.is_file():
        return None
    try:
        array = cast("Any", blosc2.ndarray_from_cframe(path.read_bytes()))
        about = json.loads(array.schunk.vlmeta["about"])
        placement = Placement.from_dict(about["placement"])
        # The shape first: a damaged one may ask for any memory.
        is_ours = (about["case_id"], about["plan_digest"]) == (case_id, plan_digest)
        if not is_ours or array.shape[1:] != placement.prepared_shape:
            return None
        return StoredCase(case_id, array[:], placement, about["voxel_size"])
    except (RuntimeError, ValueError, KeyError, TypeError):  # cut short, or something else
        return None


def forget_case(folder: FoldFolder, case_id: str) -> None:
    """Remove what is stored of a case: it is of weights that are no more."""
    _path(folder, case_id).unlink(missing_ok=True)


def is_stored(folder: FoldFolder, case_id: str) -> bool:
    """Return whether there is a file of a case's probabilities."""
    return _path(folder, case_id).is_file()


def to_steps(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return -log(probability) of logits (K, *S') in steps, without another array of their size.

    A step is `log(1 + x / BEND)` divided so that x = `LOWEST` is the last. The class that wins, of
    equal ones the first, wins by steps, too: were close ones rounded alike, earlier classes, the
    background before all, would be found where they are not.
    """
    highest = logits.max(axis=0)
    total = np.zeros_like(highest)
    for values in logits:
        total += np.exp(values - highest)
    norm = np.log(total, out=total)
    norm += highest  # log of the sum of exponentials
    least = _rounded(norm - highest).astype(np.uint8) + np.uint8(1)  # of those before the winner
    is_before = np.ones(highest.shape, dtype=bool)
    steps = np.empty(logits.shape, dtype=np.uint8)
    for values, target in zip(logits, steps, strict=True):
        target[...] = _rounded(norm - values)
        is_before &= values < highest
        np.maximum(target, least * is_before, out=target)
    return steps


def _rounded(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return -log(probability) in whole steps, in its place."""
    np.clip(distance, 0, LOWEST, out=distance)  # rounding makes some negative
    distance /= BEND
    np.log1p(distance, out=distance)
    distance *= LAST / math.log1p(LOWEST / BEND)
    return np.rint(distance, out=distance)


def _compressed(steps: NDArray[np.uint8], about: str) -> bytes:
    import blosc2

    parameters = blosc2.CParams(
        codec=blosc2.Codec.ZSTD, clevel=1, filters=[blosc2.Filter.BITSHUFFLE], nthreads=1
    )
    array = cast("Any", blosc2.asarray(cast("Any", steps), contiguous=True, cparams=parameters))
    array.schunk.vlmeta["about"] = about
    return array.to_cframe()


def _path(folder: FoldFolder, case_id: str) -> Path:
    return folder.probabilities / f"{file_stem(case_id)}.b2nd"
