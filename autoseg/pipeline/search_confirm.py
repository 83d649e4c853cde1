"""The second half of a search: the best trials and the plan itself, on cases not searched on."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, final

from autoseg.errors import TrainingError, WorkspaceError
from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore
from autoseg.evaluate.statistics import case_mean
from autoseg.pipeline.search_jobs import Search, forget_weights, search_job
from autoseg.pipeline.search_trials import overhead_seconds, reason_of, trial_length
from autoseg.plan.plan import Plan
from autoseg.plan.search_budget import (
    NUM_SEEDS,
    Layout,
    confirmation,
    finalists_allowed,
    folds_needed,
)
from autoseg.plan.search_space import AS_PLANNED
from autoseg.plan.searcher import Trial
from autoseg.record import Record
from autoseg.train.job import FoldJob, Interrupted
from autoseg.train.records import FoldResult
from autoseg.workspace import FoldFolder

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
    num_threads: int | None = None
    """With which a run has this time; None: those that it gets now."""


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
        num_threads=search.num_threads,
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

    rounds = _Confirming(search, wanted)
    rounds.tell_begin()
    with closing(
        train_each(
            rounds.jobs(),
            num_workers=search.num_workers,
            address=search.address,
            on_progress=search.listeners.on_progress,
            should_stop=search.listeners.should_stop,
        )
    ) as ended:
        for job, outcome in ended:
            rounds.take(job, outcome)
    return rounds.scores()


def candidate_name(number: int) -> str:
    """Return what a finalist is called."""
    return f"trial {number}"


@dataclass(frozen=True)
class _Run:
    """One training of a candidate."""

    candidate: str
    plan: Plan
    fold: int
    folder: FoldFolder

    @property
    def name(self) -> str:
        """What it is called in messages."""
        who = AS_PLANNED if self.candidate == INCUMBENT else self.candidate
        return f"{who}, fold {self.fold}, seed {self.plan.seed}"


@final
class _Confirming:
    """Trainings that are taken one by one, and told."""

    def __init__(self, search: Search, wanted: Confirmation) -> None:
        self._search, self._wanted = search, wanted
        self._runs = {run.name: run for run in _runs(search, wanted)}
        self._results: dict[str, FoldResult] = {}
        self._failed: set[str] = set()

    def tell_begin(self) -> None:
        """Say what is trained, and how long all of it takes."""
        wanted = self._wanted
        done = sum(run.folder.result.exists() for run in self._runs.values())
        content = {key: getattr(wanted, key) for key in ("finalists", "folds", "seeds")}
        left_s = self._left_s(len(self._runs) - done)
        self._search.tell("confirming", **content, done=done, total=len(self._runs), left_s=left_s)

    def jobs(self) -> Iterator[FoldJob]:
        """Yield the trainings of the candidates that have not failed."""
        for run in self._runs.values():
            job = None if run.candidate in self._failed else self._job(run)
            if job is not None:
                yield job

    def take(self, job: FoldJob, outcome: FoldResult | Exception) -> None:
        """Keep the result of a training, or that its candidate has failed; tell it."""
        if isinstance(outcome, FoldResult):
            self._results[job.name] = outcome
        else:
            self._fail(self._runs[job.name], outcome)
        forget_weights(job.folder)
        self._tell(self._runs[job.name], outcome)

    def scores(self) -> list[HeldOutScore]:
        """Return the scores of the candidates that were trained to the end."""
        kept = [(self._runs[name], result) for name, result in self._results.items()]
        return [
            score
            for run, result in kept
            if run.candidate not in self._failed
            for score in _scores(self._search, run.candidate, result)
        ]

    def _job(self, run: _Run) -> FoldJob | None:
        """Return a training, None after telling why its cases cannot be prepared."""
        search, wanted = self._search, self._wanted
        seconds, threads = wanted.run_s, wanted.num_threads or search.num_threads
        try:
            return search_job(
                search,
                run.plan,
                name=run.name,
                folder=run.folder.root,
                fold=run.fold,
                budget_s=None if seconds is None else search.seconds_of(seconds, threads),
            )
        except Interrupted:
            raise
        except Exception as error:
            self._fail(run, error)
            self._tell(run, error)
            return None

    def _fail(self, run: _Run, error: Exception) -> None:
        """Leave out a finalist that failed; the plan as it is must not."""
        if isinstance(error, WorkspaceError):
            raise error
        if run.candidate == INCUMBENT:
            raise TrainingError(
                found=f"{run.name}: {error}",
                expected="the plan as it is to be trained, for comparison",
                fix="see autoseg.log; the same command tries it again",
            ) from error
        self._failed.add(run.candidate)

    def _left_s(self, num_runs: int) -> float | None:
        """Return how long so many trainings take, as those before them; None: not known yet."""
        took = [item.train_seconds + item.validation_seconds for item in self._results.values()]
        if not took and self._wanted.run_s is not None:
            took = [self._wanted.run_s + overhead_seconds(self._search)]
        if not took:
            trials = (trial.ended for trial in self._search.study.trials())
            took = [ended.seconds for ended in trials if ended.state == "complete"]
        rounds = math.ceil(num_runs / self._search.num_workers)
        return rounds * sum(took) / len(took) if took else None

    def _tell(self, run: _Run, outcome: FoldResult | Exception) -> None:
        kept = [item for item in self._runs.values() if item.candidate not in self._failed]
        done = sum(item.name in self._results for item in kept)
        content: dict[str, object] = {"name": run.name, "done": done, "total": len(kept)}
        content["left_s"] = self._left_s(len(kept) - done)
        if isinstance(outcome, FoldResult):
            known = [dice for case in outcome.scores if (dice := case_mean(case)) is not None]
            content["score"] = sum(known) / len(known) if known else None
        else:
            content["reason"] = reason_of(outcome)
        self._search.tell("confirmed", **content)


def _runs(search: Search, wanted: Confirmation) -> Iterator[_Run]:
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
                place = search.workspace.search_run(folder, f"fold_{fold}_seed_{seed}")
                yield _Run(name, plan.revised(seed=seed), fold, FoldFolder(place))


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
