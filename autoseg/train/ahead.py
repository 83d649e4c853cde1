"""Batches made ahead by threads, and what happens when one of them hangs."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import closing, suppress
from queue import SimpleQueue
from typing import Generic, TypeVar, final

from autoseg.errors import TrainingError

LOG = logging.getLogger("autoseg")

BATCHES_AHEAD = 1
"""Finished batches that wait for the trainer, besides those being made."""
WARN_S = 60.0
"""Making a batch takes milliseconds, seconds where a disk is slow: this is not usual."""
STALLED_S = 600.0
"""A network file system that is away comes back sooner, or not at all."""
LEFT_BEHIND_S = 10.0
"""Whoever ends a training does not wait longer for threads that make batches nobody wants."""

T = TypeVar("T")


def ahead(
    make: Callable[[int], T],
    step: int,
    num_steps: int,
    num_workers: int,
    at_work: Callable[[], tuple[str, ...]],
) -> Generator[T, None, None]:
    """Yield what `make` returns for steps `step` to `num_steps` - 1, made ahead by threads.

    No threads (0) make each when it is asked for. Closing the generator ends the threads.

    Parameters
    ----------
    at_work
        Names of the cases that are being read, for messages.

    Raises
    ------
    TrainingError
        A thread has hung for ten minutes; the case that it reads is named.
    """
    if num_workers == 0:
        for now in range(step, num_steps):
            yield make(now)
        return
    with closing(_Threads(make, num_workers, at_work)) as threads:
        for following in range(step, num_steps):
            threads.submit(following)
            if threads.num_waiting > num_workers + BATCHES_AHEAD:
                yield threads.next_result()
        while threads.num_waiting:
            yield threads.next_result()


def _names(cases: tuple[str, ...]) -> str:
    return ", ".join(f"case {name!r}" for name in cases) or "no case"


@final
class _Threads(Generic[T]):
    """Threads that end with the process, whatever they wait for.

    Those of `concurrent.futures` are waited for when Python ends, without end if one hangs.
    """

    def __init__(
        self, make: Callable[[int], T], count: int, at_work: Callable[[], tuple[str, ...]]
    ) -> None:
        self._make, self._at_work = make, at_work
        self._jobs: SimpleQueue[tuple[Future[T], int] | None] = SimpleQueue()
        self._waiting: deque[Future[T]] = deque()
        self._is_stalled = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batches_{index}", daemon=True)
            for index in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def num_waiting(self) -> int:
        """Batches that are submitted and not taken."""
        return len(self._waiting)

    def submit(self, step: int) -> None:
        """Have a step's batch made."""
        future: Future[T] = Future()
        self._waiting.append(future)
        self._jobs.put((future, step))

    def next_result(self) -> T:
        """Return the batch that was submitted first, or raise what went wrong with it."""
        future = self._waiting.popleft()
        with suppress(TimeoutError):
            return future.result(timeout=WARN_S)
        if not future.done():
            LOG.warning("no batch for %g s; being read: %s", WARN_S, _names(self._at_work()))
            with suppress(TimeoutError):
                return future.result(timeout=STALLED_S - WARN_S)
        if future.done():
            return future.result()  # also where a time-out is what went wrong
        self._is_stalled = True
        raise TrainingError(
            found=f"no batch for {STALLED_S:g} s: reading {_names(self._at_work())} hangs",
            expected="prepared cases that can be read within seconds",
            fix="see whether the disk or the network drive of the workspace answers; the same "
            "command goes on from the last checkpoint",
        )

    def close(self) -> None:
        """End the threads, each after what it is making; those that hang are left behind."""
        for future in self._waiting:
            future.cancel()
        for _ in self._threads:
            self._jobs.put(None)
        end = time.monotonic() + (0.0 if self._is_stalled else LEFT_BEHIND_S)
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, step = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                made = self._make(step)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(made)
                del made  # it is the trainer's
            del future, job
