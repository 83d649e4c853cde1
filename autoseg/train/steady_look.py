"""Looks at validation cases while a fold trains: always the same cases, so that looks compare."""

import math
from typing import final

from torch import nn

from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.validation import Seen, prediction_work, see, spread_cases

NUM_LOOKS = 8
"""Parts of a run; after each but the last, some validation cases are looked at."""
MAX_LOOKS = 100
"""The same of a learning rate that follows the looks, where its cases cost little."""
MIN_REDUCTIONS = 3
"""Such a rate could fall so many times in a run that learns nothing, however dear the looks are."""
LOOK_WORK = 0.04
"""Part of the steps' work that looks may cost."""


@final
class SteadyLook:
    """Dice of a few cases on the prepared grid, always the same ones.

    How many cases and looks there are depends on numbers of steps and tiles only: never on a clock,
    and never on where a run was interrupted.

    Parameters
    ----------
    job
        Whose validation cases.
    num_steps
        Of the run as first planned.
    """

    def __init__(self, job: FoldJob, num_steps: int) -> None:
        self._job = job
        self._work = {case_id: prediction_work(job, case_id) for case_id in spread_cases(job)}
        affordable = LOOK_WORK * num_steps / next(iter(self._work.values()), math.inf)
        self.num_looks = NUM_LOOKS
        if job.planned.training.schedule == "reduce_on_plateau":
            least = MIN_REDUCTIONS * (job.planned.training.reduce_patience + 1)
            self.num_looks = max(least, min(MAX_LOOKS, int(affordable)))
            affordable = max(affordable, self.num_looks)
        self._density = min(1.0, affordable / self.num_looks)
        self._case_ids = self._chosen(LOOK_WORK * num_steps / self.num_looks)

    def _chosen(self, most: float) -> list[str]:
        """Return the first case, and those besides that a look can pay for."""
        chosen, spent = [], 0.0
        for case_id, work in self._work.items():
            if not chosen or spent + work <= most:
                chosen.append(case_id)
                spent += work
        return chosen

    def is_due(self, part: int) -> bool:
        """Return whether there is a look after `part` of the `num_looks` parts of the run.

        Not after each where the steps of one part do not pay for a look.
        """
        return int(part * self._density) > int((part - 1) * self._density)

    def see(self, model: nn.Module, execution: Execution, listeners: Listeners) -> Seen:
        """Return what a model finds in the cases.

        Raises
        ------
        Interrupted
            The caller asked to stop.
        """
        return see(self._job, model, execution, self._case_ids, listeners)


def check_looks(job: FoldJob) -> None:
    """Refuse a learning rate that follows validation cases where there are none.

    Raises
    ------
    TrainingError
        With the schedules that need none.
    """
    if job.planned.training.schedule != "reduce_on_plateau" or job.val_cases:
        return
    key = f"{job.configuration}.training.schedule"
    raise TrainingError(
        found=f"{job.name} has no validation cases, and {key} is reduce_on_plateau",
        expected="validation cases, whose Dice tells when to lower the learning rate",
        fix=f"plan again with `autoseg plan DATASET --replan --set {key}=poly` (or cosine, or "
        "one_cycle), or train folds that have validation cases",
    )
