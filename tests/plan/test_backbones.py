"""Pretrained encoders in a plan; which there are is made up here."""

from dataclasses import replace

import pytest

from autoseg.errors import PlanError
from autoseg.plan.backbones import (
    Shape,
    names_backbone,
    split_backbones,
    value_range,
    with_backbone,
)
from autoseg.plan.consistency import plan_problems
from autoseg.plan.counting import num_parameters
from autoseg.plan.export_nnunet import to_nnunet
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner, planner_names
from autoseg.record import Backbone
from autoseg.testing.fingerprints import fingerprint_of, request_of

RESNET = Shape(features=(64, 64, 128, 256, 512), reductions=(2, 4, 8, 16, 32))
VGG = Shape(features=(64, 128, 256, 512, 512, 512), reductions=(1, 2, 4, 8, 16, 32))
CONVNEXT = Shape(features=(96, 192, 384, 768), reductions=(4, 8, 16, 32))
ENCODER = Backbone(
    model="made.up",
    weights="0" * 64,
    mean=(0.4,),
    std=(0.2,),
    frozen_norm=True,
    num_stages=5,
    parameters=21_000_000,
    multiplications=73_000.0,
    values=80.0,
)


@pytest.fixture(scope="module")
def fingerprint():
    return fingerprint_of([(36, 200, 180)] * 40)


@pytest.fixture(scope="module")
def plan(fingerprint):
    return load_planner("nnunet")(request_of(fingerprint))


@pytest.fixture
def make(plan, fingerprint):
    def make(shape=RESNET, **changes):
        (asked,), _ = split_backbones(plan, ["2d.network.backbone=made.up"])
        backbone = ENCODER.revised(num_stages=len(shape.features), **changes)
        return with_backbone(plan, asked, backbone, shape, fingerprint)

    return make


def test_an_encoder_is_told_from_other_settings(plan):
    assignments = [
        "2d.network.backbone=resnet34",
        "2d.batch_size=4",
        "2d.network.weights = a=b.pth",
        "2d.network.backbone.frozen_norm=false",
    ]
    (asked,), others = split_backbones(plan, assignments)
    assert (asked.configuration, asked.model, asked.weights) == ("2d", "resnet34", "a=b.pth")
    assert others == [assignments[1], assignments[3]]


def test_published_weights_are_taken_where_none_are_named(plan):
    (asked,), _ = split_backbones(plan, ["2d.network.backbone=resnet34"])
    assert asked.weights == "imagenet"


@pytest.mark.parametrize("word", ["none", "null"])
def test_no_encoder_is_today_s_network(plan, word):
    asked, others = split_backbones(plan, [f"2d.network.backbone={word}"])
    assert asked == []
    changed = apply_overrides(plan, others)
    assert changed.configurations == plan.configurations


def test_weights_without_an_encoder_are_refused(plan):
    with pytest.raises(PlanError, match="without an encoder") as caught:
        split_backbones(plan, ["2d.network.weights=imagenet"])
    assert "2d.network.backbone=NAME" in caught.value.fix


def test_volumes_get_no_encoder_of_pictures(plan):
    with pytest.raises(PlanError, match="3 axes"):
        split_backbones(plan, ["3d_fullres.network.backbone=resnet34"])


@pytest.mark.parametrize(
    ("shape", "features", "strides"),
    [
        (RESNET, (32, *RESNET.features), (1, 2, 2, 2, 2, 2)),
        (VGG, VGG.features, (1, 2, 2, 2, 2, 2)),
        (CONVNEXT, (24, 48, *CONVNEXT.features), (1, 2, 2, 2, 2, 2)),
    ],
    ids=["resnet", "vgg", "convnext"],
)
def test_stages_above_the_encoder_lead_to_full_resolution(make, shape, features, strides):
    network = make(shape).configuration("2d").network
    assert tuple(stage.features for stage in network.stages) == features
    assert tuple(stage.strides[0] for stage in network.stages) == strides
    assert network.num_own_stages == len(features) - len(shape.features)


def test_the_plan_fits_together_with_its_patch_rounded(plan, make):
    changed = make()
    flat = changed.configuration("2d")
    assert plan_problems(changed) == []
    assert all(size % 32 == 0 for size in flat.patch_size)
    assert len(flat.training.supervision_weights) == flat.network.num_supervised
    assert flat.cost.parameters == num_parameters(flat.network) > ENCODER.parameters
    assert changed.configuration("3d_fullres") == plan.configuration("3d_fullres")


def test_a_patch_below_the_strides_grows_to_them(plan, fingerprint):
    small = plan.configuration("2d").revised(patch_size=(8, 8))
    others = tuple(small if item.name == "2d" else item for item in plan.configurations)
    (asked,), _ = split_backbones(plan, ["2d.network.backbone=made.up"])
    changed = with_backbone(
        plan.revised(configurations=others), asked, ENCODER, RESNET, fingerprint
    )
    assert changed.configuration("2d").patch_size == (32, 32)
    (decision,) = [item for item in changed.decisions if item.name == "2d.patch_size"]
    assert "strides" in decision.reason


