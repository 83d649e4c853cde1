"""What a fold was begun with: neither its data nor what was asked for may change under it.

Needs no torch, so that a command can refuse before hours are spent.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from autoseg.errors import TrainingError
from autoseg.train.job import FoldJob
from autoseg.train.records import FoldResult, RunSettings

R = TypeVar("R", RunSettings, FoldResult)


def finished(job: FoldJob) -> FoldResult | None:
    """Return the result of a fold that this plan has trained already; else None."""
    return _of_plan(FoldResult, job.folder.result, job)


def read_settings(job: FoldJob) -> RunSettings | None:
    """Return what was decided for a fold of this plan; None if nothing was."""
    return _of_plan(RunSettings, job.folder.settings, job)


def begun(job: FoldJob) -> RunSettings | FoldResult | None:
    """Return what a fold of this plan was begun or finished with; None before its first weights."""
    folder = job.folder
    weights = (folder.final, folder.last, folder.previous)
    if any(path.exists() for path in weights):
        return finished(job) or read_settings(job)
    return finished(job)


def as_begun(job: FoldJob) -> FoldJob:
    """Return a job with the threads that its fold was begun with (others give other sums).

    With the first weights, too: a run that is killed before its first checkpoint needs them again,
    and for one that has a checkpoint it makes no difference where they lie now.
    """
    settings = read_settings(job)
    if settings is None:
        return job
    initial = job.initial or settings.initial
    if begun(job) is not None:
        initial = settings.initial
    return replace(job, num_threads=settings.num_threads, initial=initial)


def check_request(job: FoldJob) -> None:
    """Refuse a fold that was begun with another length than what is now asked for explicitly.

    Raises
    ------
    TrainingError
        With the ways to keep or to replace what is there.
    """
    record = begun(job)
    if record is None or is_request_kept(job, record):
        return
    raise TrainingError(
        found=f"{job.name} is {_state(record)} with {record.request}",
        expected=f"{job.request}, as asked for now",
        fix="ask for the same again, or leave out --steps, --epochs and --budget to keep it; to "
        f"train anew, choose another workspace (-w) or delete {job.folder.root}",
    )


def check_initial(job: FoldJob) -> None:
    """Refuse a fold that was begun with other weights than what `--init` names now.

    Raises
    ------
    TrainingError
        With the ways to keep or to replace what is there.
    """
    record = begun(job)
    if record is None or job.initial is None:
        return
    then = record.initial
    if then is not None and then.sha256 == job.initial.sha256:
        return
    began = "drawn weights" if then is None else f"the weights of {then.source}"
    raise TrainingError(
        found=f"{job.name} is {_state(record)}, from {began}"
        + (f" (SHA-256 {then.sha256[:12]}...)" if then is not None else ""),
        expected=f"--init {job.initial.source} (SHA-256 {job.initial.sha256[:12]}...), as asked "
        "for now",
        fix="leave out --init to go on with what is there; to train anew, choose another workspace "
        f"(-w) or delete {job.folder.root}",
    )


def check_cases(job: FoldJob) -> None:
    """Refuse a fold that was begun with other cases, or other files of them.

    Raises
    ------
    TrainingError
        With the ways to keep or to replace what is there.
    """
    record = begun(job)
    if record is None or are_cases_kept(job, record):
        return
    raise TrainingError(
        found=f"{job.name} is {_state(record)}, but its cases or their files have changed since",
        expected="the same training and validation cases, in the same files",
        fix="undo the change; or plan again with `autoseg plan DATASET --replan`, or delete "
        f"{job.folder.root}, and train again",
    )


def check_previous(job: FoldJob) -> None:
    """Refuse a fold of a second stage without all it needs of the first, or begun with other.

    Raises
    ------
    TrainingError
        With the command that prepares what is missing, or begins anew.
    """
    if job.previous is None:
        return
    cases = (*job.train_cases, *job.val_cases)
    missing = [case_id for case_id in cases if job.previous.made_of(case_id) is None]
    if missing:
        raise TrainingError(
            found=f"{job.name}: what {job.planned.previous_stage} found is prepared for "
            f"{len(cases) - len(missing)} of its {len(cases)} cases, not for {missing[0]}",
            expected=f"the labels of {job.planned.previous_stage} for each case",
            fix=f"run `autoseg train --configurations {job.configuration}`, which prepares them",
        )
    if not is_previous_kept(job):
        raise TrainingError(
            found=f"{job.name} was begun with other labels of {job.planned.previous_stage}",
            expected="those that it finds now",
            fix=f"run `autoseg train --configurations {job.configuration}`, which begins anew",
        )


def is_previous_kept(job: FoldJob) -> bool:
    """Return whether a fold sees the labels of a previous stage that it was begun with, if any."""
    record = begun(job)
    return record is None or record.previous_digest == previous_digest(job)


def previous_digest(job: FoldJob) -> str | None:
    """Return a SHA-256 of what the previous stage found in a fold's cases; None without one."""
    if job.previous is None:
        return None
    return job.previous.digest((*job.train_cases, *job.val_cases))


def is_request_kept(job: FoldJob, record: RunSettings | FoldResult) -> bool:
    """Return whether nothing else is asked for than what a fold was begun with."""
    now, then = job.request, record.request
    if now is None or then is None or not now.is_explicit:
        return True
    return (now.num_steps, now.budget_s) == (then.num_steps, then.budget_s)


def are_cases_kept(job: FoldJob, record: RunSettings | FoldResult) -> bool:
    """Return whether a fold's cases are those that it was begun with."""
    return record.cases_digest in (None, cases_digest(job))


def cases_digest(job: FoldJob) -> str:
    """Return a SHA-256 of a fold's cases, in order, and of what they were prepared from."""
    store = job.store
    content = [
        [(case_id, store.info(case_id).source_hash) for case_id in side]
        for side in (job.train_cases, job.val_cases)
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _of_plan(kind: type[R], path: Path, job: FoldJob) -> R | None:
    """Return a record of this plan; those of another plan or version are not read as ours."""
    if not path.exists():
        return None
    with suppress(ValueError):  # what cannot be parsed gets its clear error below
        if json.loads(path.read_bytes()).get("plan_digest") != job.plan.digest():
            return None
    return kind.load(path)


def _state(record: RunSettings | FoldResult) -> str:
    return "trained" if isinstance(record, FoldResult) else "begun"
