import json
import subprocess
import sys
import threading

import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.errors import TrainingError, WorkspaceError
from autoseg.pipeline.choices import check_verification_case, keep_images
from autoseg.pipeline.finishing import load_results
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.run_record import RunRecord
from autoseg.pipeline.training import TrainOptions, choose_folds, prepare_workspace, train_model
from autoseg.plan.budget import MIN_FOLD_S
from autoseg.plan.plan import Plan
from autoseg.testing.synthetic import write_spheres
from autoseg.train.job import Interrupted
from autoseg.train.origin import cases_digest
from autoseg.train.records import FoldResult, Request, RunSettings
from autoseg.workspace import find_workspace, write_text


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("planned")
    data = write_spheres(root / "spheres", num_cases=4, seed=0)
    options = PlanOptions(dataset=data, workspace=root / "s.autoseg", planner="nnunet", num_folds=2)
    return make_plan(options).workspace


def chosen(place, **wanted):
    plan, dataset = Plan.load(place.plan), Dataset.load(place.dataset)
    return choose_folds(plan, dataset, TrainOptions(workspace=place, **wanted))


def test_default_are_all_folds_of_what_the_plan_trains(place):
    plan = Plan.load(place.plan)
    names = {item.name for item in plan.configurations if item.train_by_default}
    choices = chosen(place)
    assert {choice.configuration for choice in choices} == names
    assert {choice.fold for choice in choices} == {"0", "1"}


def test_a_fold_beyond_the_last_is_answered_with_the_range(place):
    with pytest.raises(TrainingError, match="folds are 0 to 1"):
        chosen(place, folds=("2",))


def test_fold_all_trains_on_every_case_without_validation(place):
    (choice,) = chosen(place, configurations=("3d_fullres",), folds=("all",))
    assert len(choice.split.train) == 4
    assert choice.split.val == ()


def test_what_is_named_twice_is_trained_once(place):
    choices = chosen(place, configurations=("2d", "2d"), folds=("00", "0", "1", "all", "all"))
    assert [choice.fold for choice in choices] == ["0", "1", "all"]
    with pytest.raises(TrainingError, match="folds are 0 to 1"):
        chosen(place, folds=("²",))


def test_a_misspelt_verification_case_is_found_before_training(place):
    dataset = Dataset.load(place.dataset)
    known = dataset.cases[0].id
    options = TrainOptions(workspace=place, verification_case=known + "x")
    with pytest.raises(TrainingError, match=f"did you mean .*{known}"):
        train_model(options)
    for choice in ("synthetic", "none", known):
        check_verification_case(dataset, choice)


def test_an_unknown_configuration_is_answered_with_those_planned(place):
    with pytest.raises(TrainingError, match="3d_fullres"):
        chosen(place, configurations=("3d_highres",))


def test_an_exhausted_budget_is_said_before_training(place):
    with pytest.raises(TrainingError, match="larger --budget"):
        train_model(TrainOptions(workspace=place, budget_s=1.0, folds=("0",)))


def test_finishing_without_a_trained_fold_says_what_to_run(place):
    with pytest.raises(WorkspaceError, match="autoseg train"):
        load_results(place, Plan.load(place.plan))


