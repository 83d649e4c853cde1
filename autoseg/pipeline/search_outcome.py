"""What a search has come to, and the plan that follows from it."""

from collections.abc import Sequence
from pathlib import Path

from autoseg.dataset.split_files import splits_json
from autoseg.errors import PlanError
from autoseg.evaluate.candidates import INCUMBENT, HeldOutScore, Verdict, decide
from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.pipeline.run_record import RunRecord
from autoseg.pipeline.search_confirm import (
    Confirmation,
    candidate_name,
    planned_trial,
    score,
)
from autoseg.pipeline.search_jobs import Search, as_mapping, plain
from autoseg.pipeline.supersede import settle
from autoseg.plan.export_nnunet import nnunet_json
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import Decision, Plan
from autoseg.plan.search import DECISION, SearchSummary, TrialRow
from autoseg.plan.search_space import describe
from autoseg.plan.searcher import Trial
from autoseg.record import autoseg_version
from autoseg.workspace import Workspace, write_text

RULE = "decide"
"""Name of what decides, in the plan's decisions."""
NO_CHANGE = "no change"
"""Value of the decision about the whole search when the plan stays."""


def judged(
    search: Search, wanted: Confirmation, scores: Sequence[HeldOutScore]
) -> tuple[Verdict | None, str, float | None]:
    """Return the verdict on what was confirmed, its reason, and the best finalist's optimism."""
    if not {item.candidate for item in scores} - {INCUMBENT}:
        return None, "No finalist could be trained to the end; the plan stays.", None
    verdict = decide(scores, search.plan.seed)
    return verdict, verdict.reason, _optimism(search, wanted, scores)


def summarise(
    search: Search,
    *,
    scores: Sequence[HeldOutScore] = (),
    verdict: Verdict | None = None,
    reason: str = "The search is not finished.",
    optimism: float | None = None,
    wanted: Confirmation | None = None,
) -> SearchSummary:
    """Return and write what the search has come to so far."""
    summary = SearchSummary(
        autoseg_version=autoseg_version(),
        planner=search.plan.planner,
        plan_digest=search.plan.digest(),
        study=str(search.workspace.study.relative_to(search.workspace.root)),
        seconds=search.seconds(),
        budget_s=search.budget_s,
        search_folds=(str(search.fold),),
        confirm_folds=() if wanted is None else tuple(map(str, wanted.folds)),
        trials=tuple(_rows(search)),
        importances=search.study.importances(),
        scores=tuple(scores),
        verdict=verdict,
        reason=reason,
        optimism=optimism,
        applied=() if verdict is None else _winning_words(search, verdict),
    )
    write_text(search.workspace.search_summary, summary.to_json())
    return summary


def applied_before(workspace: Workspace, plan: Plan) -> SearchSummary | None:
    """Return the summary of the search whose winner the plan is; None if it is none."""
    if not any(item.name == DECISION and item.value != NO_CHANGE for item in plan.decisions):
        return None
    if not workspace.search_summary.exists():
        return None
    summary = SearchSummary.load(workspace.search_summary)
    return summary if summary.applied else None


def unsearched(plan: Plan) -> Plan:
    """Return the plan without the note of a search that left it as it was."""
    kept = tuple(item for item in plan.decisions if item.name != DECISION)
    return plan.revised(decisions=kept)


def trained_before(workspace: Workspace) -> list[Path]:
    """Return the folders of weights that a winner would move aside."""
    return [path for path in (workspace.training, workspace.pretraining) if path.exists()]


