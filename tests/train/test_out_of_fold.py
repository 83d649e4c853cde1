"""Probabilities of validation cases are kept small, within a limit that is known before."""

import json

import numpy as np
import pytest
import torch

from autoseg.errors import WorkspaceError
from autoseg.network.build import build_network
from autoseg.network.execution import Execution
from autoseg.runtime import blend
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_labels
from autoseg.train import out_of_fold, validation
from autoseg.train.fold import train_fold
from autoseg.train.job import Listeners, TrialPlace
from autoseg.train.out_of_fold import (
    StoredCase,
    choosing_seconds,
    is_stored,
    note_limit,
    read_stored,
    store_case,
    stored_cases,
    stored_values,
    to_steps,
    write_stored,
)
from autoseg.train.records import Request
from autoseg.workspace import Workspace


def draw_logits(job, case_id, classes=2, spread=4.0):
    placement = Placement.from_dict(job.store.info(case_id).placement)
    shape = (classes, *placement.prepared_shape)
    return np.random.default_rng(0).normal(scale=spread, size=shape).astype(np.float32)


def test_probabilities_come_back_as_exact_as_a_byte_can_be(make_job):
    job = make_job()
    case_id = job.val_cases[0]
    logits = draw_logits(job, case_id, classes=3)
    store_case(job, case_id, logits.copy(), (2.0, 1.0, 0.5))
    found = read_stored(job.folder, case_id, job.plan.digest())
    assert found is not None
    assert found.voxel_size == 1.0
    expected = logits - np.logaddexp.reduce(logits, axis=0)
    likely = expected > np.log(0.2)
    np.testing.assert_allclose(found.logits[likely], expected[likely], atol=0.02)
    assert found.logits.min() >= -out_of_fold.LOWEST - 1e-3
    labels = restore_labels(found.logits, found.placement)
    assert (labels == restore_labels(logits, found.placement)).mean() > 0.998


def test_even_infinite_certainty_is_stored():
    steps = to_steps(np.array([[1e30], [-1e30]], np.float32))
    assert steps.tolist() == [[0], [out_of_fold.LAST]]


@pytest.mark.parametrize("spread", [0.0, 1e-3, 1.0, 100.0])
def test_what_is_stored_decides_as_the_network_however_close(spread):
    logits = np.random.default_rng(0).normal(scale=spread, size=(4, 5000)).astype(np.float32)
    assert (to_steps(logits.copy()).argmin(axis=0) == logits.argmax(axis=0)).all()


def test_what_is_of_another_plan_or_cut_short_is_not_there(make_job):
    job = make_job()
    case_id = job.val_cases[0]
    assert read_stored(job.folder, case_id, job.plan.digest()) is None
    store_case(job, case_id, draw_logits(job, case_id), (1.0, 1.0, 1.0))
    assert read_stored(job.folder, case_id, "another") is None
    (path,) = job.folder.probabilities.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert read_stored(job.folder, case_id, job.plan.digest()) is None
    path.unlink()
    placement = Placement.from_dict(job.store.info(case_id).placement)
    write_stored(
        job.folder,
        StoredCase(case_id, np.zeros((2, 3, 4), np.uint8), placement, 1.0),
        job.plan.digest(),
    )
    assert read_stored(job.folder, case_id, job.plan.digest()) is None


def test_a_disk_that_is_full_is_told_and_leaves_nothing(make_job, monkeypatch):
    job = make_job()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(WorkspaceError, match="No space left"):
        store_case(job, job.val_cases[0], draw_logits(job, job.val_cases[0]), (1.0, 1.0, 1.0))
    assert not list(job.folder.probabilities.iterdir())


def test_validation_stores_its_cases(make_job):
    job = make_job(num_steps=1)
    train_fold(job, lambda _: None, lambda: False)
    assert all(is_stored(job.folder, case_id) for case_id in job.val_cases)


def test_training_anew_leaves_no_probabilities_of_the_former_network(make_job, monkeypatch):
    job = make_job(num_steps=1)
    train_fold(job, lambda _: None, lambda: False)
    assert len(list(job.folder.probabilities.iterdir())) == len(job.val_cases)
    for path in (job.folder.result, job.folder.final, job.folder.last, job.folder.previous):
        path.unlink(missing_ok=True)
    monkeypatch.setattr(out_of_fold, "STORED_BYTES", 0)
    train_fold(job, lambda _: None, lambda: False)
    assert not any(is_stored(job.folder, case_id) for case_id in job.val_cases)


def test_a_huge_case_is_predicted_row_by_row_with_the_same_scores(make_job, monkeypatch):
    monkeypatch.setattr(blend, "MIN_VOXELS", 1)
    found = []
    for limit in (1 << 27, 1):
        job = make_job()
        job.folder.validation.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(validation, "MAX_CASE_VALUES", limit)
        monkeypatch.setattr(out_of_fold, "MAX_CASE_VALUES", limit)
        torch.manual_seed(0)
        model = build_network(job.planned.network).eval()
        execution = Execution(device="cpu", precision="fp32")
        rows = validation.predict_case(job, model, execution, job.val_cases[0])
        assert isinstance(rows, list) is (limit > 1)
        listeners = Listeners(lambda _: None, lambda: False)
        found.append(validation.validate(job, model, execution, listeners))
        assert is_stored(job.folder, job.val_cases[0]) is (limit > 1)
    (scores, _), (in_rows, seconds) = found
    assert in_rows == scores
    assert seconds > 0


def test_cases_beyond_the_limit_are_left_out_and_told(make_job, monkeypatch):
    job = make_job()
    assert set(stored_cases(job)) == set(job.val_cases)
    assert note_limit(job, stored_cases(job)) is None
    size = max(stored_values(job, case_id) for case_id in job.val_cases)
    monkeypatch.setattr(out_of_fold, "STORED_BYTES", 2 * size)  # of two folds
    chosen = stored_cases(job)
    assert len(chosen) == 1
    assert "1 of 2 cases" in (note_limit(job, chosen) or "")
    line = json.loads(Workspace(job.root).events.read_text())
    assert (line["event"], line["cases"], line["of"]) == ("stored", 1, 2)
    monkeypatch.setattr(out_of_fold, "MAX_CASE_VALUES", size - 1)
    assert len(stored_cases(job)) < 2


def test_a_short_budget_stores_what_there_is_time_for(make_job):
    job = make_job()
    values = sum(stored_values(job, case_id) for case_id in job.val_cases)
    seconds = out_of_fold.VALUE_S * values
    assert choosing_seconds([job]) == pytest.approx(seconds + 2 * out_of_fold.CASE_S)
    budget_s = 2 * seconds / out_of_fold.CHOOSING_FRACTION  # of two folds
    for factor, count in ((1.01, 2), (0.6, 1), (0.1, 0)):
        request = Request(num_steps=None, budget_s=factor * budget_s, is_explicit=True)
        assert len(stored_cases(make_job(request=request))) == count


def test_trials_of_a_search_store_nothing(make_job, tmp_path):
    job = make_job()
    place = TrialPlace(name="trial", folder=tmp_path, prepared=job.store.folder)
    assert stored_cases(make_job(trial=place)) == ()
