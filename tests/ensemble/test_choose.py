"""Which configuration makes the model."""

import numpy as np
import pytest

from autoseg.ensemble.choose import Ensemble, choose_ensemble
from autoseg.errors import TrainingError


def cases(*names, errors):
    reference = np.zeros((10, 12, 14), np.uint8)
    reference[1:8, 1:6, 1:6], reference[5:8, 8:11, 8:11] = 1, 2
    prediction = reference.copy()
    prediction[1 : 1 + errors, 1:6, 1:6] = 0
    return {name: (reference, prediction) for name in names}


def test_best_out_of_fold_dice_wins_and_its_folds_are_averaged(plan, workspace, train):
    results = [
        train("2d", "0", cases("case 0", errors=3)),
        train("3d_fullres", "1", cases("case 1", errors=1)),
        train("3d_fullres", "0", cases("case 0", errors=2)),
    ]
    found = choose_ensemble(plan, workspace, results)
    assert [(m.configuration, m.folds, m.weight) for m in found.members] == [
        ("3d_fullres", ("0", "1"), 1.0)
    ]
    best = next(item for item in found.candidates if item.configuration == "3d_fullres")
    assert best.num_cases == 2
    assert f"{best.dice:.4f}" in found.reason
    assert "On the 1 case in common 2d has" in found.reason


def test_an_easy_fold_does_not_beat_harder_ones(plan, workspace, train):
    flat = train("2d", "0", cases("case 0", errors=2))
    easy = train("3d_fullres", "0", cases("case 0", errors=1))
    hard = train("3d_fullres", "1", cases("case 1", errors=6))
    found = choose_ensemble(plan, workspace, [flat, easy, hard])
    dice = {item.configuration: item.dice or 0 for item in found.candidates}
    assert dice["2d"] > dice["3d_fullres"]
    assert found.members[0].configuration == "3d_fullres"


def test_a_configuration_with_fewer_folds_wins_on_the_common_cases(plan, workspace, train):
    flat = train("2d", "0", cases("case 0", errors=2))
    worse = train("3d_fullres", "0", cases("case 0", errors=3))
    easy = train("3d_fullres", "1", cases("case 1", errors=1))
    found = choose_ensemble(plan, workspace, [flat, worse, easy])
    assert found.members[0].configuration == "2d"


def test_without_common_cases_more_folds_are_preferred(plan, workspace, train):
    easy = train("2d", "2", cases("case 2", errors=1))
    hard = [train("3d_fullres", fold, cases(f"case {fold}", errors=5)) for fold in "01"]
    found = choose_ensemble(plan, workspace, [easy, *hard])
    assert found.members[0].configuration == "3d_fullres"
    assert "no case in common" in found.reason


def test_equal_configurations_go_to_the_first_of_the_plan(plan, workspace, train):
    results = [train(name, "0", cases("case 0", errors=1)) for name in ("3d_fullres", "2d")]
    found = choose_ensemble(plan, workspace, results)
    assert found.members[0].configuration == plan.configurations[0].name


def test_a_fold_on_all_cases_is_used_only_where_nothing_else_is(plan, workspace, train):
    everything = train("2d", "all", {})
    alone = choose_ensemble(plan, workspace, [everything])
    assert alone.members[0].folds == ("all",)
    assert alone.candidates[0].dice is None
    assert "no case is left" in alone.reason
    other = train("3d_fullres", "0", cases("case 0", errors=6))
    assert choose_ensemble(plan, workspace, [everything, other]).members[0].folds == ("0",)
    same = train("2d", "1", cases("case 1", errors=1))
    both = choose_ensemble(plan, workspace, [everything, same])
    assert both.members[0].folds == ("1",)
    assert "Fold all of 2d is not used" in both.reason


def test_tenth_fold_comes_after_the_second(plan, workspace, train):
    results = [train("2d", fold, cases(f"case {fold}", errors=1)) for fold in ("10", "2")]
    assert choose_ensemble(plan, workspace, results).members[0].folds == ("2", "10")


def test_nothing_trained_is_an_error(plan, workspace):
    with pytest.raises(TrainingError, match="no trained fold"):
        choose_ensemble(plan, workspace, [])


def test_ensemble_survives_json(plan, workspace, train):
    found = choose_ensemble(plan, workspace, [train("2d", "0", cases("case 0", errors=1))])
    assert Ensemble.from_json(found.to_json(), "ensemble.json") == found
