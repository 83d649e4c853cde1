"""How the members of the ensemble predict: mirroring, then tile overlap, chosen after training.

All other choices, and all scores, are of predictions as planned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from autoseg.ensemble.again import AGAIN_FRACTION, Again
from autoseg.ensemble.choose import ALL, Ensemble, Member
from autoseg.ensemble.effort import (
    MIN_PATIENTS,
    Setting,
    decide,
    other_mirroring,
    other_overlaps,
)
from autoseg.ensemble.stored import Source
from autoseg.ensemble.tried import Tried, undecided
from autoseg.errors import AutosegError, counted
from autoseg.plan.plan import ConfigurationPlan
from autoseg.train.records import FoldResult
from autoseg.workspace import append_line

MIRRORING, OVERLAP = "mirroring", "tile overlap"
NOTE = "Scores and the other choices are of predictions as planned."


@dataclass(frozen=True)
class _Step:
    """One of the two choices: what differs, and what may be tried beside a setting."""

    name: str
    others: Callable[[Setting], Sequence[Setting]]
    in_words: Callable[[Setting], str]
    part: float
    """Of what predicting again may cost, with the steps before."""


def choose_predicting(source: Source, ensemble: Ensemble) -> Ensemble:
    """Return the ensemble with the mirroring and the tile overlap that each member predicts with.

    Raises
    ------
    Interrupted
        The user has asked to stop; cases that were predicted are kept.
    """
    members, tried = [], list(ensemble.tried)
    for member in ensemble.members:
        found, told = _choose(source, member, len(ensemble.members))
        members.append(found)
        tried += told
    return ensemble.revised(members=tuple(members), tried=tuple(tried))


def _choose(source: Source, member: Member, num_members: int) -> tuple[Member, list[Tried]]:
    """Return how a member predicts, and what was tried."""
    planned = source.plan.configuration(member.configuration)
    setting = Setting.of(planned.recipe)
    suffix = f" of {member.configuration}" if num_members > 1 else ""
    reason = _why_not(source, member)
    again = None
    if not reason:
        try:
            again = Again(source, member)
        except AutosegError as error:
            reason = f"No case can be predicted again ({error.found}): kept as planned."
    tried = []
    for step in _steps(planned):
        others = step.others(setting)
        if not others:
            continue
        settings = (setting, *others)
        if again is None:
            tried.append(_kept(step, settings, 0, reason))
        else:
            limit_s = _limit_s(source, member, num_members)
            chosen, told = _try(source, again, step, settings, limit_s)
            tried.append(told)
            setting = settings[chosen]
            _tell(source, member, told)
    tried = [item.revised(name=item.name + suffix) for item in tried]
    return _changed(member, planned, setting), tried


def _steps(planned: ConfigurationPlan) -> tuple[_Step, ...]:
    axes = counted(len(planned.recipe.mirror_axes), "axis", "axes")
    mirrored = f"mirrored along {axes}"
    return (
        _Step(
            MIRRORING,
            partial(other_mirroring, recipe=planned.recipe),
            lambda setting: mirrored if setting.mirrored else "not mirrored",
            part=0.5,
        ),
        _Step(OVERLAP, other_overlaps, lambda setting: f"{setting.overlap:g}", part=1.0),
    )


def _why_not(source: Source, member: Member) -> str:
    """Return why a member predicts as planned without a trial; nothing if it need not."""
    if member.folds == (ALL,):
        return "No case is left that a fold has not seen: kept as planned."
    plan = source.plan
    followed = any(item.previous_stage == member.configuration for item in plan.configurations)
    if followed or plan.configuration(member.configuration).previous_stage is not None:
        return "The stages of a cascade were trained on each other's predictions: kept as planned."
    return ""


def _limit_s(source: Source, member: Member, num_members: int) -> float | None:
    """Return the seconds that predicting a member's cases again may take; None without a budget."""
    fold = source.workspace.fold(member.configuration, member.folds[-1])
    request = FoldResult.load(fold.result).request
    if request is None or request.budget_s is None:
        return None
    return AGAIN_FRACTION * request.budget_s / num_members


def _try(
    source: Source, again: Again, step: _Step, settings: Sequence[Setting], limit_s: float | None
) -> tuple[int, Tried]:
    """Return the index of the setting to use, and why."""
    calls = again.calls(settings)
    kept = [0, *(index for index in range(1, len(settings)) if calls[index] != calls[0])]
    if len(kept) == 1:
        reason = "No image takes more than one tile: it makes no difference."
        return 0, _kept(step, settings, 0, reason)
    used = [settings[index] for index in kept]
    count = again.affordable(used, 0.5)
    num_done = count
    if count >= MIN_PATIENTS:
        part_s = None if limit_s is None else step.part * limit_s
        outcomes, _ = again.predict(used, count, part_s)
        num_done = len(outcomes.patients)
        if num_done >= MIN_PATIENTS:
            words = [step.in_words(item) for item in used]
            best, tried = decide(step.name, used, words, outcomes, source.plan.seed)
            if best:
                tried = tried.revised(reason=f"{tried.reason} {NOTE}")
            return kept[best], tried
    reason = (
        f"It takes {MIN_PATIENTS} patients to decide. There are "
        f"{counted(again.num_patients, 'patient')}, and {counted(num_done, 'patient')} can be "
        f"predicted again within {AGAIN_FRACTION:.0%} of the training: kept as planned."
    )
    return 0, _kept(step, settings, num_done, reason)


def _kept(step: _Step, settings: Sequence[Setting], num_cases: int, reason: str) -> Tried:
    words = step.in_words(settings[0])
    return undecided(step.name, num_cases, reason).revised(planned=words, best=words)


def _tell(source: Source, member: Member, tried: Tried) -> None:
    """Write in the workspace's events what was tried."""
    line = {"event": "predicted again", "configuration": member.configuration}
    line |= {"setting": tried.name, "cases": tried.num_cases, "used": tried.used}
    append_line(source.workspace.events, line | {"best": tried.best, "reason": tried.reason})


def _changed(member: Member, planned: ConfigurationPlan, setting: Setting) -> Member:
    """Return a member with what differs from the plan."""
    recipe = planned.recipe
    return member.revised(
        overlap=None if setting.overlap == recipe.overlap else setting.overlap,
        test_time_mirroring=None
        if setting.mirrored == recipe.test_time_mirroring
        else setting.mirrored,
    )
