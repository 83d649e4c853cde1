"""Folds one after another in this process, or side by side on Ray: the only module that knows Ray.

What Ray runs is `train_fold`, a plain function of a record.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, final

from autoseg.errors import TrainingError, counted
from autoseg.train.crew import Crew, Ending, num_gpus
from autoseg.train.device import check_device
from autoseg.train.fold import train_fold
from autoseg.train.job import FoldJob, Interrupted, Listeners, OnProgress, ShouldStop
from autoseg.train.origin import as_begun, finished
from autoseg.train.records import FoldResult
from autoseg.train.shared_path import check_nodes
from autoseg.train.team_work import Joined, Team

LOG = logging.getLogger("autoseg")

CHILD_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""Ray's processes report nothing, and start with this Python instead of building another. Threads
that wait give their core away: on shared cores a step is 1.6 times faster than with spinning."""
STORE_BYTES = 200_000_000
"""Only records travel; without a limit Ray takes a share of the machine's memory."""
START_S = 180.0
"""Starting Ray takes 5 s, a minute on busy cores."""
SILENCE_S = 25.0
"""Ray is given up when its control process has not answered for so long."""
ASK_EVERY_S = 2.0
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
    num_devices = max((job.num_devices for job in jobs), default=1)
    if num_workers <= 1 and num_devices == 1 and address is None:
        return [train_fold(job, on_progress, should_stop) for job in jobs]
    done = [finished(job) for job in jobs]
    left = [
        as_begun(replace(job, root=job.root.absolute()))
        for job, result in zip(jobs, done, strict=True)
        if result is None
    ]
    if left and address is None:
        check_device(left[0].device)
    if left:
        with _cluster(left, num_workers, address) as ray:
            listeners = Listeners(on_progress, should_stop)
            if num_devices == 1:
                new = iter(Crew(ray, num_workers, listeners).run(left))
            else:
                new = iter([Team(ray, job, listeners).train() for job in left])
        done = [next(new) if result is None else result for result in done]
    return [result for result in done if result is not None]


def train_each(
    jobs: Iterable[FoldJob],
    *,
    num_workers: int,
    address: str | None,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> Generator[Ending]:
    """Yield jobs as they end, each with its result or its error: one failure ends no other.

    They are taken one by one, whenever a worker is free, so that what has ended may decide what
    comes next. A job whose folder's file `stop` appears ends with `Interrupted`. The rest is as in
    `train_folds`; close the generator to stop.

    Raises
    ------
    Interrupted
        `should_stop` answered yes; everything is saved.
    TrainingError
        Ray cannot be started, or died.
    """
    if num_workers <= 1 and address is None:
        for job in jobs:
            yield job, _attempt(job, on_progress, should_stop)
        return
    source = iter(jobs)
    first = next(source, None)
    if first is None:
        return
    if address is None:
        check_device(first.device)
    with _cluster([first], num_workers, address) as ray:
        listeners = Listeners(on_progress, should_stop)
        yield from Crew(ray, num_workers, listeners).each(chain([first], source))


def _attempt(
    job: FoldJob, on_progress: OnProgress, should_stop: ShouldStop
) -> FoldResult | Exception:
    """Return a job's result, or the error that ended it."""
    job.folder.stop.unlink(missing_ok=True)
    try:
        return train_fold(job, on_progress, lambda: should_stop() or job.folder.stop.exists())
    except Interrupted as error:
        if should_stop():
            raise
        return error
    except Exception as error:
        LOG.warning("%s failed", job.name, exc_info=True)
        # Frames, also those of the errors behind it, would keep the memory of what has failed.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)


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
        import ray.util.scheduling_strategies

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

    def run_joined(self, task: Joined) -> None:
        """Run a function in several processes that torch.distributed joins; wait for its end.

        All are started again when one dies. Ray Train's own errors come through.
        """
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        TorchTrainer(
            lambda _: task.function(task.argument),
            train_loop_config={},
            torch_config=TorchConfig(backend=task.backend, timeout_s=task.patience_s),
            scaling_config=ScalingConfig(
                num_workers=task.num_processes,
                use_gpu="GPU" in task.resources,
                resources_per_worker=dict(task.resources),
            ),
            run_config=RunConfig(
                name="team",
                storage_path=str(task.folder),
                failure_config=FailureConfig(max_failures=task.max_failures),
            ),
        ).fit()

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
                "num_cpus": num_workers * max(job.num_devices * job.num_threads for job in jobs),
                "num_gpus": None if any(num_gpus(job) for job in jobs) else 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        ray = _Ray(options)
        try:
            ray.start()
            _require_resources(ray, jobs)
            if address is not None:
                check_nodes(ray, jobs)
            yield ray
        finally:
            ray.stop()


def _require_resources(ray: _Ray, jobs: Sequence[FoldJob]) -> None:
    """Raise a TrainingError if no node can ever run one of the jobs."""
    nodes = [node["Resources"] for node in ray.api.nodes() if node["Alive"]]
    for job in jobs:
        wanted = {"CPU": job.num_threads, "GPU": num_gpus(job)}
        places = sum(
            min(int(node.get(key, 0) // count) for key, count in wanted.items() if count)
            for node in nodes
        )
        if places < job.num_devices:
            room = f"{wanted['CPU']} CPUs and {wanted['GPU']} GPUs"
            several = (
                f"the cluster has room for {counted(places, 'process', 'processes')} of {room}"
            )
            raise TrainingError(
                found=several if places else f"no node of the cluster has {room}",
                expected=f"room for {job.num_devices}, as {job.name} wants",
                fix="plan for the cluster's machines, or start Ray with more resources",
            )


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
