"""What training writes besides weights."""

from typing import Literal

from autoseg.evaluate.scores import CaseScore
from autoseg.record import Record


class Request(Record):
    """How long a fold was to be trained."""

    num_steps: int | None
    budget_s: float | None
    """Of the whole command, for all its folds."""
    is_explicit: bool
    """Asked for by the user; else the plan's default."""

    def __str__(self) -> str:
        """Return the request for messages: "500 steps", "a budget of 3600 s"."""
        if self.num_steps is not None:
            return f"{self.num_steps} steps"
        return f"a budget of {self.budget_s:g} s"


class InitialChoice(Record):
    """Weights that a fold begins with, instead of drawn ones (see `autoseg.train.initial`)."""

    source: str
    """What `--init` named, as an absolute path."""
    sha256: str
    """Of the file that the weights come from."""


class AnnealedEnd(Record):
    """What a copy of a run reached that was annealed before the run's end."""

    step: int
    """Where the copy was made."""
    num_steps: int
    """Steps of the copy in all."""
    cases: tuple[str, ...]
    """Validation cases that were predicted."""
    case_dice: tuple[float | None, ...]
    """Mean Dice of each case's classes, on the prepared grid; None where it has none."""
    class_dice: tuple[float | None, ...]
    """Mean Dice of each foreground class over these cases."""
    gain: float | None = None
    """Mean over cases of what it is above the end before; None for the first."""
    noise: float | None = None
    """Standard error of the gain."""
    is_plateau: bool = False
    """Training twice as long gained too little to go on: these weights are the final ones."""
    elapsed_s: float
    """Active seconds of the fold until here."""

    @property
    def dice(self) -> float | None:
        """Mean over cases."""
        known = [value for value in self.case_dice if value is not None]
        return sum(known) / len(known) if known else None


class RunSettings(Record):
    """What only the training machine can know, decided once before step 1 and read ever after."""

    schema_version: Literal[1] = 1
    plan_digest: str
    configuration: str
    fold: str
    num_steps: int
    device: str
    precision: Literal["fp32", "bf16", "fp16"]
    num_threads: int
    channels_last: bool
    seconds_per_step: float
    """As probed; 0 where the number of steps was given, not found from a budget."""
    request: Request | None = None
    """None: not known, and not compared with later requests."""
    cases_digest: str | None = None
    """Changes with the fold's cases and their files; None: not known, and not compared."""
    previous_digest: str | None = None
    """Changes with what the previous stage found in the fold's cases; None: there is no stage."""
    initial: InitialChoice | None = None
    """None: all weights were drawn."""
    stops_at_plateau: bool = False
    """Copies are annealed on the way, and the run ends when training longer gains too little."""
    augment_on: Literal["workers", "device"] = "workers"
    """What changes the patches: the processor's threads, or the device, a batch at once."""
    micro_batch: int | None = None
    """Samples that go through the network at once; None: the whole batch. Memory that is full later
    makes it smaller: see events.jsonl."""
    compiled: bool = False
    """The network is compiled before it is trained."""
    compiled_why: str = ""
    """Why it is, or is not; empty: compiling was not considered."""


class FoldResult(Record):
    """The outcome of one fold: result.json."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    plan_digest: str
    configuration: str
    fold: str
    seed: int
    num_steps: int
    train_seconds: float
    validation_seconds: float
    scores: tuple[CaseScore, ...]
    """One entry a validation case; empty for fold "all"."""
    request: Request | None = None
    cases_digest: str | None = None
    previous_digest: str | None = None
    initial: InitialChoice | None = None
    train_dice: tuple[float | None, ...] = ()
    """Mean Dice of each foreground class on some training cases; empty where it was too dear."""
    ends: tuple[AnnealedEnd, ...] = ()
    """Annealed copies on the way, in order; the last one is the fold where it is a plateau."""
