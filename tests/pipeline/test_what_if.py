import pytest

from autoseg.errors import AutosegError, PlanError
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.what_if import imagine
from autoseg.plan.backbones import Asked, with_backbone
from autoseg.plan.encoders import Shape
from autoseg.plan.plan import Plan
from autoseg.plan.what_if import WhatIf, find_gpu
from autoseg.record import Backbone
from autoseg.testing.synthetic import write_rings, write_spheres
from autoseg.workspace import Workspace, write_text

GB = 10**9


@pytest.fixture(scope="module")
def spheres(tmp_path_factory):
    return write_spheres(tmp_path_factory.mktemp("data") / "spheres", num_cases=4, seed=0)


@pytest.fixture
def plan(spheres, tmp_path):
    """Plan the spheres into a workspace of this test."""

    def plan(**options) -> Workspace:
        wanted = {"device": "cpu", "num_folds": 2, "budget_s": 600.0} | options
        place = tmp_path / "w"
        return make_plan(PlanOptions(dataset=spheres, workspace=place, **wanted)).workspace

    return plan


def test_the_same_means_give_the_plan_that_is_there(plan):
    found = imagine(plan(memory_bytes=2 * GB), WhatIf())
    assert found.then == found.now


def test_a_larger_machine_gets_what_planning_there_would_give(plan):
    place = plan()
    then = imagine(place, WhatIf(gpu=find_gpu("A100"), budget_s=3600.0)).then
    assert (then.device, then.budget_s) == ("cuda", 3600.0)
    assert then.memory_bytes == int(0.9 * 40 * 2**30)
    assert imagine(place, WhatIf(planner="nnunet")).then.planner == "nnunet"


def test_memory_that_was_asked_for_holds_on_and_that_of_the_planner_does_not(plan):
    asked = plan(memory_bytes=1 * GB)
    assert imagine(asked, WhatIf(budget_s=900.0)).then.memory_bytes == 1 * GB
    own = plan()
    assert imagine(own, WhatIf(ram_bytes=5 * GB)).then.memory_bytes == 5 * GB


def test_nothing_is_written(plan):
    place = plan()
    before = {path: path.stat().st_mtime_ns for path in sorted(place.root.rglob("*"))}
    imagine(place, WhatIf(budget_s=3600.0))
    assert {path: path.stat().st_mtime_ns for path in sorted(place.root.rglob("*"))} == before


def test_what_the_user_has_set_is_set_there_too(plan):
    place = plan(overrides=("3d_fullres.batch_size=3", "3d_fullres.recipe.spacing=[1, 1, 1]"))
    found = imagine(place, WhatIf(gpu=find_gpu("T4")))
    assert found.left_out is None
    assert found.then.configuration("3d_fullres").batch_size == 3
    assert any(item.reason == "Set by the user." for item in found.then.decisions)


def test_settings_that_do_not_fit_there_are_left_out_and_told(plan):
    place = plan(overrides=("3d_fullres.network.stages.0.features=17", "seed=4"))
    write_text(place.plan, _with_patch_set(Plan.load(place.plan)).to_json())
    found = imagine(place, WhatIf(gpu=find_gpu("T4")))
    assert found.left_out is not None
    assert "patch_size is (7, 7, 7)" in found.left_out
    assert found.then.configuration("3d_fullres").patch_size != (7, 7, 7)


def test_settings_that_take_too_much_memory_there_are_left_out_and_told(plan):
    place = plan(overrides=("3d_fullres.batch_size=200",))
    found = imagine(place, WhatIf(memory_bytes=GB))
    assert found.left_out is not None
    assert "200 at once, needs" in found.left_out
    assert found.then.configuration("3d_fullres").batch_size != 200
    assert imagine(place, WhatIf(memory_bytes=4 * GB)).left_out is None


def _with_patch_set(plan: Plan) -> Plan:
    """Return a plan in which a user seems to have set a patch that no pooling divides."""
    first, *others = plan.decisions
    setting = first.revised(
        name="3d_fullres.patch_size",
        reason="Set by the user.",
        inputs={"set": "3d_fullres.patch_size=7,7,7"},
    )
    return plan.revised(decisions=(setting, *others))


def test_a_pretrained_encoder_is_kept_without_loading_it(tmp_path):
    data = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    options = PlanOptions(dataset=data, workspace=tmp_path / "w", device="cpu", budget_s=600.0)
    outcome = make_plan(options)
    encoder = Backbone(
        model="made",
        weights=None,
        mean=(0.5,) * len(outcome.plan.configurations[0].recipe.channels),
        std=(0.2,) * len(outcome.plan.configurations[0].recipe.channels),
        frozen_norm=False,
        num_stages=3,
        parameters=1000,
        multiplications=10.0,
        values=10.0,
    )
    asked = Asked(
        configuration="2d",
        model="made",
        weights="none",
        assignments=("2d.network.backbone=made", "2d.network.weights=none"),
    )
    shape = Shape(features=(8, 16, 32), reductions=(2, 4, 8))
    changed = with_backbone(outcome.plan, asked, encoder, shape, outcome.fingerprint)
    write_text(outcome.workspace.plan, changed.to_json())
    found = imagine(outcome.workspace, WhatIf())
    assert found.left_out is None
    assert found.then.configuration("2d").network == changed.configuration("2d").network


@pytest.mark.parametrize(
    ("what_if", "words"),
    [
        (WhatIf(budget_s=1.0), "budget of 1 s"),
        (WhatIf(memory_bytes=10**8), "no useful network fits"),
        (WhatIf(planner="nnunett"), "nnunett"),
    ],
)
def test_what_no_plan_can_keep_is_told(plan, what_if, words):
    with pytest.raises(PlanError, match=words):
        imagine(plan(), what_if)


def test_a_workspace_without_a_fingerprint_is_told(plan):
    place = plan()
    place.fingerprint.unlink()
    with pytest.raises(AutosegError, match=r"fingerprint\.json"):
        imagine(place, WhatIf())
