import threading
import time

import pytest

from autoseg.track import follow
from autoseg.track.follow import followed


@pytest.fixture
def told():
    return []


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(follow, "READ_EVERY_S", 0.01)


def wait_until(is_so):
    end = time.monotonic() + 5
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    assert is_so()


def test_lines_are_fed_while_the_training_goes_on_and_the_last_ones_at_its_end(
    place, tracker, told
):
    with followed(place.workspace, {"fake": tracker}, told.append):
        place.log(1, 2)
        wait_until(lambda: tracker.steps() == [1, 2])
        place.log(3)
    assert tracker.steps() == [1, 2, 3]
    assert tracker.is_closed
    assert told == []


def test_a_tracker_that_fails_is_told_once_and_disturbs_nothing(place, tracker, told):
    place.log(1)
    tracker.failure = ConnectionError("no answer\nfrom the server")
    with followed(place.workspace, {"fake=there": tracker}, told.append):
        wait_until(lambda: told)
        time.sleep(0.05)
    assert told == [
        "fake=there cannot be fed: no answer. Training goes on without it",
        "fake=there does not have all of this training; to feed it the rest: "
        f"autoseg track -w {place.workspace.root} --to fake=there",
    ]
    assert tracker.is_closed


def test_a_tracker_that_comes_back_gets_everything(place, tracker, told):
    place.log(1)
    tracker.failure = ConnectionError("no answer")
    with followed(place.workspace, {"fake": tracker}, told.append):
        wait_until(lambda: told)
        tracker.failure = None
        place.log(2)
    assert tracker.steps() == [1, 2]
    assert len(told) == 1


def test_a_tracker_that_hangs_is_left_alone(place, tracker, told, monkeypatch):
    monkeypatch.setattr(follow, "END_S", 0.05)
    answer = threading.Event()
    tracker.fed = lambda run: answer.wait()
    started = time.monotonic()
    with followed(place.workspace, {"fake": tracker}, told.append):
        pass
    assert time.monotonic() - started < 2
    assert "does not have all" in told[0]
    answer.set()


def test_an_error_of_the_training_stays_the_error(place, tracker, told):
    def train():
        with followed(place.workspace, {"fake": tracker}, told.append):
            place.log(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert tracker.steps() == [1]


def test_each_tracker_goes_its_own_way(place, tracker, told):
    class Hanging:
        def fed(self, run):
            raise OSError("gone")

        def tell(self, run, news):
            raise OSError("gone")

        def close(self):
            raise OSError("gone")

    with followed(place.workspace, {"bad": Hanging(), "good": tracker}, told.append):
        place.log(1)
    assert tracker.steps() == [1]
    assert all("bad" in text for text in told)


def test_logs_are_read_only_when_there_is_something_new(place, tracker, told, monkeypatch):
    calls, read = [], follow.feed
    monkeypatch.setattr(follow, "feed", lambda *args: calls.append(read(*args)))
    place.log(1, 2)
    with followed(place.workspace, {"fake": tracker}, told.append):
        wait_until(lambda: tracker.steps() == [1, 2])
        time.sleep(0.1)
        assert len(calls) <= 2
        place.log(3)
        wait_until(lambda: tracker.steps() == [1, 2, 3])
    assert len(calls) <= 5
