"""Out-of-fold scores and where training stands, arranged for reading."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from autoseg.ensemble.choose import ALL
from autoseg.ensemble.tried import Tried
from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import METRICS, Metric, Summary, case_mean, summarise
from autoseg.plan.expectation import RULE as ACCURACY_RULE
from autoseg.plan.expectation import expected_accuracy
from autoseg.plan.plan import Decision
from autoseg.report.contents import Contents, FoldContents
from autoseg.report.figures import dice_by_class, learning_curves
from autoseg.report.text import number, signed
from autoseg.train.rates import warmup_steps
from autoseg.train.readings import waiting_share
from autoseg.train.records import FoldResult, Request
from autoseg.train.waiting import REMEDIES, Bound, bound

MAX_CASES = 1500
"""Rows of the table of cases; of more, the lowest Dice."""
MAX_CLASS_COLUMNS = 4
"""With more classes the table of cases shows their Dice only."""


@dataclass(frozen=True)
class CaseRow:
    """A validation case: its fold, and means over its classes by metric."""

    fold: str
    score: CaseScore
    means: dict[Metric, float | None]


@dataclass(frozen=True, kw_only=True)
class ConfigurationResults:
    """The out-of-fold scores of a configuration."""

    name: str
    is_chosen: bool
    folds: tuple[str, ...]
    summary: Summary
    cases: tuple[CaseRow, ...]
    """Lowest Dice first."""
    num_hidden: int
    chart: Markup | None


@dataclass(frozen=True, kw_only=True)
class ConfigurationTraining:
    """The training of a configuration, finished or not."""

    name: str
    folds: tuple[FoldContents, ...]
    chart: Markup | None


def chosen_configuration(contents: Contents) -> str | None:
    """Return the configuration of the model; before it is chosen, the first with a score."""
    if contents.ensemble is not None:
        return contents.ensemble.members[0].configuration
    scored = [item for item in contents.folds if item.result and item.result.scores]
    return scored[0].configuration if scored else None


def configuration_results(contents: Contents) -> tuple[ConfigurationResults, ...]:
    """Return the scores of each configuration that has some; the chosen one first."""
    chosen = chosen_configuration(contents)
    names = list(dict.fromkeys(item.configuration for item in contents.folds))
    found = []
    for name in sorted(names, key=lambda name: name != chosen):
        own = [item for item in contents.folds if item.configuration == name]
        rows = [
            CaseRow(item.fold, score, {metric: case_mean(score, metric) for metric in METRICS})
            for item in own
            if item.result
            for score in item.result.scores
        ]
        if rows:
            found.append(_results(contents, name, chosen, rows))
    return tuple(found)


def postprocessed(contents: Contents, item: ConfigurationResults) -> float | None:
    """Return a configuration's cross-fitted mean Dice with post-processing; None where it has none.

    The scores of `item` itself are of predictions as the network gives them.
    """
    choice = contents.postprocessing
    if choice is None or not choice.steps or choice.configuration != item.name:
        return None
    return choice.dice_cross_fitted


def settings_tried(contents: Contents) -> tuple[Tried, ...]:
    """Return what was searched after training, without training again."""
    weights = contents.ensemble.tried if contents.ensemble else ()
    return (*weights, *(contents.postprocessing.tried if contents.postprocessing else ()))


def predicts_otherwise(contents: Contents) -> tuple[str, ...]:
    """Return the configurations that the model predicts with otherwise than planned."""
    members = contents.ensemble.members if contents.ensemble else ()
    changed = (
        item for item in members if item.overlap is not None or item.test_time_mirroring is not None
    )
    return tuple(item.configuration for item in changed)


def configuration_training(contents: Contents) -> tuple[ConfigurationTraining, ...]:
    """Return folds and learning curves of each configuration whose training has begun."""
    names = dict.fromkeys(item.configuration for item in contents.folds)
    found = []
    for name in names:
        own = tuple(item for item in contents.folds if item.configuration == name)
        found.append(ConfigurationTraining(name=name, folds=own, chart=learning_curves(own)))
    return tuple(found)


def only_unscored(contents: Contents) -> bool:
    """Return whether training is done, but only on all cases, so that no case is left to score."""
    done = [item for item in contents.folds if item.result]
    return bool(done) and all(item.fold == ALL for item in done)


def progress(fold: FoldContents) -> float | None:
    """Return the part of a fold's steps that its log has reached."""
    steps = [step for line in fold.metrics if isinstance(step := line.get("step"), int | float)]
    if fold.result is not None:
        return 1.0
    if fold.settings is None or not steps:
        return None
    return min(1.0, max(steps) / max(fold.settings.num_steps, 1))


