"""From a plan to a better one, on evidence only: `autoseg search` and `autoseg plan --search`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.split_files import read_splits
from autoseg.dataset.splits import Splits
from autoseg.errors import PlanError, WorkspaceError, counted
from autoseg.evaluate.candidates import MIN_FOLDS, cases_needed
from autoseg.machine import memory_kills
from autoseg.pipeline.run_record import ActiveTime, load_run
from autoseg.pipeline.search_confirm import (
    begin_confirmation,
    begun_confirmation,
    better_trials,
    confirm,
)
from autoseg.pipeline.search_jobs import (
    Search,
    forget_prepared,
    forget_weights,
    progress,
    unused_cases,
)
from autoseg.pipeline.search_outcome import (
    applied_before,
    apply_outcome,
    judged,
    summarise,
    trained_before,
    unsearched,
)
from autoseg.pipeline.search_trials import COUNTED, RUN, refuse_broken_plan, run_trials
from autoseg.pipeline.training import OnEvent, ShouldStop
from autoseg.plan.budget import preferred_order
from autoseg.plan.consistency import load_plan
from autoseg.plan.plan import Plan
from autoseg.plan.registry import load_searcher
from autoseg.plan.search import SearchSummary
from autoseg.plan.search_budget import folds_needed, refuse_short_search
from autoseg.plan.search_space import SPACE_VERSION, search_space
from autoseg.plan.searcher import PRIORS, Origin, Study, Witness
from autoseg.train.job import Listeners
from autoseg.train.lock import held
from autoseg.workspace import STUDY, FoldFolder, Workspace

SEARCH_FOLD = 0
"""Whose validation cases score trials; all other folds may confirm."""
LOCK_WAIT_S = 5.0
ACTIVE = "search"
"""Name of the search's active time in run.json."""
SECONDS, FINISHED = "seconds", "finished"
"""What is kept with the study: active time of the calls that came to their end, and whether a
verdict was given. The same folds are not asked twice: who asks often enough finds a winner."""
FINISHED_NOTE = (
    "This search is finished. To search anew, move the folder search/ away; its study can be given "
    "with --prior."
)


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """What a user may ask of a search."""

    workspace: Workspace
    budget_s: float | None = None
    steps: int | None = None
    """Of every training, without a clock; None: `budget_s` decides."""
    num_trials: int | None = None
    """At most."""
    priors: tuple[Path, ...] = ()
    """Earlier studies, or the workspaces that hold them."""
    num_workers: int = 1
    address: str | None = None
    replan: bool = False
    """A winner may move training of the earlier plan to superseded/."""
    command: tuple[str, ...] = ()
    """As typed, for the record."""


def search_plan(
    options: SearchOptions, on_event: OnEvent, should_stop: ShouldStop
) -> SearchSummary:
    """Search for a better plan, confirm it on other folds, and write it if it wins.

    Goes on where an earlier call stopped. The plan stays as it is until a verdict names a winner.

    Raises
    ------
    AutosegError
        What the user can fix; the plan stays.
    autoseg.train.job.Interrupted
        `should_stop` answered yes; everything is saved.
    """
    workspace = options.workspace
    written, dataset = load_plan(workspace.plan), Dataset.load(workspace.dataset)
    done = applied_before(workspace, written)
    if done is not None:
        on_event({"event": "note", "text": FINISHED_NOTE})
        return done
    splits = read_splits(workspace.splits, dataset.cases)
    _refuse(options, splits)
    with held(workspace.search_lock, LOCK_WAIT_S):
        load_run(workspace, written, options.command)
        with ActiveTime(workspace, ACTIVE) as active:
            listeners = Listeners(on_event, active.watched(should_stop))
            search = _open(options, unsearched(written), dataset, splits, listeners, active)
            summary = _search(search)
            search.study.keep(SECONDS, str(search.seconds()))
            _tidy(search)
        apply_outcome(search, summary, replan=options.replan)
    return summary


def main_configuration(plan: Plan) -> str:
    """Return the name of the configuration that is trained by default and suits the data best."""
    names = [item.name for item in plan.configurations if item.train_by_default]
    usable = [name for name in names if plan.configuration(name).previous_stage is None]
    return preferred_order(plan, [(name, "0") for name in usable or names])[0][0]


def _search(search: Search) -> SearchSummary:
    """Try, confirm and judge; each from where an earlier call left it."""
    if search.study.kept(FINISHED) is not None and search.workspace.search_summary.exists():
        search.tell("note", text=FINISHED_NOTE)
        return SearchSummary.load(search.workspace.search_summary)
    for trial in search.study.trials():
        refuse_broken_plan(search, trial, trial.ended)
    wanted = begun_confirmation(search)
    if wanted is None:
        search.tell("note", text=_what_is_varied(search))
        try:
            run_trials(search)
        finally:
            summarise(search)
        if not better_trials(search):
            return summarise(search, reason=_why_nothing(search))
        wanted = begin_confirmation(search)
        if wanted is None:
            reason = "The budget was used up before anything could be confirmed; a larger one, "
            return summarise(search, reason=reason + "given to the same command, confirms it.")
    scores = confirm(search, wanted)
    verdict, reason, optimism = judged(search, wanted, scores)
    summary = summarise(
        search, scores=scores, verdict=verdict, reason=reason, optimism=optimism, wanted=wanted
    )
    search.study.keep(FINISHED, "yes")
    return summary


def _what_is_varied(search: Search) -> str:
    """Return which configuration is searched, in how much, and what stays."""
    names = ", ".join(item.name for item in search.space)
    others = [item.name for item in search.plan.configurations if item.train_by_default]
    stay = [name for name in others if name != search.configuration]
    rest = f"; {', '.join(stay)} as planned" if stay else ""
    return (
        f"Searching near the plan of {search.configuration} ({names}){rest}. Trials are scored on "
        f"fold {search.fold}."
    )


