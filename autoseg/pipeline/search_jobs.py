"""The trainings of a search: which plan, in which folder, on which prepared cases."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from autoseg.dataset.dataset import Dataset
from autoseg.dataset.splits import Splits
from autoseg.pipeline.training import prepare_cases
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.plan.search_budget import MAX_STEP_RATIO
from autoseg.plan.search_space import Dimension, Values, assignments, varied
from autoseg.plan.searcher import Study
from autoseg.preprocess.identity import recipe_digest
from autoseg.train.job import FoldJob, Listeners, TrialPlace
from autoseg.train.lines import read_lines
from autoseg.train.origin import read_settings
from autoseg.workspace import FoldFolder, Workspace


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search under way."""

    workspace: Workspace
    plan: Plan
    """The one to be beaten."""
    dataset: Dataset
    configuration: str
    """Which is varied."""
    splits: Splits
    fold: int
    """Whose validation cases score trials."""
    space: tuple[Dimension, ...]
    study: Study
    device: str
    num_workers: int
    """Trainings at once."""
    address: str | None
    budget_s: float | None
    """None: lengths are given in steps."""
    steps: int | None
    num_trials: int | None
    """At most; None: as many as there is time for."""
    listeners: Listeners
    seconds: Callable[[], float]
    """Active time of the search until now, that of earlier calls included."""
    prepared: set[str] = field(default_factory=set)
    """Recipes whose cases this process has prepared."""

    @property
    def item(self) -> ConfigurationPlan:
        """The configuration that is varied, as it was planned."""
        return self.plan.configuration(self.configuration)

    @property
    def num_threads(self) -> int:
        """Threads of each training that is begun now."""
        return max(1, self.plan.num_threads // self.num_workers)

    def seconds_of(self, seconds: float, num_threads: int) -> float:
        """Return in what time a training now computes as much as with other threads.

        Calls of one search may have more or fewer workers, and its trainings must stay alike. A
        GPU computes as much with any number of threads.
        """
        is_cpu = self.device.startswith("cpu")
        return seconds * num_threads / self.num_threads if is_cpu else seconds

    @property
    def longest_s(self) -> float:
        """Time of a whole training of one fold."""
        return self.item.cost.train_seconds or float("inf")

    @property
    def unused(self) -> dict[int, tuple[str, ...]]:
        """What can confirm: the validation cases of other folds that scored no trial, by fold."""
        return unused_cases(self.splits, self.fold)

    def tell(self, event: str, **content: object) -> None:
        """Tell the listener what happens."""
        self.listeners.on_progress({"event": event, **content})

    def words(self, values: Values) -> tuple[str, ...]:
        """Return the `--set` words of a point.

        Raises
        ------
        ValueError
            The values do not go together.
        """
        return assignments(self.item, varied(self.item, values))

    def candidate(self, values: Values) -> Plan:
        """Return the plan at a point.

        Raises
        ------
        ValueError, PlanError
            The values do not go together.
        """
        return apply_overrides(self.plan, self.words(values))


def unused_cases(splits: Splits, fold: int) -> dict[int, tuple[str, ...]]:
    """Return the validation cases that one fold does not have, of each other fold with such cases.

    Folds that a user gives may share validation cases.
    """
    seen = set(splits[fold].val)
    found = {
        index: tuple(case for case in split.val if case not in seen)
        for index, split in enumerate(splits)
    }
    return {index: cases for index, cases in found.items() if cases}


def excesses(search: Search, plan: Plan) -> dict[str, float]:
    """Return by which part a plan exceeds the memory and the time of a step; 0 or less fits.

    A plan that was set beyond its memory is not held against its trials.
    """
    cost, planned = plan.configuration(search.configuration).cost, search.item.cost
    memory = max(search.plan.memory_bytes, planned.memory_bytes)
    ratio = cost.step_seconds / planned.step_seconds
    return {"memory": cost.memory_bytes / memory - 1, "time": ratio / MAX_STEP_RATIO - 1}


def search_job(
    search: Search,
    plan: Plan,
    *,
    name: str,
    folder: Path,
    fold: int,
    budget_s: float | None,
) -> FoldJob:
    """Return a training of a plan that is tried; its cases are prepared if they are not yet.

    Parameters
    ----------
    name
        What it is called.
    folder
        Where its files are.
    fold
        To train and to validate on.
    budget_s
        Training time, with the threads of a training that begins now; None: the search's number of
        steps.
    """
    split = search.splits[fold]
    job = FoldJob(
        plan=plan,
        dataset=search.dataset,
        root=search.workspace.root,
        configuration=search.configuration,
        fold=str(fold),
        train_cases=split.train,
        val_cases=split.val,
        device=search.device,
        num_threads=search.num_threads,
        num_steps=search.steps,
        budget_s=budget_s,
        trial=TrialPlace(
            name=name,
            folder=folder,
            prepared=prepared(search, plan).preprocessed(search.configuration),
        ),
    )
    begun = read_settings(job)
    if begun is None or budget_s is None:
        return job
    # It goes on with the threads that it has begun with.
    ratio = search.seconds_of(1.0, begun.num_threads)
    return replace(job, budget_s=budget_s / ratio)


def progress(folder: FoldFolder) -> int:
    """Return how far a training has come: steps that it has told, and cases validated since."""
    steps = [int(line["step"]) for line in read_lines(folder.metrics)]
    return max(steps, default=0) + len(read_lines(folder.scores))


def forget_weights(folder: FoldFolder) -> None:
    """Remove what only a training that is gone on with needs; scores and curves stay."""
    for path in folder.root.glob("*.pt"):
        path.unlink(missing_ok=True)
    shutil.rmtree(folder.validation, ignore_errors=True)


def forget_prepared(search: Search) -> None:
    """Remove the cases that were prepared for trials alone: they are as large as the data set."""
    shutil.rmtree(search.workspace.search_recipes, ignore_errors=True)
    search.prepared.clear()


def as_mapping(words: tuple[str, ...]) -> dict[str, str]:
    """Return `--set` words by key."""
    return dict(word.split("=", 1) for word in words)


def plain(words: Mapping[str, str]) -> tuple[str, ...]:
    """Return `--set` words as one types them: without the quotes of JSON where they can go."""
    return tuple(f"{key}={_unquoted(value)}" for key, value in words.items())


def _unquoted(value: str) -> str:
    text = json.loads(value)
    return text if isinstance(text, str) and text.isidentifier() else value


def prepared(search: Search, plan: Plan) -> Workspace:
    """Return the workspace whose prepared cases a plan needs, after preparing what is missing."""
    name = search.configuration
    seeded = plan.revised(seed=search.plan.seed)  # which decides where patches may be cut
    wanted = recipe_digest(seeded.configuration(name).recipe, seeded)
    place = search.workspace
    if wanted != recipe_digest(search.item.recipe, search.plan):
        place = search.workspace.search_prepared(wanted)
    if wanted not in search.prepared:
        prepare_cases(seeded, search.dataset, place, (name,), search.listeners)
        search.prepared.add(wanted)
    return place
