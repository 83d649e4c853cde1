import json
import shutil

import pytest
import torch

from autoseg.cli.main import main
from autoseg.errors import AutosegError, DatasetError, TrainingError
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.pretraining import PretrainOptions, pretrain, unlabelled
from autoseg.pipeline.run_record import load_run
from autoseg.pipeline.training import prepare_workspace
from autoseg.plan.plan import Plan
from autoseg.preprocess.store import CaseStore
from autoseg.testing.plans import small_network
from autoseg.testing.synthetic import write_rings
from autoseg.train.initial_files import choose_initial
from autoseg.train.job import Interrupted
from autoseg.workspace import Workspace


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """Four pictures in two folds with a small network: (workspace, folder of further images)."""
    root = tmp_path_factory.mktemp("pretraining")
    data = write_rings(root / "rings", num_cases=4, seed=0, shape=(32, 32))
    place = make_plan(
        PlanOptions(dataset=data, workspace=root / "r.autoseg", device="cpu", num_folds=2)
    ).workspace
    content = json.loads(place.plan.read_text())
    (item,) = content["configurations"]
    network = small_network(2, num_classes=2, stages=((4, 1), (8, 2)))
    item.update(network=network.model_dump(mode="json"), patch_size=[16, 16], batch_size=2)
    item["network"]["in_channels"] = len(item["recipe"]["channels"])
    item["training"]["supervision_weights"] = [1.0]
    place.plan.write_text(json.dumps(content))
    plan = Plan.load(place.plan)
    load_run(place, plan, ())  # measures the machine, which takes a second
    prepare_workspace(place, ("2d",), lambda _: None)
    more = root / "more"
    more.mkdir()
    for path in sorted((data / "images").iterdir())[:2]:
        shutil.copy(path, more)
    return place, more


@pytest.fixture
def place(planned, tmp_path):
    """A copy of the planned workspace."""
    return Workspace(shutil.copytree(planned[0].root, tmp_path / "r.autoseg"))


def run(place, should_stop=lambda: False, **wanted):
    events = []
    options = PretrainOptions(workspace=place, **{"steps": 2, **wanted})
    return pretrain(options, events.append, should_stop), events


def test_all_images_are_seen_and_the_checkpoint_is_named(place):
    outcome, events = run(place)
    assert outcome.checkpoint == place.root / "pretraining" / "2d" / "last.pt"
    assert (outcome.configuration, outcome.fold, outcome.num_steps) == ("2d", "all", 2)
    assert (outcome.num_cases, outcome.num_unlabelled) == (4, 0)
    assert len(torch.load(outcome.checkpoint, weights_only=True)["images"]) == 4
    assert {event.get("name") for event in events if "step" in event} == {"pretrain 2d"}


def test_a_training_takes_over_all_but_the_heads(place):
    outcome, _ = run(place)
    _, found = choose_initial(Plan.load(place.plan), "2d", outcome.checkpoint)
    states = {row.layer: row.state for row in found.rows}
    assert {layer for layer, state in states.items() if state != "loaded"} == {"heads.0"}
    assert states["heads.0"] == "new"


def test_the_validation_images_of_a_fold_can_be_left_out(place):
    outcome, _ = run(place, fold="1")
    splits = json.loads(place.splits.read_text())
    seen = torch.load(outcome.checkpoint, weights_only=True)["images"]
    assert seen == splits[1]["train"]
    assert not set(seen) & set(splits[1]["val"])


def test_further_images_are_prepared_like_cases_and_seen(planned, place):
    outcome, _ = run(place, images=planned[1])
    assert (outcome.num_cases, outcome.num_unlabelled) == (4, 2)
    seen = torch.load(outcome.checkpoint, weights_only=True)["images"]
    assert all(name.startswith("unlabelled/") for name in seen[4:])
    store = CaseStore(place.preprocessed("2d"))
    first = store.info(seen[4])
    assert first.shape == store.info(seen[0]).shape
    assert first.class_voxels[1:] == (0,)


def test_a_folder_without_images_is_refused(planned, place, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image in folder"):
        run(place, images=tmp_path / "empty")
    with pytest.raises(AutosegError, match="no file or folder"):
        run(place, images=tmp_path / "nowhere")


def test_further_images_lie_in_their_own_folder(planned):
    from autoseg.dataset.dataset import Dataset

    found = unlabelled(Dataset.load(planned[0].dataset), planned[1])
    assert all(path.is_file() for case in found.cases for path in found.image_paths(case))
    assert not any(case.labels for case in found.cases)


def test_a_stopped_run_goes_on_and_a_finished_one_is_kept(place):
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        run(place, lambda: next(calls) >= 5)
    outcome, _ = run(place)
    before = outcome.checkpoint.read_bytes()
    again, _ = run(place)
    assert (again, again.checkpoint.read_bytes()) == (outcome, before)


def test_an_unknown_configuration_is_refused(place):
    with pytest.raises(TrainingError, match="2d"):
        run(place, configuration="3d")


def test_planning_otherwise_moves_a_pretraining_aside(planned, place):
    outcome, _ = run(place)
    data = planned[0].root.parent / "rings"
    options = PlanOptions(
        dataset=data, workspace=place.root, device="cpu", num_folds=2, seed=7, replan=True
    )
    moved = make_plan(options).superseded
    assert moved is not None
    assert not outcome.checkpoint.exists()
    assert next(moved.rglob("pretraining/2d/last.pt")).is_file()


def test_the_command_says_what_was_seen_and_how_to_go_on(place, capsys):
    assert main(["pretrain", "-w", str(place.root), "--steps", "2"]) == 0
    told = capsys.readouterr().out
    assert "4 cases without their labels" in told
    assert "Every fold's validation images were seen" in told
    assert f"--init {place.root}/pretraining/2d/last.pt" in told
    assert main(["pretrain", "-w", str(place.root), "--fold", "1", "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_cases"] == 2


def test_steps_and_a_budget_exclude_each_other(place, capsys):
    assert main(["pretrain", "-w", str(place.root), "--steps", "2", "--budget", "1m"]) == 2
    assert "one of --budget and --steps" in capsys.readouterr().err
