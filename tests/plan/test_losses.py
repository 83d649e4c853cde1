import json

import pytest

from autoseg.errors import PlanError
from autoseg.plan.losses import LOSSES, loss_problems
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import Plan
from autoseg.record import LossPlan
from autoseg.runtime.recipe import Labels, Region
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.train.loss import build_named_loss

LABELS = Labels(
    names=("background", "oedema", "core"),
    values=(0, 1, 2),
    regions=(Region(name="tumour", classes=(1, 2)), Region(name="core", classes=(2,))),
)
NEEDED = {
    "weighted_ce": {"class_weights": (1.0, 2.0, 2.0)},
    "regions": {"regions": ((1, 2), (2,))},
}


@pytest.fixture
def plan() -> Plan:
    flat = small_configuration((16, 16), image_axes=3, previous_stage=None)
    return small_plan(LABELS, (flat, small_configuration()))


def losses(plan):
    return [item.training.loss for item in plan.configurations]


def test_a_plan_without_a_loss_means_dice_and_cross_entropy(plan):
    content = json.loads(plan.to_json())
    for item in content["configurations"]:
        del item["training"]["loss"]
    found = Plan.from_json(json.dumps(content), "plan.json")
    assert [loss.kind for loss in losses(found)] == ["dice_ce"] * 2
    assert found == plan


@pytest.mark.parametrize("text", ["loss=dice_focal", "loss.kind=dice_focal"])
def test_one_word_sets_the_loss_of_every_configuration(plan, text):
    changed = apply_overrides(plan, [text])
    assert [loss.kind for loss in losses(changed)] == ["dice_focal"] * 2
    assert [item.value for item in changed.decisions] == ['"dice_focal"']


@pytest.mark.parametrize(
    "text",
    ["3d_fullres.loss=focal", "3d_fullres.training.loss=focal", "3d_fullres.loss.kind=focal"],
)
def test_one_word_sets_the_loss_of_one_configuration(plan, text):
    changed = losses(apply_overrides(plan, [text]))
    assert [loss.kind for loss in changed] == ["dice_ce", "focal"]


def test_parameters_are_set_beside_the_name(plan):
    changed = apply_overrides(plan, ["loss=dice_focal", "3d_fullres.loss.focal_gamma=3"])
    assert [loss.focal_gamma for loss in losses(changed)] == [2.0, 3.0]


def test_the_regions_of_the_data_set_are_those_of_the_loss(plan):
    changed = apply_overrides(plan, ["loss=regions"])
    assert [loss.regions for loss in losses(changed)] == [((1, 2), (2,))] * 2


def test_regions_that_the_user_names_win(plan):
    changed = apply_overrides(plan, ["loss=regions", "loss.regions=[[1], [1, 2]]"])
    assert [loss.regions for loss in losses(changed)] == [((1,), (1, 2))] * 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("loss=dice_fcal", "did you mean 'dice_focal'"),
        ("los=focal", "fix: write loss="),
        ("loss.focal_gama=1", "fix: write loss.focal_gamma="),
        ("3d_fullres.loss=tverski", "did you mean 'tversky'"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(plan, text, hint):
    with pytest.raises(PlanError, match=hint):
        apply_overrides(plan, [text])


@pytest.mark.parametrize(
    ("loss", "problem"),
    [
        (LossPlan(focal_gamma=3.0), "focal_gamma is set, which has no part in dice_ce"),
        (LossPlan(kind="weighted_ce"), "class_weights is ()"),
        (LossPlan(kind="weighted_ce", class_weights=(0.0, 0.0, 0.0)), "class_weights is"),
        (LossPlan(kind="regions"), "regions is ()"),
        (LossPlan(kind="regions", regions=((1, 3),)), "regions is"),
        (LossPlan(kind="regions", regions=((1,), ())), "regions is"),
        (LossPlan(kind="focal", focal_gamma=-1.0), "focal_gamma is -1.0"),
        (LossPlan(kind="focal", focal_alpha=1.5), "focal_alpha is 1.5"),
        (LossPlan(kind="focal_dice", focal_dice_beta=0.5), "focal_dice_beta is 0.5"),
        (LossPlan(kind="topk_ce", hardest_fraction=0.0), "hardest_fraction is 0"),
        (LossPlan(kind="topk_ce", hardest_fraction=1.1), "hardest_fraction is 1.1"),
        (LossPlan(kind="cldice", skeleton_iterations=0), "skeleton_iterations is 0"),
        (
            LossPlan(kind="tversky", false_positive_weight=0.0, false_negative_weight=0.0),
            "are both 0",
        ),
    ],
    ids=lambda item: item if isinstance(item, str) else item.kind,
)
def test_a_parameter_out_of_range_is_a_problem(loss, problem):
    assert any(problem in line for line in loss_problems(loss, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_that_can_be_planned_can_be_built(name):
    loss = LossPlan(kind=name, **NEEDED.get(name, {}))
    assert not list(loss_problems(loss, 3))
    assert build_named_loss(loss, batch_dice=True, distance_transform=lambda mask: mask * 1.0)


def test_a_loss_that_cannot_be_planned_cannot_be_built():
    with pytest.raises(ValueError, match="'dice_foca'; did you mean 'dice_focal'"):
        build_named_loss(
            LossPlan(kind="dice_foca"), batch_dice=True, distance_transform=lambda mask: mask * 1.0
        )
