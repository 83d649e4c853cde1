import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.dataset import Findings
from autoseg.errors import AutosegError, PlanError, WorkspaceError
from autoseg.machine import measure_machine
from autoseg.pipeline.planning import (
    PlanOptions,
    make_plan,
    plan_from_fingerprint,
    remembered,
)
from autoseg.pipeline.supersede import differences
from autoseg.plan.overrides import apply_overrides
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
        monkeypatch.setattr(
            "autoseg.pipeline.planning.measure_machine", lambda flops=None, m=slower: m
        )
        options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", budget_s=1200.0)
        plans.append(make_plan(options).plan)
    assert plans[0] == plans[1]


def test_an_exported_plan_for_nnunet_follows_the_next_plan(spheres, tmp_path):
    options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet")
    place = make_plan(replace(options, export_nnunet=True)).workspace
    batch = ("3d_fullres.batch_size=3",)
    changed = make_plan(replace(options, overrides=batch)).plan
    exported = json.loads(place.nnunet_plans.read_text())["configurations"]["3d_fullres"]
    assert exported["batch_size"] == changed.configuration("3d_fullres").batch_size == 3


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
    with pytest.raises(WorkspaceError, match="--replan") as caught:
        make_plan(other)
    assert caught.value.found.splitlines()[1:] == ["seed: 0 -> 7", "splits: other folds"]
    assert trained.read_bytes() == b"weights"
    moved = make_plan(
        PlanOptions(
            dataset=spheres, workspace=tmp_path / "w", planner="nnunet", seed=7, replan=True
        )
    )
    assert moved.superseded is not None
    assert next(iter(moved.superseded.rglob("final.pt"))).read_bytes() == b"weights"
    assert not trained.exists()


def test_at_most_ten_differences_of_plans_are_listed(spheres, tmp_path):
    options = PlanOptions(dataset=spheres, workspace=tmp_path / "w", planner="nnunet")
    outcome = make_plan(options)
    outcome.workspace.training.mkdir()
    with pytest.raises(WorkspaceError) as caught:
        make_plan(replace(options, planner="auto", num_folds=3))
    lines = caught.value.found.splitlines()
    assert len(lines) == 1 + 10 + 1
    assert "num_folds: 5 -> 3" in lines or "planner" in lines[1]
    assert lines[-1].startswith("... and ")


def test_plans_differ_by_key_with_old_and_new_value(spheres, tmp_path):
    plan = make_plan(PlanOptions(dataset=spheres, workspace=tmp_path / "w")).plan
    other = apply_overrides(plan, ["3d_fullres.batch_size=7", "seed=3"])
    batch = plan.configuration("3d_fullres").batch_size
    lines = differences(plan, other)
    assert lines == ["seed: 0 -> 3", f"3d_fullres.batch_size: {batch} -> 7"]
    fewer = plan.revised(configurations=plan.configurations[:1])
    assert "3d_fullres.patch_size: nothing -> " in "\n".join(differences(fewer, plan))


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


def test_nothing_is_written_beside_the_data_unasked(tmp_path, monkeypatch):
    root = write_rings(tmp_path / "rings", num_cases=3, seed=0)
    monkeypatch.chdir(root)
    before = sorted(root.rglob("*"))
    with pytest.raises(WorkspaceError, match="in the data set's folder") as caught:
        make_plan(PlanOptions(dataset=Path()))
    assert "-w" in caught.value.fix
    assert sorted(root.rglob("*")) == before
    assert make_plan(PlanOptions(dataset=Path(), workspace=root / "w")).workspace.plan.exists()


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


def write_signals(root):
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for index in range(6):
        signal = np.random.default_rng(index).normal(size=(2, 100))
        np.save(root / f"images/s{index}.npy", signal)
        np.save(root / f"labels/s{index}.npy", signal[0] > 0)
    return root


def test_signals_are_planned_in_one_dimension(tmp_path):
    root = write_signals(tmp_path / "signals")
    outcome = make_plan(PlanOptions(dataset=root, workspace=tmp_path / "w"))
    (item,) = outcome.plan.configurations
    assert (item.name, len(item.patch_size), item.recipe.mirror_axes) == ("1d", 1, ())
    assert item.network.in_channels == 2


def test_planners_by_rules_that_know_no_signals_refuse_them(tmp_path):
    root = write_signals(tmp_path / "signals")
    with pytest.raises(PlanError, match="signals: images with 1 axis") as caught:
        make_plan(PlanOptions(dataset=root, workspace=tmp_path / "w", planner="resenc_m"))
    assert caught.value.fix == "plan with --planner auto"
