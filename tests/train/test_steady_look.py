from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.train import plateau
from autoseg.train.checkpoint import Standing
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.lines import read_lines
from autoseg.train.records import RunSettings
from autoseg.train.steady_look import MAX_LOOKS, SteadyLook
from autoseg.train.validation import can_see_plateau

STEPS = 12


def ignore_progress(_):
    return None


def never():
    return False


def after(calls):
    """Return a stop request that comes with the given call."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def scheduled(job, schedule, **changes):
    """Return a job with another schedule."""
    training = job.planned.training.revised(schedule=schedule, warmup_steps=0, **changes)
    item = job.planned.revised(training=training)
    return replace(job, plan=job.plan.revised(configurations=(item,)))


def impatient(job):
    return scheduled(job, "reduce_on_plateau", reduce_patience=0)


def rates(job):
    return [line["lr"] for line in read_lines(job.folder.metrics)]


@pytest.fixture
def worse(monkeypatch):
    """Let each look be worse than the one before."""
    monkeypatch.setattr(SteadyLook, "dice", lambda _, model, execution, step: [0.5 / step])


def test_the_rate_is_halved_when_looks_become_no_better(make_job, worse):
    job = impatient(make_job(num_steps=STEPS))
    train_fold(job, ignore_progress, never)
    found = rates(job)
    assert found[0] == job.planned.training.peak_lr
    assert set(found) == {found[0] * 0.5**count for count in range(len(set(found)))}
    assert found[-1] < found[0]


def test_a_resumed_run_reduces_as_if_it_had_never_stopped(make_job, worse):
    whole, again = (impatient(make_job(num_steps=STEPS)) for _ in range(2))
    train_fold(whole, ignore_progress, never)
    for stop in (4, 3):
        with pytest.raises(Interrupted):
            train_fold(again, ignore_progress, after(stop))
    train_fold(again, ignore_progress, never)
    assert rates(whole) == rates(again)
    a, b = (torch.load(job.folder.final, weights_only=True)["weights"] for job in (whole, again))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_where_the_rate_stands_is_in_the_checkpoint(make_job, worse):
    job = impatient(make_job(num_steps=STEPS))
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(9))
    content = torch.load(job.folder.last, weights_only=True)
    standing = Standing.model_validate(content["standing"])
    assert standing.reductions.best == pytest.approx(0.5 / 4)
    assert standing.reductions.factor < 1


def test_looks_are_many_enough_for_the_patience_and_never_more_than_a_hundred(make_job):
    job = scheduled(make_job(), "reduce_on_plateau", reduce_patience=10)
    assert SteadyLook(job, 1).num_looks == 33
    assert SteadyLook(job, 10**6).num_looks == MAX_LOOKS


def test_a_look_takes_the_cases_that_all_looks_can_pay_for(make_job, monkeypatch):
    job = scheduled(make_job(), "reduce_on_plateau")
    few, many = SteadyLook(job, 1), SteadyLook(job, 10**6)
    assert few._case_ids == [job.val_cases[0]]
    assert many._case_ids == list(job.val_cases)


def test_without_validation_cases_such_a_rate_is_refused(make_job):
    job = impatient(make_job(fold="all", val_cases=()))
    with pytest.raises(TrainingError, match="is reduce_on_plateau") as caught:
        train_fold(job, ignore_progress, never)
    assert "--set 3d_fullres.training.schedule=poly" in caught.value.fix
    assert not job.folder.settings.exists()


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle"])
def test_each_schedule_trains_and_is_resumed(make_job, schedule):
    whole, again = (scheduled(make_job(num_steps=6), schedule) for _ in range(2))
    train_fold(whole, ignore_progress, never)
    with pytest.raises(Interrupted):
        train_fold(again, ignore_progress, after(2))
    train_fold(again, ignore_progress, never)
    assert rates(whole) == rates(again)
    assert max(rates(whole)) <= whole.planned.training.peak_lr


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "reduce_on_plateau"])
def test_a_plateau_ends_a_run_of_another_schedule_annealed(make_job, monkeypatch, schedule):
    monkeypatch.setattr(plateau, "PLATEAU_GAIN", 10.0)
    monkeypatch.setattr(plateau, "MIN_CLASS_DICE", 0.0)
    monkeypatch.setattr("autoseg.train.validation.MIN_PLATEAU_CASES", 2)
    monkeypatch.setattr("autoseg.train.validation.LOOK_FRACTION", 1.0)
    job = scheduled(make_job(num_steps=160, stops_at_plateau=True), schedule)
    result = train_fold(job, ignore_progress, never)
    assert RunSettings.load(job.folder.settings).stops_at_plateau
    assert result.num_steps == 24  # the second copy: made after 20 steps, annealed in 4
    found = rates(job)
    assert found[-1] < 0.5 * found[0]


def test_one_cycle_is_not_ended_early(make_job, monkeypatch):
    monkeypatch.setattr("autoseg.train.validation.MIN_PLATEAU_CASES", 1)
    job = make_job(num_steps=160, stops_at_plateau=True)
    assert can_see_plateau(scheduled(job, "cosine"), 160)
    assert not can_see_plateau(scheduled(job, "one_cycle"), 160)