def test_preparing_a_second_time_does_nothing(place):
    prepare_workspace(place, ("3d_fullres",), lambda _: None)
    folder = place.preprocessed("3d_fullres")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    prepare_workspace(place, ("3d_fullres",), lambda _: None)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_several_workspaces_need_a_choice(tmp_path):
    with pytest.raises(WorkspaceError, match="no workspace"):
        find_workspace(tmp_path)
    for name in ("a.autoseg", "b.autoseg"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").touch()
    with pytest.raises(WorkspaceError, match=r"a\.autoseg, b\.autoseg"):
        find_workspace(tmp_path)


def write_begun(job):
    """Leave what a fold leaves that is stopped after its first checkpoint."""
    settings = RunSettings(
        plan_digest=job.plan.digest(),
        configuration=job.configuration,
        fold=job.fold,
        num_steps=7,
        device="cpu",
        precision="fp32",
        num_threads=job.num_threads,
        channels_last=False,
        seconds_per_step=1.0,
        request=job.request,
        cases_digest=cases_digest(job),
    )
    write_text(job.folder.settings, settings.to_json())
    job.folder.last.touch()


def options_of(place, **wanted):
    return TrainOptions(workspace=place, **{"configurations": ("3d_fullres",), **wanted})


def active_s(place):
    return RunRecord.load(place.run).active_s


def test_another_length_is_not_ignored(own_place, training):
    train_model(options_of(own_place, steps=10))
    assert {job.num_steps for job in training.jobs} == {10}
    assert training.jobs[0].request == Request(num_steps=10, budget_s=None, is_explicit=True)
    for wanted in ({"steps": 500}, {"budget_s": 3600.0}):
        with pytest.raises(TrainingError, match="3d_fullres fold 0 is trained with 10 steps"):
            train_model(options_of(own_place, **wanted))
    assert training.num_finished == 1


@pytest.mark.parametrize("wanted", [{}, {"steps": 10}])
def test_finished_folds_are_kept_when_nothing_else_is_asked_for(own_place, training, wanted):
    train_model(options_of(own_place, steps=10, folds=("0",)))
    train_model(options_of(own_place, **wanted))
    assert training.folds == [("3d_fullres", "1")]
    assert training.num_finished == 2


def test_pictures_stay_out_of_the_report_when_training_goes_on(own_place, training):
    train_model(options_of(own_place, steps=10))
    assert training.images is True
    keep_images(own_place, asked=False)
    train_model(options_of(own_place, steps=10))
    assert training.images is False
    train_model(options_of(own_place, steps=10, images=True))
    assert training.images is True


def test_changed_splits_are_refused(own_place, training):
    train_model(options_of(own_place, steps=10))
    splits = json.loads(own_place.splits.read_text())
    own_place.splits.write_text(json.dumps(splits[::-1]))
    with pytest.raises(TrainingError, match="its cases or their files have changed"):
        train_model(options_of(own_place))


def test_a_changed_image_is_refused(own_place, training):
    train_model(options_of(own_place, steps=10))
    dataset = Dataset.load(own_place.dataset)
    path = dataset.image_paths(dataset.cases[0])[0]
    path.write_bytes(path.read_bytes())
    with pytest.raises(TrainingError, match="--replan"):
        train_model(options_of(own_place))


def test_a_stop_while_preparing_leaves_whole_cases_and_no_thread(own_place, training):
    events = []

    def should_stop():
        return len(events) >= 1

    with pytest.raises(Interrupted, match="preparing"):
        train_model(options_of(own_place, steps=1), events.append, should_stop)
    assert [event["event"] for event in events] == ["prepared"]
    assert not [t for t in threading.enumerate() if t.name.startswith("prepare")]
    assert training.num_finished == 0
    train_model(options_of(own_place, steps=1))
    assert training.num_finished == 1


def test_the_time_of_a_stopped_request_counts_until_it_is_completed(own_place, training):
    training.error = Interrupted()
    with pytest.raises(Interrupted):
        train_model(options_of(own_place, budget_s=3600.0))
    ((request, before_s),) = active_s(own_place).items()
    run = RunRecord.load(own_place.run).revised(active_s={request: 1800.0})
    own_place.run.write_text(run.to_json())
    training.error = None
    train_model(options_of(own_place, budget_s=3600.0))
    assert 0 < before_s < 60
    assert request == "3d_fullres fold 0, 3d_fullres fold 1: a budget of 3600 s"
    assert 0.9 * 1800 / 2 - 60 < training.jobs[0].budget_s < 1800 / 2
    assert 1600 < training.jobs[1].budget_s < 1800  # the first one used next to nothing
    assert active_s(own_place) == {}


def test_dropped_folds_are_told_and_trained_by_the_same_command(own_place, training):
    events = []
    both = {"configurations": ("2d", "3d_fullres"), "budget_s": 85.0}
    train_model(options_of(own_place, **both), events.append)
    assert training.folds == [("3d_fullres", "0"), ("3d_fullres", "1")]
    dropped = [event for event in events if event["event"] == "dropped"]
    assert [(event["configuration"], event["fold"]) for event in dropped] == [
        ("2d", "0"),
        ("2d", "1"),
    ]
    assert all("same command" in str(event["reason"]) for event in dropped)
    written = [json.loads(line) for line in own_place.events.read_text().splitlines()]
    assert [line for line in written if line["event"] != "shared"] == dropped
    train_model(options_of(own_place, **both))
    assert training.folds == [("2d", "0"), ("2d", "1")]


def test_only_folds_that_this_call_has_trained_say_how_fast_the_machine_is(
    own_place, training, tmp_path, monkeypatch
):
    learnt = []
    monkeypatch.setattr(
        "autoseg.pipeline.training.learn_from_folds",
        lambda folders, *_: learnt.append([folder.root.name for folder in folders]) or [],
    )
    train_model(options_of(own_place, steps=5, folds=("0",)))
    file = tmp_path / "machine.json"
    train_model(options_of(own_place, machine_file=file))
    train_model(options_of(own_place, machine_file=file))
    assert learnt == [["fold_1"], []]


def test_folds_that_share_a_processor_are_expected_to_take_fewer_steps(own_place, training):
    plan = Plan.load(own_place.plan).revised(num_threads=2)
    own_place.plan.write_text(plan.to_json())
    told = {}
    for workers in (1, 2):
        events = []
        train_model(options_of(own_place, num_workers=workers, budget_s=3600.0), events.append)
        told[workers] = [str(e["text"]) for e in events if "steps a fold" in str(e.get("text"))]
        for path in own_place.training.glob("*/*/result.json"):
            path.unlink()
    assert len(told[1]) == len(told[2]) == 1
    assert told[1][0].split(":")[1] == told[2][0].split(":")[1]


def test_a_used_up_budget_with_finished_folds_ends_with_a_model(own_place, training):
    train_model(options_of(own_place, steps=5, folds=("0",)))
    plan = Plan.load(own_place.plan).revised(budget_s=10.0)
    own_place.plan.write_text(plan.to_json())
    for path in own_place.training.glob("*/*/result.json"):
        result = FoldResult.load(path).revised(plan_digest=plan.digest())
        path.write_text(result.to_json())
    events = []
    train_model(options_of(own_place), events.append)
    (dropped,) = [event for event in events if event["event"] == "dropped"]
    assert dropped["fold"] == "1"
    assert "a larger --budget with --folds 1" in str(dropped["reason"])
    assert training.num_finished == 2


def test_a_begun_fold_is_brought_to_its_end_whatever_time_is_left(own_place, training):
    training.error = Interrupted()
    with pytest.raises(Interrupted):
        train_model(options_of(own_place, budget_s=3600.0))
    write_begun(training.jobs[0])
    ((request, _),) = active_s(own_place).items()
    run = RunRecord.load(own_place.run).revised(active_s={request: 3590.0})
    own_place.run.write_text(run.to_json())
    training.error = None
    train_model(options_of(own_place, budget_s=3600.0))
    assert training.folds == [("3d_fullres", "0")]
    assert training.jobs[0].budget_s == MIN_FOLD_S
    assert training.num_finished == 1


def test_folds_of_one_gpu_are_trained_one_after_the_other(own_place, training, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    plan = Plan.load(own_place.plan).revised(device="cuda", num_threads=4)
    own_place.plan.write_text(plan.to_json())
    train_model(options_of(own_place, num_workers=2, budget_s=3600.0))
    assert training.num_workers == 1
    assert {job.num_threads for job in training.jobs} == {4}
    assert training.jobs[0].budget_s < 1800


def test_a_chosen_gpu_is_the_one_that_trains(own_place, training):
    plan = Plan.load(own_place.plan).revised(device="cuda", device_index=1)
    own_place.plan.write_text(plan.to_json())
    train_model(options_of(own_place, steps=1))
    assert {job.device for job in training.jobs} == {"cuda:1"}


def test_importing_the_pipeline_needs_no_torch():
    code = "import autoseg.pipeline.training, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_fold_that_was_trained_differently_is_told(tmp_path):
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(8, 8, 8))
    options = PlanOptions(dataset=data, workspace=tmp_path / "s.autoseg", num_folds=2)
    place = make_plan(options).workspace
    told = []
    for fold, steps in (("0", 1), ("1", 2)):
        wanted = TrainOptions(
            workspace=place, steps=steps, folds=(fold,), configurations=("3d_fullres",)
        )
        with pytest.raises(Halted):
            train_model(wanted, lambda event: told.append(event) or stop_at_ensemble(event))
    texts = [event["text"] for event in told if event.get("event") == "note"]
    assert [text for text in texts if "compare" in text] == [
        "3d_fullres fold 0 was trained for 1 steps, the other folds for 2 steps: "
        "they do not compare"
    ]


class Halted(Exception):
    """Training goes no further than a test wants to see it."""


def stop_at_ensemble(event):
    if event.get("event") == "step":
        raise Halted


def test_devices_share_a_fold_or_folds_share_devices(place):
    with pytest.raises(TrainingError, match="--devices-per-fold 2 with --workers 3"):
        train_model(options_of(place, steps=1, devices_per_fold=2, num_workers=3))


def test_more_devices_than_a_batch_has_samples_are_refused_before_anything_is_done(own_place):
    with pytest.raises(TrainingError, match="99 devices for each fold of 3d_fullres"):
        train_model(options_of(own_place, steps=1, devices_per_fold=99))
    assert not own_place.preprocessed("3d_fullres").exists()


def test_devices_of_a_fold_share_the_threads(own_place, training):
    train_model(options_of(own_place, steps=1, devices_per_fold=2))
    plan = Plan.load(own_place.plan)
    assert {job.num_devices for job in training.jobs} == {2}
    assert {job.num_threads for job in training.jobs} == {max(1, plan.num_threads // 2)}
