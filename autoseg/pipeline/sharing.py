"""What of a budget each fold gets: what is left, less what is expected to come after it."""

import json
import math
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import final

from autoseg.errors import TrainingError
from autoseg.pipeline.run_record import ActiveTime, RunRecord
from autoseg.pipeline.stages import stage_of
from autoseg.plan.budget import (
    MIN_FOLD_S,
    PREPARING_S,
    Fold,
    affordable,
    finishing_seconds,
)
from autoseg.plan.plan import Plan
from autoseg.record import Record
from autoseg.train.job import FoldJob
from autoseg.train.lines import read_lines
from autoseg.train.origin import begun, finished
from autoseg.train.out_of_fold import choosing_seconds
from autoseg.workspace import Workspace, append_line

CAUTION = 1.15
"""Estimates of what comes after training are taken so many times: being late is worse than early,
and what remains of it is little."""
SPEED_S = 0.25
"""Time spent on measuring how fast this process can compute just now."""
QUIET_SPEED = 12_000.0
"""Rounds of `_round` a second on the quiet core that `finishing_seconds` was measured on."""
LEAST_FLOPS = 5e10
"""Operations a second that any processor of today reaches undisturbed: where less was measured,
other work was at it, which `slowness` counts already."""
MAX_SLOWNESS = 6.0
"""Other work that slows a process down further is hardly there for long."""


class Finished(Record):
    """What came after training, once: a line of events.jsonl."""

    plan_digest: str
    folds: tuple[Fold, ...]
    """What the model was made of."""
    seconds: dict[str, float]
    """By step."""


def note_finished(workspace: Workspace, record: Finished) -> None:
    """Write what finishing took, for the budgets of later calls."""
    append_line(workspace.events, {"event": "finished", **record.model_dump(mode="json")})


def slowness() -> float:
    """Return how many times longer than on a quiet core computing takes here and now, at least 1.

    Other work on the same cores is most of it.
    """
    rounds, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SPEED_S:
        _round()
        rounds += 1
    return min(MAX_SLOWNESS, max(1.0, QUIET_SPEED * spent / rounds))