def _tidy(search: Search) -> None:
    """Remove what takes space and is needed no more."""
    is_finished = search.study.kept(FINISHED) is not None
    for trial in search.study.trials():
        if is_finished or trial.ended.state != "interrupted":
            forget_weights(FoldFolder(search.workspace.search_run(trial.folder, RUN)))
    forget_prepared(search)


def _why_nothing(search: Search) -> str:
    """Return why there is nothing to confirm."""
    tried = {trial.folder for trial in search.study.trials() if trial.ended.state in COUNTED}
    if not tried - {0}:
        return (
            "There was no time for a trial besides the plan as it is; the same command with a "
            "larger budget goes on."
        )
    return "No trial scored more than the plan as it is: the rules were not beaten."


def _open(
    options: SearchOptions,
    plan: Plan,
    dataset: Dataset,
    splits: Splits,
    listeners: Listeners,
    active: ActiveTime,
) -> Search:
    """Return the search of a workspace, as an earlier call left it or new."""
    # Workers may run in another folder.
    workspace, name = Workspace(options.workspace.root.absolute()), main_configuration(plan)
    device, workers = _means(options, plan)
    space = search_space(plan.configuration(name))
    origin = Origin(
        dataset_name=plan.dataset_name,
        fingerprint_digest=plan.fingerprint_digest,
        plan_digest=plan.digest(),
        space_version=SPACE_VERSION,
        configuration=name,
        fold=str(SEARCH_FOLD),
        steps=options.steps,
    )
    priors = [_study_of(path).resolve() for path in options.priors]
    study = load_searcher()(
        workspace.study,
        origin,
        space,
        seed=plan.seed,
        witness=Witness(
            progress=lambda number: progress(FoldFolder(workspace.search_run(number, RUN))),
            memory_kills=memory_kills(),
        ),
        priors=priors,
    )
    for text in prior_notes(study, priors, workspace):
        listeners.on_progress({"event": "note", "text": text})
    before_s = float(study.kept(SECONDS) or 0.0)
    return Search(
        workspace=workspace,
        plan=plan,
        dataset=dataset,
        configuration=name,
        splits=splits,
        fold=SEARCH_FOLD,
        space=space,
        study=study,
        device=device,
        num_workers=workers,
        address=options.address,
        budget_s=options.budget_s,
        steps=options.steps,
        num_trials=options.num_trials,
        listeners=listeners,
        seconds=lambda: before_s + active.seconds,
    )


def prior_notes(study: Study, priors: Sequence[Path], workspace: Workspace) -> Iterator[str]:
    """Yield what `--prior` has given to a new study, or that it gives nothing to an old one."""
    taken: dict[str, int] = json.loads(study.kept(PRIORS) or "{}")
    late = [
        str(path)
        for path in priors
        if not any(Path(known).is_relative_to(path) for known in taken)  # also one that has gone
    ]
    if late:
        yield (
            f"--prior has no effect: the search in {workspace.search} was begun without "
            f"{', '.join(late)}, and earlier searches only propose the first trials of a new one. "
            f"To use it, move the folder {workspace.search} away and search anew."
        )
    if study.trials():
        return
    for path, count in taken.items():
        yield (
            f"--prior {path}: {counted(count, 'trial')} of it will be tried early."
            if count
            else f"--prior {path} proposes nothing: no trial of it that can be had here, and has "
            "not been proposed yet, was better than its plan."
        )


def _means(options: SearchOptions, plan: Plan) -> tuple[str, int]:
    """Return the device of every training, and how many are trained at once."""
    from autoseg.train.device import check_device, most_at_once

    if options.address is not None:  # each worker sees the devices that it was given
        return plan.device, options.num_workers
    is_chosen = plan.device_index is not None
    device = f"{plan.device}:{plan.device_index}" if is_chosen else plan.device
    check_device(device)
    return device, most_at_once(device, options.num_workers)


def _refuse(options: SearchOptions, splits: Splits) -> None:
    """Raise an error for a search that could not lead to anything; before it begins."""
    unused = list(unused_cases(splits, SEARCH_FOLD).values())
    if len(unused) < MIN_FOLDS:
        raise PlanError(
            found=f"{counted(len(splits), 'fold')} in {options.workspace.splits}, of which "
            f"{len(unused)} with validation cases that fold {SEARCH_FOLD} does not have",
            expected=f"at least {MIN_FOLDS + 1}: one to search on, {MIN_FOLDS} to confirm on",
            fix=f"plan with --folds {MIN_FOLDS + 1} or more, which needs as many cases",
        )
    least = folds_needed(unused)
    if least is None:
        raise PlanError(
            found=f"{counted(len(set().union(*unused)), 'validation case')} in the folds that are "
            "not searched on",
            expected=f"at least {cases_needed(1)}: with fewer no test can tell a better plan",
            fix="label more cases, or choose settings by hand with --set",
        )
    if options.budget_s is not None:
        refuse_short_search(options.budget_s, least)
    trained = trained_before(options.workspace)
    if trained and not options.replan:
        raise WorkspaceError(
            found=f"{trained[0]} holds weights of the plan that a winner would replace",
            expected="a workspace without training, for the plan may change",
            fix="add --replan, so that a winner moves that training to superseded/, or search in "
            "another workspace (-w)",
        )


def _study_of(path: Path) -> Path:
    """Return the study that a user names by its file, its folder, or its workspace."""
    inside = (Workspace(path).study, path / STUDY)
    return next((place for place in inside if place.is_file()), path)
