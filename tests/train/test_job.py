import pickle
from dataclasses import replace

import numpy as np
import pytest

from autoseg.train.job import TrialPlace
from autoseg.workspace import Workspace


def test_a_job_survives_pickling_with_its_stores(make_second_stage):
    job = make_second_stage()
    again = pickle.loads(pickle.dumps(job))
    assert again == job
    case_id = job.val_cases[0]
    assert again.store.info(case_id) == job.store.info(case_id)
    assert again.previous.made_of(case_id) == job.previous.made_of(case_id)


def test_a_second_stage_reads_the_cases_of_the_configuration_it_inherits_from(make_second_stage):
    job = make_second_stage()
    assert job.store.folder == Workspace(job.root).preprocessed("3d_fullres")
    assert job.store == replace(job, configuration="3d_fullres").store
    assert job.folder.root == Workspace(job.root).fold("3d_cascade_fullres", "0").root


def test_a_second_stage_with_a_recipe_of_its_own_reads_its_own_cases(make_second_stage):
    job = make_second_stage()
    *others, item = job.plan.configurations
    item = item.revised(recipe=replace(item.recipe, spacing=(2.0, 1.0, 1.0)))
    own = replace(job, plan=job.plan.revised(configurations=(*others, item)))
    assert own.store.folder == Workspace(job.root).preprocessed("3d_cascade_fullres")


def test_only_a_second_stage_has_previous_labels(make_second_stage):
    job = make_second_stage()
    assert replace(job, configuration="3d_fullres").previous is None
    assert replace(job, configuration="3d_lowres").previous is None
    assert job.previous is not None
    for case_id in (*job.train_cases, *job.val_cases):
        assert job.previous.labels(case_id).shape == job.store.labels(case_id).shape


@pytest.mark.parametrize("branch", [None, 0])
def test_all_folds_and_their_copies_see_the_same_previous_labels(make_second_stage, branch):
    job = make_second_stage()
    other = replace(job, fold="1", branch=branch)
    assert other.previous == job.previous
    assert other.folder.root != job.folder.root


def test_a_trial_reads_the_cases_that_it_was_given(make_job, tmp_path):
    place = TrialPlace(name="trial 1", folder=tmp_path / "trial", prepared=tmp_path / "prepared")
    job = make_job(trial=place)
    assert job.store.folder == tmp_path / "prepared"
    assert job.folder.root == tmp_path / "trial"
    assert job.name == "trial 1"


def test_previous_labels_are_not_the_reference(make_second_stage):
    job = make_second_stage()
    case_id = job.val_cases[0]
    assert job.previous is not None
    assert not np.array_equal(job.previous.labels(case_id)[:], job.store.labels(case_id)[:])
