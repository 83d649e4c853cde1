import json

import pytest

from autoseg.dataset.dataset import Findings
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.machine import measure_machine
from autoseg.pipeline.planning import (
    PlanOptions,
    check_dataset,
    make_plan,
    plan_from_fingerprint,
    remembered,
)
from autoseg.plan.plan import Plan
from autoseg.testing.synthetic import write_rings, write_spheres


@pytest.fixture(scope="module")
def spheres(tmp_path_factory):
    return write_spheres(tmp_path_factory.mktemp("data") / "spheres", num_cases=6, seed=0)


def test_plan_writes_everything_that_training_reads(spheres, tmp_path):
    outcome = make_plan(PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet"))
    place = outcome.workspace
    assert Plan.load(place.plan) == outcome.plan
    assert len(json.loads(place.splits.read_text())) == outcome.plan.num_folds == 5
    for path in (place.dataset, place.fingerprint, place.findings):
        assert path.exists()


def test_planning_twice_gives_the_same_plan(spheres, tmp_path):
    options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet")
    assert make_plan(options).plan == make_plan(options).plan


def test_a_slower_moment_of_the_machine_does_not_change_the_plan(spheres, tmp_path, monkeypatch):
    machine = measure_machine()
    plans = []
    for flops in (2e11, 2e10):
        slower = machine.revised(flops=flops)
        monkeypatch.setattr("autoseg.pipeline.planning.measure_machine", lambda m=slower: m)
        options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", budget_s=1200.0)
        plans.append(make_plan(options).plan)
    assert plans[0] == plans[1]


def test_the_best_speed_of_a_machine_is_remembered(tmp_path):
    machine, path = measure_machine(), tmp_path / "cache" / "machine.json"
    slow, fast = machine.revised(flops=1e10), machine.revised(flops=1e11)
    assert remembered(slow, path) == slow
    assert remembered(fast, path) == fast
    assert remembered(slow, path) == fast
    other = slow.revised(num_cpus=99)
    assert remembered(other, path) == other


def test_a_different_plan_does_not_overwrite_training_without_replan(spheres, tmp_path):
    options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet")
    place = make_plan(options).workspace
    trained = place.fold("3d_fullres", "0").final
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"weights")
    other = PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet", seed=7)
    with pytest.raises(WorkspaceError, match="--replan"):
        make_plan(other)
    assert trained.read_bytes() == b"weights"
    moved = make_plan(
        PlanOptions(
            dataset=spheres, workspace=tmp_path / "w", planner="nnunet", seed=7, replan=True
        )
    )
    assert moved.superseded is not None
    assert next(iter(moved.superseded.rglob("final.pt"))).read_bytes() == b"weights"
    assert not trained.exists()


def test_replan_moves_training_aside_even_when_the_plan_is_the_same(spheres, tmp_path):
    options = {"dataset": spheres, "workspace": tmp_path / "w", "planner": "nnunet"}
    trained = make_plan(PlanOptions(**options)).workspace.fold("3d_fullres", "0").final
    trained.parent.mkdir(parents=True)
    trained.write_bytes(b"weights")
    assert make_plan(PlanOptions(**options)).superseded is None
    assert trained.exists()
    assert make_plan(PlanOptions(**options, replan=True)).superseded is not None
    assert not trained.exists()


def test_an_unwritable_workspace_is_said_before_any_work(spheres, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot be written"):
        make_plan(PlanOptions(dataset=spheres, workspace=tmp_path / "file" / "w"))


def test_an_unknown_planner_is_answered_with_the_nearest_name(spheres, tmp_path):
    with pytest.raises(AutosegError, match="nnunet"):
        make_plan(PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunett"))
    assert not (tmp_path / "w").exists()


def test_fewer_cases_than_default_folds_lower_their_number_with_a_finding(tmp_path):
    data = write_rings(tmp_path / "rings", num_cases=3, seed=0)
    outcome = make_plan(PlanOptions(dataset=data, workspace=tmp_path / "w"))
    assert outcome.plan.num_folds == 3
    assert any("fold" in item.found for item in Findings.load(outcome.workspace.findings).findings)


def test_a_fingerprint_is_planned_without_its_data(spheres, tmp_path):
    outcome = make_plan(PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet"))
    options = PlanOptions(dataset=tmp_path, planner="nnunet")
    plan = plan_from_fingerprint(options, outcome.workspace.fingerprint, None)
    assert plan.configurations[0].patch_size == outcome.plan.configurations[0].patch_size


def test_checking_leaves_nothing_behind(spheres, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_dataset(spheres, None, None)
    assert list(tmp_path.iterdir()) == []