@final
class Shares:
    """The division of a budget among the folds of one `autoseg train`.

    Asked anew before every fold: what a fold did not use goes to the next ones.

    Parameters
    ----------
    jobs
        All folds that are asked for.
    budget_s
        Of the whole command.
    active
        What of it is used.
    num_workers
        Folds trained at once.
    """

    def __init__(
        self, jobs: Sequence[FoldJob], budget_s: float, active: ActiveTime, num_workers: int
    ) -> None:
        self._jobs, self._num_workers = jobs, num_workers
        self._plan = jobs[0].plan
        self._num_sharing = num_sharing(self._plan, num_workers)
        self._workspace = Workspace(jobs[0].root)
        self._budget_s, self._active = budget_s, active
        self._measured_flops = RunRecord.load(self._workspace.run).machine.flops
        self._flops = max(LEAST_FLOPS, self._measured_flops)
        self._slowness = slowness()
        self._before = {job.name for job in jobs if finished(job) is not None}
        self._trained = trained_folds(self._workspace, self._plan)
        self._choosing_s = choosing_seconds(jobs)
        self._again_s = _again_s(jobs, budget_s)

    @property
    def left_s(self) -> float:
        """Seconds of the budget that are left."""
        return self._budget_s - self._active.seconds

    def granted(self, pending: Sequence[FoldJob]) -> list[FoldJob]:
        """Return the folds with their time: the same for all that are still to be trained.

        What is left, and what is kept for what comes after, is written to the workspace's events.
        """
        self._trained = trained_folds(self._workspace, self._plan)
        self._slowness = self._slowness_by_now()
        left_s = self.left_s
        training_s = self._training_s(pending, left_s)
        if any(job.stops_at_plateau for job in pending):
            # Time saved at a plateau is saved, not given to folds that will meet it, too.
            training_s = min(training_s, self._training_s(self._jobs, self._budget_s))
        training_s = max(MIN_FOLD_S, training_s)
        found = [
            replace(job, budget_s=training_s, validation_s=self._validation_s(job))
            for job in pending
        ]
        line = {
            "event": "shared",
            "folds": [job.name for job in pending],
            "left_s": round(left_s, 1),
            "training_s": round(training_s, 1),
            "validation_s": [round(self._validation_s(job), 1) for job in pending],
            "finishing_s": round(self._finishing_s(_folds(pending)), 1),
        }
        append_line(self._workspace.events, line)
        return found

    def affordable(self, pending: Sequence[FoldJob], *, is_alone: bool) -> list[FoldJob]:
        """Return the folds that the time allows; what was begun is always brought to its end.

        Parameters
        ----------
        pending
            Without a result, in preferred order.
        is_alone
            Nothing is trained yet, so that one fold must be affordable.

        Raises
        ------
        TrainingError
            There is not even time for one fold.
        """
        old = [job for job in pending if begun(job) is not None]
        new = {(job.configuration, job.fold): job for job in pending if job not in old}
        left_s = self.left_s

        def fits(folds: Sequence[Fold]) -> bool:
            kept = [*old, *(new[fold] for fold in folds)]
            return self._training_s(kept, left_s) >= MIN_FOLD_S

        kept = affordable(tuple(new), fits)
        if is_alone and not old and not kept:
            kept = tuple(new)[:1]
            self._refuse_short(new[kept[0]])
        return [*old, *(new[fold] for fold in kept)]

    def suffices_for(self, job: FoldJob) -> bool:
        """Return whether a command of its own with the whole budget could train a fold."""
        return self._training_s([job], self._budget_s) >= MIN_FOLD_S

    def _refuse_short(self, job: FoldJob) -> None:
        """Raise an error if not even an undisturbed machine could train and finish one fold."""
        fold = [(job.configuration, job.fold)]
        least_s = MIN_FOLD_S + finishing_seconds(self._plan, fold, self._flops)
        if self.left_s >= least_s:
            return
        missing_s = math.ceil(least_s + PREPARING_S - self.left_s)
        raise TrainingError(
            found=f"{max(self.left_s, 0):.0f} s left of the budget",
            expected=f"at least {least_s:.0f} s: one fold of {MIN_FOLD_S:.0f} s and what comes "
            "after it",
            fix=f"give a larger --budget: {missing_s} s more",
        )

    def _training_s(self, pending: Sequence[FoldJob], left_s: float) -> float:
        """Return the training time of each fold, what comes after taken from what is left."""
        stages = Counter(stage_of(self._plan, job.configuration) for job in pending)
        rounds = sum(math.ceil(count / self._num_workers) for count in stages.values())
        validation_s = sum(map(self._validation_s, pending)) / len(pending)
        return (left_s - self._finishing_s(_folds(pending))) / rounds - validation_s

    def _validation_s(self, job: FoldJob) -> float:
        """Return what a fold's validation should take: as in earlier folds, else by the plan."""
        from autoseg.train.validation import expected_validation, validation_work

        if not job.val_cases:
            return 0.0
        known = [
            result.validation_seconds / validation_work(other)
            for other in self._jobs
            if other.configuration == job.configuration
            and other.val_cases
            and (result := finished(other)) is not None
            and result.validation_seconds > 0
        ]
        if known:
            return known[-1] * validation_work(job)
        step_s = self._num_sharing * job.planned.cost.step_seconds
        return CAUTION * expected_validation(job, step_s)

    def _slowness_by_now(self) -> float:
        """Return how many times longer than on a quiet machine what comes after should take.

        As it is now, and as the last fold's validation found it over a minute: their mean. In four
        runs beside other work (slowness 3.5 to 8) it was 0.9 to 1.3 times what finishing took, with
        `CAUTION`; the moment alone 0.9 to 2.0 times.
        """
        now, known = slowness(), [job for job in self._jobs if job.name not in self._before]
        found = [ratio for job in known if (ratio := self._validation_slowness(job)) is not None]
        return (now + max(1.0, found[-1])) / 2 if found else now

    def _validation_slowness(self, job: FoldJob) -> float | None:
        """Return how many times longer than on a quiet machine a fold's validation took.

        None where it did not, or where it says nothing of the processor.
        """
        from autoseg.train.validation import expected_validation

        result = finished(job)
        if result is None or result.validation_seconds <= 0 or self._plan.device != "cpu":
            return None
        # Where less was measured, the plan's times are of a disturbed machine.
        quiet = min(1.0, self._measured_flops / LEAST_FLOPS)
        step_s = self._num_sharing * job.planned.cost.step_seconds * quiet
        return result.validation_seconds / expected_validation(job, step_s)

    def _finishing_s(self, folds: Sequence[Fold]) -> float:
        """Return what comes after the last fold: as measured here before, else by the plan."""
        wanted = tuple(dict.fromkeys([*self._trained, *folds]))
        expected_s = finishing_seconds(self._plan, wanted, self._flops)
        before = _last_finished(self._workspace, self._plan)
        if before is None:
            return CAUTION * self._slowness * (expected_s + self._choosing_s) + self._again_s
        then_s = finishing_seconds(self._plan, before.folds, self._flops)
        return CAUTION * sum(before.seconds.values()) * expected_s / then_s


def num_sharing(plan: Plan, num_workers: int) -> int:
    """Return how many folds share the threads that the plan's times are of: on a CPU, all."""
    return max(1, min(num_workers, plan.num_threads)) if plan.device == "cpu" else 1


def _again_s(jobs: Sequence[FoldJob], budget_s: float) -> float:
    """Return the seconds at most that validation cases are predicted again, with other settings."""
    from autoseg.ensemble.again import AGAIN_FRACTION
    from autoseg.ensemble.effort import MIN_PATIENTS

    patients = {job.case(case_id).group for job in jobs for case_id in job.val_cases}
    return AGAIN_FRACTION * budget_s if len(patients) >= MIN_PATIENTS else 0.0


def _folds(jobs: Sequence[FoldJob]) -> list[Fold]:
    return [(job.configuration, job.fold) for job in jobs]


def trained_folds(workspace: Workspace, plan: Plan) -> list[Fold]:
    """Return the folds of a plan that have a result."""
    digest, found = plan.digest(), []
    for path in sorted(workspace.training.glob("*/fold_*/result.json")):
        with suppress(ValueError, OSError):
            content = json.loads(path.read_bytes())
            if content.get("plan_digest") == digest:
                found.append((str(content["configuration"]), str(content["fold"])))
    return found


def _last_finished(workspace: Workspace, plan: Plan) -> Finished | None:
    """Return what finishing took the last time that a model of this plan was exported."""
    digest, name = plan.digest(), workspace.events.name
    for line in reversed(read_lines(workspace.events)):
        if line.get("event") == "finished" and line.get("plan_digest") == digest:
            content = {key: value for key, value in line.items() if key != "event"}
            return Finished.from_json(json.dumps(content), name)
    return None


def _round() -> None:
    """Do what interpreters do: a thousand small objects."""
    found = {}
    for index in range(1000):
        found[index % 97] = str(index)
