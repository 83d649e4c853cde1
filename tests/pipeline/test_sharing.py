"""What of a budget each fold gets, by a clock and estimates that go as the test says."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.pipeline import sharing
from autoseg.pipeline.choices import TrainOptions, choose_folds
from autoseg.pipeline.sharing import CAUTION, Finished, Shares, note_finished, num_sharing
from autoseg.pipeline.training import prepare_cases
from autoseg.plan.budget import MIN_FOLD_S
from autoseg.plan.plan import Plan
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.records import FoldResult
from autoseg.workspace import write_text

FINISHING_S, FOLD_S, VALIDATION_S = 20.0, 4.0, 2.0


@pytest.fixture
def estimates(monkeypatch):
    """Finishing takes 20 s and 4 s a fold, validation 2 s; the machine is quiet."""
    monkeypatch.setattr(sharing, "slowness", lambda: 1.0)
    monkeypatch.setattr(
        sharing, "finishing_seconds", lambda _, folds, __: FINISHING_S + FOLD_S * len(folds)
    )
    monkeypatch.setattr(sharing, "choosing_seconds", lambda _: 0.0)
    monkeypatch.setattr("autoseg.train.validation.expected_validation", lambda *_: VALIDATION_S)


@pytest.fixture
def jobs(own_place):
    plan, dataset = Plan.load(own_place.plan), Dataset.load(own_place.dataset)
    prepare_cases(
        plan, dataset, own_place, ("3d_fullres",), Listeners(lambda _: None, lambda: False)
    )
    options = TrainOptions(workspace=own_place, configurations=("3d_fullres",))
    return [
        FoldJob(
            plan=plan,
            dataset=dataset,
            root=own_place.root,
            configuration=choice.configuration,
            fold=choice.fold,
            train_cases=choice.split.train,
            val_cases=choice.split.val,
            device="cpu",
            num_threads=1,
        )
        for choice in choose_folds(plan, dataset, options)
    ]


def shares_of(jobs, *, budget_s=1000.0, used_s=0.0, num_workers=1):
    active: Any = SimpleNamespace(seconds=used_s)
    return Shares(jobs, budget_s, active, num_workers), active


def finish(job, *, validation_s):
    result = FoldResult(
        autoseg_version="0",
        plan_digest=job.plan.digest(),
        configuration=job.configuration,
        fold=job.fold,
        seed=0,
        num_steps=1,
        train_seconds=1.0,
        validation_seconds=validation_s,
        scores=(),
    )
    write_text(job.folder.result, result.to_json())


def finishing_s(num_folds):
    return CAUTION * (FINISHING_S + FOLD_S * num_folds)


def test_folds_share_what_finishing_and_validation_leave(jobs, estimates):
    found = shares_of(jobs)[0].granted(jobs)
    expected_s = (1000 - finishing_s(2)) / 2 - CAUTION * VALIDATION_S
    assert [job.budget_s for job in found] == pytest.approx([expected_s] * 2)
    assert [job.validation_s for job in found] == pytest.approx([CAUTION * VALIDATION_S] * 2)


def test_folds_trained_side_by_side_have_the_time_together(jobs, estimates):
    found = shares_of(jobs, num_workers=2)[0].granted(jobs)
    assert found[0].budget_s == pytest.approx(1000 - finishing_s(2) - CAUTION * VALIDATION_S)


def test_time_that_a_fold_did_not_use_goes_to_the_next(jobs, estimates):
    shares, active = shares_of(jobs)
    first = shares.granted(jobs)[0]
    finish(jobs[0], validation_s=VALIDATION_S)
    active.seconds = 100.0
    (second,) = shares.granted(jobs[1:])
    assert second.budget_s == pytest.approx(900 - finishing_s(2) - VALIDATION_S)
    assert first.budget_s is not None
    assert second.budget_s is not None
    assert second.budget_s > first.budget_s


def test_validation_is_expected_to_take_what_it_took_in_an_earlier_fold(jobs, estimates):
    finish(jobs[0], validation_s=50.0)
    (second,) = shares_of(jobs)[0].granted(jobs[1:])
    assert second.validation_s == pytest.approx(50.0)


def test_finishing_is_expected_to_take_what_it_took_in_this_workspace(jobs, estimates, own_place):
    plan = jobs[0].plan
    record = Finished(
        plan_digest=plan.digest(),
        folds=(("3d_fullres", "0"),),
        seconds={"ensemble": 20.0, "export": 200.0, "report": 20.0},
    )
    note_finished(own_place, record)
    (job,) = shares_of(jobs[:1])[0].granted(jobs[:1])
    assert job.budget_s == pytest.approx(1000 - CAUTION * 240 - CAUTION * VALIDATION_S)
    other = record.revised(plan_digest="another", seconds={"export": 1.0})
    note_finished(own_place, other)
    assert shares_of(jobs[:1])[0].granted(jobs[:1])[0].budget_s == job.budget_s


def test_choosing_from_stored_cases_is_kept_free(jobs, estimates, monkeypatch):
    without = shares_of(jobs)[0].granted(jobs)[0].budget_s
    monkeypatch.setattr(sharing, "choosing_seconds", lambda _: 40.0)
    choosing = shares_of(jobs)[0].granted(jobs)[0].budget_s
    assert without is not None
    assert choosing is not None
    assert without - choosing == pytest.approx(CAUTION * 40.0 / len(jobs))


def test_a_validation_tells_how_busy_the_machine_is(jobs, estimates, monkeypatch):
    monkeypatch.setattr(sharing, "slowness", lambda: 4.0)
    shares, _ = shares_of(jobs)
    shares.granted(jobs)
    finish(jobs[0], validation_s=9 * VALIDATION_S)
    (second,) = shares.granted(jobs[1:])
    expected_s = 1000 - (4 + 9) / 2 * finishing_s(2) - 9 * VALIDATION_S
    assert second.budget_s == pytest.approx(expected_s)


def test_a_validation_of_an_earlier_call_tells_nothing_of_the_machine_now(jobs, estimates):
    finish(jobs[0], validation_s=9 * VALIDATION_S)
    (second,) = shares_of(jobs)[0].granted(jobs[1:])
    assert second.budget_s == pytest.approx(1000 - finishing_s(2) - 9 * VALIDATION_S)


def test_a_quick_validation_makes_no_machine_faster_than_a_quiet_one(jobs, estimates):
    shares, _ = shares_of(jobs)
    finish(jobs[0], validation_s=0.01 * VALIDATION_S)
    (second,) = shares.granted(jobs[1:])
    assert second.budget_s == pytest.approx(1000 - finishing_s(2) - 0.01 * VALIDATION_S)


def test_a_busy_machine_needs_longer_to_finish(jobs, estimates, monkeypatch):
    quiet = shares_of(jobs)[0].granted(jobs)[0].budget_s
    monkeypatch.setattr(sharing, "slowness", lambda: 3.0)
    busy = shares_of(jobs)[0].granted(jobs)[0].budget_s
    assert quiet is not None
    assert busy is not None
    assert quiet - busy == pytest.approx(finishing_s(2))


def test_time_saved_at_a_plateau_is_saved(jobs, estimates):
    jobs = [replace(job, stops_at_plateau=True) for job in jobs]
    shares, active = shares_of(jobs)
    first = shares.granted(jobs)[0]
    finish(jobs[0], validation_s=VALIDATION_S)
    active.seconds = 100.0
    assert shares.granted(jobs[1:])[0].budget_s == pytest.approx(first.budget_s, rel=0.01)


def test_folds_that_there_is_no_time_for_are_left_out(jobs, estimates):
    least_s = MIN_FOLD_S + CAUTION * VALIDATION_S
    for budget_s, count in ((finishing_s(2) + 2 * least_s + 1, 2), (finishing_s(1) + least_s, 1)):
        assert len(shares_of(jobs, budget_s=budget_s)[0].affordable(jobs, is_alone=True)) == count


def test_a_fold_is_trained_even_where_the_machine_is_busy(jobs, estimates, monkeypatch):
    monkeypatch.setattr(sharing, "slowness", lambda: 6.0)
    shares, _ = shares_of(jobs, budget_s=60.0)
    (job,) = shares.affordable(jobs, is_alone=True)
    assert shares.granted([job])[0].budget_s == MIN_FOLD_S
    assert shares.affordable(jobs, is_alone=False) == []


def test_a_fold_for_which_no_whole_budget_would_do_is_known(jobs, estimates):
    least_s = finishing_s(1) + MIN_FOLD_S + CAUTION * VALIDATION_S
    for budget_s, expected in ((least_s + 1, True), (least_s - 1, False)):
        shares, _ = shares_of(jobs, budget_s=budget_s, used_s=budget_s)
        assert shares.suffices_for(jobs[1]) is expected


def test_threads_are_shared_by_the_folds_of_a_cpu_alone(jobs):
    plan = jobs[0].plan.revised(num_threads=4)
    assert [num_sharing(plan, count) for count in (1, 2, 9)] == [1, 2, 4]
    assert num_sharing(plan.revised(device="cuda"), 2) == 1


def test_validation_takes_longer_where_folds_share_the_threads(jobs, estimates, monkeypatch):
    monkeypatch.setattr("autoseg.train.validation.expected_validation", lambda _, step_s: step_s)
    plan = jobs[0].plan.revised(num_threads=2)
    jobs = [replace(job, plan=plan) for job in jobs]
    found = [shares_of(jobs, num_workers=count)[0].granted(jobs) for count in (1, 2)]
    alone, shared = (row[0].validation_s for row in found)
    assert alone is not None
    assert shared == pytest.approx(2 * alone)


def test_every_division_is_written(jobs, estimates, own_place):
    shares_of(jobs)[0].granted(jobs)
    (line,) = map(json.loads, own_place.events.read_text().splitlines())
    assert line["event"] == "shared"
    assert line["left_s"] == 1000.0
    assert line["folds"] == [job.name for job in jobs]
    assert line["finishing_s"] == pytest.approx(finishing_s(2), abs=0.1)


def test_slowness_is_at_least_that_of_a_quiet_machine():
    assert 1.0 <= sharing.slowness() <= sharing.MAX_SLOWNESS
