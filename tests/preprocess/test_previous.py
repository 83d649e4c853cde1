"""What the previous stage found in its own validation cases, on the grid of the second one."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from autoseg.dataset.case import read_case
from autoseg.dataset.label_values import to_values
from autoseg.errors import TrainingError
from autoseg.plan.compose import cascade
from autoseg.preprocess import previous as module
from autoseg.preprocess.preprocess import preprocess
from autoseg.preprocess.previous import prepare_previous
from autoseg.preprocess.previous_store import PreviousStore
from autoseg.preprocess.store import CaseStore
from autoseg.runtime.images import write_labels
from autoseg.runtime.prepare import Placement, prepare_labels
from autoseg.workspace import Workspace

SECOND = "3d_cascade_fullres"
SPACING = (2.0, 1.5, 1.0)
PREPARED = (1.5, 1.5, 1.5)
"""All axes are resampled but one."""


@pytest.fixture
def second_stage(make_dataset, make_plan, tmp_path):
    """Cases prepared for a second stage, and predictions of the first: (dataset, plan, ...)."""
    dataset = make_dataset(tmp_path / "data", spacing=SPACING)
    plan = make_plan(spacing=PREPARED)
    flat, full = plan.configurations
    full = full.revised(recipe=replace(full.recipe, transpose=(1, 0, 2)))
    coarse = full.revised(name="3d_lowres", recipe=replace(full.recipe, spacing=(4.0, 2.0, 2.0)))
    second = cascade(full, "3d_lowres", "a test")
    plan = plan.revised(configurations=(flat, full, coarse, second))
    workspace = Workspace(tmp_path / "boxes.autoseg")
    preprocess(dataset, plan, workspace, (SECOND,), num_workers=1, on_case=lambda *_: None)
    files = {}
    for index, case in enumerate(dataset.cases):
        fold = workspace.fold("3d_lowres", str(index % 2))
        files[case.id] = fold.validation / f"{case.id}.nii.gz"
        files[case.id].parent.mkdir(parents=True, exist_ok=True)
        predict(dataset, plan, case, files[case.id], seed=index)
    return dataset, plan, workspace, files


def found_by_first(dataset, case, seed=0):
    """Return classes (*S) on the image's own grid, unlike the reference."""
    _, classes = read_case(dataset, case)
    return np.roll(np.maximum(classes, 0), (1, 2, seed), axis=(0, 1, 2))


def predict(dataset, plan, case, path, seed=0):
    """Write a prediction as validation does."""
    image, _ = read_case(dataset, case)
    labels = to_values(found_by_first(dataset, case, seed), plan.labels)
    write_labels(path, labels, image.geometry)


def run(dataset, plan, workspace, predictions, num_workers=2):
    done = []
    prepare_previous(
        dataset, plan, workspace, SECOND, predictions, num_workers=num_workers, on_case=done.append
    )
    return done


def store_of(workspace):
    return PreviousStore(workspace.previous_labels(SECOND))


def times(workspace):
    folder = workspace.previous_labels(SECOND)
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_they_are_prepared_on_the_grid_of_the_image_as_label_masks_are(second_stage):
    dataset, plan, workspace, _ = second_stage
    assert sorted(run(*second_stage)) == ["a", "b", "c"]
    cases = CaseStore(workspace.preprocessed("3d_fullres"))
    recipe = plan.configuration(SECOND).recipe
    for index, case in enumerate(dataset.cases):
        found = store_of(workspace).labels(case.id)
        assert found.shape == cases.info(case.id).shape[1:] == cases.labels(case.id).shape
        assert found.dtype == np.int8
        placement = Placement.from_dict(cases.info(case.id).placement)
        masks = found_by_first(dataset, case, index).astype(np.int8)
        np.testing.assert_array_equal(found[:], prepare_labels(masks, placement, recipe, SPACING))
        assert set(np.unique(found[:])) == {0, 1, 2}
        assert (found[:] != cases.labels(case.id)[:]).any()


def test_values_that_stand_for_no_annotation_are_not_looked_for_in_predictions(second_stage):
    dataset, _, _, files = second_stage
    image, _ = read_case(dataset, dataset.cases[0])
    write_labels(files["a"], np.full(image.shape, 255, np.uint8), image.geometry)
    with pytest.raises(TrainingError, match="255"):
        run(*second_stage)


def test_only_the_cases_that_are_given_are_prepared(second_stage):
    dataset, plan, workspace, files = second_stage
    assert run(dataset, plan, workspace, {"b": files["b"]}) == ["b"]
    assert [store_of(workspace).made_of(name) is None for name in "abc"] == [True, False, True]


def test_a_second_run_does_nothing(second_stage, monkeypatch):
    run(*second_stage)
    before = times(second_stage[2])
    monkeypatch.setattr(module, "previous_labels", None)
    assert sorted(run(*second_stage)) == ["a", "b", "c"]
    assert times(second_stage[2]) == before


