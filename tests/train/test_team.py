"""Several processes that train one fold; on a real local Ray where they are slow."""

import json
import os
import signal
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from autoseg.errors import TrainingError
from autoseg.testing.plans import small_configuration
from autoseg.train.cluster import train_folds
from autoseg.train.fold import Interrupted
from autoseg.train.probe import run_settings
from autoseg.train.task import TASKS, segmentation_batches
from autoseg.train.team import check_team, joined, shares
from autoseg.train.team_work import take_part
from autoseg.workspace import write_text


@given(st.integers(1, 99), st.integers(1, 12))
def test_ranks_share_a_batch_evenly(batch_size, num_ranks):
    sizes = shares(batch_size, num_ranks)
    assert sum(sizes) == batch_size
    assert len(sizes) == num_ranks
    assert max(sizes) - min(sizes) <= 1


def test_more_devices_than_samples_are_refused():
    item = small_configuration()
    check_team(item, "cuda", item.batch_size)
    with pytest.raises(TrainingError, match="3 devices for each fold") as refusal:
        check_team(item, "cpu", item.batch_size + 1)
    assert "--devices-per-fold 2" in refusal.value.fix


def test_devices_that_cannot_be_joined_are_refused():
    with pytest.raises(TrainingError, match="cpu, cuda"):
        check_team(small_configuration(), "mps", 2)


def test_a_process_that_nobody_has_joined_is_alone():
    assert joined() is None


def run(job, on_progress=lambda _: None, should_stop=lambda: False):
    (result,) = train_folds(
        [job], num_workers=1, address=None, on_progress=on_progress, should_stop=should_stop
    )
    return result


def with_sgd(job):
    """Let a step follow the gradient: Adam makes full steps of differences in the last digit."""
    item = job.planned
    training = item.training.revised(optimizer="sgd", momentum=0.99, peak_lr=0.01, warmup_steps=0)
    plan = job.plan.revised(configurations=(item.revised(training=training),))
    return in_full_precision(replace(job, plan=plan))


def in_full_precision(job):
    """Have a fold begun in fp32, so that sums of parts differ by as little as they can."""
    batches = segmentation_batches(job, 0)
    settings = run_settings(job, batches).revised(precision="fp32")
    write_text(job.folder.settings, settings.to_json())
    return job


def weights(job):
    return torch.load(job.folder.final, weights_only=True)["weights"]


def largest_difference(first, second):
    a, b = weights(first), weights(second)
    return max(float((a[key].float() - b[key].float()).abs().max()) for key in a)


def leader(job):
    return int(job.folder.lock.read_text().split()[1])


def processes():
    """Return the processes on this machine that Ray Train has started, by their numbers."""
    found = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True)
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return {int(pid) for pid, name in lines if "RayTrainWorker" in name}


@contextmanager
def killing(job, *victims):
    """Kill one process after the other, each once the fold has done 8 more steps.

    `victims` find them. Yields a list that gets their numbers.
    """
    killed, is_over = [], threading.Event()

    def work():
        while len(killed) < len(victims) and not is_over.wait(0.05):
            lines = job.folder.metrics.read_text().splitlines() if job.folder.last.exists() else []
            if lines and json.loads(lines[-1])["step"] >= 8 * (len(killed) + 1):
                pid = victims[len(killed)]()
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield killed
    finally:
        is_over.set()
        thread.join()


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one(make_job):
    alone = with_sgd(make_job(num_steps=12))
    together = with_sgd(make_job(num_steps=12, num_devices=2))
    events = []
    expected, result = run(alone), run(together, events.append)
    assert largest_difference(alone, together) < 1e-5
    assert result.num_steps == expected.num_steps == 12
    assert [score.case_id for score in result.scores] == list(together.val_cases)
    assert events[-1]["event"] == "validated"
    assert not (together.folder.root / "team").exists()


@pytest.mark.slow
def test_a_team_of_which_any_process_is_killed_goes_on_to_the_same_weights(make_job):
    before = processes()
    whole = make_job(num_steps=30, num_devices=2)
    broken = make_job(num_steps=30, num_devices=2, checkpoint_interval_s=0.0)
    run(whole)

    def other():
        (pid,) = processes() - before - {leader(broken)}
        return pid

    with killing(broken, lambda: leader(broken), other) as killed:
        run(broken)
    assert len(set(killed)) == 2
    assert largest_difference(whole, broken) == 0.0
    assert processes() == before


@pytest.mark.slow
def test_a_team_stops_when_it_is_asked_and_goes_on(make_job):
    job, seen = make_job(num_steps=4000, num_devices=2), []
    with pytest.raises(Interrupted):
        run(job, seen.append, lambda: bool(seen))
    assert job.folder.last.exists()
    assert not job.folder.stop.exists()


@pytest.mark.slow
def test_an_error_of_the_leader_is_the_users(make_job):
    job = make_job(num_steps=4, num_devices=2)
    job.folder.root.mkdir(parents=True)
    (job.root / "preprocessed").rename(job.root / "gone")
    with pytest.raises(TrainingError) as refusal:
        run(job)
    assert "died" not in refusal.value.found


class Full(nn.Module):
    """Loses its memory when it is called for the third time."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, logits, *_):
        self.calls += 1
        if self.calls == 3:
            raise MemoryError
        return sum(level.square().mean() for level in logits)


def lose_memory(job):
    """Take part in a team whose leader loses its memory in the middle of a step."""
    task = replace(TASKS["segmentation"], build_loss=lambda _: Full())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoseg.train.training.TASKS", {"segmentation": task})
        take_part(job)


@pytest.mark.slow
def test_an_error_in_the_middle_of_a_step_ends_all(make_job, monkeypatch):
    """The other process waits for the leader then: it would wait for a week."""
    monkeypatch.setattr("autoseg.train.team_work.take_part", lose_memory)
    job = make_job(num_steps=9, num_devices=2)
    with pytest.raises(TrainingError, match="memory"):
        run(job)
