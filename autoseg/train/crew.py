"""The folds that are trained side by side: started, heard, started again when they die.

Ray comes in as an object; this module imports nothing of it. Progress and stop requests travel
through files in the fold's folder, so that all processes must see the workspace under one path.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, final

from autoseg.errors import AutosegError, TrainingError
from autoseg.train.fold import train_fold
from autoseg.train.job import FoldJob, Interrupted, Listeners
from autoseg.train.lines import read_lines
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")

MAX_TRIES = 3
POLL_S = 1.0
GET_S = 30.0
STOP_S = 120.0
"""Longest wait for workers that were asked to stop: a step, and writing a checkpoint."""


class Connection(Protocol):
    """A connection to Ray."""

    @property
    def api(self) -> Any:  # noqa: ANN401
        """The module `ray`."""
        ...

    @property
    def is_alive(self) -> bool:
        """Whether Ray has a living node and answers."""
        ...

    def check(self) -> None:
        """Raise a TrainingError if Ray has died."""
        ...


def _work(job: FoldJob) -> FoldResult | AutosegError | None:
    """Train a fold in a worker; None when it was asked to stop. Errors come back as values."""
    handler = logging.FileHandler(Workspace(job.root).log, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {job.name}: %(message)s"))
    LOG.addHandler(handler)
    try:
        return train_fold(job, lambda _: None, job.folder.stop.exists)
    except AutosegError as error:
        return error
    except Interrupted:
        return None
    except Exception:
        LOG.exception("failed")
        raise


@final
class Crew:
    """Workers on a running Ray, at most so many at a time."""

    def __init__(
        self,
        ray: Connection,
        jobs: Sequence[FoldJob],
        num_workers: int,
        listeners: Listeners,
    ) -> None:
        self._ray, self._listeners = ray, listeners
        self._jobs, self._num_workers = jobs, num_workers
        self._waiting = deque(jobs)
        self._running: dict[Any, FoldJob] = {}
        self._results: dict[str, FoldResult] = {}
        self._tries: Counter[str] = Counter()
        self._logs = {job.name: FoldLog(job) for job in jobs}

    def run(self) -> list[FoldResult]:
        """Train all jobs and return their results in order."""
        for job in self._jobs:
            job.folder.stop.unlink(missing_ok=True)
        try:
            while self._waiting or self._running:
                while self._waiting and len(self._running) < self._num_workers:
                    self._start(self._waiting.popleft())
                self._collect()
                if self._listeners.should_stop():
                    raise Interrupted("training was stopped; the same command goes on")
        except Exception:
            self._stop_all()
            raise
        return [self._results[job.name] for job in self._jobs]

    def _start(self, job: FoldJob) -> None:
        self._tries[job.name] += 1
        remote = self._ray.api.remote(
            num_cpus=job.num_threads,
            num_gpus=num_gpus(job),
            max_retries=0,  # we start again ourselves, from a checkpoint, and count
            max_calls=1,  # a process that ends gives its GPU memory back
        )(_work)
        self._running[remote.remote(job)] = job

    def _collect(self) -> None:
        """Wait a moment; take in what has ended, tell what has happened."""
        ended, _ = self._ray.api.wait(list(self._running), timeout=POLL_S)
        for reference in ended:
            self._take(reference, self._running.pop(reference))
        for log in self._logs.values():
            for line in log.new_lines():
                self._listeners.on_progress(line)
        self._ray.check()

    def _take(self, reference: Any, job: FoldJob) -> None:  # noqa: ANN401
        """Keep a result, raise a worker's error, or start again what has died."""
        errors = self._ray.api.exceptions
        try:
            outcome = self._ray.api.get(reference, timeout=GET_S)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            self._restart(job, str(error).splitlines()[0])
            return
        if isinstance(outcome, AutosegError):
            raise outcome
        if outcome is None:
            raise Interrupted(f"{job.name} was stopped; the same command goes on")
        self._results[job.name] = outcome

    def _restart(self, job: FoldJob, reason: str) -> None:
        if self._tries[job.name] >= MAX_TRIES:
            raise TrainingError(
                found=f"{job.name}: its process died {MAX_TRIES} times, at last: {reason}",
                expected="a process that lives until its fold is trained",
                fix="if memory ran out, train fewer folds at once with --workers, or plan with "
                "less --memory; the same command goes on from the last checkpoint",
            )
        LOG.warning("%s: its process died (%s); started again", job.name, reason)
        line = {"event": "restarted", "configuration": job.configuration, "fold": job.fold}
        append_line(Workspace(job.root).events, {**line, "reason": reason})
        self._waiting.append(job)

    def _stop_all(self) -> None:
        """Ask all workers to save and stop, and wait for them as long as Ray lives."""
        for job in self._running.values():
            job.folder.root.mkdir(parents=True, exist_ok=True)
            job.folder.stop.touch()
        end = time.monotonic() + STOP_S
        left = list(self._running)
        while left and self._ray.is_alive and time.monotonic() < end:
            _, left = self._ray.api.wait(left, num_returns=len(left), timeout=POLL_S)
        if self._ray.is_alive:  # else workers may live on for a moment, and shall read it
            for job in self._jobs:
                job.folder.stop.unlink(missing_ok=True)


@final
class FoldLog:
    """What a fold's worker has written of its progress and the listener has not heard."""

    def __init__(self, job: FoldJob) -> None:
        self._job = job
        self._step = 0
        self._validated: set[str] = set()
        list(self.new_lines())

    def new_lines(self) -> Iterator[dict[str, object]]:
        """Yield events of the steps and of the validation since the last call."""
        place = {"configuration": self._job.configuration, "fold": self._job.fold}
        for line in read_lines(self._job.folder.metrics):
            if line["step"] > self._step:
                self._step = line["step"]
                yield {"event": "trained", **place, **line}
        validated = {line["score"]["case_id"] for line in read_lines(self._job.folder.scores)}
        if not validated <= self._validated:
            self._validated = validated
            total = len(self._job.val_cases)
            yield {"event": "validated", **place, "done": len(validated), "total": total}


def num_gpus(job: FoldJob) -> int:
    """Return how many GPUs a fold takes."""
    return int(job.device.startswith("cuda"))
