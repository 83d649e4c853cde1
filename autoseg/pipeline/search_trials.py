"""The first half of a search: trials on one fold, the bad ones ended early."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing
from typing import final

from autoseg.errors import AutosegError, PlanError, TrainingError, WorkspaceError
from autoseg.evaluate.statistics import foreground_mean
from autoseg.pipeline.search_jobs import Search, excesses, forget_weights, prepared, search_job
from autoseg.plan.plan import Plan
from autoseg.plan.search_budget import (
    NUM_TRIALS,
    OVERHEAD_FRACTION,
    RUN_OVERHEAD_S,
    TRIAL_SHARE,
    is_clearly_bad,
    rung_of,
    trial_seconds,
)
from autoseg.plan.search_space import describe
from autoseg.plan.searcher import Ended, Trial
from autoseg.train.job import FoldJob, Interrupted
from autoseg.train.records import FoldResult

LOG = logging.getLogger("autoseg")

RUN = "search"
"""Name of the training that scores a trial."""
LENGTH, THREADS, OVERHEAD = "trial seconds", "trial threads", "trial overhead"
"""What is kept with the study: the time of every trial, with how many threads, and what one took
besides."""
MAX_INFEASIBLE = 100
"""Proposals in a row that cannot be trained after which there is nothing more to try."""
COUNTED = ("complete", "killed", "failed")
"""States of trials that took time."""


def run_trials(search: Search) -> None:
    """Train trials until their share of the time is used, or as many as were asked for.

    Raises
    ------
    Interrupted
        The caller wants to stop; what was running is gone on with next time.
    TrainingError
        The plan itself cannot be trained.
    """
    from autoseg.train.cluster import train_each

    rounds = _Trials(search)
    with closing(
        train_each(
            rounds.jobs(),
            num_workers=search.num_workers,
            address=search.address,
            on_progress=rounds.listen,
            should_stop=search.listeners.should_stop,
        )
    ) as ended:
        try:
            for job, outcome in ended:
                rounds.take(job, outcome)
        finally:
            rounds.interrupt()


def trial_length(search: Search) -> float | None:
    """Return the training time of every trial, as decided when the search began; None: steps.

    With other threads than then, in the time in which they compute as much.
    """
    if search.budget_s is None:
        return None
    kept, threads = search.study.kept(LENGTH), search.study.kept(THREADS)
    if kept is None:
        seconds = trial_seconds(search.budget_s, search.num_workers, search.longest_s)
        search.study.keep(THREADS, str(search.num_threads))
        search.study.keep(LENGTH, str(seconds))
        return seconds
    return search.seconds_of(float(kept), int(threads or search.num_threads))


def overhead_seconds(search: Search) -> float:
    """Return what a trial took besides its training, on average so far."""
    kept = search.study.kept(OVERHEAD)
    if kept is not None:
        return float(kept)
    return RUN_OVERHEAD_S + OVERHEAD_FRACTION * (trial_length(search) or 0.0)


@final
class _Trials:
    """Trials that are asked for, trained, looked at and told."""

    def __init__(self, search: Search) -> None:
        self._search, self._study = search, search.study
        self._length_s = trial_length(search)
        self._running: dict[int, Trial] = {}
        self._started: dict[int, float] = {}
        self._jobs: dict[str, tuple[int, FoldJob]] = {}
        """What is trained and for which trial, by its name."""
        self._killed: dict[int, str] = {}
        """Why trials are ended early."""
        self._steps: dict[int, int] = {}
        """Steps that trials have done."""

    def jobs(self) -> Iterator[FoldJob]:
        """Yield a job for each trial that the limits allow, as long as there is time."""
        infeasible = 0
        prepared(self._search, self._search.plan)  # a kill meanwhile is no trial's
        while self._has_room() and infeasible < MAX_INFEASIBLE:
            trial = self._study.ask()
            self._running[trial.number] = trial
            plan = self._feasible(trial)
            job = None if plan is None else self._prepared(trial, plan)
            if job is None:
                infeasible += 1
                continue
            infeasible = 0
            self._jobs[job.name] = trial.number, job
            self._started[trial.number] = time.monotonic()  # preparing cases is no trial's time
            self._tell("begins", trial)
            yield job

    def listen(self, event: dict[str, object]) -> None:
        """Pass on an event of a training; end one that is clearly bad."""
        self._search.listeners.on_progress(event)
        name, step, dice = str(event.get("name")), event.get("step"), event.get("dice")
        if name not in self._jobs or not isinstance(step, int):
            return
        number, job = self._jobs[name]
        self._steps[number] = step
        if "class_dice" not in event or not isinstance(dice, float):
            return
        rung = rung_of(step, int(str(event["num_steps"])))
        if rung is not None:
            self._climb(number, job, rung, dice)

    def _climb(self, number: int, job: FoldJob, rung: float, dice: float) -> None:
        """Keep the Dice of a trial at a rung, and end the trial if it is clearly bad."""
        self._study.look(number, rung, dice)
        done = [item for item in self._study.trials() if item.ended.state == "complete"]
        rivals = [item.looks[rung] for item in done if rung in item.looks]
        if self._running[number].folder != 0 and is_clearly_bad(dice, rivals, rung):
            reason = f"Dice {dice:.3f} after {rung:.0%} of its length, the best had "
            self._killed[number] = reason + f"{max(rivals):.3f}"
            job.folder.stop.touch()

    def take(self, job: FoldJob, outcome: FoldResult | Exception) -> None:
        """Tell the study how a trial ended."""
        if isinstance(outcome, WorkspaceError):
            raise outcome  # a full disk is no fault of the trial
        number, _ = self._jobs.pop(job.name)
        is_whole = self._running[number].folder == number
        seconds = time.monotonic() - self._started[number]
        steps = self._steps.get(number)
        if isinstance(outcome, FoldResult):
            ended = _completed(outcome, seconds)
            if is_whole:  # of one that was gone on with, part of the time was told before
                self._keep_overhead(seconds - outcome.train_seconds)
        elif isinstance(outcome, Interrupted) and number in self._killed:
            reason = self._killed[number]
            ended = Ended(state="killed", seconds=seconds, steps=steps, reason=reason)
        else:
            reason = reason_of(outcome)
            ended = Ended(state="failed", seconds=seconds, steps=steps, reason=reason)
        trial = self._end(number, ended)
        forget_weights(job.folder)
        refuse_broken_plan(self._search, trial, ended)

    def interrupt(self) -> None:
        """Mark what is still running as interrupted: it is gone on with next time."""
        for number in list(self._running):
            self._end(number, Ended(state="interrupted", reason="the search was stopped"))

    def _end(self, number: int, ended: Ended) -> Trial:
        """Tell the study and the listener how a trial ended."""
        trial = self._running.pop(number)
        self._study.tell(number, ended)
        self._tell("ended", trial, ended)
        return trial

    def _feasible(self, trial: Trial) -> Plan | None:
        """Return the plan of a trial, None after telling why it is beyond the limits."""
        try:
            plan = self._search.candidate(trial.values)
        except (ValueError, PlanError) as error:
            self._refuse(trial, {"consistency": 1.0}, reason_of(error))
            return None
        beyond = excesses(self._search, plan)
        reasons = [
            f"{name} {1 + excess:.2f} times the limit"
            for name, excess in beyond.items()
            if excess > 0
        ]
        if reasons:
            self._refuse(trial, beyond, ", ".join(reasons))
            return None
        self._study.constrain(trial.number, beyond)
        return plan

    def _prepared(self, trial: Trial, plan: Plan) -> FoldJob | None:
        """Return a trial's training, None after telling why its cases cannot be prepared."""
        search = self._search
        try:
            return search_job(
                search,
                plan,
                name=f"trial {trial.number}",
                folder=search.workspace.search_run(trial.folder, RUN),
                fold=search.fold,
                budget_s=self._length_s,
            )
        except (Interrupted, WorkspaceError):  # a full disk is no fault of the trial
            raise
        except Exception as error:
            LOG.warning("trial %s cannot be prepared", trial.number, exc_info=True)
            reason = f"its cases cannot be prepared: {reason_of(error)}"
            self._end(trial.number, Ended(state="failed", reason=reason))
            return None

    def _refuse(self, trial: Trial, beyond: dict[str, float], reason: str) -> None:
        self._study.constrain(trial.number, beyond)
        ended = Ended(state="infeasible", reason=reason)
        self._end(trial.number, ended)
        refuse_broken_plan(self._search, trial, ended)

    def _has_room(self) -> bool:
        """Return whether one more trial may begin."""
        search = self._search
        done = sum(trial.ended.state in COUNTED for trial in self._study.trials())
        begun = done + len(self._running)
        most = search.num_trials
        if search.budget_s is None:
            most = most or NUM_TRIALS
        if most is not None and begun >= most:
            return False
        if search.budget_s is None or self._length_s is None or begun == 0:
            return True
        needed_s = self._length_s + overhead_seconds(search)
        return search.seconds() + needed_s <= TRIAL_SHARE * search.budget_s

    def _keep_overhead(self, seconds: float) -> None:
        """Take what a trial took besides its training into the average."""
        kept = self._study.kept(OVERHEAD)
        seconds = max(0.0, seconds)
        mean = seconds if kept is None else (float(kept) + seconds) / 2
        self._study.keep(OVERHEAD, str(mean))

    def _tell(self, what: str, trial: Trial, ended: Ended | None = None) -> None:
        differs = describe(self._search.space, trial.values)
        if trial.folder != trial.number:
            differs += f" (goes on from trial {trial.folder})"
        content: dict[str, object] = {"what": what, "number": trial.number, "differs": differs}
        if ended is not None:
            content |= {"state": ended.state, "score": ended.score, "reason": ended.reason}
        self._search.tell("trial", **content)


def refuse_broken_plan(search: Search, trial: Trial, ended: Ended) -> None:
    """Raise a TrainingError if it is the plan itself that cannot be trained."""
    if trial.folder == 0 and ended.state in ("failed", "infeasible"):
        raise TrainingError(
            found=f"the plan as it is cannot be trained: {ended.reason}",
            expected="a plan that works, to be improved",
            fix=f"mend what ended it (if memory ran out, plan again with less --memory; "
            f"{search.workspace.log} has more), move the folder {search.workspace.search} away, "
            "and search again",
        )


def _completed(result: FoldResult, seconds: float) -> Ended:
    score = foreground_mean(result.scores)
    if score is None or not math.isfinite(score):
        reason = "no validation case of this fold shows any class"
        return Ended(state="failed", seconds=seconds, steps=result.num_steps, reason=reason)
    return Ended(state="complete", score=score, seconds=seconds, steps=result.num_steps)


def reason_of(error: Exception) -> str:
    """Return why a trial could not be trained, in one line."""
    if isinstance(error, AutosegError):
        return error.found.replace("\n", "; ")
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".strip(": ")
