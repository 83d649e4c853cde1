import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.train import cluster
from autoseg.train.cluster import train_each, train_folds
from autoseg.train.fold import Interrupted


def ignore_progress(_):
    return None


def never():
    return False


def run(jobs, num_workers, on_progress=ignore_progress, should_stop=never):
    return train_folds(
        jobs,
        num_workers=num_workers,
        address=None,
        on_progress=on_progress,
        should_stop=should_stop,
    )


def final_weights(job):
    return torch.load(job.folder.final, weights_only=True)["weights"]


def assert_same_weights(first, second):
    a, b = final_weights(first), final_weights(second)
    assert all(torch.equal(a[key], b[key]) for key in a)


def children(parent):
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def command(pid):
    found = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout


def raylet():
    """Return Ray's own process here, None before it has one."""
    return next((pid for pid in children(os.getpid()) if "raylet/raylet" in command(pid)), None)


@contextmanager
def killing(path, find):
    """Kill the process that `find` returns as soon as there is one and `path` exists.

    Waits for these states as long as the body runs, whatever else the machine does. Yields a list
    that gets the time of the kill.
    """
    killed, is_over = [], threading.Event()

    def work():
        while not is_over.wait(0.02):
            pid = find() if path.exists() else None
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                killed.append(time.monotonic())
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.fixture(scope="module")
def one_after_the_other():
    """Jobs of both folds, trained in this process by the first test that asks."""
    return []


@pytest.fixture
def expected(make_job, one_after_the_other):
    if not one_after_the_other:
        jobs = [make_job(fold, num_steps=50) for fold in ("0", "1")]
        run(jobs, 1)
        one_after_the_other.extend(jobs)
    return one_after_the_other


def test_one_worker_trains_in_this_process(make_job):
    jobs = [make_job(fold, num_steps=2) for fold in ("0", "1")]
    results = run(jobs, 1)
    assert [result.fold for result in results] == ["0", "1"]


def test_finished_folds_need_no_ray(make_job, monkeypatch):
    job = make_job(num_steps=2)
    results = run([job], 1)
    monkeypatch.setattr(cluster, "_cluster", None)
    assert run([job], 2) == results


def test_ray_that_does_not_start_in_time_is_one_error(monkeypatch):
    monkeypatch.setattr(cluster, "START_S", 0.05)
    ray = cluster._Ray({})
    ray.api = SimpleNamespace(init=lambda: time.sleep(0.3), shutdown=lambda: None)
    with pytest.raises(TrainingError, match="more than"):
        ray.start()
    ray.stop()


def test_ray_that_no_longer_answers_is_noticed(monkeypatch):
    monkeypatch.setattr(cluster, "ASK_EVERY_S", 0.01)
    ray = cluster._Ray({})
    alive = [True]
    nodes = [{"Alive": True}]
    ray.api = SimpleNamespace(init=lambda: None, nodes=lambda: nodes, shutdown=alive.clear)
    ray.start()
    ray.check()
    nodes[0] = {"Alive": False}
    time.sleep(0.1)
    with pytest.raises(TrainingError, match="died"):
        ray.check()
    ray.stop()
    assert not alive


def test_ray_that_cannot_be_reached_is_one_error():
    ray = cluster._Ray({"address": "nowhere"})

    def init(address):
        raise ConnectionError(f"no Ray at {address}")

    ray.api = SimpleNamespace(init=init)
    with pytest.raises(TrainingError, match="no Ray at nowhere"):
        ray.start()


def test_job_that_no_node_can_run_is_refused(make_job):
    ray = cluster._Ray({})
    ray.api = SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}])
    cluster._require_resources(ray, [make_job()])
    with pytest.raises(TrainingError, match="no node"):
        cluster._require_resources(ray, [make_job(num_threads=2)])
    with pytest.raises(TrainingError, match="room for 1 process of 1 CPUs"):
        cluster._require_resources(ray, [replace(make_job(), num_devices=2)])


def test_variables_for_children_are_taken_back(monkeypatch):
    monkeypatch.setenv("AUTOSEG_TEST_A", "before")
    with cluster._environment({"AUTOSEG_TEST_A": "1", "AUTOSEG_TEST_B": "2"}):
        shown = subprocess.run(["env"], capture_output=True, text=True).stdout
    assert {"AUTOSEG_TEST_A=1", "AUTOSEG_TEST_B=2"} <= set(shown.split())
    shown = subprocess.run(["env"], capture_output=True, text=True).stdout
    assert "AUTOSEG_TEST_A=before" in shown
    assert "AUTOSEG_TEST_B" not in shown


