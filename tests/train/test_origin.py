import json
import shutil
from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.train.fold import Interrupted, _batches, train_fold
from autoseg.train.origin import as_begun, begun, check_cases, check_request
from autoseg.train.probe import run_settings
from autoseg.train.records import Request, RunSettings
from autoseg.workspace import Workspace


def asked(num_steps=None, budget_s=None, is_explicit=True):
    return Request(num_steps=num_steps, budget_s=budget_s, is_explicit=is_explicit)


def train(job, stop_after=None):
    """Train a fold to its end, or until it has done some steps."""
    steps = iter(range(10**9))
    return train_fold(
        job, lambda _: None, lambda: stop_after is not None and next(steps) + 1 >= stop_after
    )


def interrupted(job, stop_after=1):
    with pytest.raises(Interrupted):
        train(job, stop_after)
    return job


def test_finished_fold_is_refused_when_another_length_is_asked_for(make_job):
    job = make_job(num_steps=2, request=asked(2))
    train(job)
    other = replace(job, num_steps=5, request=asked(5))
    with pytest.raises(TrainingError, match="fold 0 is trained with 2 steps") as refused:
        train(other)
    assert "5 steps" in str(refused.value)
    assert str(job.folder.root) in str(refused.value)
    with pytest.raises(TrainingError):
        check_request(replace(job, request=asked(budget_s=60.0)))


def test_begun_fold_is_refused_when_another_length_is_asked_for(make_job):
    job = interrupted(make_job(num_steps=4, request=asked(4, is_explicit=False)))
    with pytest.raises(TrainingError, match="fold 0 is begun with 4 steps"):
        train(replace(job, num_steps=9, request=asked(9)))


def test_fold_goes_on_as_it_was_begun_when_nothing_is_asked_for(make_job):
    job = interrupted(make_job(num_steps=4, request=asked(4)))
    default = asked(budget_s=0.5, is_explicit=False)
    left_to_the_plan = replace(job, num_steps=None, budget_s=0.5, request=default)
    result = train(left_to_the_plan)
    assert result.num_steps == 4
    assert result.request == asked(4)
    assert train(left_to_the_plan) == result


def test_the_same_request_goes_on(make_job):
    job = interrupted(make_job(num_steps=3, request=asked(3, is_explicit=False)))
    assert train(replace(job, request=asked(3))).num_steps == 3


def test_fold_without_weights_takes_a_new_request(make_job):
    job = make_job(num_steps=4, request=asked(4))
    run_settings(job, _batches(job))
    assert begun(job) is None
    assert train(replace(job, num_steps=2, request=asked(2))).num_steps == 2


def test_resumed_fold_keeps_its_number_of_threads(make_job):
    job = interrupted(make_job(num_steps=3))
    seen = []
    other = replace(job, num_threads=2)
    train_fold(other, lambda _: seen.append(torch.get_num_threads()), lambda: False)
    assert set(seen) == {1}
    assert as_begun(other).num_threads == RunSettings.load(job.folder.settings).num_threads == 1


@pytest.mark.parametrize("stop_after", [1, None])
def test_fold_is_refused_when_the_splits_have_changed(make_job, stop_after):
    job = make_job(num_steps=2)
    if stop_after:
        interrupted(job, stop_after)
    else:
        train(job)
    check_cases(job)
    first, *rest = job.train_cases
    for other in (
        replace(job, train_cases=tuple(rest), val_cases=(*job.val_cases, first)),
        replace(job, train_cases=(*rest, first)),
    ):
        with pytest.raises(TrainingError, match="its cases or their files have changed"):
            train(other)


def test_fold_is_refused_when_a_file_of_a_case_has_changed(prepared, make_job, tmp_path):
    root = tmp_path / "own.autoseg"
    folder = Workspace(root).preprocessed("3d_fullres")
    shutil.copytree(prepared[2].preprocessed("3d_fullres"), folder)
    job = interrupted(make_job(num_steps=2, root=root))
    path = next(
        path
        for path in folder.glob("*.json")
        if json.loads(path.read_text())["case_id"] == job.val_cases[0]
    )
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source_hash": "another"}))
    with pytest.raises(TrainingError, match="--replan"):
        train(job)


def test_fold_of_an_unknown_request_and_cases_is_kept(make_job):
    job = make_job(num_steps=2)
    settings = run_settings(job, _batches(job)).revised(request=None, cases_digest=None)
    interrupted(job)
    job.folder.settings.write_text(settings.to_json())
    assert train(replace(job, num_steps=9, request=asked(9))).num_steps == 2
