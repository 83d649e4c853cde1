import threading
import time

import pytest

from autoseg.errors import TrainingError
from autoseg.train import ahead as module
from autoseg.train.ahead import ahead


def nobody():
    return ()


def test_batches_come_in_order_from_any_number_of_threads():
    def make(step):
        time.sleep(0.001 * (step % 3))
        return step

    for workers in (0, 1, 3):
        assert list(ahead(make, 2, 12, workers, nobody)) == list(range(2, 12))


def test_an_error_is_raised_where_its_batch_is_due():
    def make(step):
        if step == 2:
            raise TimeoutError("of the maker")
        return step

    for workers in (0, 2):
        stream = ahead(make, 0, 5, workers, nobody)
        assert [next(stream), next(stream)] == [0, 1]
        with pytest.raises(TimeoutError, match="of the maker"):
            next(stream)


def test_a_thread_that_hangs_is_told_with_its_case_and_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(module, "WARN_S", 0.02)
    monkeypatch.setattr(module, "STALLED_S", 0.06)
    end = threading.Event()

    def make(step):
        if step == 1:
            end.wait(20)
        return step

    try:
        stream = ahead(make, 0, 10, 1, lambda: ("liver_7",))
        assert next(stream) == 0
        start = time.monotonic()
        with pytest.raises(TrainingError, match="reading case 'liver_7' hangs"):
            next(stream)
        assert time.monotonic() - start < 10
        assert "liver_7" in caplog.text
    finally:
        end.set()


def test_whoever_stops_does_not_wait_for_a_thread_that_hangs(monkeypatch):
    monkeypatch.setattr(module, "LEFT_BEHIND_S", 0.05, raising=False)
    end = threading.Event()
    threading.Timer(3.0, end.set).start()
    stream = ahead(lambda step: step if step == 0 else end.wait(20), 0, 10, 1, nobody)
    try:
        assert next(stream) == 0
        start = time.monotonic()
        stream.close()
        assert time.monotonic() - start < 2
    finally:
        end.set()


def test_a_thread_that_was_only_slow_is_warned_of_and_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(module, "WARN_S", 0.02)

    def make(step):
        time.sleep(0.1)
        return step

    assert list(ahead(make, 0, 2, 1, nobody)) == [0, 1]
    assert "no batch for" in caplog.text
