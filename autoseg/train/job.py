"""What a worker is asked to do: one fold of one configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.dataset import Case, Dataset
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.preprocess.store import CaseStore
from autoseg.train.records import Request
from autoseg.workspace import FoldFolder, Workspace

CHECKPOINT_INTERVAL_S = 45.0
"""At least every 60 s a checkpoint must be complete; a step and the writing take their time."""

OnProgress = Callable[[dict[str, object]], None]
ShouldStop = Callable[[], bool]


class Interrupted(Exception):
    """Training was asked to stop; everything is saved, and the same call goes on from there."""


@dataclass(frozen=True, kw_only=True)
class FoldJob:
    """One fold to train and to validate. It can be pickled; paths travel, not arrays."""

    plan: Plan
    dataset: Dataset
    root: Path
    """Of the workspace."""
    configuration: str
    fold: str
    train_cases: tuple[str, ...]
    val_cases: tuple[str, ...]
    device: str
    num_threads: int
    num_steps: int | None = None
    """Uses no clock: the same steps give the same weights."""
    budget_s: float | None = None
    """Active seconds for training from now on, validation excluded."""
    request: Request | None = None
    """What the number of steps or the budget was found from, if a command asked for it."""
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S

    @property
    def planned(self) -> ConfigurationPlan:
        """The configuration's plan."""
        return self.plan.configuration(self.configuration)

    @property
    def folder(self) -> FoldFolder:
        """Where the fold's files are."""
        return Workspace(self.root).fold(self.configuration, self.fold)

    @property
    def store(self) -> CaseStore:
        """The configuration's prepared cases."""
        return CaseStore(Workspace(self.root).preprocessed(self.configuration))

    @property
    def name(self) -> str:
        """How the fold is called in messages."""
        return f"{self.configuration} fold {self.fold}"

    def case(self, case_id: str) -> Case:
        """Return a case of the data set."""
        return next(case for case in self.dataset.cases if case.id == case_id)


@dataclass(frozen=True)
class Listeners:
    """How a worker and its caller talk."""

    on_progress: OnProgress
    should_stop: ShouldStop

    def stop_if_asked(self, name: str) -> None:
        """Raise `Interrupted` if the caller wants to stop; everything is saved before the call."""
        if self.should_stop():
            raise Interrupted(f"{name} was stopped; the same command goes on")
