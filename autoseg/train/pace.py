"""How much time a fold has used, and how many steps the rest of its time allows."""

import math
import time
from typing import final

import numpy as np

from autoseg.train.job import FoldJob
from autoseg.train.lines import read_lines
from autoseg.train.probe import OPTIMISM, USED_FRACTION
from autoseg.train.records import RunSettings
from autoseg.train.schedule import Schedule, trunk_steps

REVISED_AT = (0.25, 0.6, 0.85)
"""Parts of the time after which the number of steps may change. At the last one the rate is low
already; on a machine whose other work comes and goes it decides whether the run ends in time."""
WORTHWHILE = 0.03
"""Steps are added where there is time for this part of the run: less is noise, and may have to be
taken away again."""


@final
class Pace:
    """The clock of a fold, over all processes that have worked on it and all parts of its run.

    Parameters
    ----------
    job, settings
        What is asked for, and what was decided before the first step.
    started
        `time.monotonic()` when this process began to work on the fold: the probe counts.
    """

    def __init__(self, job: FoldJob, settings: RunSettings, started: float) -> None:
        self._started = started
        self._has_branches = settings.stops_at_plateau
        self._probed_s = settings.seconds_per_step
        self._budget_s: float | None = None
        if job.num_steps is None and settings.seconds_per_step > 0:  # else the steps were given
            self._budget_s = job.budget_s or job.planned.training.default_budget_s
        self._is_trial = job.trial is not None
        self._kept_s = job.validation_s or 0.0
        logged = (line.get("elapsed_s", 0.0) for line in read_lines(job.folder.events))
        self._before_s = max(logged, default=0.0)
        self._limit_s: float | None = None
        self._checks: list[float] = []
        self._step_s: list[float] = []
        """Of the steps since the last check, seconds."""
        self._last_s: float | None = None
        self._is_first = False
        """Of the steps since the run was begun or gone on with: it takes what starting takes."""

    @property
    def may_add_steps(self) -> bool:
        """Whether the length of the run follows the clock."""
        return self._budget_s is not None

    @property
    def seconds_per_step(self) -> float:
        """Seconds of a step since the last check, with all that happens between steps."""
        return sum(self._step_s) / len(self._step_s)

    def begin(self, elapsed_s: float) -> None:
        """Begin, or go on with another part of the run.

        Parameters
        ----------
        elapsed_s
            Active seconds of earlier processes, as the checkpoint has them.
        """
        if self._last_s is None:
            self._before_s = max(self._before_s, elapsed_s)
            if self._budget_s is not None:
                before_s = 0.0 if self._is_trial else self._before_s
                self._limit_s = limit_s = before_s + self._budget_s
                checks = (part * limit_s for part in REVISED_AT)
                self._checks = [check for check in checks if check > self._before_s]
        self._last_s = self.elapsed_s()
        self._is_first = True

    def elapsed_s(self) -> float:
        """Return the active seconds of all processes."""
        return self._before_s + time.monotonic() - self._started

    def is_check_due(self) -> bool:
        """Take in that a step has ended; return whether it is time to look at what is left."""
        if self._limit_s is None or self._last_s is None or not self._checks:
            return False
        now = self.elapsed_s()
        if not self._is_first:
            self._step_s.append(now - self._last_s)
        self._last_s, self._is_first = now, False
        return bool(self._step_s) and now >= self._checks[0]

    def check_again(self) -> None:
        """Look once more, after half of the time that is left: the run has lost steps."""
        if self._limit_s is not None:
            now = self.elapsed_s()
            self._checks = sorted({*self._checks, now + (self._limit_s - now) / 2})

    def revised_steps(
        self, step: int, schedule: Schedule, validation_s: float | None
    ) -> int | None:
        """Return after how many steps the run must end; None where that stays as it is.

        A run that is at its end has no learning rate left, and gets no more steps.

        Parameters
        ----------
        validation_s
            What validation is now expected to take; None: as before.
        """
        assert self._limit_s is not None
        while self._checks and self._checks[0] <= self.elapsed_s():
            self._checks.pop(0)
        if validation_s is not None:
            self._limit_s += self._kept_s - validation_s
            self._kept_s = validation_s
        slow_s, fast_s = self._seconds_per_step(is_last=not self._checks)
        self._step_s.clear()
        self._last_s = self.elapsed_s()
        if schedule.revisions and schedule.revisions[-1].step >= step:
            return None  # an earlier process has decided this already
        most, least = (self._affordable(step, schedule, s) for s in (fast_s, slow_s))
        left = schedule.num_steps - step
        if left <= 0:
            return None
        if left > most:
            return step + most
        return step + least if least - left > WORTHWHILE * schedule.num_steps else None

    def _affordable(self, step: int, schedule: Schedule, seconds: float) -> int:
        """Return how many steps of so many seconds can still be done, at least 1."""
        assert self._limit_s is not None
        steps = USED_FRACTION * (self._limit_s - self.elapsed_s()) / seconds
        if self._has_branches:
            steps = trunk_steps(steps, step, schedule.progress(step))
        return max(1, math.floor(steps))

    def _seconds_per_step(self, *, is_last: bool) -> tuple[float, float]:
        """Return what a step is feared and what it is hoped to take, seconds.

        Steps that are taken away are lost, also when the machine was busy for a moment only; at the
        last check nothing is left to hope for.
        """
        mean = self.seconds_per_step
        if is_last:
            return mean, mean
        usual = float(np.percentile(self._step_s, OPTIMISM))
        return mean, min(usual, self._probed_s or usual)
