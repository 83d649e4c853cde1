"""The stages that a cascade follows belong to the model, whether or not they vote."""

import pytest

from autoseg.ensemble.choose import Candidate, Ensemble, Member
from autoseg.ensemble.stages import with_stages
from autoseg.errors import ExportError
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg_planners import nnunet


@pytest.fixture(scope="module")
def plan():
    return nnunet.plan(request_of(fingerprint_of([(400, 400, 400)] * 20)))


def make_ensemble(weights, trained):
    return Ensemble(
        autoseg_version="0",
        plan_digest="0",
        members=tuple(
            Member(configuration=name, folds=("0",), weight=weight)
            for name, weight in weights.items()
        ),
        candidates=tuple(
            Candidate(configuration=name, folds=("0", "1"), num_cases=2, dice=0.5)
            for name in trained
        ),
        reason="made up",
    )


def listed(members):
    return [(item.configuration, item.weight, item.folds) for item in members]


def test_without_a_cascade_nothing_is_added(plan):
    ensemble = make_ensemble({"3d_fullres": 0.5, "2d": 0.5}, ["2d", "3d_lowres", "3d_fullres"])
    assert with_stages(plan, ensemble) == ensemble.members


def test_a_stage_that_does_not_vote_comes_first_with_all_of_its_folds(plan):
    weights = {"3d_fullres": 0.5, "3d_cascade_fullres": 0.5}
    ensemble = make_ensemble(weights, ["3d_lowres", "3d_fullres", "3d_cascade_fullres"])
    assert listed(with_stages(plan, ensemble)) == [
        ("3d_fullres", 0.5, ("0",)),
        ("3d_lowres", 0.0, ("0", "1")),
        ("3d_cascade_fullres", 0.5, ("0",)),
    ]


def test_a_stage_that_votes_is_listed_once_and_before_its_follower(plan):
    weights = {"3d_cascade_fullres": 0.75, "3d_lowres": 0.25}
    ensemble = make_ensemble(weights, ["3d_lowres", "3d_cascade_fullres"])
    assert listed(with_stages(plan, ensemble)) == [
        ("3d_lowres", 0.25, ("0",)),
        ("3d_cascade_fullres", 0.75, ("0",)),
    ]


def test_a_stage_without_a_trained_fold_is_named_with_the_remedy(plan):
    ensemble = make_ensemble({"3d_cascade_fullres": 1.0}, ["3d_cascade_fullres"])
    with pytest.raises(ExportError, match="without a trained fold of 3d_lowres") as caught:
        with_stages(plan, ensemble)
    assert "--configurations 3d_lowres" in caught.value.fix
