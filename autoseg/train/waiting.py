"""What bounds the speed of a training: the data, or the computing."""

import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Literal, TypeVar, final

T = TypeVar("T")
Bound = Literal["data", "compute"]

DATA_BOUND = 0.05
"""Part of the time that a training waits for batches from which on the data bound its speed. Where
they are made faster than they are used, one is ready whenever it is asked for."""
REMEDIES: Mapping[Bound, str] = MappingProxyType(
    {
        "data": "more processor cores for each fold (fewer --workers at once), a faster disk for "
        "the workspace, or a plan with more --ram, which keeps more prepared cases in memory, "
        "would make it faster",
        "compute": "only a faster device, a smaller network or a smaller patch would make it "
        "faster",
    }
)
"""What helps, by what bounds the speed."""


@final
class Waiting:
    """Measures how long a training waits for its batches.

    Only the wall clock is read: the device is never waited for. It may run behind the processor,
    but no further than its queue is long, so that over many steps the processor waits for batches
    only where the device would have to.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._since = time.perf_counter()

    def over(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, and measure how long each is waited for."""
        stream = iter(batches)
        while True:
            asked = time.perf_counter()
            try:
                batch = next(stream)
            except StopIteration:
                return
            self._waited_s += time.perf_counter() - asked
            yield batch

    def share(self) -> float:
        """Return the part of the time since the last call, or since it was made, 0 to 1."""
        now = time.perf_counter()
        passed_s, waited_s = now - self._since, self._waited_s
        self._since, self._waited_s = now, 0.0
        return min(1.0, waited_s / passed_s) if passed_s > 0 else 0.0


def bound(waiting: float) -> Bound:
    """Return what bounds the speed of a training that waits for so large a part of its time."""
    return "data" if waiting >= DATA_BOUND else "compute"
