"""The stages of a cascade: the second one learns from what the first found in cases not seen."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.splits import Splits
from autoseg.errors import TrainingError, counted
from autoseg.plan.plan import Plan
from autoseg.preprocess.previous import prepare_previous
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lock import held
from autoseg.train.origin import finished, is_previous_kept
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")

LOCK_WAIT_S = 5.0
"""A process that was killed needs a moment to end."""


def stage_of(plan: Plan, name: str) -> int:
    """Return how many stages come before a configuration."""
    previous = plan.configuration(name).previous_stage
    return 0 if previous is None else 1 + stage_of(plan, previous)


def prepare_stage(jobs: Sequence[FoldJob], splits: Splits, listeners: Listeners) -> None:
    """Prepare what the previous stage found for folds of one configuration, and forget old weights.

    A fold that was trained on what an earlier training of the previous stage had found is moved to
    superseded/, and told: it begins anew.

    Parameters
    ----------
    jobs
        Folds of a configuration with a previous stage.

    Raises
    ------
    TrainingError
        Folds of the previous stage are not finished.
    Interrupted
        The caller asked to stop.
    """
    first = jobs[0]
    predictions = out_of_fold(first, splits)
    done = 0

    def listen(case_id: str) -> None:
        nonlocal done
        done += 1
        place = {"configuration": first.configuration, "case": case_id}
        count = {"done": done, "total": len(predictions)}
        listeners.on_progress({"event": "prepared", **place, **count})
        listeners.stop_if_asked("preparing")

    prepare_previous(
        first.dataset,
        first.plan,
        Workspace(first.root),
        first.configuration,
        predictions,
        num_workers=first.plan.num_threads,
        on_case=listen,
    )
    for job in jobs:
        if not is_previous_kept(job):
            _set_aside(job, listeners)


def out_of_fold(job: FoldJob, splits: Splits) -> Mapping[str, Path]:
    """Return for each case the file of what the previous stage of a job found in it, unseen.

    Raises
    ------
    TrainingError
        Folds of the previous stage are not finished.
    """
    from autoseg.train.validation import prediction_path

    previous = job.planned.previous_stage
    assert previous is not None, "only second stages have one"
    holders = held_out(splits)
    before = {
        fold: replace(job, configuration=previous, fold=fold, val_cases=splits[int(fold)].val)
        for fold in sorted(set(holders.values()), key=int)
    }
    missing = [fold for fold, item in before.items() if finished(item) is None]
    if missing:
        raise unfinished(job.configuration, previous, missing)
    return {case_id: prediction_path(before[fold], case_id) for case_id, fold in holders.items()}


def held_out(splits: Splits) -> dict[str, str]:
    """Return for each validation case the first fold that holds it out."""
    holders: dict[str, str] = {}
    for index, split in enumerate(splits):
        for case_id in split.val:
            holders.setdefault(case_id, str(index))
    return holders


def unfinished(name: str, previous: str, folds: Sequence[str]) -> TrainingError:
    """Return that a second stage cannot be trained without some folds of the first."""
    listed = ",".join(folds)
    return TrainingError(
        found=f"{name} without {counted(len(folds), 'fold')} of {previous} ({listed})",
        expected=f"all folds of {previous}, trained: {name} learns from what each of them finds in "
        "the cases that it has not seen",
        fix=f"run `autoseg train --configurations {previous} --folds {listed}` first, or "
        f"`autoseg train --configurations {previous},{name}` for all folds of both",
    )


def never_held_out(name: str, previous: str, case_ids: Sequence[str]) -> TrainingError:
    """Return that a second stage cannot be trained on cases that every fold of the first saw."""
    cases = f"case {case_ids[0]}" if len(case_ids) == 1 else f"{len(case_ids)} cases"
    return TrainingError(
        found=f"{name} with {cases} that no fold holds out ({', '.join(case_ids[:5])}"
        + (", ..." if len(case_ids) > 5 else "")
        + ")",
        expected=f"each case in the validation part of one fold: {name} learns from what "
        f"{previous} finds in cases that it has not seen",
        fix="plan again with folds that hold out each case once (`autoseg plan DATASET --replan` "
        f"without --splits), or train other configurations than {name}",
    )


def _set_aside(job: FoldJob, listeners: Listeners) -> None:
    """Move a fold away that was trained on what another training of the previous stage found."""
    workspace = Workspace(job.root)
    place = workspace.superseded_fold(job.configuration, job.fold)
    with held(job.folder.lock, LOCK_WAIT_S):
        place.parent.mkdir(parents=True, exist_ok=True)
        job.folder.root.rename(place)
    text = (
        f"{job.name}: {job.planned.previous_stage} was trained again since and finds something "
        f"else; the fold begins anew, and what was trained is in {place}"
    )
    LOG.warning("%s", text)
    line = {"event": "superseded", "configuration": job.configuration, "fold": job.fold}
    append_line(workspace.events, {**line, "folder": str(place)})
    listeners.on_progress({"event": "note", "text": text})
