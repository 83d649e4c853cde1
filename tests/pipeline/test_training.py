import pytest

from autoseg.dataset.dataset import Dataset
from autoseg.errors import TrainingError, WorkspaceError
from autoseg.pipeline.finishing import load_results
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.training import TrainOptions, choose_folds, prepare_workspace, train_model
from autoseg.plan.plan import Plan
from autoseg.testing.synthetic import write_spheres
from autoseg.workspace import find_workspace


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
