"""Keep-largest rules are decided on out-of-fold predictions and reported cross-fitted."""

from dataclasses import replace

import numpy as np
import pytest

from autoseg.ensemble.choose import choose_ensemble
from autoseg.ensemble.largest import count_ways
from autoseg.ensemble.objects import count_objects
from autoseg.ensemble.postprocessing import (
    PostprocessingChoice,
    choose_postprocessing,
    cross_fit,
    decide,
)
from autoseg.errors import WorkspaceError
from autoseg.runtime.recipe import KeepLargest

NAMES = ("large", "small")


def clean():
    labels = np.zeros((10, 12, 14), np.int8)
    labels[1:6, 1:7, 1:7], labels[6:8, 1:7, 1:7] = 1, 2  # the two touch
    return labels


def speckled(value):
    labels = clean()
    labels[0, 11, 10:13] = value
    return labels


def split_reference():
    """Two separate pieces are right: keeping the largest would harm."""
    labels = clean()
    labels[1:6, 9:12, 9:12] = 1
    return labels


def counts(*pairs):
    known = (True,) * 3
    return count_ways([count_objects(found, truth, known, 1.0) for truth, found in pairs])


def test_speckles_are_removed_by_the_rule_for_all_foreground():
    rules, trials = decide(counts((clean(), speckled(1)), (clean(), speckled(2))), NAMES)
    assert rules.foreground
    assert rules.classes == (False, False)  # nothing is left to gain
    assert trials[0].after == 1.0


def test_foreground_rule_is_refused_when_a_class_drops():
    truth = clean()
    truth[0, 11, 10:13] = 2
    prediction = truth.copy()
    prediction[9, 8:12, 8:14] = 1  # larger gain in class 1 than the loss in class 2
    rules, trials = decide(counts((truth, prediction)), NAMES)
    assert (trials[0].after or 0) > (trials[0].before or 1)
    assert not rules.foreground
    assert rules.classes == (True, False)


def test_right_predictions_are_left_alone():
    rules, trials = decide(counts((clean(), clean()), (split_reference(),) * 2), NAMES)
    assert rules.ways == [0, 0]
    assert not any(trial.kept for trial in trials)


def test_cross_fitting_uses_the_rules_of_the_others():
    pairs = [(clean(), speckled(1)), (split_reference(), split_reference())]
    table = counts(*pairs)
    found = cross_fit(table, np.array([0, 1]))
    before = table.dice(decide(counts((clean(), clean())), NAMES)[0])
    assert found[0] == pytest.approx(before[0])  # the other case wants no rule
    assert found[1, 0] < before[1, 0]  # and this one is harmed by the first one's
    assert np.isnan(cross_fit(table, np.array([0, 0]))).all()


def test_choice_is_cross_fitted_over_folds(plan, workspace, source, train):
    results = [
        train("2d", fold, {f"case {fold}": (clean(), speckled(1))}) for fold in ("0", "1", "2")
    ]
    ensemble = choose_ensemble(plan, workspace, results)
    found = choose_postprocessing(source, ensemble)
    assert found.steps == (KeepLargest(classes=(1, 2)),)
    assert found.cross_fitting == "folds"
    assert found.num_cases == 3
    assert found.dice == pytest.approx(ensemble.candidates[0].dice)
    assert found.dice_in_sample == found.dice_cross_fitted == 1.0
    assert found.gain_cross_fitted == pytest.approx(1.0 - (found.dice or 0))
    assert PostprocessingChoice.from_json(found.to_json(), "postprocessing.json") == found


def test_single_fold_is_cross_fitted_over_halves_of_its_patients(plan, workspace, source, train):
    cases = {f"case {i}": (clean(), speckled(1)) for i in range(4)}
    ensemble = choose_ensemble(plan, workspace, [train("2d", "0", cases)])
    found = choose_postprocessing(source, ensemble)
    assert found.cross_fitting == "halves"
    assert found.dice_cross_fitted == 1.0


def test_one_patient_cannot_be_cross_fitted(plan, workspace, source, train):
    cases = {f"case {i}": (clean(), speckled(1)) for i in range(2)}  # both of patient 0
    ensemble = choose_ensemble(plan, workspace, [train("2d", "0", cases)])
    found = choose_postprocessing(source, ensemble)
    assert found.cross_fitting == "none"
    assert found.dice_cross_fitted is None
    assert found.dice is not None
    assert found.dice_in_sample is not None
    assert found.dice_in_sample > found.dice


def test_classes_that_cases_do_not_annotate_join_objects_as_when_predicting(source, train):
    truth, found = np.zeros((2, 10, 12, 14), np.int8)
    truth[1:3, 1:4, 1:5], truth[1:3, 1:4, 8:12] = 1, 1
    found[:] = truth
    found[1:3, 1:4, 5:8] = 2  # joins the two; nobody has looked for it
    found[8, 8, 8:10] = 1
    result = train("2d", "0", {f"case {i}": (truth, found) for i in range(4)})
    cases = [case.revised(annotated=("large",)) for case in source.dataset.cases]
    judged = replace(source, dataset=source.dataset.revised(cases=tuple(cases)))
    ensemble = choose_ensemble(source.plan, source.workspace, [result])
    choice = choose_postprocessing(judged, ensemble)
    assert choice.steps == (KeepLargest(classes=(1, 2)),)
    assert choice.class_dice_in_sample == (1.0, None)


def test_fold_on_all_cases_decides_nothing(plan, workspace, source, train):
    ensemble = choose_ensemble(plan, workspace, [train("2d", "all", {})])
    found = choose_postprocessing(source, ensemble)
    assert found.steps == ()
    assert "Fewer than" in found.reason


def test_missing_prediction_is_named(plan, workspace, source, train):
    cases = {f"case {i}": (clean(), clean()) for i in range(2)}
    ensemble = choose_ensemble(plan, workspace, [train("2d", "0", cases)])
    (workspace.fold("2d", "0").validation / "case 1.nii.gz").unlink()
    with pytest.raises(WorkspaceError, match="case 1"):
        choose_postprocessing(source, ensemble)
