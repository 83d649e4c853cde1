"""What a search asks of the package that proposes trials; found by entry point, never imported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from autoseg.plan.search_space import Dimension, Values
from autoseg.record import Record

PRIORS = "priors"
"""Under this is kept with a study, as JSON, how many trials it takes from each earlier one, by
file: {} where none was given. Only a new study takes any."""

State = Literal["running", "complete", "killed", "failed", "infeasible", "interrupted"]


class Origin(Record):
    """What a study is about: another one's trials say nothing here."""

    dataset_name: str
    fingerprint_digest: str
    plan_digest: str
    """Of the plan that trial 0 is."""
    space_version: int
    configuration: str
    fold: str
    """That trials are validated on."""
    steps: int | None
    """Of each trial; None: they have equal time."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a trial ended."""

    state: State
    score: float | None = None
    seconds: float = 0.0
    steps: int | None = None
    reason: str = ""
    """Why it was not completed."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as the study keeps it."""

    number: int
    values: Values
    ended: Ended
    folder: int
    """Number of its folder: an interrupted trial is gone on with under a new number."""
    looks: Mapping[float, float]
    """Dice by rung."""


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What is known of a process that has ended without a word."""

    progress: Callable[[int], int]
    """How far the trial of a folder has come: grows with all that it need not do again, and with
    each step that it could take."""
    memory_kills: int | None
    """How many processes the system has ended because memory had run out; None: it does not say."""


class Study(Protocol):
    """A study in a file, which survives whatever happens to its process."""

    def ask(self) -> Trial:
        """Return the next trial to train: what was interrupted or proposed before, else new."""
        ...

    def constrain(self, number: int, excesses: Mapping[str, float]) -> None:
        """Keep by how much a running trial exceeds each limit; 0 or less is within it."""
        ...

    def look(self, number: int, rung: float, dice: float) -> None:
        """Keep the Dice of a running trial at a rung."""
        ...

    def tell(self, number: int, ended: Ended) -> None:
        """Keep how a running trial ended."""
        ...

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials that were begun, in order."""
        ...

    def importances(self) -> dict[str, float]:
        """Return which part of the scores' variance each dimension explains; {}: too few trials."""
        ...

    def kept(self, key: str) -> str | None:
        """Return a text that was kept with the study."""
        ...

    def keep(self, key: str, text: str) -> None:
        """Keep a text with the study."""
        ...


class OpenStudy(Protocol):
    """Opens the study in a file, or begins one: what an entry point of `autoseg.searchers` is."""

    def __call__(
        self,
        path: Path,
        origin: Origin,
        space: Sequence[Dimension],
        *,
        seed: int,
        witness: Witness,
        priors: Sequence[Path],
    ) -> Study:
        """Return the study; trials that a dead process has left running are to be gone on with.

        Parameters
        ----------
        path
            Of the file; nobody else has it open.
        origin, space
            What it is about, and what may be changed.
        seed
            Of the proposals.
        witness
            Tells which trials are not to be gone on with any more.
        priors
            Files of finished studies, of other data sets as well: a new study proposes what was
            good there as early trials, and keeps their names (see `PRIORS`).

        Raises
        ------
        PlanError
            The file is of another study, or cannot be read.
        """
        ...
