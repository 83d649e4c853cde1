"""What accuracy to expect of a training, from runs whose steps and scores are known.

A guess by analogy: it knows how long the networks learn, nothing of how hard the data are.
"""

from dataclasses import dataclass

from autoseg.plan.budget import seconds_per_fold
from autoseg.plan.plan import ConfigurationPlan, Plan, TrainingPlan


@dataclass(frozen=True)
class Known:
    """A run that was measured, and what to expect of runs that are not much longer."""

    steps: int
    dice: float
    source: str
    accuracy: str


ADAMW = (
    Known(60, 0.735, "isbi2012, five folds of 24 to 38 s on one shared core", "a first look"),
    Known(1600, 0.8865, "hippocampus, 8 minutes on two cores", "a coarse model"),
    Known(4149, 0.8950, "hippocampus, 18 minutes on two cores", "a good model"),
)
"""Runs with AdamW, from `autoseg_planners.auto` and a U-Net of its size, shortest first. What is
expected holds from these steps on; 24 features instead of 16 and 4,000 steps reached 0.8890 on the
hippocampus cases on which 1,600 steps reached 0.8865."""
SGD = (
    Known(
        100,
        0.07,
        "hippocampus, nnU-Net's own plan, 25 minutes on two cores",
        "something between a first look and a good model: no run in between is known",
    ),
    Known(250_000, 0.8922, "hippocampus, nnU-Net's 1000 epochs on an H100", "a good model"),
)
"""The same with SGD, as nnU-Net trains."""
NOTHING = "hardly anything"
"""What fewer steps than the shortest run may be expected to learn."""
UNSURE = "Other data learn faster or slower."


@dataclass(frozen=True)
class Expectation:
    """What accuracy to expect of a fold, and from which evidence."""

    accuracy: str
    evidence: str

    def __str__(self) -> str:
        """Return both in one sentence."""
        return f"{self.evidence}; expect {self.accuracy}"


def expected_accuracy(training: TrainingPlan, steps: float) -> Expectation:
    """Return what a fold may be expected to reach in so many steps.

    The name is of the longest known run that is not longer; what it is measured against is the next
    longer one.
    """
    runs = ADAMW if training.optimizer == "adamw" else SGD
    done = [run for run in runs if run.steps <= steps]
    following = runs[len(done)] if len(done) < len(runs) else runs[-1]
    accuracy = done[-1].accuracy if done else NOTHING
    side = "below" if steps < following.steps else "at least"
    evidence = (
        f"about {float(f'{steps:.2g}'):,.0f} steps a fold: {side} the "
        f"{following.steps:,} that gave mean Dice {following.dice} on {following.source}"
    )
    return Expectation(accuracy, evidence)


def planned_steps(plan: Plan, item: ConfigurationPlan) -> float:
    """Return how many steps a fold takes when all folds trained by default are, as planned."""
    training = item.training
    budget_s = plan.budget_s or training.default_budget_s
    if plan.budget_s is None and training.default_steps is not None:
        return float(training.default_steps)
    if budget_s is None:
        return 0.0
    trained = sum(item.train_by_default for item in plan.configurations)
    seconds = seconds_per_fold(budget_s, plan.num_folds * max(1, trained), 1)
    return max(1.0, seconds / item.cost.step_seconds)
