"""The folds that are trained side by side: started, heard, started again when they die.

Ray comes in as an object; this module imports nothing of it. Progress and stop requests travel
through files in the fold's folder, so that all processes must see the workspace under one path.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, final

from autoseg.errors import AutosegError, TrainingError
from autoseg.train.fold import train_fold
from autoseg.train.job import FoldJob, Interrupted, Listeners
from autoseg.train.lines import read_lines
from autoseg.train.readings import speed
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")

MAX_TRIES = 3
POLL_S = 1.0
GET_S = 30.0
STOP_S = 120.0
"""Longest wait for workers that were asked to stop: a step, and writing a checkpoint."""


Ending = tuple[FoldJob, FoldResult | Exception]
"""A job with its result, or with the error that ended it."""


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


def work(job: FoldJob) -> FoldResult | AutosegError | None:
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
        num_workers: int,
        listeners: Listeners,
    ) -> None:
        self._ray, self._listeners = ray, listeners
        self._num_workers = num_workers
        self._again: deque[FoldJob] = deque()
        """What died and is to be started again."""
        self._running: dict[Any, FoldJob] = {}
        self._tries: Counter[str] = Counter()
        self._logs: dict[str, FoldLog] = {}

    def run(self, jobs: Sequence[FoldJob]) -> list[FoldResult]:
        """Train all jobs and return their results in order; the first error ends all."""
        found: dict[str, FoldResult] = {}
        with closing(self.each(jobs)) as ended:
            for job, outcome in ended:
                if isinstance(outcome, Exception):
                    raise outcome
                found[job.name] = outcome
        return [found[job.name] for job in jobs]

    def each(self, jobs: Iterable[FoldJob]) -> Generator[Ending]:
        """Yield jobs as they end, each with its result, or with the error that ended it.

        They are taken one by one, whenever a worker is free.
        """
        source = iter(jobs)
        try:
            while True:
                while len(self._running) < self._num_workers:
                    job = self._again.popleft() if self._again else next(source, None)
                    if job is None:
                        break
                    self._start(job)
                if not self._running:
                    return
                yield from self._collect()
                if self._listeners.should_stop():
                    raise Interrupted("training was stopped; the same command goes on")
        except BaseException:  # the end of whoever listens, too
            self._stop_all()
            raise

    def _start(self, job: FoldJob) -> None:
        if job.name not in self._logs:
            job.folder.stop.unlink(missing_ok=True)
            self._logs[job.name] = FoldLog(job)
        self._tries[job.name] += 1
        remote = self._ray.api.remote(
            num_cpus=job.num_threads,
            num_gpus=num_gpus(job),
            max_retries=0,  # we start again ourselves, from a checkpoint, and count
            max_calls=1,  # a process that ends gives its GPU memory back
        )(work)
        self._running[remote.remote(job)] = job

    def _collect(self) -> Iterator[Ending]:
        """Wait a moment; tell what has happened, yield what has ended."""
        ended, _ = self._ray.api.wait(list(self._running), timeout=POLL_S)
        outcomes = [self._take(reference, self._running.pop(reference)) for reference in ended]
        for log in self._logs.values():
            for line in log.new_lines():
                self._listeners.on_progress(line)
        for item in outcomes:
            if item is not None:
                self._logs.pop(item[0].name)
                yield item
        self._ray.check()

    def _take(self, reference: Any, job: FoldJob) -> Ending | None:  # noqa: ANN401
        """Return how a job ended; None for one that died and is started again."""
        errors = self._ray.api.exceptions
        try:
            outcome = self._ray.api.get(reference, timeout=GET_S)
        except errors.RayTaskError as error:
            return job, _original(error)
        except errors.RayError as error:
            failure = self._restart(job, str(error).splitlines()[0])
            return None if failure is None else (job, failure)
        if outcome is None:
            return job, Interrupted(f"{job.name} was stopped; the same command goes on")
        return job, outcome

    def _restart(self, job: FoldJob, reason: str) -> TrainingError | None:
        """Start a job again whose process died, or return why it is given up."""
        if self._tries[job.name] >= MAX_TRIES:
            return TrainingError(
                found=f"{job.name}: its process died {MAX_TRIES} times, at last: {reason}",
                expected="a process that lives until its fold is trained",
                fix="if memory ran out, train fewer folds at once with --workers, or plan with "
                "less --memory; the same command goes on from the last checkpoint",
            )
        LOG.warning("%s: its process died (%s); started again", job.name, reason)
        line = {"event": "restarted", "configuration": job.configuration, "fold": job.fold}
        append_line(Workspace(job.root).events, {**line, "reason": reason})
        self._again.append(job)
        return None

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
            for job in self._running.values():
                job.folder.stop.unlink(missing_ok=True)


def _original(error: Exception) -> Exception:
    """Return the error as the worker raised it, with what Ray says of it as a note."""
    original = getattr(error, "cause", None)
    if not isinstance(original, Exception):
        return error
    original.add_note(str(error))
    return original


@final
class FoldLog:
    """What a fold's worker has written of its progress and the listener has not heard."""

    def __init__(self, job: FoldJob) -> None:
        self._job = job
        self._last: dict[str, Any] = {"step": 0}
        self._validated: set[str] = set()
        list(self.new_lines())

    def new_lines(self) -> Iterator[dict[str, object]]:
        """Yield events of the steps and of the validation since the last call."""
        place = self._job.place
        for line in read_lines(self._job.folder.metrics):
            if line["step"] > self._last["step"]:
                speeds = speed(self._last, line, self._job.planned.batch_size)
                self._last = line
                yield {"event": "trained", **place, **line, **speeds}
        validated = {line["score"]["case_id"] for line in read_lines(self._job.folder.scores)}
        if not validated <= self._validated:
            self._validated = validated
            total = len(self._job.val_cases)
            yield {"event": "validated", **place, "done": len(validated), "total": total}


def num_gpus(job: FoldJob) -> int:
    """Return how many GPUs a fold takes."""
    return int(job.device.startswith("cuda"))