def test_images_are_normalised_as_the_weights_were_trained(make):
    recipe = make().configuration("2d").recipe
    (channel,) = recipe.channels
    assert (channel.scheme, channel.mean, channel.std) == ("pretrained", 0.4, 0.2)
    assert recipe.order == "resample-normalise"
    assert make().configuration("3d_fullres").recipe.channels[0].scheme == "zscore"


@pytest.mark.parametrize(
    "assignment",
    [
        "2d.recipe.channels.0.scheme=zscore",
        "2d.recipe.channels.0.scheme=rgb",
        "2d.recipe.channels.0.mean=0.5",
        "2d.recipe.channels.0.std=0.3",
        "2d.recipe.order=normalise-resample",
        "2d.network.backbone.mean=[0.1]",
        "2d.recipe.channels.0.upper=255",
    ],
)
def test_an_encoder_is_fed_nothing_that_is_normalised_otherwise(make, assignment):
    with pytest.raises(PlanError, match="recipe"):
        apply_overrides(make(), [assignment])


def test_a_plan_file_that_was_changed_by_hand_is_refused_too(make):
    changed = make()
    flat = changed.configuration("2d")
    channels = (replace(flat.recipe.channels[0], scheme="zscore", mean=None, std=None),)
    flat = flat.revised(recipe=replace(flat.recipe, channels=channels))
    others = tuple(flat if item.name == "2d" else item for item in changed.configurations)
    (problem,) = plan_problems(changed.revised(configurations=others))
    assert "trained with scheme pretrained, mean 0.4 and std 0.2" in problem


def test_without_an_encoder_nothing_is_normalised_for_one(plan):
    with pytest.raises(PlanError, match="scheme is pretrained"):
        apply_overrides(plan, ["2d.recipe.channels.0.scheme=pretrained"])


def test_weights_trained_otherwise_are_set_with_what_they_need(make):
    changed = apply_overrides(
        make(),
        [
            "2d.network.backbone.mean=[0.1]",
            "2d.recipe.channels.0.mean=0.1",
            "2d.network.backbone.frozen_norm=false",
        ],
    )
    backbone = changed.configuration("2d").network.backbone
    assert backbone is not None
    assert (backbone.mean, backbone.frozen_norm) == ((0.1,), False)


@pytest.mark.parametrize(
    ("name", "dtype", "low", "high", "expected"),
    [
        ("grey", "uint8", 3, 200, (0.0, 255.0)),
        ("rgb_to_0_1", None, 3, 200, (0.0, 255.0)),
        ("grey", "float32", 0.0, 0.9, (0.0, 1.0)),
        ("grey", "float32", -0.1, 0.9, (None, None)),
        ("MRI", "int16", 0, 900, (None, None)),
        ("CT", "int16", -900, 900, (-800.0, 700.0)),
        ("grey", None, 3, 200, (None, None)),
    ],
)
def test_black_and_white_are_what_the_data_say(fingerprint, name, dtype, low, high, expected):
    cases = tuple(case.revised(dtype=dtype) for case in fingerprint.cases)
    known = fingerprint.intensities[0].revised(
        min=float(low), max=float(high), percentile_00_5=-800.0, percentile_99_5=700.0
    )
    assert value_range(fingerprint.revised(cases=cases), name, known) == expected


def test_images_of_mixed_types_have_each_their_own_range(fingerprint):
    first, *others = fingerprint.cases
    mixed = (first.revised(dtype="uint16"), *(case.revised(dtype="uint8") for case in others))
    found = value_range(fingerprint.revised(cases=mixed), "grey", fingerprint.intensities[0])
    assert found == (None, None)


def test_a_user_who_names_an_encoder_or_none_decides():
    assert names_backbone(["seed=1", "2d.network.backbone=none"])
    assert names_backbone(["2d.network.backbone = resnet18"])
    assert not names_backbone(["2d.network.dropout=0.1"])
    assert not names_backbone(["2d.network.backbone.frozen_norm=false"])


@pytest.mark.parametrize("name", planner_names())
def test_no_planner_chooses_an_encoder_by_itself(name, fingerprint):
    plan = load_planner(name)(request_of(fingerprint))
    assert all(item.network.backbone is None for item in plan.configurations)


def test_nnunet_has_no_such_encoders(make, fingerprint):
    with pytest.raises(PlanError, match="backbone"):
        to_nnunet(make(), fingerprint)


def test_the_decisions_say_what_was_chosen(make):
    found = {item.name: item for item in make().decisions}
    assert found["2d.network.backbone"].value == "made.up, weights imagenet"
    assert "0.4" in found["2d.normalisation"].value
    assert len(make().decisions) == len(found)
