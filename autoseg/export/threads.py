"""How many threads a network gets, found out while it computes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import final

FIRST_INTERVAL = 8
LAST_INTERVAL = 128
"""Calls between two tries of the slower count: doubled each time it stays slower."""


@final
class ThreadChoice:
    """Prefers the fastest of some thread counts and tries the others now and then.

    The threads of torch wait for each other actively, many times a tile. Where another program
    takes a processor, all of them wait for the one that it displaced, and fewer are faster: with
    one of two processors busy, measured 50 s against 5 s.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        self._seconds = dict.fromkeys(counts, 0.0)
        self._warm = False
        self._interval = FIRST_INTERVAL
        self._calls = 0

    @property
    def count(self) -> int:
        """The count for the next call: one that was not tried yet, the fastest, or one more try."""
        best = min(self._seconds, key=self._seconds.__getitem__)
        if self._calls < self._interval or len(self._seconds) == 1:
            return best
        return max(self._seconds, key=self._seconds.__getitem__)

    @contextmanager
    def measure(self, size: int) -> Iterator[int]:
        """Yield the count for a call on `size` tiles, and learn from the time that it takes."""
        count = self.count
        start = time.perf_counter()
        yield count
        self.learn(count, (time.perf_counter() - start) / size)

    def learn(self, count: int, seconds: float) -> None:
        """Take in the seconds of one tile; the first call of all only warms up."""
        if not self._warm:
            self._warm = True
            return
        before = min(self._seconds, key=self._seconds.__getitem__)
        known = all(self._seconds.values())
        old = self._seconds[count]
        self._seconds[count] = seconds if old == 0 or seconds < old else (old + seconds) / 2
        self._calls += 1
        if known and count != before:
            stays = min(self._seconds, key=self._seconds.__getitem__) == before
            self._interval = min(2 * self._interval, LAST_INTERVAL) if stays else FIRST_INTERVAL
            self._calls = 0