@pytest.mark.slow
def test_side_by_side_gives_the_weights_of_one_after_the_other(make_job, expected):
    jobs = [make_job(fold, num_steps=50) for fold in ("0", "1")]
    seen = []
    results = run(jobs, 2, on_progress=seen.append)
    assert [result.fold for result in results] == ["0", "1"]
    for job, other in zip(jobs, expected, strict=True):
        assert_same_weights(job, other)
    told = {(event["fold"], event["event"]) for event in seen}
    assert told == {(fold, kind) for fold in "01" for kind in ("trained", "validated")}


@pytest.mark.slow
def test_worker_that_is_killed_changes_nothing(make_job, expected):
    jobs = [make_job(fold, num_steps=50, checkpoint_interval_s=0.0) for fold in ("0", "1")]

    def worker():
        found = (pid for pid in children(raylet()) if "ray::_work" in command(pid))
        return next(found, None)

    with killing(jobs[0].folder.previous, worker) as killed:
        run(jobs, 2)
    assert killed
    root = jobs[0].root.parents[1]
    restarts = [path for path in root.glob("*/run.autoseg/events.jsonl") if path.stat().st_size]
    assert restarts
    for job, other in zip(jobs, expected, strict=True):
        assert_same_weights(job, other)


@pytest.mark.slow
def test_dead_raylet_ends_in_one_error_within_a_minute(make_job):
    jobs = [make_job(fold, num_steps=100_000) for fold in ("0", "1")]
    with (
        killing(jobs[0].folder.metrics, raylet) as killed,
        pytest.raises(TrainingError, match="Ray"),
    ):
        run(jobs, 2)
    assert time.monotonic() - killed[0] < 60


@pytest.mark.slow
def test_stop_request_reaches_the_workers_and_saves(make_job):
    jobs = [make_job(fold, num_steps=100_000) for fold in ("0", "1")]
    with pytest.raises(Interrupted):
        run(jobs, 2, should_stop=lambda: all(job.folder.metrics.exists() for job in jobs))
    assert all(job.folder.last.exists() for job in jobs)
    assert not any(job.folder.stop.exists() for job in jobs)


# One after the other, whatever happens to any


def attempts(monkeypatch, jobs, train_fold, should_stop=never):
    """Return how each job ends when `train_fold` trains it."""
    monkeypatch.setattr(cluster, "train_fold", train_fold)
    ended = train_each(
        jobs, num_workers=1, address=None, on_progress=ignore_progress, should_stop=should_stop
    )
    return [outcome for _, outcome in ended]


def test_a_failure_ends_no_other_job(make_job, monkeypatch):
    def train_fold(job, on_progress, should_stop):
        if job.fold == "0":
            try:
                raise MemoryError
            except MemoryError as error:
                raise ZeroDivisionError from error
        return "trained"

    jobs = [make_job("0"), make_job("1")]
    failure, success = attempts(monkeypatch, jobs, train_fold)
    assert isinstance(failure, ZeroDivisionError)
    kept = (failure.__traceback__, failure.__cause__, failure.__context__)
    assert kept == (None, None, None), "they would keep the memory of what failed"
    assert success == "trained"


def test_a_job_whose_stop_file_appears_ends_alone(make_job, monkeypatch):
    def train_fold(job, on_progress, should_stop):
        assert not should_stop(), "a request of an earlier run is over"
        job.folder.stop.touch()
        if job.fold == "0" and should_stop():
            raise Interrupted("stopped")
        return "trained"

    jobs = [make_job("0"), make_job("1")]
    for job in jobs:
        job.folder.root.mkdir(parents=True, exist_ok=True)
        job.folder.stop.touch()
    stopped, success = attempts(monkeypatch, jobs, train_fold)
    assert isinstance(stopped, Interrupted)
    assert success == "trained"
    for job in jobs:
        job.folder.stop.unlink()


def test_a_stop_of_the_caller_ends_all(make_job, monkeypatch):
    def train_fold(job, on_progress, should_stop):
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        attempts(monkeypatch, [make_job("0")], train_fold, should_stop=lambda: True)


def test_what_has_ended_decides_what_comes_next(make_job, monkeypatch):
    seen = []

    def jobs():
        yield make_job("0")
        assert seen == ["0"]
        yield make_job("1")

    monkeypatch.setattr(cluster, "train_fold", lambda job, *_: job.fold)
    for job, outcome in train_each(
        jobs(), num_workers=1, address=None, on_progress=ignore_progress, should_stop=never
    ):
        assert outcome == job.fold
        seen.append(job.fold)
    assert seen == ["0", "1"]
