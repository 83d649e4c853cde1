"""Rules about a plan that follows a finished run: what bounded it, and what to change.

Pure functions of what the run recorded.
"""

from typing import Literal

from autoseg.errors import duration
from autoseg.plan.advice import Advice
from autoseg.record import Record

OVERFITTING_GAP = 0.2
"""Dice on training cases above that on validation cases from which the network has learnt cases by
heart: the field's common advice is then half the width, or more weight decay."""
STILL_RISING = 0.01
"""Dice that the second half of a run gained on validation cases, from which more time is worth it:
nnU-Net's easy sets gain less in their second half, its hard ones three times as much."""
NARROWEST = 16
"""Features of the first stage that are not halved any more: 8 lose accuracy on any data here."""
WIDER = 1.5
"""Next width after a run that had learnt all that its network could."""
LONGER = 2.0
"""Times the budget of a run that was still getting better: the next one's."""

Bound = Literal["data", "time", "network", "unknown"]
Ended = Literal["budget", "plateau", "steps", "choice"]
"""Why a run was not longer: its time was over, going on hardly paid, a user asked for so many
steps, or not all folds were trained, so that those had more time."""


class ConfigurationEvidence(Record):
    """What the folds of one configuration recorded."""

    name: str
    width: int
    """Features of the first stage."""
    weight_decay: float
    folds: tuple[str, ...]
    """Those that were finished."""
    train_dice: float | None
    """Mean over folds and classes, on cases that were trained on; None: not recorded."""
    validation_dice: float | None
    late_gain: float | None
    """Of validation Dice over the second half of a run, mean over folds; None: not recorded."""
    ended_by: Ended = "budget"
    budget_s: float | None = None
    """Of the whole run; None: not recorded, or it had none."""

    @property
    def gap(self) -> float | None:
        """Dice on training cases above that on validation cases."""
        if self.train_dice is None or self.validation_dice is None:
            return None
        return self.train_dice - self.validation_dice


class RunEvidence(Record):
    """A finished run as an input to planning."""

    num_dropped: int = 0
    """Folds that its budget left out."""
    configurations: tuple[ConfigurationEvidence, ...]

    def of(self, name: str) -> ConfigurationEvidence | None:
        """Return what is known of a configuration, None if it was not trained."""
        return next((item for item in self.configurations if item.name == name), None)


def bounded_by(evidence: ConfigurationEvidence) -> Advice[Bound]:
    """Return what kept a run from a better Dice, in the order of what is surest."""
    gap, gain = evidence.gap, evidence.late_gain
    if gap is not None and gap > OVERFITTING_GAP:
        return Advice(
            "data", f"Dice was {gap:.2f} higher on training cases than on validation cases."
        )
    if evidence.ended_by == "steps":
        return Advice("unknown", "The run ended after the steps that were asked for.")
    if gain is not None and gain > STILL_RISING and evidence.ended_by == "choice":
        return Advice("unknown", "Some folds alone were trained, and had more time than planned.")
    if gain is not None and gain > STILL_RISING and evidence.ended_by == "budget":
        return Advice("time", f"The second half of the run still gained {gain:.3f} Dice.")
    if gap is not None and gain is not None:
        return Advice(
            "network",
            f"The second half of the run gained {gain:.3f} Dice only, and training cases were "
            f"{gap:.2f} better.",
        )
    return Advice("unknown", "The run did not record enough to tell what bounded it.")


def width_after(bound: Bound, width: int) -> Advice[int]:
    """Return the width of the first stage after a run with that of `width`."""
    if bound == "data" and width >= 2 * NARROWEST:
        return Advice(width // 2, "A network half as wide learns fewer cases by heart.")
    if bound == "network":
        return Advice(round(WIDER * width), "A wider network may learn what this one could not.")
    return Advice(width, "The width was not what bounded it.")


def decay_after(bound: Bound, width: int, weight_decay: float, factor: float) -> Advice[float]:
    """Return the weight decay after a run; `factor` is how many times as much counts as more."""
    if bound == "data" and width < 2 * NARROWEST:
        return Advice(
            factor * weight_decay,
            "The network is narrow already: more weight decay keeps it from learning by heart.",
        )
    return Advice(weight_decay, "The weight decay stays.")


def budget_after(evidence: RunEvidence | None, default_s: float) -> Advice[float] | None:
    """Return the budget of a training for which none is given, seconds; None: the default is right.

    Parameters
    ----------
    evidence
        The run before, if there was one.
    default_s
        What is taken without it.
    """
    known = () if evidence is None else evidence.configurations
    short = [item for item in known if bounded_by(item).value == "time"]
    before_s = max((item.budget_s or default_s for item in short), default=0.0)
    if LONGER * before_s <= default_s:
        return None
    gain = max(item.late_gain or 0.0 for item in short)
    return Advice(
        LONGER * before_s,
        f"Twice the {duration(before_s)} of the run before, whose second half still gained "
        f"{gain:.3f} Dice (--budget sets another).",
    )


def configurations_after(evidence: RunEvidence | None, count: int) -> Advice[int]:
    """Return how many configurations to train, where time allows for `count`."""
    if evidence is not None and evidence.num_dropped > 0 and count > 1:
        return Advice(
            1, f"The run before dropped {evidence.num_dropped} folds for lack of time: one only."
        )
    return Advice(count, "As many as the time allows.")
