"""What a search has come to: search/summary.json."""

from typing import Literal

from autoseg.evaluate.candidates import HeldOutScore, Verdict
from autoseg.plan.plan import Plan
from autoseg.record import Record

DECISION = "search"
"""Name of the plan's decision that says what a search has come to."""


class TrialRow(Record):
    """One trial of a search."""

    number: int
    """0 is the plan as it is."""
    state: Literal["complete", "killed", "failed", "infeasible", "interrupted"]
    assignments: dict[str, str]
    """The `--set` words that make it, value by key; none for trial 0."""
    differs: str = ""
    """What differs from the plan, in short: "learning_rate 2, depth -1"; empty: not known."""
    score: float | None
    """Mean Dice on the search's fold; None where the trial did not come so far."""
    seconds: float
    steps: int | None
    """Of training; None where it did not begin."""
    reason: str
    """Why it was killed, failed, was infeasible or was interrupted; else empty."""


class SearchSummary(Record):
    """A search and its outcome."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    planner: str
    plan_digest: str
    """Of the incumbent: the plan that the search began with."""
    study: str
    """Its file, relative to the workspace."""
    seconds: float
    """Active time of all calls."""
    budget_s: float | None
    """None: the search was given steps, not time."""
    search_folds: tuple[str, ...]
    """Whose validation cases scored the trials."""
    confirm_folds: tuple[str, ...]
    """Whose validation cases scored the finalists: none of the search's."""
    trials: tuple[TrialRow, ...]
    importances: dict[str, float]
    """How much of the scores' spread each setting explains, 0 to 1."""
    scores: tuple[HeldOutScore, ...]
    verdict: Verdict | None
    """None: no finalist was compared, for `reason`."""
    reason: str
    """What was decided and why, for the user."""
    optimism: float | None
    """By how much the search flattered the finalist that it ranked first, in Dice: that trial's
    score minus trial 0's on the search's fold, less the same difference of held-out means. Taking
    differences to the incumbent removes how hard the folds are. Above 0 as a rule, because the best
    of several noisy scores was picked. None where one of the four is not known."""
    applied: tuple[str, ...]
    """The `--set` words that were written into the plan; none: the plan stays."""

    def is_of(self, plan: Plan) -> bool:
        """Return whether the search began with the plan, or has decided on it."""
        decided = any(item.name == DECISION for item in plan.decisions)
        return decided or self.plan_digest == plan.digest()


def optimism_words(optimism: float | None) -> str:
    """Return what a search's optimism means; nothing where it is not known."""
    if optimism is None:
        return ""
    size, measured = f"{abs(optimism):.4f} Dice", "Measured as its lead over the plan as it is:"
    if optimism > 0:
        return (
            f"The search flattered its best trial by {size}: the best of many uncertain scores is "
            f"the best partly by luck. {measured} larger where it was searched than on cases not "
            "searched on."
        )
    if optimism < 0:
        return (
            f"The search did not flatter its best trial but underrated it by {size}, by chance. "
            f"{measured} smaller where it was searched than on cases not searched on."
        )
    return "The search neither flattered nor underrated its best trial."
