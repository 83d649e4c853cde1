"""Mirroring and tile overlap are chosen on out-of-fold cases that are predicted again."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from autoseg.dataset.open import open_dataset
from autoseg.ensemble import again
from autoseg.ensemble.again import Again
from autoseg.ensemble.choose import Ensemble, Member
from autoseg.ensemble.effort import Setting
from autoseg.ensemble.predicting import choose_predicting
from autoseg.ensemble.stored import Source
from autoseg.network.build import build_network, initialise
from autoseg.network.execution import Execution
from autoseg.preprocess.preprocess import preprocess
from autoseg.record import NetworkPlan, StagePlan
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.testing.synthetic import write_spheres
from autoseg.train.checkpoint import Standing, save_weights
from autoseg.train.job import FoldJob, Interrupted, Listeners
from autoseg.train.lines import read_lines
from autoseg.train.records import FoldResult, Request, RunSettings
from autoseg.train.validation import validate
from autoseg.workspace import Workspace, write_text

NAME = "3d_fullres"
QUIET = Listeners(lambda _: None, lambda: False)
PLANNED, PLAIN = Setting(0.5, mirrored=True), Setting(0.5, mirrored=False)


def one_voxel_network():
    """Return a network that sees one voxel at a time: mirroring cannot change what it finds."""
    stage = StagePlan(features=4, kernel_size=(1,) * 3, strides=(1,) * 3, num_blocks=1)
    return NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=2,
        stages=(stage, stage),
        decoder_convs=1,
        num_supervised=1,
    )


@pytest.fixture(scope="session")
def validated(tmp_path_factory):
    """Twelve small volumes in two folds with drawn weights, validated: (plan, dataset, root)."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("validated")
    data = write_spheres(root / "spheres", num_cases=12, seed=0, shape=(8, 8, 20))
    dataset = open_dataset(data, None, None)
    item = small_configuration((8, 8, 8), median_shape=(8, 8, 20))
    recipe = replace(item.recipe, mirror_axes=(2,), test_time_mirroring=True, overlap=0.5)
    item = item.revised(network=one_voxel_network(), recipe=recipe)
    plan = small_plan(dataset.labels, (item,), num_folds=2, ram_bytes=10**9)
    workspace = Workspace(root / "spheres.autoseg")
    preprocess(dataset, plan, workspace, [NAME], num_workers=1, on_case=lambda *_: None)
    names = tuple(case.id for case in dataset.cases)
    for number in range(2):
        train(plan, dataset, workspace, str(number), names[number::2])
    return plan, dataset, workspace.root


def train(plan, dataset, workspace, fold, cases):
    """Write drawn weights, and what they give for the cases."""
    folder = workspace.fold(NAME, fold)
    network = build_network(plan.configuration(NAME).network).eval()
    initialise(network, int(fold))
    standing = Standing(plan_digest=plan.digest(), step=1, elapsed_s=1.0)
    save_weights(folder.final, network.state_dict(), standing)
    job = FoldJob(
        plan=plan,
        dataset=dataset,
        root=workspace.root,
        configuration=NAME,
        fold=fold,
        train_cases=(),
        val_cases=cases,
        device="cpu",
        num_threads=1,
    )
    common = {"plan_digest": plan.digest(), "configuration": NAME, "fold": fold}
    settings = RunSettings(
        **common,
        num_steps=10_000,
        device="cpu",
        precision="fp32",
        num_threads=1,
        channels_last=False,
        seconds_per_step=0.0,
    )
    write_text(folder.settings, settings.to_json())
    scores, seconds = validate(job, network, Execution(device="cpu", precision="fp32"), QUIET)
    result = FoldResult(
        **common,
        autoseg_version="0",
        seed=0,
        num_steps=10_000,
        train_seconds=1.0,
        validation_seconds=seconds,
        scores=scores,
    )
    write_text(folder.result, result.to_json())


@pytest.fixture
def source(validated, tmp_path):
    plan, dataset, root = validated
    shutil.copytree(root, tmp_path / "w.autoseg")
    return Source(plan, dataset, Workspace(tmp_path / "w.autoseg"), QUIET)


@pytest.fixture
def ensemble(source):
    member = Member(configuration=NAME, folds=("0", "1"), weight=1.0)
    return Ensemble(
        autoseg_version="0",
        plan_digest=source.plan.digest(),
        members=(member,),
        candidates=(),
        reason="made up",
    )


def rewrite_results(source, **changes):
    for fold in ("0", "1"):
        path = source.workspace.fold(NAME, fold).result
        write_text(path, FoldResult.load(path).revised(**changes).to_json())


def num_lines(source):
    return sum(len(read_lines(source.workspace.fold(NAME, fold).again)) for fold in ("0", "1"))


