import json
import shutil
from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.train.fold import Interrupted, _batches, train_fold
from autoseg.train.origin import (
    as_begun,
    begun,
    check_cases,
    check_previous,
    check_request,
    is_previous_kept,
    previous_digest,
)
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


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_fold_is_refused_when_the_previous_stage_finds_something_else(
    make_second_stage, find_previous, is_finished
):
    job = make_second_stage(num_steps=2)
    if is_finished:
        train(job)
    else:
        interrupted(job)
    check_previous(job)
    find_previous(job, job.train_cases[:1], off=3)
    with pytest.raises(TrainingError, match="begun with other labels of 3d_lowres") as refused:
        train(job)
    assert "`autoseg train --configurations 3d_cascade_fullres`" in refused.value.fix
    assert not is_previous_kept(job)
    find_previous(job, job.train_cases[:1], off=2)
    assert train(job).num_steps == 2


def test_what_was_found_in_validation_cases_counts_too(make_second_stage, find_previous):
    job = interrupted(make_second_stage(num_steps=2))
    find_previous(job, job.val_cases[-1:], off=3)
    with pytest.raises(TrainingError, match="begun with other labels"):
        check_previous(job)


def test_what_was_found_in_cases_of_no_fold_does_not_count(make_second_stage, find_previous):
    job = make_second_stage(num_steps=2)
    job = interrupted(replace(job, train_cases=job.train_cases[1:]))
    others = [case.id for case in job.dataset.cases]
    (left,) = set(others) - {*job.train_cases, *job.val_cases}
    find_previous(job, [left], off=3)
    assert train(job).num_steps == 2


def test_cases_without_previous_labels_are_counted_and_named(make_second_stage):
    job = make_second_stage()
    for case_id in job.val_cases:
        (job.previous.folder / f"{case_id}.b2nd").unlink()
    with pytest.raises(TrainingError, match="prepared for 4 of its 6 cases") as refused:
        train(job)
    assert job.val_cases[0] in refused.value.found
    assert "`autoseg train --configurations 3d_cascade_fullres`" in refused.value.fix
    assert not job.folder.settings.exists()


def test_a_fold_without_weights_takes_what_the_previous_stage_finds_now(
    make_second_stage, find_previous
):
    job = make_second_stage(num_steps=2)
    first = run_settings(job, _batches(job))
    assert run_settings(job, _batches(job)) == first
    find_previous(job, job.train_cases, off=3)
    second = run_settings(job, _batches(job))
    assert second.previous_digest == previous_digest(job) != first.previous_digest
    assert train(job).previous_digest == second.previous_digest


def test_without_a_previous_stage_nothing_is_asked_of_one(make_job):
    job = make_job(num_steps=2)
    check_previous(job)
    assert previous_digest(job) is None
    assert train(job).previous_digest is None
    assert is_previous_kept(job)


def test_a_second_stage_goes_on_after_an_interruption_to_the_same_weights(make_second_stage):
    whole, broken = make_second_stage(num_steps=4), make_second_stage(num_steps=4)
    assert train(whole).num_steps == 4
    interrupted(broken, 3)
    train(broken)
    first, second = (torch.load(job.folder.final)["weights"] for job in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_second_stage_learns_from_what_the_first_one_found(make_second_stage, find_previous):
    first, second = (make_second_stage(num_steps=3) for _ in range(2))
    find_previous(second, second.train_cases, off=6)
    losses = []
    for job in (first, second):
        train(job)
        lines = job.folder.metrics.read_text().splitlines()
        losses.append(json.loads(lines[-1])["loss"])
    assert losses[0] != losses[1]
