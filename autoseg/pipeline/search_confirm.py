"""The second half of a search: the best trials and the plan itself, on cases not searched on."""

from collections.abc import Iterator
from contextlib import closing
from typing import Literal

from autoseg.errors import TrainingError, WorkspaceError
from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore
from autoseg.evaluate.statistics import case_mean
from autoseg.pipeline.search_jobs import Search, forget_weights, search_job
from autoseg.pipeline.search_trials import overhead_seconds, reason_of, trial_length
from autoseg.plan.search_budget import (
    NUM_SEEDS,
    Layout,
    confirmation,
    finalists_allowed,
    folds_needed,
)
from autoseg.plan.searcher import Trial
from autoseg.record import Record
from autoseg.train.job import FoldJob
from autoseg.train.records import FoldResult

CONFIRMATION = "confirmation"
"""What is kept with the study once the trials are over."""
FINALISTS_BY_STEPS = 1
"""Finalists where no clock says how many there is time for."""


class Confirmation(Record):
    """What is trained to confirm, decided once."""

    schema_version: Literal[1] = 1
    finalists: tuple[int, ...]
    """Numbers of trials, the best first."""
    folds: tuple[int, ...]
    """None of which trials were validated on."""
    seeds: tuple[int, ...]
    run_s: float | None
    """Training time of each run; None: the search's number of steps."""


def begun_confirmation(search: Search) -> Confirmation | None:
    """Return what was decided to be trained, None while there are trials to come."""
    kept = search.study.kept(CONFIRMATION)
    return None if kept is None else Confirmation.from_json(kept, CONFIRMATION)


def planned_trial(search: Search) -> Trial | None:
    """Return the completed trial of the plan as it is."""
    done = (trial for trial in search.study.trials() if trial.ended.state == "complete")
    return next((trial for trial in done if trial.folder == 0), None)


def better_trials(search: Search) -> list[Trial]:
    """Return the different trials that scored more than the plan as it is, the best first."""
    planned = planned_trial(search)
    if planned is None:
        return []
    done = [trial for trial in search.study.trials() if trial.ended.state == "complete"]
    better = [trial for trial in done if score(trial) > score(planned)]
    better.sort(key=score, reverse=True)
    found: dict[tuple[str, ...], Trial] = {}
    for trial in better:
        found.setdefault(search.words(trial.values), trial)
    return [trial for words, trial in found.items() if words]


def score(trial: Trial) -> float:
    """Return the score of a completed trial."""
    assert trial.ended.score is not None
    return trial.ended.score


def begin_confirmation(search: Search) -> Confirmation | None:
    """Return what is to be trained, and keep it; None where the time that is left is too short."""
    better = better_trials(search)
    unused = search.unused
    least = folds_needed(list(unused.values()))
    assert least is not None, "what cannot be confirmed is not searched for"
    num_cases = len(set().union(*list(unused.values())[:least]))
    most = min(len(better), finalists_allowed(num_cases))
    layout: Layout | None
    if search.budget_s is None:
        layout = Layout(min(FINALISTS_BY_STEPS, most), least, 0.0)
    else:
        layout = confirmation(
            search.budget_s - search.seconds(),
            search.num_workers,
            trial_s=trial_length(search) or 0.0,
            overhead_s=overhead_seconds(search),
            num_finalists=most,
            num_folds=(least, len(unused)),
            longest_s=search.longest_s,
        )
    if layout is None:
        return None
    found = Confirmation(
        finalists=tuple(trial.number for trial in better[: layout.num_finalists]),
        folds=tuple(unused)[: layout.num_folds],
        # Other seeds than the trials', which were chosen with theirs.
        seeds=tuple(search.plan.seed + 1 + index for index in range(NUM_SEEDS)),
        run_s=None if search.budget_s is None else layout.run_s,
    )
    search.study.keep(CONFIRMATION, found.to_json())
    return found


def confirm(search: Search, wanted: Confirmation) -> list[HeldOutScore]:
    """Train what is to be confirmed and return the scores of all its cases.

    Every plan has equal time on the same folds with the same seeds. A finalist that fails is left
    out; what is trained already is not trained again.

    Raises
    ------
    Interrupted
        The caller wants to stop; everything is saved.
    TrainingError
        The plan as it is could not be trained.
    """
    from autoseg.train.cluster import train_each

    results: dict[str, tuple[str, FoldResult]] = {}
    names: dict[str, str] = {}
    failed: set[str] = set()

    def jobs() -> Iterator[FoldJob]:
        for candidate, job in _jobs(search, wanted):
            names[job.name] = candidate
            if candidate not in failed:
                yield job

    with closing(
        train_each(
            jobs(),
            num_workers=search.num_workers,
            address=search.address,
            on_progress=search.listeners.on_progress,
            should_stop=search.listeners.should_stop,
        )
    ) as ended:
        for job, outcome in ended:
            if isinstance(outcome, FoldResult):
                results[job.name] = names[job.name], outcome
            else:
                failed.add(_failed(names[job.name], job, outcome))
            forget_weights(job.folder)
            _tell(search, names[job.name], job, outcome)
    kept = [(name, result) for name, result in results.values() if name not in failed]
    return [score for name, result in kept for score in _scores(search, name, result)]


def candidate_name(number: int) -> str:
    """Return what a finalist is called."""
    return f"trial {number}"


def _jobs(search: Search, wanted: Confirmation) -> Iterator[tuple[str, FoldJob]]:
    """Yield the trainings: fold by fold and seed by seed, so that pairs are trained together."""
    trials = {trial.number: trial for trial in search.study.trials()}
    candidates = [(INCUMBENT, 0, search.plan)]
    for number in wanted.finalists:
        trial = trials[number]
        plan = search.candidate(trial.values)
        candidates.append((candidate_name(number), trial.folder, plan))
    for fold in wanted.folds:
        for seed in wanted.seeds:
            for name, folder, plan in candidates:
                job = search_job(
                    search,
                    plan.revised(seed=seed),
                    place=(folder, f"fold {fold} seed {seed}"),
                    fold=fold,
                    budget_s=wanted.run_s,
                )
                yield name, job


def _failed(candidate: str, job: FoldJob, error: Exception) -> str:
    """Return the name of a finalist that failed; the plan as it is must not."""
    if isinstance(error, WorkspaceError):
        raise error
    if candidate == INCUMBENT:
        raise TrainingError(
            found=f"{job.name}: {error}",
            expected="the plan as it is to be trained, for comparison",
            fix="see autoseg.log; the same command tries it again",
        ) from error
    return candidate


def _scores(search: Search, candidate: str, result: FoldResult) -> Iterator[HeldOutScore]:
    """Yield the scores of the cases that the search has not seen."""
    unseen = search.unused[int(result.fold)]
    for case in result.scores:
        if case.case_id not in unseen:
            continue
        yield HeldOutScore(
            candidate=candidate,
            fold=result.fold,
            seed=result.seed,
            case=case.case_id,
            dice=case_mean(case),
        )


def _tell(search: Search, candidate: str, job: FoldJob, outcome: FoldResult | Exception) -> None:
    content: dict[str, object] = {"candidate": candidate, "fold": job.fold, "seed": job.plan.seed}
    if isinstance(outcome, FoldResult):
        known = [dice for case in outcome.scores if (dice := case_mean(case)) is not None]
        content["score"] = sum(known) / len(known) if known else None
    else:
        content["reason"] = reason_of(outcome)
    search.tell("confirmed", **content)
