"""A fold that several processes train together: launched and supervised by Ray Train.

Ray comes in as an object; this module imports nothing of it. Ray Train starts the processes, joins
them, and starts all again when one dies: they go on from the fold's own checkpoint. What the leader
says travels through files in the fold's folder, as with folds side by side.
"""

import logging
import math
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import torch

from autoseg.errors import AutosegError, TrainingError
from autoseg.record import Record
from autoseg.train.accumulate import is_memory_full
from autoseg.train.crew import MAX_TRIES, POLL_S, STOP_S, FoldLog, num_gpus, work
from autoseg.train.job import FoldJob, Interrupted, Listeners
from autoseg.train.origin import finished
from autoseg.train.records import FoldResult
from autoseg.train.task import TASKS
from autoseg.train.team import BACKENDS, Leader, follow, is_leader
from autoseg.workspace import write_text

LOG = logging.getLogger("autoseg")

PATIENCE_S = 7 * 24 * 3600
"""The others wait for the leader while it validates; that it has died they see at once."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A function that several processes run, joined by torch.distributed."""

    function: Callable[[FoldJob], None]
    argument: FoldJob
    num_processes: int
    resources: Mapping[str, float]
    """Of each process, as Ray names them."""
    backend: str
    patience_s: int
    """Longest wait of one process for another."""
    max_failures: int
    """After so many deaths it is given up."""
    folder: Path
    """For Ray Train's notes."""


class Launcher(Protocol):
    """A connection to Ray."""

    def check(self) -> None:
        """Raise a TrainingError if Ray has died."""
        ...

    def run_joined(self, task: Joined) -> None:
        """Run a function in several processes; wait for its end."""
        ...


@final
class Ended(Record):
    """How a leader ended that has no result."""

    is_interrupted: bool = False
    found: str = ""
    expected: str = ""
    fix: str = ""


def take_part(job: FoldJob) -> None:
    """Train a fold as the leader of its team, or lend the leader a device until it ends."""
    torch.set_num_threads(job.num_threads)
    if not is_leader():
        _lend_device(job)
        return
    # Where there is a note, all were started again only because that is how an error ends them.
    outcome = None if _note(job).exists() else work(job)
    if isinstance(outcome, AutosegError):
        raise _noted(job, outcome)
    if outcome is None and not _note(job).exists():
        write_text(_note(job), Ended(is_interrupted=True).to_json())
    Leader().end()


def _lend_device(job: FoldJob) -> None:
    """Compute what the leader asks for, until it ends."""
    task = TASKS[job.objective]
    try:
        follow(
            lambda *given: task.build_learner(*given).model,
            job.planned,
            job.device,
            (job.plan.seed, "team", job.configuration, job.fold),
        )
    except Exception as error:
        if not is_memory_full(error):
            raise
        raise _noted(job, _memory_is_full(job)) from error


def _noted(job: FoldJob, error: AutosegError) -> RuntimeError:
    """Write an error down for the caller; return what ends all processes, wherever they wait."""
    note = Ended(found=error.found, expected=error.expected, fix=error.fix)
    write_text(_note(job), note.to_json())
    return RuntimeError(f"{job.name} has ended: {error.found}")


def _memory_is_full(job: FoldJob) -> TrainingError:
    """Return the error of a process whose part of a batch does not fit."""
    return TrainingError(
        found=f"{job.name}: the memory of one of its {job.num_devices} processes is full",
        expected=f"room for {math.ceil(job.planned.batch_size / job.num_devices)} of the "
        f"{job.planned.batch_size} samples of a batch",
        fix="give more --devices-per-fold, or plan with less --memory",
    )


@final
class Team:
    """The processes that train one fold, and those who hear of it.

    Parameters
    ----------
    ray
        A running Ray.
    """

    def __init__(self, ray: Launcher, job: FoldJob, listeners: Listeners) -> None:
        self._ray, self._job, self._listeners = ray, job, listeners
        self._log = FoldLog(job)
        self._failure: BaseException | None = None

    def train(self) -> FoldResult:
        """Train and validate the fold; return its result.

        Raises
        ------
        Interrupted
            The caller asked to stop; everything is saved.
        TrainingError
            The fold cannot be trained, its processes died too often, or Ray itself died.
        """
        folder = self._job.folder
        folder.root.mkdir(parents=True, exist_ok=True)
        for path in (folder.stop, _note(self._job)):
            path.unlink(missing_ok=True)
        thread = threading.Thread(target=self._run, name="team", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL_S)
                self._tell()
                self._ray.check()
                if self._listeners.should_stop():
                    folder.stop.touch()
            return self._outcome()
        except BaseException:
            folder.stop.touch()
            thread.join(STOP_S)
            raise
        finally:
            folder.stop.unlink(missing_ok=True)
            shutil.rmtree(_notes(self._job), ignore_errors=True)

    def _run(self) -> None:
        job = self._job
        task = Joined(
            function=take_part,
            argument=job,
            num_processes=job.num_devices,
            resources={"CPU": job.num_threads, **({"GPU": 1} if num_gpus(job) else {})},
            backend=BACKENDS[torch.device(job.device).type],
            patience_s=PATIENCE_S,
            max_failures=MAX_TRIES - 1,
            folder=_notes(job),
        )
        try:
            self._ray.run_joined(task)
        except BaseException as error:  # of Ray Train: the result decides
            self._failure = error

    def _tell(self) -> None:
        for line in self._log.new_lines():
            self._listeners.on_progress(line)

    def _outcome(self) -> FoldResult:
        """Return the result, or raise why there is none."""
        name, note = self._job.name, _note(self._job)
        if (result := finished(self._job)) is not None:
            return result
        ended = Ended.load(note) if note.exists() else None
        if ended is not None and ended.is_interrupted:
            raise Interrupted(f"{name} was stopped; the same command goes on")
        if ended is not None:
            raise TrainingError(found=ended.found, expected=ended.expected, fix=ended.fix)
        LOG.warning("%s: %s", name, self._failure)
        reason = str(self._failure).strip().splitlines() or ["no reason is known"]
        raise TrainingError(
            found=f"{name}: one of its {self._job.num_devices} processes died {MAX_TRIES} times, "
            f"at last: {reason[-1]}",
            expected="processes that live until their fold is trained",
            fix="see autoseg.log in the workspace; if memory ran out, plan with less --memory; "
            "the same command goes on from the last checkpoint",
        )


def _note(job: FoldJob) -> Path:
    """Return the file that says why there is no result."""
    return job.folder.root / "team.json"


def _notes(job: FoldJob) -> Path:
    """Return the folder of Ray Train's notes."""
    return job.folder.root / "team"
