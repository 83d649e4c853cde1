from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.preprocess.store import CaseStore
from autoseg.train import plateau, training
from autoseg.train.checkpoint import Standing
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.job import Listeners
from autoseg.train.lines import read_lines
from autoseg.train.records import RunSettings
from autoseg.train.steady_look import MAX_LOOKS, SteadyLook
from autoseg.train.validation import Seen, can_see_plateau, see, spread_cases

CPU = Execution(device="cpu", precision="fp32")
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
    count = iter(range(1, 10**9))
    monkeypatch.setattr(SteadyLook, "see", lambda *_: Seen([0.5 / next(count)]))


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
    assert standing.reductions.best == 0.5  # of the first look
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


@pytest.fixture
def cheap(monkeypatch):
    """Return a function that sets what each case costs, in steps, and how well it is predicted."""

    def change(work, counts):
        for name in ("steady_look", "validation"):
            monkeypatch.setattr(f"autoseg.train.{name}.prediction_work", lambda *_: work)
        found = {case_id: (np.array([a]), np.array([b])) for case_id, (a, b) in counts.items()}
        monkeypatch.setattr("autoseg.train.validation.overlaps", lambda *args: found[args[3]])

    return change


def dice_by_step(job):
    return {line["step"]: line["dice"] for line in read_lines(job.folder.metrics) if "dice" in line}


def test_a_case_that_is_not_found_yet_is_no_collapse_where_another_was_looked_at(make_job, cheap):
    job = make_job(num_steps=8)
    easy, hard = job.val_cases
    cheap(0.0265, {easy: (30, 100), hard: (0, 20_000)})  # 1.5 of them a look
    train_fold(job, ignore_progress, never)
    assert set(dice_by_step(job).values()) == {0.6}
    assert not job.folder.events.exists()


def test_an_interrupted_run_looks_where_an_uninterrupted_one_does(make_job, cheap):
    whole, broken = (make_job(num_steps=8) for _ in range(2))
    cheap(0.08, dict.fromkeys(whole.val_cases, (30, 100)))  # each second part of a run pays for one
    train_fold(whole, ignore_progress, never)
    assert list(dice_by_step(whole)) == [2, 4, 6]
    for stop in (0, 1):
        with pytest.raises(Interrupted):
            train_fold(broken, ignore_progress, after(stop))
    train_fold(broken, ignore_progress, never)
    assert dice_by_step(broken) == dice_by_step(whole)


def test_what_was_trained_before_a_look_is_saved(make_job, cheap, monkeypatch):
    job = make_job(num_steps=16, checkpoint_interval_s=1e9)
    cheap(0.08, dict.fromkeys(job.val_cases, (30, 100)))
    monkeypatch.setattr(training, "BEFORE_LOOK_S", 0.0)
    asked = iter([False, True])  # before step 2 is looked at
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, lambda: next(asked))
    assert torch.load(job.folder.last, weights_only=True)["standing"]["step"] == 1


@pytest.fixture
def empty(monkeypatch):
    """Return a function that takes the foreground out of what is known of some cases."""
    info = CaseStore.info

    def change(*case_ids):
        def known(store, case_id):
            found = info(store, case_id)
            return found.revised(class_voxels=(99, 0)) if case_id in case_ids else found

        monkeypatch.setattr(CaseStore, "info", known)

    return change


def test_a_class_that_no_case_has_is_not_judged(make_job, cheap, empty):
    job = make_job()
    cheap(1.0, dict.fromkeys(job.val_cases, (0, 70)))
    listeners = Listeners(ignore_progress, never)
    assert see(job, nn.Identity(), CPU, job.val_cases, listeners).dice == [0.0]
    empty(*job.val_cases)
    assert see(job, nn.Identity(), CPU, job.val_cases, listeners).dice == [None]


def test_cases_without_foreground_are_looked_at_only_where_there_are_no_others(make_job, empty):
    job = make_job()
    first, second = job.val_cases
    empty(first)
    assert spread_cases(job) == [second]
    empty(first, second)
    assert spread_cases(job) == [first, second]


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
