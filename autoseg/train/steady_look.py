"""Looks at the same validation cases again and again, for a learning rate that follows them."""

from typing import final

from torch import nn

from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.train.job import FoldJob
from autoseg.train.validation import QUICK_FRACTION, pooled_dice, prediction_work, spread_cases

MAX_LOOKS = 100
"""Parts of a run after which its cases are looked at, where they cost little."""
MIN_REDUCTIONS = 3
"""The rate could fall so many times in a run that learns nothing, however dear the looks are."""


@final
class SteadyLook:
    """Dice of a few cases on the prepared grid, always the same ones.

    `QuickLook` takes more cases when a run has paid for them, so that its looks are no comparison.
    These are at most 100 and cost a twenty-fifth of the run, or as much as there must be for the
    patience of the plan to run out three times.

    Parameters
    ----------
    job
        Whose validation cases.
    num_steps
        Of the run as first planned: what is looked at never depends on a clock.
    """

    def __init__(self, job: FoldJob, num_steps: int) -> None:
        self._job = job
        work = {case_id: prediction_work(job, case_id) for case_id in spread_cases(job)}
        first = next(iter(work))
        least = MIN_REDUCTIONS * (job.planned.training.reduce_patience + 1)
        affordable = int(QUICK_FRACTION * num_steps / work[first])
        self.num_looks = max(least, min(MAX_LOOKS, affordable))
        left = QUICK_FRACTION * num_steps / self.num_looks
        self._case_ids = [first]
        for case_id in list(work)[1:]:
            if sum(work[item] for item in self._case_ids) + work[case_id] <= left:
                self._case_ids.append(case_id)

    def dice(self, model: nn.Module, execution: Execution, step: int) -> list[float | None]:  # noqa: ARG002
        """Return the Dice of each foreground class, pooled over the cases."""
        return pooled_dice(self._job, model, execution, self._case_ids)


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
