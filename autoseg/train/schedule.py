"""Learning rates over a run whose length may be lowered while it runs."""

from dataclasses import dataclass

WARMUP_FRACTION = 0.1
"""A warm-up never takes more than this part of a run: short runs must reach their peak, too."""


def poly_lr(step: float, num_steps: int, *, peak: float, power: float, warmup: int) -> float:
    """Return the learning rate of a step: a linear rise, and a polynomial decay to 0 at the end.

    Parameters
    ----------
    step
        Steps done, 0 to `num_steps`.
    warmup
        Steps until the peak is reached.
    """
    warmup = min(warmup, int(num_steps * WARMUP_FRACTION))
    rise = min(1.0, (step + 1) / (warmup + 1))
    return peak * rise * max(0.0, 1.0 - step / num_steps) ** power


@dataclass(frozen=True)
class Revision:
    """From `step` on, the run ends after `num_steps`."""

    step: int
    num_steps: int


@dataclass(frozen=True)
class Schedule:
    """The length of a run as first decided, and how it was lowered since."""

    planned_steps: int
    revisions: tuple[Revision, ...] = ()

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, as decided last."""
        return self.revisions[-1].num_steps if self.revisions else self.planned_steps

    def revised(self, step: int, num_steps: int) -> "Schedule":
        """Return the schedule that from `step` on ends after `num_steps`."""
        return Schedule(self.planned_steps, (*self.revisions, Revision(step, num_steps)))

    def progress(self, step: int) -> float:
        """Return the part of the run that is done, 0 to 1: continuous, and 1 at the end.

        A revision changes how fast the rest passes, not where the run stands.
        """
        done, since, end = 0.0, 0, self.planned_steps
        for revision in self.revisions:
            if revision.step >= step:
                break
            done += (1.0 - done) * (revision.step - since) / (end - since)
            since, end = revision.step, revision.num_steps
        return done + (1.0 - done) * (step - since) / (end - since)
