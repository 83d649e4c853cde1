import json
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autoseg.train import plateau
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.job import Listeners
from autoseg.train.lines import read_lines
from autoseg.train.plateau import annealed_ends, judged
from autoseg.train.records import AnnealedEnd, FoldResult, RunSettings
from autoseg.train.schedule import ANNEALED_FRACTION, BRANCH_AT
from autoseg.train.watch import AstrayError

STEPS = 160
"""The first copy is made after ten."""


def ignore_progress(_):
    return None


def never():
    return False


def after(calls):
    """Return a stop request that comes with the given call."""
    count = iter(range(10**9))
    return lambda: next(count) >= calls


def weights(job):
    return torch.load(job.folder.final, weights_only=True)["weights"]


def assert_same_weights(first, second):
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


def end(*case_dice, class_dice=(0.8,)):
    cases = tuple(f"case_{index}" for index in range(len(case_dice)))
    return AnnealedEnd(
        step=10,
        num_steps=12,
        cases=cases,
        case_dice=case_dice,
        class_dice=class_dice,
        elapsed_s=1.0,
    )


def test_the_first_end_is_no_plateau():
    assert judged(end(0.8, 0.8), None).is_plateau is False


def test_a_gain_that_is_small_beyond_its_noise_is_a_plateau():
    found = judged(end(0.801, 0.801, 0.801), end(0.8, 0.8, 0.8))
    assert found.is_plateau
    assert found.gain == pytest.approx(0.001)
    assert found.noise == pytest.approx(0.0)


def test_a_gain_is_no_plateau():
    assert not judged(end(0.82, 0.81, 0.81), end(0.8, 0.8, 0.8)).is_plateau


def test_a_gain_that_may_be_there_in_the_noise_is_no_plateau():
    assert not judged(end(0.81, 0.79, 0.8), end(0.8, 0.8, 0.8)).is_plateau


def test_what_is_clearly_worse_than_before_is_no_plateau():
    assert not judged(end(0.75, 0.75, 0.74), end(0.8, 0.8, 0.8)).is_plateau


def test_a_class_that_is_hardly_found_yet_is_no_plateau():
    before, now = end(0.4, 0.4, 0.4), end(0.4, 0.4, 0.4, class_dice=(0.8, 0.0))
    assert not judged(now, before).is_plateau


def test_cases_without_a_score_do_not_count():
    found = judged(end(0.9, None, 0.9, 0.5), end(0.8, 0.8, 0.8, None))
    assert found.gain == pytest.approx(0.1)
    assert judged(end(None, 0.9), end(0.8, None)).gain is None


def test_a_copy_that_goes_astray_tells_nothing_and_the_fold_goes_on(make_job, monkeypatch):
    class Training:
        def __init__(self, *_, branch=None, **__):
            self.branch = branch

        def run(self, until=1.0):
            if self.branch is not None:
                raise AstrayError(found="the loss is no number", expected="numbers", fix="none")
            return 10

    monkeypatch.setattr(plateau, "FoldTraining", Training)
    monkeypatch.setattr(plateau, "_copy_checkpoint", lambda *_: None)
    monkeypatch.setattr("autoseg.train.validation.LOOK_FRACTION", 1.0)
    job = make_job(num_steps=STEPS)
    pace: Any = SimpleNamespace(elapsed_s=lambda: 3.0)
    settings: Any = SimpleNamespace(num_steps=STEPS)
    listeners = Listeners(ignore_progress, never)
    nothing: Any = None
    found = plateau._annealed(job, settings, nothing, listeners, pace=pace, index=0)
    assert (found.step, found.num_steps) == (10, 12)
    assert found.case_dice == (None, None)
    assert found.class_dice == (None,)
    assert not judged(end(0.8, 0.8), found).is_plateau
    assert not judged(found, end(0.8, 0.8)).is_plateau