def apply_outcome(search: Search, summary: SearchSummary, *, replan: bool) -> None:
    """Write the plan that follows from a search.

    A winner's settings are applied as `--set` would; else the plan stays as it is but for a
    decision that says so. Training with the earlier plan is moved to superseded/.

    Raises
    ------
    WorkspaceError
        Folds were trained with the earlier plan, and `replan` is not given.
    """
    workspace, run = search.workspace, RunRecord.load(search.workspace.run)
    plan = _decided(apply_overrides(search.plan, summary.applied), summary)
    if summary.applied:
        splits = splits_json(search.splits)
        plan, _ = settle(workspace, plan, splits, replan=replan)
        write_text(workspace.splits, splits)
    elif trained_before(workspace):
        return  # what was trained with the plan as it is stays good
    is_exported = bool(summary.applied) and workspace.nnunet_plans.exists()
    if is_exported:
        workspace.nnunet_plans.unlink()  # first: it never is of another plan than plan.json
    write_text(workspace.plan, plan.to_json())
    write_text(workspace.run, run.revised(plan_digest=plan.digest()).to_json())
    if is_exported:
        _export_again(search, plan)


def _export_again(search: Search, plan: Plan) -> None:
    """Write the plan in nnU-Net's form, or say why there is none any more."""
    place = search.workspace.nnunet_plans
    try:
        content = nnunet_json(plan, Fingerprint.load(search.workspace.fingerprint))
    except PlanError as error:
        text = f"{place} was of the earlier plan and is removed; the new one has {error.found}, "
        search.tell("note", text=f"{text}which nnU-Net has not")
        return
    write_text(place, content)
    search.tell("note", text=f"{place} is written again, for the new plan")


def _decided(plan: Plan, summary: SearchSummary) -> Plan:
    """Return the plan whose decisions name the search where it decided.

    What the planner said of a network, say, does not hold for one that the search has changed.
    """
    keys = as_mapping(summary.applied)
    kept = [
        item for item in plan.decisions if not any(key.startswith(f"{item.name}.") for key in keys)
    ]
    found = tuple(
        item.revised(rule=RULE, reason="Found by the search, confirmed on other folds.")
        if item.name in keys
        else item
        for item in kept
    )
    winner = None if summary.verdict is None else summary.verdict.winner
    complete = sum(row.state == "complete" for row in summary.trials)
    decision = Decision(
        name=DECISION,
        value=NO_CHANGE if winner is None else winner,
        rule=RULE,
        inputs={"trials": str(complete), "evidence": "search/summary.json"},
        reason=summary.reason,
    )
    return plan.revised(decisions=(*found, decision))


def _winning_words(search: Search, verdict: Verdict) -> tuple[str, ...]:
    """Return the `--set` words of the winner, none if the plan stays."""
    for trial in search.study.trials():
        if candidate_name(trial.number) == verdict.winner:
            return plain(as_mapping(search.words(trial.values)))
    return ()


def _rows(search: Search) -> list[TrialRow]:
    return [_row(search, trial) for trial in search.study.trials()]


def _row(search: Search, trial: Trial) -> TrialRow:
    ended = trial.ended
    try:
        words = as_mapping(search.words(trial.values))
    except ValueError:  # of an infeasible trial, whose values do not go together
        words = {}
    return TrialRow(
        number=trial.number,
        state="interrupted" if ended.state == "running" else ended.state,
        assignments=words,
        differs=describe(search.space, trial.values),
        score=ended.score,
        seconds=ended.seconds,
        steps=ended.steps,
        reason=ended.reason,
    )


def _optimism(search: Search, wanted: Confirmation, scores: Sequence[HeldOutScore]) -> float | None:
    """Return how much better the best finalist looked in the search than it is on other cases.

    What it gained on the search's fold over the plan as it is, less what it gains on the folds of
    the confirmation: folds differ in how hard they are, which both plans feel alike.
    """
    trials = {trial.number: trial for trial in search.study.trials()}
    best, planned = trials[wanted.finalists[0]], planned_trial(search)
    held_out = [_mean(scores, name) for name in (candidate_name(best.number), INCUMBENT)]
    if planned is None or held_out[0] is None or held_out[1] is None:
        return None
    return (score(best) - score(planned)) - (held_out[0] - held_out[1])


def _mean(scores: Sequence[HeldOutScore], candidate: str) -> float | None:
    known = [item.dice for item in scores if item.candidate == candidate and item.dice is not None]
    return sum(known) / len(known) if known else None
