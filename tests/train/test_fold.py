import gc
import json
import math
import os
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.dataset.case import read_case
from autoseg.errors import TrainingError, WorkspaceError
from autoseg.network import execution
from autoseg.runtime.images import read_labels
from autoseg.runtime.recipe import Region
from autoseg.train import fold, training
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.lines import read_lines
from autoseg.train.lock import held
from autoseg.train.loop import train
from autoseg.train.probe import run_settings
from autoseg.train.records import FoldResult, RunSettings
from autoseg.train.steady_look import SteadyLook
from autoseg.train.task import TASKS
from autoseg.train.training import read_schedule
from autoseg.train.validation import Seen
from autoseg.workspace import append_line


def ignore_progress(_):
    return None


def never():
    return False


def after(calls):
    """Return a stop request that comes with the given call."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def final_weights(job):
    content = torch.load(job.folder.final, weights_only=True)
    return content["weights"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_weights(first, second):
    a, b = final_weights(first), final_weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def whole():
    """The weights of an uninterrupted run, made by the first test that asks."""
    return {}


@pytest.fixture
def uninterrupted(make_job, whole):
    if not whole:
        job = make_job()
        whole["result"] = train_fold(job, ignore_progress, never)
        whole["job"] = job
    return whole


def test_fold_leaves_result_weights_predictions_and_a_log(uninterrupted):
    job, result = uninterrupted["job"], uninterrupted["result"]
    assert FoldResult.load(job.folder.result) == result
    assert result.num_steps == 8
    assert [score.case_id for score in result.scores] == list(job.val_cases)
    assert [line["step"] for line in lines(job.folder.metrics)] == list(range(1, 9))
    assert len(list(job.folder.validation.iterdir())) == len(job.val_cases)


def test_the_log_says_how_long_batches_were_waited_for(uninterrupted):
    shares = [line["waiting"] for line in lines(uninterrupted["job"].folder.metrics)]
    assert all(0 <= share <= 1 for share in shares)
    assert max(shares) > 0


def test_predictions_lie_on_the_original_grid_in_the_users_values(uninterrupted):
    job = uninterrupted["job"]
    for case_id in job.val_cases:
        image, _ = read_case(job.dataset, job.case(case_id))
        found = read_labels(job.folder.validation / f"{case_id}.nii.gz")
        assert found.array.shape[1:] == image.shape
        np.testing.assert_allclose(found.geometry.spacing, image.geometry.spacing)
        assert set(np.unique(found.array)) <= set(job.plan.labels.values)


def test_regions_are_scored_beside_the_classes(make_job):
    job = make_job(num_steps=1)
    labels = replace(job.plan.labels, regions=(Region(name="all", classes=(1,)),))
    job = replace(job, plan=job.plan.revised(labels=labels))
    result = train_fold(job, ignore_progress, never)
    assert [score.regions for score in result.scores] == [score.classes for score in result.scores]


def test_regions_that_a_case_does_not_annotate_are_not_scored(make_job):
    job = make_job(num_steps=1)
    labels = replace(job.plan.labels, regions=(Region(name="all", classes=(1,)),))
    cases = tuple(case.revised(annotated=()) for case in job.dataset.cases)
    dataset = job.dataset.revised(cases=cases)
    job = replace(job, plan=job.plan.revised(labels=labels), dataset=dataset)
    result = train_fold(job, ignore_progress, never)
    assert [region.dice for score in result.scores for region in score.regions] == [None] * len(
        result.scores
    )


def test_finished_fold_is_not_trained_again(uninterrupted):
    before = uninterrupted["job"].folder.final.stat().st_mtime_ns
    again = train_fold(uninterrupted["job"], ignore_progress, never)
    assert again == uninterrupted["result"]
    assert uninterrupted["job"].folder.final.stat().st_mtime_ns == before


@pytest.mark.parametrize("stop", [1, 5, 8])
def test_interrupted_fold_goes_on_to_the_same_weights(uninterrupted, make_job, stop):
    job = make_job()
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(stop - 1))
    assert not job.folder.result.exists()
    result = train_fold(job, ignore_progress, never)
    assert_same_weights(job, uninterrupted["job"])
    assert result.scores == uninterrupted["result"].scores
    assert [line["step"] for line in lines(job.folder.metrics)] == list(range(1, 9))


def test_damaged_checkpoint_falls_back_to_the_one_before(uninterrupted, make_job):
    job = make_job(checkpoint_interval_s=0.0)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(5))
    assert job.folder.previous.exists()
    job.folder.last.write_bytes(job.folder.last.read_bytes()[:1000])
    train_fold(job, ignore_progress, never)
    assert_same_weights(job, uninterrupted["job"])


def test_interrupted_validation_goes_on_case_by_case(uninterrupted, make_job):
    job = make_job()
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(9))
    (written,) = job.folder.validation.iterdir()
    before = written.stat().st_mtime_ns
    result = train_fold(job, ignore_progress, never)
    assert written.stat().st_mtime_ns == before
    assert result.scores == uninterrupted["result"].scores


def test_validation_dice_is_logged_during_the_run(make_job):
    job = make_job(num_steps=40)
    seen = []
    train_fold(job, seen.append, never)
    dice = [line["dice"] for line in lines(job.folder.metrics) if "dice" in line]
    assert dice
    assert all(0 <= value <= 1 for value in dice)
    assert {event["event"] for event in seen} == {"trained", "validated"}


def test_learning_rate_rises_to_its_peak_and_falls_towards_zero(make_job):
    job = make_job(num_steps=20)
    train_fold(job, ignore_progress, never)
    rates = [line["lr"] for line in lines(job.folder.metrics)]
    assert rates[0] < max(rates)
    assert rates[-1] < 0.1 * max(rates)


def test_fold_without_validation_cases_has_no_scores(make_job):
    job = make_job(fold="all", num_steps=2, val_cases=())
    assert train_fold(job, ignore_progress, never).scores == ()


def test_budget_is_kept_and_its_decisions_are_written(make_job):
    job = make_job(num_steps=None, budget_s=2.0, val_cases=())
    result = train_fold(job, ignore_progress, never)
    settings = RunSettings.load(job.folder.settings)
    assert settings.seconds_per_step > 0
    revisions = [(0, settings.num_steps)]
    if job.folder.events.exists():
        events = lines(job.folder.events)
        revisions += [(e["step"], e["num_steps"]) for e in events if e["event"] == "revised"]
    changed_at, length = revisions[-1]
    assert result.num_steps == length
    assert result.train_seconds < 6.0
    # However many steps a busy machine affords, the rate of the last is that of one step to go.
    peak, power = job.planned.training.peak_lr, job.planned.training.poly_power
    highest = peak * (1 / (length - changed_at)) ** power
    assert lines(job.folder.metrics)[-1]["lr"] <= highest + 1e-12


def test_revised_length_is_replayed_by_a_resumed_run(make_job):
    job = make_job(num_steps=40)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(2))
    job.folder.events.write_text('{"event": "revised", "num_steps": 9, "step": 5}\n')
    result = train_fold(job, ignore_progress, never)
    assert result.num_steps == 9
    rates = {line["step"]: line["lr"] for line in lines(job.folder.metrics)}
    assert rates[5] > 0.8 * 5e-3 * 0.9
    assert rates[9] < rates[7] < rates[6]


def test_infinite_loss_ends_in_an_error_and_keeps_the_checkpoint(make_job):
    job = make_job(num_steps=12, checkpoint_interval_s=0.0)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(1))
    content = torch.load(job.folder.last, weights_only=True)
    content["model"]["heads.0.bias"][0] = math.nan
    torch.save(content, job.folder.last)
    paths = (job.folder.last, job.folder.previous)
    before = [path.read_bytes() for path in paths]
    with pytest.raises(TrainingError, match="finite"):
        train_fold(job, ignore_progress, never)
    assert [path.read_bytes() for path in paths] == before
    assert not job.folder.final.exists()


class SpoiltLoss(torch.nn.Module):
    """A loss that is no number when `is_spoilt` says so."""

    def __init__(self, inner, is_spoilt):
        super().__init__()
        self.inner, self.is_spoilt = inner, is_spoilt

    def forward(self, *inputs):
        value = self.inner(*inputs)
        return value * math.nan if self.is_spoilt() else value


@pytest.fixture
def spoil(monkeypatch):
    """Return a function that makes the loss of some calls no number."""

    def change(*calls):
        task, count = TASKS["segmentation"], iter(range(1, 10**9))

        def build(plan):
            return SpoiltLoss(task.build_loss(plan), lambda: next(count) in calls)

        changed = {"segmentation": replace(task, build_loss=build)}
        monkeypatch.setattr(training, "TASKS", changed)

    return change


def rollbacks(job):
    return [line for line in read_lines(job.folder.events) if line["event"] == "rolled back"]


def test_after_a_loss_that_is_no_number_it_goes_on_from_the_checkpoint_more_slowly(make_job, spoil):
    plain, job = (make_job(num_steps=12, checkpoint_interval_s=0.0) for _ in range(2))
    train_fold(plain, ignore_progress, never)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(4))
    spoil(3)
    told = []
    result = train_fold(job, told.append, never)
    assert result.num_steps == 12
    (line,) = rollbacks(job)
    assert line["lr_factor"] == 0.5
    assert line["to_step"] >= 4
    assert any("goes on from step" in str(event.get("text")) for event in told)
    expected = {line["step"]: line["lr"] for line in lines(plain.folder.metrics)}
    found = {line["step"]: line["lr"] for line in lines(job.folder.metrics)}
    assert found[4] == expected[4]
    assert found[12] == 0.5 * expected[12]


def test_a_resumed_run_keeps_the_lower_rate_of_one_that_went_back(make_job, spoil):
    job = make_job(num_steps=12, checkpoint_interval_s=0.0)
    spoil(3)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(7))
    assert len(rollbacks(job)) == 1
    plain = make_job(num_steps=12)
    train_fold(plain, ignore_progress, never)
    train_fold(job, ignore_progress, never)
    rates = [{line["step"]: line["lr"] for line in lines(x.folder.metrics)} for x in (plain, job)]
    assert rates[1][12] == 0.5 * rates[0][12]


def test_a_run_that_goes_astray_before_its_first_checkpoint_begins_again(make_job, spoil):
    job = make_job(num_steps=6)
    spoil(1)
    assert train_fold(job, ignore_progress, never).num_steps == 6
    assert [line["to_step"] for line in rollbacks(job)] == [0]


def test_a_run_that_went_back_has_forgotten_how_it_was_shortened_later(make_job):
    job = make_job(num_steps=20)
    lines = [
        {"event": "revised", "step": 5, "num_steps": 18},
        {"event": "revised", "step": 12, "num_steps": 14},
        {"event": "rolled back", "step": 13, "to_step": 8, "lr_factor": 0.5, "found": "nan"},
        {"event": "revised", "step": 15, "num_steps": 16},
    ]
    for line in lines:
        append_line(job.folder.events, line)
    revisions = read_schedule(job, 20).revisions
    assert [(item.step, item.num_steps) for item in revisions] == [(5, 18), (15, 16)]


def test_a_run_whose_plan_forbids_it_does_not_go_back(make_job, spoil):
    job = make_job(num_steps=6)
    item = job.planned
    item = item.revised(training=item.training.revised(max_rollbacks=0))
    job = replace(job, plan=job.plan.revised(configurations=(item,)))
    spoil(2)
    with pytest.raises(TrainingError, match="finite"):
        train_fold(job, ignore_progress, never)
    assert rollbacks(job) == []


@pytest.fixture
def see(monkeypatch):
    """Return a function that sets what the looks find, one after each eighth of a run."""

    def change(*dice):
        looks = iter(dice)
        monkeypatch.setattr(SteadyLook, "is_due", lambda *_: True)
        monkeypatch.setattr(SteadyLook, "see", lambda *_: Seen(list(next(looks))))

    return change


def test_a_network_that_loses_all_it_had_found_goes_back_to_the_best_look(make_job, see):
    see([0.5], [0.6], [0.0], [0.6], [0.7], [0.8], [0.8], [0.8])
    job = make_job(num_steps=24)
    assert train_fold(job, ignore_progress, never).num_steps == 24
    (line,) = rollbacks(job)
    assert (line["step"], line["to_step"]) == (9, 6)
    assert "nothing is found any more" in line["found"]


def test_a_lost_class_is_told_once_and_written(make_job, see):
    see([0.5], [0.04], [0.04], [0.3], [0.04], [0.5], [0.6], [0.6])
    job = make_job(num_steps=24)
    item = job.planned
    item = item.revised(training=item.training.revised(max_rollbacks=0))
    job = replace(job, plan=job.plan.revised(configurations=(item,)))
    told = []
    train_fold(job, told.append, never)
    found = [line for line in lines(job.folder.events) if line["event"] == "trouble"]
    assert [(line["kind"], line["step"]) for line in found] == [("class lost", 6)]
    assert sum("has been lost" in str(event.get("text")) for event in told) == 1


def test_spoilt_weights_are_never_saved(make_job, monkeypatch):
    """Here a step that is itself in order leaves a weight that is no number."""
    spoilt = iter([True])

    def spoil_once(learner, *args, **options):
        for result in train(learner, *args, **options):
            if result.step == 3 and next(spoilt, False):
                for model in (learner.model, learner.ema.model):
                    next(model.parameters()).data.fill_(math.inf)
            yield result

    monkeypatch.setattr(training, "train", spoil_once)
    job = make_job(num_steps=6, checkpoint_interval_s=0.0)
    assert train_fold(job, ignore_progress, never).num_steps == 6
    (line,) = rollbacks(job)
    assert (line["step"], line["to_step"]) == (3, 2)
    assert "a weight is no longer a finite number" in line["found"]


def test_gradients_that_never_are_numbers_are_found_in_half_precision_too(make_job, monkeypatch):
    """There the steps are left out, and without a look at the scale nobody would know."""
    spoilt = iter([True])

    def spoil_once(learner, *args, **options):
        for result in train(learner, *args, **options):
            if result.step == 3 and next(spoilt, False):
                learner.scaler.update(1e-6)
            yield result

    job = make_job(num_steps=4, checkpoint_interval_s=0.0, val_cases=())
    monkeypatch.setattr(execution, "REDUCED", {})  # which is slow on processors
    settings = run_settings(job, fold._batches(job))
    job.folder.settings.write_text(settings.revised(precision="fp16").to_json())
    monkeypatch.setattr(training, "train", spoil_once)
    train_fold(job, ignore_progress, never)
    (line,) = rollbacks(job)
    assert (line["step"], line["to_step"]) == (3, 2)


def test_a_run_that_goes_back_does_not_hold_two_networks(make_job, spoil, monkeypatch):
    made, task = [], training.TASKS["segmentation"]

    def build(*args):
        gc.collect()
        assert [model for model in made if model() is not None] == []
        learner = task.build_learner(*args)
        made.append(weakref.ref(learner.model))
        return learner

    spoil(2)
    changed = {"segmentation": replace(training.TASKS["segmentation"], build_learner=build)}
    monkeypatch.setattr(training, "TASKS", changed)
    train_fold(make_job(num_steps=3), ignore_progress, never)
    assert len(made) == 2


def test_a_fold_that_another_process_trains_is_refused(make_job, monkeypatch):
    monkeypatch.setattr(fold, "LOCK_WAIT_S", 0.0)
    job = make_job()
    with held(job.folder.lock, 0.0), pytest.raises(TrainingError, match=str(os.getpid())):
        train_fold(job, ignore_progress, never)


def test_rests_of_a_killed_run_are_removed(make_job):
    job = make_job(num_steps=2)
    rest = job.folder.root / ".last.pt.0123abcd.tmp"
    rest.parent.mkdir(parents=True)
    rest.touch()
    train_fold(job, ignore_progress, never)
    assert not rest.exists()


def test_decisions_cut_short_by_a_full_disk_are_passed_over(make_job):
    job = make_job(num_steps=6)
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(2))
    job.folder.events.write_text('{"event": "revised", "num_st')
    assert train_fold(job, ignore_progress, never).num_steps == 6


def test_full_memory_of_the_device_is_an_error_with_a_remedy(make_job, monkeypatch):
    def run(_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(fold.FoldTraining, "run", run)
    with pytest.raises(TrainingError, match="--memory"):
        train_fold(make_job(), ignore_progress, never)


def test_checkpoint_of_another_plan_is_refused(make_job):
    job = make_job()
    with pytest.raises(Interrupted):
        train_fold(job, ignore_progress, after(1))
    other = replace(job, plan=job.plan.revised(seed=1))
    with pytest.raises(WorkspaceError, match="another plan"):
        train_fold(other, ignore_progress, never)


@pytest.mark.slow
def test_balls_are_learnt(make_job):
    result = train_fold(make_job(num_steps=150), ignore_progress, never)
    dice = [score.classes[0].dice or 0.0 for score in result.scores]
    assert np.mean(dice) > 0.85
