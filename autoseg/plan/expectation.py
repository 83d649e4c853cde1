"""What accuracy to expect of a training, from runs whose length and scores are known.

A guess by analogy: it knows how much work the networks learn from, nothing of how hard the data
are. Work, not steps: a small patch or a narrow network takes more steps in the same time, and
learns less from each.
"""

from dataclasses import dataclass

from autoseg.plan.budget import seconds_per_fold
from autoseg.plan.cost import step_work
from autoseg.plan.plan import ConfigurationPlan, Decision, Plan
from autoseg.plan.speed import CPU_OPERATION, CPU_PARAMETER, CPU_VALUE

RULE = "expected_accuracy"
VALUE_OPERATIONS = CPU_VALUE["bf16"] / CPU_OPERATION["bf16"]
"""A feature value costs as much as so many operations: narrow and 2D networks spend most of their
time on values, and learn in that time what others learn from operations."""
PARAMETER_OPERATIONS = CPU_PARAMETER / CPU_OPERATION["bf16"]
"""The same of a parameter."""


@dataclass(frozen=True)
class Known:
    """A run that was measured, and what to expect of runs of no less work."""

    steps: int
    step_work: float
    """Of its network, patch and batch: see `work_of_step`."""
    dice: float
    source: str
    accuracy: str
    least_steps: int
    """Fewer do not reach it, however much work a step is."""

    @property
    def work(self) -> float:
        """Of all its steps."""
        return self.steps * self.step_work


NOTHING = "hardly anything"
"""What less than the shortest run may be expected to learn."""
LITTLE, FIRST = "at most a first look", "a first look"
COARSE, GOOD = "a coarse model", "a good model"
ACCURACIES = (NOTHING, LITTLE, FIRST, COARSE, GOOD)
"""What is expected, worst first."""
ADAMW = (
    Known(60, 7.0e10, 0.735, "isbi2012, five folds of 24 to 38 s on one shared core", FIRST, 30),
    Known(1600, 1.03e11, 0.8865, "hippocampus, 8 minutes on two cores", COARSE, 1000),
    Known(4149, 1.03e11, 0.8950, "hippocampus, 18 minutes on two cores", GOOD, 1000),
)
"""Runs with AdamW, from `autoseg_planners.auto` and a U-Net of its size, shortest first; with fewer
than 1,000 steps networks barely tell classes apart (see `sizing.CPU_MIN_STEPS`). 24 features
instead of 16 and 4,000 steps reached 0.8890 on the hippocampus cases on which 1,600 reached
0.8865."""
SGD = (
    Known(
        100, 1.11e12, 0.07, "hippocampus, nnU-Net's own plan, 25 minutes on two cores", LITTLE, 100
    ),
    Known(2500, 1.11e12, 0.849, "hippocampus, patches after 10 of nnU-Net's epochs", FIRST, 2500),
    Known(
        12_500, 1.11e12, 0.885, "hippocampus, patches after 50 of nnU-Net's epochs", COARSE, 10_000
    ),
    Known(250_000, 1.11e12, 0.8922, "hippocampus, nnU-Net's 1000 epochs on an H100", GOOD, 10_000),
)
"""The same with SGD, as nnU-Net trains; Dice on patches while training is from the learning curves
of github.com/automl/AutoNNUnet."""
ALIKE = 0.8
"""Part of a run's work from which as much is expected: Dice grows with the logarithm of it."""
UNSURE = "Other data learn faster or slower."


@dataclass(frozen=True)
class Expectation:
    """What accuracy to expect of a fold, and from which evidence."""

    accuracy: str
    evidence: str

    def __str__(self) -> str:
        """Return both in one sentence."""
        return f"{self.evidence}; expect {self.accuracy}"


def work_of_step(item: ConfigurationPlan) -> float:
    """Return the work of a training step, in operations.

    Feature values and parameters count as the operations that take as long. Nothing is learnt from
    calls of layers, from computing stages twice, nor from a dearer loss or augmentation: they take
    steps, and do not count.
    """
    work = step_work(item.network, item.patch_size, batch_size=item.batch_size)
    return work.operations + VALUE_OPERATIONS * work.values + PARAMETER_OPERATIONS * work.parameters


def expected_accuracy(item: ConfigurationPlan, steps: float) -> Expectation:
    """Return what a fold may be expected to reach in so many steps.

    The name is of the longest known run whose work is nearly reached (`ALIKE`); what it is measured
    against is the next longer one.
    """
    runs = SGD if item.training.optimizer == "sgd" else ADAMW
    work = steps * work_of_step(item)
    done = [run for run in runs if ALIKE * run.work <= work and run.least_steps <= steps]
    following = runs[len(done)] if len(done) < len(runs) else runs[-1]
    evidence = f"about {float(f'{steps:.2g}'):,.0f} steps a fold"
    if steps < following.least_steps:
        evidence += (
            f", and {following.accuracy} takes {following.least_steps:,} or more, whatever a "
            "step shows"
        )
    ratio = work / following.work
    share = f"{ratio:.1f} times" if ratio >= 1 else f"{_percent(ratio)} of"
    evidence += (
        f": {share} the work of the {following.steps:,} that gave mean Dice {following.dice} on "
        f"{following.source}"
    )
    return Expectation(done[-1].accuracy if done else NOTHING, evidence)


def _percent(ratio: float) -> str:
    """Return a part of less than 1 in words that do not round it to all or nothing."""
    return "less than 1 %" if ratio < 0.01 else f"{min(99, round(100 * ratio))} %"


def with_accuracy(plan: Plan) -> Plan:
    """Return the plan with what accuracy to expect of each configuration that it trains.

    What an earlier form of the plan said about it gives way, in its place.
    """
    return _told(plan, {item.name: item for item in _expectations(plan)})


def with_renewed_accuracy(plan: Plan) -> Plan:
    """Return a changed plan with what accuracy to expect now, if it said so before."""
    says_so = any(item.rule == RULE for item in plan.decisions)
    return with_accuracy(plan) if says_so else plan


def _told(plan: Plan, wanted: dict[str, Decision]) -> Plan:
    """Return the plan with these decisions about accuracy, by name, and no others."""
    kept = []
    for old in plan.decisions:
        if old.rule != RULE:
            kept.append(old)
        elif old.name in wanted:
            kept.append(wanted.pop(old.name))
    return plan.revised(decisions=(*kept, *wanted.values()))


def _expectations(plan: Plan) -> list[Decision]:
    """Return what accuracy to expect of what is trained, and from which evidence."""
    found = []
    for item in plan.configurations:
        if not item.train_by_default:
            continue
        steps = planned_steps(plan, item)
        expected = expected_accuracy(item, steps)
        reason = f"{expected.evidence[0].upper()}{expected.evidence[1:]}. {UNSURE}"
        told = Decision(
            name=f"{item.name}.accuracy",
            value=expected.accuracy,
            rule=RULE,
            inputs={"steps": str(int(steps))},
            reason=reason,
        )
        found.append(told)
    return found


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