def test_after_a_kill_only_what_is_missing_is_prepared(second_stage, monkeypatch):
    prepare = module.previous_labels
    calls = []

    def killed(labels, *rest):
        calls.append(labels)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return prepare(labels, *rest)

    monkeypatch.setattr(module, "previous_labels", killed)
    with pytest.raises(KeyboardInterrupt):
        run(*second_stage, num_workers=1)
    (kept,) = times(second_stage[2])
    before = times(second_stage[2])
    monkeypatch.setattr(module, "previous_labels", prepare)
    assert sorted(run(*second_stage, num_workers=1)) == ["a", "b", "c"]
    assert times(second_stage[2])[kept] == before[kept]
    assert len(times(second_stage[2])) == 3


def test_a_file_that_a_kill_cut_short_is_made_again(second_stage):
    run(*second_stage)
    store = store_of(second_stage[2])
    expected, digest = store.labels("b")[:], store.made_of("b")
    path = store.folder / "b.b2nd"
    path.write_bytes(path.read_bytes()[:100])
    run(*second_stage)
    np.testing.assert_array_equal(store.labels("b")[:], expected)
    assert store.made_of("b") == digest


def test_a_changed_prediction_is_prepared_again_and_no_other(second_stage):
    dataset, plan, workspace, files = second_stage
    run(*second_stage)
    store, before = store_of(workspace), times(workspace)
    old, digest = store.labels("b")[:], store.digest("abc")
    predict(dataset, plan, dataset.cases[1], files["b"], seed=5)
    run(*second_stage)
    assert (store.labels("b")[:] != old).any()
    assert store.digest("abc") != digest
    assert {name for name, at in times(workspace).items() if at != before[name]} == {"b.b2nd"}


def test_the_same_prediction_made_again_changes_nothing(second_stage):
    dataset, plan, workspace, files = second_stage
    run(*second_stage)
    before = times(workspace)
    files["b"].unlink()
    predict(dataset, plan, dataset.cases[1], files["b"], seed=1)
    run(*second_stage)
    assert times(workspace) == before


def test_another_recipe_prepares_all_again(second_stage, tmp_path):
    dataset, plan, workspace, files = second_stage
    run(*second_stage)
    digest = store_of(workspace).digest("abc")
    *others, second = plan.configurations
    second = second.revised(recipe=replace(second.recipe, spacing=(1.0, 1.0, 1.0)))
    changed = plan.revised(configurations=(*others, second))
    preprocess(dataset, changed, workspace, (SECOND,), num_workers=1, on_case=lambda *_: None)
    run(dataset, changed, workspace, files)
    shape = CaseStore(workspace.preprocessed(SECOND)).info("a").shape[1:]
    assert store_of(workspace).labels("a").shape == shape
    assert store_of(workspace).digest("abc") != digest


def test_a_case_whose_image_has_changed_is_prepared_again(second_stage, make_dataset, tmp_path):
    _, plan, workspace, files = second_stage
    run(*second_stage)
    before = store_of(workspace).labels("a").shape
    wider = make_dataset(tmp_path / "data", spacing=(2.0, 3.0, 1.0))
    preprocess(wider, plan, workspace, (SECOND,), num_workers=1, on_case=lambda *_: None)
    run(wider, plan, workspace, files)
    shape = CaseStore(workspace.preprocessed("3d_fullres")).info("a").shape[1:]
    assert store_of(workspace).labels("a").shape == shape != before


def test_a_prediction_that_is_missing_is_named_with_what_makes_it_again(second_stage):
    _, _, workspace, files = second_stage
    files["b"].unlink()
    with pytest.raises(TrainingError, match="no prediction of case b") as refused:
        run(*second_stage)
    assert str(files["b"]) in refused.value.found
    assert str(workspace.fold("3d_lowres", "1").result) in refused.value.fix
    assert "autoseg train --configurations 3d_lowres,3d_cascade_fullres" in refused.value.fix


def test_a_prediction_of_another_grid_is_refused_with_both_sizes(second_stage):
    image = sitk.GetImageFromArray(np.zeros((5, 6, 7), np.uint8))
    sitk.WriteImage(image, str(second_stage[3]["b"]))
    with pytest.raises(TrainingError, match="5 x 6 x 7 voxels; its image has 12 x 20 x 18") as told:
        run(*second_stage)
    assert f"delete {second_stage[3]['b']} and " in told.value.fix


@pytest.mark.parametrize("damage", ["cut short", "strange values"])
def test_a_damaged_prediction_is_to_be_made_again_not_repaired(second_stage, damage):
    path = second_stage[3]["b"]
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:50])
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.full((12, 20, 18), 77, np.uint8)), str(path))
    with pytest.raises(TrainingError) as told:
        run(*second_stage)
    assert "the prediction of case b" in told.value.found
    assert f"delete {path} and " in told.value.fix


def test_what_can_be_prepared_is_kept_when_another_prediction_is_missing(second_stage):
    second_stage[3]["c"].unlink()
    with pytest.raises(TrainingError):
        run(*second_stage, num_workers=1)
    assert store_of(second_stage[2]).made_of("a") is not None


def test_leftovers_of_killed_writers_are_removed(second_stage, monkeypatch):
    folder = second_stage[2].previous_labels(SECOND)
    folder.mkdir(parents=True)
    left = folder / ".b.b2nd.0123abcd.tmp"
    left.write_bytes(b"1")
    monkeypatch.setattr("autoseg.preprocess.store.STALE_S", -1.0)
    run(*second_stage)
    assert not left.exists()
