import pytest

from autoseg.train import waiting as module
from autoseg.train.waiting import DATA_BOUND, Waiting, bound


class Clock:
    """A clock that goes as the test says."""

    now = 1000.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def slow_batches(clock, seconds):
    for index in range(3):
        clock.now += seconds
        yield index


def test_the_share_is_the_part_of_the_time_that_batches_are_waited_for(clock):
    waiting = Waiting()
    seen = []
    for batch in waiting.over(slow_batches(clock, 1.0)):
        seen.append(batch)
        clock.now += 3.0
    assert seen == [0, 1, 2]
    assert waiting.share() == pytest.approx(0.25)


def test_each_share_is_of_the_time_since_the_last_one(clock):
    waiting = Waiting()
    stream = waiting.over(slow_batches(clock, 1.0))
    next(stream)
    assert waiting.share() == 1.0
    clock.now += 4.0
    assert waiting.share() == 0.0
    next(stream)
    clock.now += 1.0
    assert waiting.share() == pytest.approx(0.5)


def test_no_time_has_no_share(clock):
    assert Waiting().share() == 0.0


def test_whoever_waits_much_is_bound_by_data():
    assert bound(DATA_BOUND) == "data"
    assert bound(0.9 * DATA_BOUND) == "compute"