@pytest.fixture
def patient(monkeypatch):
    """Nothing is a plateau, and two cases suffice to look for one."""
    monkeypatch.setattr("autoseg.train.validation.MIN_PLATEAU_CASES", 2)
    monkeypatch.setattr("autoseg.train.validation.LOOK_FRACTION", 1.0)
    monkeypatch.setattr(plateau, "PLATEAU_GAIN", -10.0)


@pytest.fixture
def hasty(monkeypatch, patient):
    """Whatever has an end before it is a plateau."""
    monkeypatch.setattr(plateau, "PLATEAU_GAIN", 10.0)
    monkeypatch.setattr(plateau, "MIN_CLASS_DICE", 0.0)


@pytest.mark.slow
def test_a_run_without_a_plateau_ends_as_if_nothing_had_been_looked_at(make_job, patient):
    plain, looking = make_job(num_steps=STEPS), make_job(num_steps=STEPS, stops_at_plateau=True)
    train_fold(plain, ignore_progress, never)
    result = train_fold(looking, ignore_progress, never)
    assert_same_weights(plain, looking)
    assert [item.step for item in result.ends] == [round(STEPS * part) for part in BRANCH_AT]
    assert not list(looking.folder.root.glob("branch_*"))
    steps = [line["step"] for line in read_lines(looking.folder.metrics)]
    assert steps == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_plateau_ends_the_run_with_annealed_weights(make_job, hasty):
    job = make_job(num_steps=STEPS, stops_at_plateau=True)
    result = train_fold(job, ignore_progress, never)
    step = round(STEPS * BRANCH_AT[1])
    assert result.num_steps == step + round(ANNEALED_FRACTION * step)
    assert [item.is_plateau for item in result.ends] == [False, True]
    assert len(result.scores) == len(job.val_cases)
    assert FoldResult.load(job.folder.result) == result
    lines = read_lines(job.folder.metrics)
    assert [line["step"] for line in lines] == list(range(1, result.num_steps + 1))
    assert lines[-1]["lr"] < 0.3 * lines[step - 1]["lr"]
    assert not list(job.folder.root.glob("branch_*"))


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 11, 14, 15, 20, 23, 25])
def test_an_interrupted_run_makes_the_same_copies(make_job, hasty, stop):
    whole, broken = (make_job(num_steps=STEPS, stops_at_plateau=True) for _ in range(2))
    expected = train_fold(whole, ignore_progress, never)
    with pytest.raises(Interrupted):
        train_fold(broken, ignore_progress, after(stop))
    found = train_fold(broken, ignore_progress, never)
    assert_same_weights(whole, broken)
    assert [item.case_dice for item in found.ends] == [item.case_dice for item in expected.ends]
    assert found.scores == expected.scores


@pytest.mark.slow
def test_a_decision_that_is_written_stands(make_job, hasty, monkeypatch):
    whole, broken = (make_job(num_steps=STEPS, stops_at_plateau=True) for _ in range(2))
    train_fold(whole, ignore_progress, never)
    monkeypatch.setattr(plateau, "_adopt", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_fold(broken, ignore_progress, never)
    monkeypatch.undo()
    assert annealed_ends(broken)[-1].is_plateau
    train_fold(broken, ignore_progress, never)
    assert_same_weights(whole, broken)


def test_short_runs_and_runs_without_cases_look_for_no_plateau(make_job):
    for changes in ({"num_steps": 4}, {"num_steps": 4, "val_cases": ()}):
        job = make_job(stops_at_plateau=True, **changes)
        assert train_fold(job, ignore_progress, never).ends == ()
        assert not RunSettings.load(job.folder.settings).stops_at_plateau
        assert not job.folder.events.exists()


def test_ends_are_read_from_the_events_of_the_fold(make_job):
    job = make_job()
    job.folder.root.mkdir(parents=True)
    line = {"event": "annealed", "branch": 0, **end(0.5).model_dump(mode="json")}
    job.folder.events.write_text('{"event": "branched"}\n' + json.dumps(line) + "\n{cut sho")
    assert annealed_ends(job) == (end(0.5),)