def test_mirroring_that_changes_nothing_is_dropped(source, ensemble):
    found = choose_predicting(source, ensemble)
    (member,) = found.members
    assert member.test_time_mirroring is False
    assert member.overlap is None
    mirroring, overlap = found.tried
    assert mirroring.used
    assert mirroring.best == "not mirrored"
    assert "of predictions as planned" in mirroring.reason
    assert overlap.name == "tile overlap"
    recipe = member.predicting(source.plan).recipe
    assert (recipe.overlap, recipe.test_time_mirroring) == (0.5, False)
    events = read_lines(source.workspace.events)
    told = [line for line in events if line["event"] == "predicted again"]
    assert [line["used"] for line in told] == [True, False]


def test_the_choice_is_the_same_again_without_predicting(source, ensemble, monkeypatch):
    first = choose_predicting(source, ensemble)
    monkeypatch.setattr(again, "predict_case", None)
    assert choose_predicting(source, ensemble) == first


def test_a_stopped_choice_goes_on_where_it_was(source, ensemble):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 6  # three cases with the plan's setting and another

    stopped = replace(source, listeners=Listeners(lambda _: None, stop))
    with pytest.raises(Interrupted):
        choose_predicting(stopped, ensemble)
    assert num_lines(source) == 3
    before = source.workspace.fold(NAME, "0").again.read_text()
    expected = choose_predicting(source, ensemble)
    assert source.workspace.fold(NAME, "0").again.read_text().startswith(before)
    for fold in ("0", "1"):
        source.workspace.fold(NAME, fold).again.unlink()
    assert choose_predicting(source, ensemble) == expected


def test_a_line_that_was_cut_short_is_predicted_anew(source, ensemble):
    expected = choose_predicting(source, ensemble)
    path = source.workspace.fold(NAME, "0").again
    path.write_text(path.read_text()[:-20])
    assert choose_predicting(source, ensemble) == expected


def test_what_other_weights_gave_is_not_used(source, ensemble):
    choose_predicting(source, ensemble)
    path = source.workspace.fold(NAME, "0").again
    lines = [line | {"weights": "others", "dice": [0.0]} for line in read_lines(path)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert choose_predicting(source, ensemble).members[0].test_time_mirroring is False


def test_few_steps_afford_no_cases_and_nothing_is_predicted(source, ensemble):
    rewrite_results(source, num_steps=1)
    found = choose_predicting(source, ensemble)
    assert found.members == ensemble.members
    assert "6 patients" in found.tried[0].reason
    assert num_lines(source) == 0


def test_the_seconds_of_a_budget_end_it_and_are_counted_over_calls(source, ensemble):
    rewrite_results(source, request=Request(num_steps=None, budget_s=1e-6, is_explicit=True))
    found = choose_predicting(source, ensemble)
    assert found.members == ensemble.members
    assert num_lines(source) == 1  # known to be too much only when it is done
    choose_predicting(source, ensemble)
    assert num_lines(source) == 1


@pytest.mark.parametrize("name", ["settings", "final"])
def test_a_workspace_that_lacks_what_is_needed_keeps_the_plan(source, ensemble, name):
    getattr(source.workspace.fold(NAME, "1"), name).unlink()
    found = choose_predicting(source, ensemble)
    assert found.members == ensemble.members
    assert "kept as planned" in found.tried[0].reason


def test_prepared_cases_that_were_deleted_keep_the_plan(source, ensemble):
    shutil.rmtree(source.workspace.preprocessed(NAME))
    assert choose_predicting(source, ensemble).members == ensemble.members


def test_a_fold_that_has_seen_all_cases_keeps_the_plan(source, ensemble):
    member = ensemble.members[0].revised(folds=("all",))
    found = choose_predicting(source, ensemble.revised(members=(member,)))
    assert found.members == (member,)


def test_images_of_one_tile_leave_the_overlap_alone(source, ensemble, monkeypatch):
    monkeypatch.setattr(again, "count_tiles", lambda *_: 1)
    (_, overlap) = choose_predicting(source, ensemble).tried
    assert "one tile" in overlap.reason


def test_cases_are_one_a_patient_and_folds_take_turns(source, ensemble):
    cases = tuple(
        case.revised(group=f"p{int(index > 1) * index}")
        for index, case in enumerate(source.dataset.cases)
    )
    told = replace(source, dataset=source.dataset.revised(cases=cases))
    drawn = Again(told, ensemble.members[0])
    assert drawn.num_patients == 11
    outcomes, _ = drawn.predict([PLANNED, PLAIN], 10, None)
    assert len(set(outcomes.patients)) == 10
    assert outcomes.folds == ("0", "1") * 5
    assert outcomes.calls[0] == 2 * outcomes.calls[1]


def test_predicting_as_planned_gives_the_scores_of_validation(source, ensemble):
    drawn = Again(source, ensemble.members[0])
    outcomes, _ = drawn.predict([PLANNED, PLAIN, Setting(0.25, mirrored=False)], 12, None)
    difference = abs(outcomes.table[:, 0] - outcomes.table[:, 1])
    assert difference.max() < 1e-3  # mirroring changes nothing but rounding
    assert outcomes.calls[2] <= outcomes.calls[1]
