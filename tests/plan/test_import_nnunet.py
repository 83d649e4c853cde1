import json

import pytest

from autoseg.errors import PlanError
from autoseg.plan.export_nnunet import to_nnunet
from autoseg.plan.import_nnunet import read_plans
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg.testing.nnunet import THEIR_DATASET, their_plans

NAMES = {2: "2d", 3: "3d_fullres"}


def read(dims=3, *, encoder="plain", dataset=THEIR_DATASET, mirror_axes=(0, 1), **changes):
    plans = their_plans(encoder, dims, **changes)
    return read_plans(plans, dataset, NAMES[dims], mirror_axes)


def edited(dims=3, **top):
    return read_plans({**their_plans("plain", dims), **top}, THEIR_DATASET, NAMES[dims], None)


def test_the_processing_is_nnunets():
    plan = read()
    recipe = plan.recipe
    assert (recipe.order, recipe.padding, recipe.overlap) == ("normalise-resample", "zero", 0.5)
    assert (recipe.spline_order, recipe.coarse_ratio) == (3, 3.0)
    assert recipe.mirror_axes == (0, 1)
    assert recipe.test_time_mirroring
    first, second = recipe.channels
    assert (first.name, first.scheme, first.use_mask, first.mean) == ("T1", "zscore", True, None)
    assert (second.lower, second.upper, second.mean, second.std) == (10.0, 90.0, 50.0, 20.0)
    assert not second.use_mask  # nnU-Net's CT scheme looks at no mask
    assert plan.labels.values == (0, 1, 2)
    assert plan.decision == "largest"


def test_a_checkpoint_without_mirroring_is_predicted_without():
    recipe = read(mirror_axes=None).recipe
    assert recipe.mirror_axes == ()
    assert not recipe.test_time_mirroring


@pytest.mark.parametrize("planner", ["nnunet", "resenc_m"])
def test_our_own_export_is_read_back(planner):
    fingerprint = fingerprint_of([(64, 80, 72)] * 20, channels=("CT",))
    plan = load_planner(planner)(request_of(fingerprint))
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}}
    plans = json.loads(json.dumps(to_nnunet(plan, fingerprint)))
    item = plan.configuration("3d_fullres")
    found = read_plans(plans, {**dataset, "file_ending": ".nii.gz"}, item.name, None)
    num_heads = len(item.network.stages) - 1
    expected = item.network.revised(num_supervised=num_heads, num_classes=3)
    assert found.network == expected
    assert found.recipe.spacing == item.recipe.spacing
    assert found.recipe.channels == item.recipe.channels
    assert found.patch_size == item.patch_size


def test_pictures_lose_the_axis_that_nnunet_gives_them():
    plan = edited(
        2,
        image_reader_writer="NaturalImage2DIO",
        original_median_spacing_after_transp=[999.0, 1.0, 1.0],
        original_median_shape_after_transp=[1, 14, 13],
        transpose_forward=[0, 2, 1],
    )
    assert plan.recipe.transpose == (1, 0)
    assert plan.unit == "pixel"


def test_slices_of_volumes_keep_three_axes():
    plan = read(2)
    assert plan.recipe.transpose == (0, 1, 2)
    assert plan.recipe.spacing == (1.0, 1.0)
    assert plan.median_shape == (10.0, 14.0, 13.0)


def test_overlapping_regions_are_painted_in_their_order():
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4, "enhancing": 3}
    dataset = {**THEIR_DATASET, "labels": labels, "regions_class_order": [1, 2, 3]}
    plan = read(dataset=dataset)
    assert plan.decision == "regions"
    assert plan.network.num_classes == 3
    assert plan.labels.names == ("background", "whole", "core", "enhancing")
    assert plan.labels.values == (0, 1, 2, 3)
    assert plan.labels.ignore == 4
    assert [region.classes for region in plan.labels.regions] == [(1, 2, 3), (2, 3), (3,)]


def test_the_ignore_label_is_no_class():
    labels = {"background": 0, "b": 2, "a": 1, "ignore": 3}
    plan = read(dataset={**THEIR_DATASET, "labels": labels})
    assert plan.labels.names == ("background", "a", "b")
    assert plan.labels.ignore == 3


def test_configurations_inherit():
    plans = their_plans("plain", 3)
    plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres", "spacing": [4, 2, 2]}
    plan = read_plans(plans, THEIR_DATASET, "3d_lowres", None)
    assert plan.recipe.spacing == (4.0, 2.0, 2.0)
    assert plan.patch_size == (8, 12, 12)


def test_plans_of_older_versions_are_read():
    plans = their_plans("plain", 3)
    (item,) = plans["configurations"].values()
    words = item.pop("architecture")["arch_kwargs"]
    item |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 6,
        "n_conv_per_stage_encoder": words["n_conv_per_stage"],
        "n_conv_per_stage_decoder": words["n_conv_per_stage_decoder"],
        "pool_op_kernel_sizes": words["strides"],
        "conv_kernel_sizes": words["kernel_sizes"],
    }
    assert read_plans(plans, THEIR_DATASET, "3d_fullres", None).network == read().network


def test_cascades_are_refused_with_what_to_import_instead():
    with pytest.raises(PlanError, match="3d_lowres") as refused:
        read(previous_stage="3d_lowres")
    assert "import the folder of 3d_lowres or of 3d_fullres" in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"resampling_fn_data": "resample_torch_fornnunet"},
        {"resampling_fn_data_kwargs": {"order": 3, "order_z": 1}},
        {"resampling_fn_data_kwargs": {"order": 3, "force_separate_z": True}},
        {"resampling_fn_probabilities_kwargs": {"order": 3}},
        {"normalization_schemes": ["ZScoreNormalization", "OwnNormalization"]},
    ],
)
def test_processing_of_another_kind_is_refused(changes):
    with pytest.raises(PlanError, match="nnU-Net's plan with"):
        read(**changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conv_bias", False),
        ("norm_op", "torch.nn.BatchNorm3d"),
        ("dropout_op", "torch.nn.Dropout3d"),
        ("nonlin", "torch.nn.ReLU"),
        ("kernel_sizes", [[2, 3, 3], [3, 3, 3], [3, 3, 3]]),
        ("n_conv_per_stage_decoder", [2, 1]),
        ("bottleneck_channels", 8),
    ],
)
def test_layers_of_another_kind_are_refused(field, value):
    plans = their_plans("plain", 3)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][field] = value
    with pytest.raises(PlanError, match=field):
        read_plans(plans, THEIR_DATASET, "3d_fullres", None)


def test_other_networks_and_readers_are_refused():
    plans = their_plans("plain", 3)
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "a.b.Primus"
    with pytest.raises(PlanError, match="the network Primus"):
        read_plans(plans, THEIR_DATASET, "3d_fullres", None)
    with pytest.raises(PlanError, match="NibabelIOWithReorient"):
        edited(image_reader_writer="NibabelIOWithReorient")


def test_a_missing_field_is_named():
    plans = their_plans("plain", 3)
    del plans["transpose_forward"]
    with pytest.raises(PlanError, match="transpose_forward"):
        read_plans(plans, THEIR_DATASET, "3d_fullres", None)
