"""What a worker is asked to do: one fold of one configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.dataset.dataset import Case, Dataset
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.preprocess.identity import prepared_as
from autoseg.preprocess.previous_store import PreviousStore
from autoseg.preprocess.store import CaseStore
from autoseg.train.records import InitialChoice, Request
from autoseg.workspace import FoldFolder, Workspace

CHECKPOINT_INTERVAL_S = 45.0
"""At least every 60 s a checkpoint must be complete; a step and the writing take their time."""

OnProgress = Callable[[dict[str, object]], None]
ShouldStop = Callable[[], bool]


class Interrupted(Exception):
    """Training was asked to stop; everything is saved, and the same call goes on from there."""


@dataclass(frozen=True, kw_only=True)
class TrialPlace:
    """Where the files of a fold are that is trained to try a plan, not to make the model."""

    name: str
    """Of this training among all of a search."""
    folder: Path
    prepared: Path
    """Folder of prepared cases: trials whose recipe is the same share one."""


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
    """Of each of its processes."""
    num_devices: int = 1
    """Processes, each with a device, that share the work of each batch."""
    num_steps: int | None = None
    """Uses no clock: the same steps give the same weights."""
    budget_s: float | None = None
    """Active seconds for training from now on, validation excluded. Of a trial: in all, so that one
    that was interrupted gets no more time than the others."""
    validation_s: float | None = None
    """Seconds that are kept for validation besides: training gets what measuring finds too much,
    and gives what it finds missing. None: validation's time is no matter of training's."""
    stops_at_plateau: bool = False
    """End early, annealed, when training longer no longer pays (see `autoseg.train.plateau`)."""
    branch: int | None = None
    """The job is to anneal a copy of the fold, the one of that number; None: the fold itself."""
    request: Request | None = None
    """What the number of steps or the budget was found from, if a command asked for it."""
    objective: Literal["segmentation", "denoising"] = "segmentation"
    """What the network learns: see `autoseg.train.task`."""
    initial: InitialChoice | None = None
    """Weights of another model to begin with; None: drawn ones, or what the fold was begun with."""
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    trial: TrialPlace | None = None
    """None: the fold is one of the workspace's plan."""

    @property
    def planned(self) -> ConfigurationPlan:
        """The configuration's plan."""
        return self.plan.configuration(self.configuration)

    @property
    def folder(self) -> FoldFolder:
        """Where the fold's files are."""
        workspace = Workspace(self.root)
        if self.trial is not None:
            return FoldFolder(self.trial.folder)
        if self.objective == "denoising":
            return workspace.denoising(self.configuration, self.fold)
        folder = workspace.fold(self.configuration, self.fold)
        return folder if self.branch is None else folder.branch(self.branch)

    @property
    def store(self) -> CaseStore:
        """The configuration's prepared cases."""
        if self.trial is not None:
            return CaseStore(self.trial.prepared)
        folder = prepared_as(self.plan, self.configuration)
        return CaseStore(Workspace(self.root).preprocessed(folder))

    @property
    def previous(self) -> PreviousStore | None:
        """What the configuration's previous stage found in the cases; None where it has none."""
        if self.planned.previous_stage is None:
            return None
        return PreviousStore(Workspace(self.root).previous_labels(self.configuration))

    @property
    def encoder_weights(self) -> Path | None:
        """File of the weights that the encoder starts from; None: all weights are drawn."""
        backbone = self.planned.network.backbone
        if backbone is None or backbone.weights is None or self.objective == "denoising":
            return None
        return Workspace(self.root).encoder_weights(backbone.weights)

    @property
    def name(self) -> str:
        """How the fold is called in messages."""
        if self.objective == "denoising":
            return f"pretraining of {self.configuration} for fold {self.fold}"
        if self.trial is not None:
            return self.trial.name
        fold = f"{self.configuration} fold {self.fold}"
        if self.branch is not None:
            return f"{fold}, annealed copy {self.branch + 1}"
        return fold

    @property
    def place(self) -> dict[str, object]:
        """What tells its progress from that of others."""
        place: dict[str, object] = {"configuration": self.configuration, "fold": self.fold}
        is_plain = self.trial is None and self.branch is None
        return place if is_plain else {**place, "name": self.name}

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
