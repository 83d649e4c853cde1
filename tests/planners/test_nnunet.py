import json

import pytest

from autoseg.fingerprint.nnunet_file import load_fingerprint
from autoseg.plan.registry import load_planner
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

DATASETS = (
    "Dataset001_BrainTumour",
    "Dataset002_Heart",
    "Dataset003_Liver",
    "Dataset004_Hippocampus",
    "Dataset005_Prostate",
    "Dataset008_HepaticVessel",
    "Dataset009_Spleen",
)
SCHEMES = {"ZScoreNormalization": "zscore", "CTNormalization": "ct"}
NNUNET = load_planner("nnunet")


def ask(planner=NNUNET, memory_bytes=None, **data):
    """Plan some cases with nnU-Net's default planner."""
    fingerprint = data.pop("fingerprint", None) or fingerprint_of(**data)
    return planner(request_of(fingerprint, memory_bytes=memory_bytes))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("planner", ["nnunet", "resenc_m", "resenc_l"])
def test_published_plans_are_reproduced(reference, planner, dataset):
    rows = [
        row
        for row in json.loads((reference / "msd/expected_plans.json").read_text())
        if (row["dataset"], row["planner"]) == (dataset, planner)
    ]
    fingerprint = load_fingerprint(reference / f"msd/fingerprints/{dataset}.json", None)
    plan = ask(load_planner(planner), fingerprint=fingerprint)
    assert {item.name for item in plan.configurations} == {row["configuration"] for row in rows}
    for row in rows:
        _check_row(plan.configuration(row["configuration"]), row)


def _check_row(item, row):
    if "expect" not in row:
        found = item.inherits_from, item.previous_stage
        assert found == (row["inherits_from"], row["previous_stage"])
        return
    expect, stages = row["expect"], item.network.stages
    assert item.recipe.spacing == pytest.approx(row["spacing"], rel=1e-3)
    assert list(item.median_shape) == row["median_shape"]
    assert list(item.patch_size) == expect["patch_size"]
    assert item.batch_size == expect["batch_size"]
    assert len(stages) == expect["n_stages"]
    assert [list(stage.strides) for stage in stages] == expect["strides"]
    assert [list(stage.kernel_size) for stage in stages] == expect["kernel_sizes"]
    assert [stage.features for stage in stages] == expect["features_per_stage"]
    assert item.training.batch_dice == expect["batch_dice"]
    assert [c.scheme for c in item.recipe.channels] == [SCHEMES[n] for n in expect["normalization"]]
    assert [c.use_mask for c in item.recipe.channels] == expect["use_mask_for_norm"]


def test_images_have_one_configuration():
    plan = ask(shapes=[(512, 512)] * 20, spacing=(1.0, 1.0))
    assert [item.name for item in plan.configurations] == ["2d"]
    assert plan.configurations[0].patch_size == (512, 512)
    assert plan.configurations[0].recipe.transpose == (0, 1)


def test_volumes_of_one_slice_have_one_configuration():
    plan = ask(shapes=[(1, 200, 160)] * 8, spacing=(5.0, 1.0, 1.0))
    assert [item.name for item in plan.configurations] == ["2d"]
    assert plan.configurations[0].recipe.transpose == (0, 1, 2)


def test_the_same_slices_as_images_or_as_volumes_get_the_same_network():
    images = ask(shapes=[(200, 160)] * 8, spacing=(1.0, 1.0)).configurations[0]
    volumes = ask(shapes=[(1, 200, 160)] * 8, spacing=(999.0, 1.0, 1.0)).configurations[0]
    assert images.network == volumes.network
    assert images.batch_size == volumes.batch_size


def test_the_coarsest_axis_goes_first():
    plan = ask(shapes=[(200, 20, 180)] * 10, spacing=(0.8, 4.0, 0.8))
    fullres = plan.configuration("3d_fullres")
    assert fullres.recipe.transpose == (1, 0, 2)
    assert fullres.recipe.spacing == (4.0, 0.8, 0.8)
    assert fullres.median_shape == (20, 200, 180)
    assert plan.configuration("2d").recipe.spacing == (0.8, 0.8)


def test_a_median_between_two_cases_keeps_its_half():
    plan = ask(shapes=[(40, 60, 50), (43, 60, 50)], spacing=(1.0, 1.0, 1.0))
    assert plan.configuration("3d_fullres").median_shape == (41.5, 60, 50)


def test_the_ignore_label_counts_in_memory_but_is_no_class():
    labels = Labels(names=("background", "organ"), values=(0, 1), ignore=2)
    shapes = [(100, 100, 100)] * 500
    with_ignore = ask(shapes=shapes, labels=labels).configuration("3d_fullres")
    without = ask(shapes=shapes).configuration("3d_fullres")
    assert with_ignore.network == without.network
    assert with_ignore.batch_size <= without.batch_size


def test_more_memory_makes_a_larger_patch():
    shapes = [(300, 300, 300)] * 30
    small = ask(shapes=shapes).configuration("3d_fullres")
    large = ask(shapes=shapes, memory_bytes=24_000_000_000).configuration("3d_fullres")
    assert small.patch_size == (128, 128, 128)
    assert all(n > m for n, m in zip(large.patch_size, small.patch_size, strict=True))


def test_a_cascade_sees_the_labels_of_the_coarser_configuration():
    plan = ask(shapes=[(400, 400, 400)] * 30)
    fullres, cascade = (plan.configuration(n) for n in ("3d_fullres", "3d_cascade_fullres"))
    classes = fullres.network.num_classes
    assert cascade.network.in_channels == fullres.network.in_channels + classes - 1
    assert cascade.network.stages == fullres.network.stages
    assert (cascade.train_by_default, fullres.training.batch_dice) == (False, True)


def test_training_is_that_of_nnunet():
    training = ask(shapes=[(100, 100, 100)]).configuration("3d_fullres").training
    assert (training.optimizer, training.peak_lr, training.momentum) == ("sgd", 1e-2, 0.99)
    assert training.default_steps == 250_000
    assert training.ema_decay == 0
    # four decoder stages, the coarsest without weight
    assert training.supervision_weights == pytest.approx((4 / 7, 2 / 7, 1 / 7))


def test_tiny_images_still_get_a_network():
    item = ask(shapes=[(5, 6, 7)]).configuration("3d_fullres")
    assert (len(item.network.stages), item.network.num_supervised) == (1, 1)
    assert item.training.supervision_weights == (1.0,)


def test_machine_and_budget_do_not_change_the_plan_of_nnunet():
    fingerprint = fingerprint_of([(100, 100, 100)])
    fast = request_of(fingerprint, machine_of(flops=1e13), budget_s=600.0)
    there = NNUNET(fast).configuration("3d_fullres")
    here = NNUNET(request_of(fingerprint)).configuration("3d_fullres")
    assert there.cost != here.cost
    assert there == here.revised(cost=there.cost)
