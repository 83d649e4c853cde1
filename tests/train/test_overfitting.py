import numpy as np
import pytest
from torch import nn

from autoseg.network.execution import Execution
from autoseg.train import overfitting
from autoseg.train.fold import train_fold
from autoseg.train.overfitting import training_dice


@pytest.fixture
def seen(monkeypatch):
    """Which cases were predicted; each has half of the first class right and none of the second."""
    cases = []

    def overlaps(_job, _model, _execution, case_id):
        cases.append(case_id)
        return np.array([5, 0]), np.array([20, 0])

    monkeypatch.setattr(overfitting, "overlaps", overlaps)
    return cases


def dice(job, num_steps):
    return training_dice(job, nn.Identity(), Execution(device="cpu", precision="fp32"), num_steps)


def test_the_dice_is_of_cases_that_were_trained_on(make_job, seen):
    job = make_job()
    assert dice(job, 10**6) == (0.5, None)
    assert seen == list(job.train_cases)


def test_no_more_cases_are_predicted_than_a_small_part_of_the_steps_pays_for(make_job, seen):
    assert dice(make_job(), 1) == ()
    assert seen == []


def test_a_fold_records_it(make_job, monkeypatch):
    monkeypatch.setattr(overfitting, "TRAINING_FRACTION", 10.0)
    result = train_fold(make_job(num_steps=2), lambda _: None, lambda: False)
    (value,) = result.train_dice
    assert value is not None
    assert 0 <= value <= 1