def seconds_per_step(fold: FoldContents) -> tuple[float, str] | None:
    """Return what a step of a fold takes and how that is known; None where it is not.

    A finished fold's steps as they were, with all that happened between them; else as probed.
    """
    if fold.result is not None and fold.result.num_steps and not fold.result.ends:
        return fold.result.train_seconds / fold.result.num_steps, "measured"
    if fold.settings is not None and fold.settings.seconds_per_step > 0:
        return fold.settings.seconds_per_step, "probed"
    return None


def speed_bound(fold: FoldContents) -> tuple[Bound, float] | None:
    """Return what bounded the speed of a fold, and the part of its time that it waited for data.

    None where its log does not say.
    """
    waited = waiting_share(fold.metrics)
    return None if waited is None else (bound(waited), waited)


def bound_notes(folds: Sequence[FoldContents]) -> tuple[str, ...]:
    """Return what bounded the speed of some folds, and what helps."""
    kinds = {item.fold: found[0] for item in folds if (found := speed_bound(item))}
    notes = []
    for kind, remedy in REMEDIES.items():
        names = [fold for fold, of in kinds.items() if of == kind]
        if names:
            label = f"Fold{'s' if len(names) > 1 else ''} {', '.join(names)}"
            notes.append(f"{label}: {kind} bounded the speed. {remedy[0].upper()}{remedy[1:]}.")
    return tuple(notes)


def asked_for(contents: Contents, name: str) -> Request | None:
    """Return how long a configuration was trained, where a command has asked for it explicitly.

    Then the plan's own hours, and what it expects of them, are not this run's. Of folds that were
    trained differently, the last.
    """
    own = [item for item in contents.folds if item.configuration == name]
    requests = [record.request for item in own if (record := item.result or item.settings)]
    asked = [request for request in requests if request is not None and request.is_explicit]
    return asked[-1] if asked else None


def step_took(contents: Contents, name: str) -> float | None:
    """Return what a step of a configuration took, mean over its folds; None: not known."""
    own = (item for item in contents.folds if item.configuration == name)
    known = [pace[0] for item in own if (pace := seconds_per_step(item))]
    return sum(known) / len(known) if known else None


def run_words(contents: Contents, decision: Decision) -> str:
    """Return what the run that was made has of a plan's expected accuracy; nothing of others."""
    if contents.plan is None or decision.rule != ACCURACY_RULE:
        return ""
    name = decision.name.rpartition(".")[0]
    asked = asked_for(contents, name)
    if asked is None:
        return "Expected by the plan, before training."
    told = f"Expected by the plan, before training; this run was asked for {asked} instead."
    if asked.num_steps is None:
        return told
    expected = expected_accuracy(contents.plan.configuration(name), asked.num_steps)
    return f"{told} Of these, {expected.accuracy} could be expected."


def warmup(fold: FoldContents, planned: int) -> int:
    """Return how many of a fold's steps are warm-up, of so many planned."""
    return warmup_steps(planned, fold.settings.num_steps) if fold.settings else 0


def plateau_words(result: FoldResult, planned_steps: int | None) -> str | None:
    """Return where and why a fold ended before its planned steps; None for one that did not."""
    if not (result.ends and result.ends[-1].is_plateau):
        return None
    before, end = result.ends[-2:]
    planned = "" if planned_steps is None else f" of {planned_steps:,} planned"
    return (
        f"fold {result.fold} stopped at a plateau after {result.num_steps:,} steps{planned}: "
        f"annealed after {before.num_steps:,} steps its mean Dice was {number(before.dice, 4)}, "
        f"after {end.num_steps:,} steps {number(end.dice, 4)}, on {len(end.cases)} whole "
        f"validation cases (gain {signed(end.gain)}, standard error {number(end.noise, 4)}). It "
        "stopped by cases that its score counts: the score is selected, and may be a little high."
    )


def _results(
    contents: Contents,
    name: str,
    chosen: str | None,
    rows: Sequence[CaseRow],
) -> ConfigurationResults:
    scores = [row.score for row in rows]
    seed = contents.plan.seed if contents.plan else 0
    summary = summarise(scores, seed)
    names = contents.plan.labels.names[1:] if contents.plan else ()
    ordered = sorted(rows, key=_by_dice)
    return ConfigurationResults(
        name=name,
        is_chosen=name == chosen,
        folds=tuple(dict.fromkeys(row.fold for row in rows)),
        summary=summary,
        cases=tuple(ordered[:MAX_CASES]),
        num_hidden=max(0, len(ordered) - MAX_CASES),
        chart=dice_by_class(scores, names, summary),
    )


def _by_dice(row: CaseRow) -> tuple[bool, float, str]:
    """Order by Dice; cases that do not count come last."""
    dice = row.means["dice"]
    return (dice is None, dice or 0.0, row.score.case_id)
