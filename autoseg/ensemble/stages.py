"""A cascade needs its earlier stages, whether or not they vote."""

from autoseg.ensemble.choose import Ensemble, Member
from autoseg.errors import ExportError
from autoseg.plan.plan import Plan


def with_stages(plan: Plan, ensemble: Ensemble) -> tuple[Member, ...]:
    """Return the members of an ensemble, each after the stages that it follows.

    A stage that is no member has the weight 0, and all of its folds that are trained.

    Raises
    ------
    ExportError
        No fold of a stage is trained.
    """
    voting = {member.configuration: member for member in ensemble.members}
    found: dict[str, Member] = {}
    for name in voting:
        stages = [name]
        while (previous := plan.configuration(stages[0]).previous_stage) is not None:
            stages.insert(0, previous)
        for stage in stages:
            found[stage] = voting.get(stage) or _unweighted(stage, name, ensemble)
    return tuple(found.values())


def _unweighted(stage: str, follower: str, ensemble: Ensemble) -> Member:
    trained = next((item for item in ensemble.candidates if item.configuration == stage), None)
    if trained is None:
        raise ExportError(
            found=f"{follower} without a trained fold of {stage}, whose labels it sees",
            expected=f"the folds of {stage}",
            fix=f"run `autoseg train --configurations {stage}`",
        )
    return Member(configuration=stage, folds=trained.folds, weight=0.0)
