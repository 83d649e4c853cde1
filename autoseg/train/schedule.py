"""The length of a run, which may change while it runs, and the copies that are annealed."""

from dataclasses import dataclass

BRANCH_AT = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Parts of a run after which a copy of it is annealed, to see what it would end with: each after
twice the steps of the one before."""
ANNEALED_FRACTION = 0.2
"""Steps of such an annealing, of those done before it. A fifth of a run that falls to zero gives
about what annealing over the whole run does (Haegele et al. 2024, "Scaling laws and
compute-optimal training beyond fixed training durations")."""
LOOK_FRACTION = 0.01
"""Part of the run's work that predicting validation cases with one annealed copy may cost."""


def trunk_steps(work: float, step: int = 0, progress: float = 0.0) -> float:
    """Return how many steps a run with annealed copies may still take to cost `work` steps.

    Parameters
    ----------
    work
        Steps that can be afforded, those of the copies and their predictions included.
    step, progress
        Steps done, and the part of the run that they are, 0 to below 1.
    """
    ahead = [part for part in BRANCH_AT if part > progress]
    until = sum((part - progress) / (1 - progress) for part in ahead)
    before = ANNEALED_FRACTION * len(ahead) * step + LOOK_FRACTION * len(ahead) * step
    return (work - before) / (1 + ANNEALED_FRACTION * until + LOOK_FRACTION * len(ahead))


@dataclass(frozen=True)
class Branch:
    """A copy of a run: from `step` on, its learning rate falls to 0 in `num_steps` steps."""

    step: int
    num_steps: int

    @property
    def end(self) -> int:
        """Steps of the copy when it is annealed, those before it included."""
        return self.step + self.num_steps

    def factor(self, step: int) -> float:
        """Return the learning rate of a step, relative to that where the copy was made."""
        return 1.0 - (step - self.step) / self.num_steps


@dataclass(frozen=True)
class Revision:
    """From `step` on, the run ends after `num_steps`."""

    step: int
    num_steps: int


@dataclass(frozen=True)
class Schedule:
    """The length of a run as first decided, and how it was changed since."""

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
