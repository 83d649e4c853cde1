"""Folds one after another in this process, or side by side on Ray: the only module that knows Ray.

What Ray runs is `train_fold`, a plain function of a record. Progress and stop requests travel
through files in the fold's folder, so that all processes must see the workspace under one path.
"""

import json
import logging
import os
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from autoseg.errors import AutosegError, TrainingError
from autoseg.train.fold import finished, train_fold
from autoseg.train.job import FoldJob, Interrupted, Listeners, OnProgress, ShouldStop
from autoseg.train.records import FoldResult
from autoseg.workspace import Workspace, append_line

LOG = logging.getLogger("autoseg")

CHILD_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""Ray's processes report nothing, and start with this Python instead of building another."""
STORE_BYTES = 200_000_000
"""Only records travel; without a limit Ray takes a share of the machine's memory."""
MAX_TRIES = 3
POLL_S = 1.0
GET_S = 30.0
START_S = 180.0
"""Starting Ray takes 5 s, a minute on busy cores."""
SILENCE_S = 25.0
"""Ray is given up when its control process has not answered for so long."""
ASK_EVERY_S = 2.0
STOP_S = 120.0
"""Longest wait for workers that were asked to stop: a step, and writing a checkpoint."""
SHUTDOWN_S = 15.0


def train_folds(
    jobs: Sequence[FoldJob],
    *,
    num_workers: int,
    address: str | None,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> list[FoldResult]:
    """Return the results of all jobs, in order; folds that are done are not trained again.

    With one worker and no address, in this process: there Ray costs more than it gives. Else on a
    local Ray that lives as long as the call, or on the one at `address`. A worker that dies is
    started again from its last checkpoint.

    Raises
    ------
    Interrupted
        `should_stop` answered yes; everything is saved.
    TrainingError
        A fold cannot be trained, its process died too often, or Ray itself died.
    """
    if num_workers <= 1 and address is None:
        return [train_fold(job, on_progress, should_stop) for job in jobs]
    done = [finished(job) for job in jobs]
    left = [
        replace(job, root=job.root.absolute())
        for job, result in zip(jobs, done, strict=True)
        if result is None
    ]
    if left:
        with _cluster(left, num_workers, address) as ray:
            listeners = Listeners(on_progress, should_stop)
            new = iter(_Crew(ray, left, num_workers, listeners).run())
        done = [next(new) if result is None else result for result in done]
    return [result for result in done if result is not None]


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
class _Crew:
    """Workers on a running Ray, at most so many at a time."""

    def __init__(
        self,
        ray: "_Ray",
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
        self._logs = {job.name: _Log(job) for job in jobs}

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
        except BaseException:
            self._stop_all()
            raise
        return [self._results[job.name] for job in self._jobs]

    def _start(self, job: FoldJob) -> None:
        self._tries[job.name] += 1
        remote = self._ray.api.remote(
            num_cpus=job.num_threads,
            num_gpus=_gpus(job),
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
        for job in self._jobs:
            job.folder.stop.unlink(missing_ok=True)


@final
class _Log:
    """The lines of a fold's metrics that the listener has not heard."""

    def __init__(self, job: FoldJob) -> None:
        self._place: dict[str, object] = {
            "event": "trained",
            "configuration": job.configuration,
            "fold": job.fold,
        }
        self._path = job.folder.metrics
        self._step = 0
        list(self.new_lines())

    def new_lines(self) -> Iterator[dict[str, object]]:
        """Yield the lines written since the last call."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        for part in text.split("\n")[:-1]:  # what follows the last newline is being written
            line = json.loads(part)
            if line["step"] > self._step:
                self._step = line["step"]
                yield self._place | line


@final
class _Ray:
    """A connection to Ray, kept by a thread of its own from start to shutdown.

    The thread makes every wait finite, leaves our signal handlers alone, and asks Ray now and then
    whether it lives, which Ray's own waits do not notice. It must outlive the processes it starts:
    Linux ends them with it.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        import ray
        import ray.exceptions

        self.api: Any = ray
        self._options = options
        self._has_nodes = True
        self._answered = time.monotonic()
        self._failure: BaseException | None = None
        self._is_ready, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name="ray", daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether Ray has a living node and answers."""
        return self._has_nodes and time.monotonic() - self._answered < SILENCE_S

    def start(self) -> None:
        """Start or reach Ray; raise a TrainingError if that fails or takes too long."""
        self._thread.start()
        is_ready = self._is_ready.wait(START_S)
        if is_ready and self._failure is None:
            return
        reason = f"failed: {self._failure}" if is_ready else f"took more than {START_S:.0f} s"
        raise TrainingError(
            found=f"starting Ray {reason}",
            expected="a Ray that answers",
            fix="correct --address, or train with --workers 1, which needs no Ray",
        )

    def check(self) -> None:
        """Raise a TrainingError if Ray has died."""
        if not self.is_alive:
            raise TrainingError(
                found="Ray, which runs the workers, has died",
                expected="its processes (raylet, gcs_server) to live as long as training",
                fix="see whether memory ran out; the same command goes on from the last "
                "checkpoints, with --workers 1 without Ray",
            )

    def stop(self) -> None:
        """Disconnect; a Ray that does not answer is left behind."""
        self._end.set()
        self._thread.join(SHUTDOWN_S)

    def _keep(self) -> None:
        try:
            self.api.init(**self._options)
        except BaseException as error:
            self._failure = error
            return
        finally:
            self._answered = time.monotonic()
            self._is_ready.set()
        while not self._end.wait(ASK_EVERY_S):
            try:
                self._has_nodes = any(node["Alive"] for node in self.api.nodes())
            except Exception:
                self._has_nodes = False
                return
            self._answered = time.monotonic()
        self.api.shutdown()


@contextmanager
def _cluster(jobs: Sequence[FoldJob], num_workers: int, address: str | None) -> Iterator[_Ray]:
    """Yield Ray, started or reached; a local one ends with the context."""
    # Unix socket names are limited to 107 characters: the folder's name must be short.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with (
        tempfile.TemporaryDirectory(prefix="as", dir=short, ignore_cleanup_errors=True) as folder,
        _environment(CHILD_ENVIRONMENT),
    ):
        logging.getLogger("ray").setLevel(logging.CRITICAL)  # we say ourselves what matters
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
        if address is not None:
            options["address"] = address
        else:
            options |= {
                "num_cpus": num_workers * max(job.num_threads for job in jobs),
                "num_gpus": None if any(_gpus(job) for job in jobs) else 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        ray = _Ray(options)
        try:
            ray.start()
            _require_resources(ray, jobs)
            yield ray
        finally:
            ray.stop()


def _require_resources(ray: _Ray, jobs: Sequence[FoldJob]) -> None:
    """Raise a TrainingError if no node can ever run one of the jobs."""
    nodes = [node["Resources"] for node in ray.api.nodes() if node["Alive"]]
    for job in jobs:
        wanted = {"CPU": job.num_threads, "GPU": _gpus(job)}
        if not any(all(node.get(k, 0) >= n for k, n in wanted.items()) for node in nodes):
            raise TrainingError(
                found=f"no node of the cluster has {wanted['CPU']} CPUs and {wanted['GPU']} GPUs",
                expected=f"what the plan wants for {job.name}",
                fix="plan for the cluster's machines, or start Ray with more resources",
            )


def _gpus(job: FoldJob) -> int:
    return int(job.device.startswith("cuda"))


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}  # noqa: TID251
    os.environ.update(variables)  # noqa: TID251
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)  # noqa: TID251
            else:
                os.environ[name] = value  # noqa: TID251
