"""What `auto` makes of the facts that single rules look at."""

import pytest
import torch

from autoseg.machine import Gpu
from autoseg.network.build import build_network
from autoseg.plan.after import ConfigurationEvidence, RunEvidence
from autoseg.plan.augmentation import light_augmentation, nnunet_augmentation
from autoseg.plan.consistency import plan_problems
from autoseg.plan.counting import num_parameters
from autoseg.plan.encoders import EncoderAtHand, Shape
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.record import Backbone
from autoseg.runtime.recipe import Labels, Region
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

AUTO = load_planner("auto")
GPU = machine_of(Gpu(name="NVIDIA A100-SXM4-40GB", memory_bytes=40 * 10**9))
BRAINS = fingerprint_of([(36, 50, 35)] * 208)
PICTURES = fingerprint_of([(512, 512)] * 20, (1.0, 1.0))


def with_facts(fingerprint, **facts):
    return fingerprint.revised(cases=tuple(case.revised(**facts) for case in fingerprint.cases))


def plan(fingerprint, machine=None, *, after=None, find_encoder=None, **options):
    request = request_of(fingerprint, machine, **options)
    changes = {"after": after, "find_encoder": find_encoder or request.find_encoder}
    made = AUTO(type(request)(**{**vars(request), **changes}))
    assert plan_problems(made) == []
    return made


def trained(made):
    return next(item for item in made.configurations if item.train_by_default)


def told(made, name):
    (found,) = (item for item in made.decisions if item.name == name)
    return found


def test_no_fact_is_a_reason_for_what_is_usual():
    item = trained(plan(BRAINS, budget_s=1200.0))
    assert item.training.loss.kind == "dice_ce"
    assert item.training.foreground_fraction == 0.33
    assert item.training.weight_decay == 0.01
    assert (item.network.encoder, item.network.decoder, item.network.dropout) == (
        "plain",
        "plain",
        0.0,
    )
    assert item.training.augmentation == light_augmentation(item.patch_size)


def test_auto_never_gives_small_volumes_the_batch_that_resenc_m_must():
    resenc = load_planner("resenc_m")(request_of(BRAINS)).configuration("3d_fullres")
    assert resenc.batch_size == 58
    for machine in (None, GPU):
        for budget_s in (300.0, 1200.0, None, 1e6):
            made = plan(BRAINS, machine, budget_s=budget_s)
            assert made.configuration("3d_fullres").batch_size < 58


def test_sparse_foreground_is_oversampled_in_every_configuration():
    made = plan(with_facts(BRAINS, class_voxels=(99_000, 1_000)))
    assert {item.training.foreground_fraction for item in made.configurations} == {0.58}
    assert told(made, "oversampling").inputs["foreground"] == "1.00%"


def test_regions_are_trained_as_they_are_judged():
    labels = Labels(
        names=("background", "cord", "grey"),
        values=(0, 1, 2),
        regions=(Region(name="all", classes=(1, 2)), Region(name="grey", classes=(2,))),
    )
    made = plan(fingerprint_of([(20, 256, 256)] * 8, (2.5, 0.5, 0.5), labels=labels))
    assert trained(made).training.loss.regions == ((1, 2), (2,))


def test_thin_tubes_get_cldice_on_a_gpu_and_not_in_the_few_steps_of_a_cpu():
    vessels = with_facts(
        PICTURES,
        class_voxels=(240_000, 22_144),
        class_widths=(0.0, 4.0),
        class_lengths=(0.0, 1400.0),
    )
    assert trained(plan(vessels)).training.loss.kind == "dice_ce"
    assert trained(plan(vessels, GPU)).training.loss.kind == "dice_ce_cldice"
    assert told(plan(vessels, GPU), "loss").inputs["tubes"] == "4.0 voxels wide"


def test_deep_networks_are_residual_where_the_steps_suffice():
    made = plan(PICTURES, GPU)
    assert trained(made).network.encoder == "residual"
    assert "downsamplings" in told(made, "2d.variant").reason
    short = trained(plan(PICTURES, budget_s=1200.0))
    assert short.network.encoder == "plain"


def test_the_reported_cost_is_that_of_the_variant():
    item = trained(plan(PICTURES, GPU))
    assert item.network.encoder == "residual"
    assert item.cost.parameters == num_parameters(item.network)
    assert item.cost.parameters != num_parameters(item.network.revised(encoder="plain"))


def test_few_cases_shown_often_are_changed_more_and_remembered_less():
    long = trained(plan(PICTURES, budget_s=200 * 3600.0))
    assert long.network.dropout == 0.1
    assert long.training.weight_decay == pytest.approx(0.03)
    assert long.training.augmentation == nnunet_augmentation(long.patch_size)
    strong = trained(plan(PICTURES, GPU)).training.augmentation
    assert strong.gamma_probability == pytest.approx(1.4 * 0.3)
    assert strong.mirror_probability == 0.5


def test_many_cases_are_not():
    many = fingerprint_of([(512, 512)] * 500, (1.0, 1.0))
    assert trained(plan(many, GPU)).network.dropout == 0


def evidence(**changes):
    known = {
        "name": "2d",
        "width": 32,
        "weight_decay": 0.01,
        "folds": ("0", "1", "2", "3", "4"),
        "train_dice": 0.9,
        "validation_dice": 0.85,
        "late_gain": 0.0,
    }
    item = ConfigurationEvidence.model_validate(known | changes)
    return RunEvidence(configurations=(item,))


def test_after_overfitting_the_network_is_half_as_wide():
    before = trained(plan(PICTURES, GPU))
    made = plan(PICTURES, GPU, after=evidence(validation_dice=0.6))
    found = trained(made)
    assert before.network.stages[0].features == 2 * found.network.stages[0].features == 32
    assert found.cost.parameters < before.cost.parameters / 3
    assert told(made, "2d.after").value == "bounded by data"


def test_after_overfitting_a_narrow_network_gets_more_weight_decay():
    made = plan(PICTURES, budget_s=1200.0, after=evidence(width=16, validation_dice=0.6))
    assert trained(made).network.stages[0].features == 16
    assert trained(made).training.weight_decay == pytest.approx(0.03)


def test_weight_decay_that_a_run_before_asked_for_is_not_raised_a_second_time():
    found = evidence(width=16, validation_dice=0.6)
    made = plan(PICTURES, budget_s=1e6, after=found)
    item = trained(made)
    assert item.network.stages[0].features == 16  # more time is no reason to widen it
    assert item.network.dropout > 0  # few cases, shown often: the rule for them holds, too
    assert item.training.weight_decay == pytest.approx(0.03)
    after = told(made, f"{item.name}.after").inputs["weight_decay"]
    assert float(after) == pytest.approx(item.training.weight_decay)


def test_after_a_plateau_the_network_is_wider_if_the_time_bears_it():
    made = plan(PICTURES, budget_s=5 * 3600.0, after=evidence(width=16))
    assert trained(made).network.stages[0].features >= 24
    short = plan(PICTURES, budget_s=300.0, after=evidence(width=16))
    assert trained(short).network.stages[0].features == 16
    assert "does not fit" in told(short, "2d.after").reason


def test_after_a_run_that_was_still_rising_the_default_budget_doubles():
    usual, longer = (plan(PICTURES, after=found) for found in (None, evidence(late_gain=0.05)))
    assert (usual.budget_s, longer.budget_s) == (None, 14400)
    assert trained(longer).cost.train_seconds > 1.9 * trained(usual).cost.train_seconds
    assert "default" not in told(longer, "time of a fold").reason
    assert told(longer, "budget").value == "4 h 00 min"
    fixed = plan(PICTURES, budget_s=1200.0, after=evidence(late_gain=0.05))
    assert fixed.budget_s == 1200.0


def test_after_dropped_folds_one_configuration_is_trained():
    found = evidence(name="3d_fullres", folds=("0", "1"))
    made = plan(BRAINS, GPU, after=found.revised(num_dropped=3))
    assert len([item for item in made.configurations if item.train_by_default]) == 1


def encoder(parameters=2_000_000, **changes):
    backbone = Backbone(
        model="resnet34.a1_in1k",
        weights="0" * 64,
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        frozen_norm=True,
        num_stages=5,
        parameters=parameters,
        multiplications=10_000.0,
        values=20.0,
    ).revised(**changes)
    shape = Shape(features=(64, 64, 128, 256, 512), reductions=(2, 4, 8, 16, 32))
    return EncoderAtHand(backbone=backbone, shape=shape)


COLOURS = with_facts(
    fingerprint_of([(584, 565)] * 20, (1.0, 1.0), channels=("red", "green", "blue")), dtype="uint8"
)


def test_colour_pictures_get_the_encoder_that_is_at_hand():
    made = plan(COLOURS, GPU, find_encoder=lambda _: encoder())
    backbone = trained(made).network.backbone
    assert backbone is not None
    assert "on this machine" in told(made, "2d.network.backbone").reason


def test_an_encoder_beyond_the_budget_is_not_taken():
    made = plan(COLOURS, budget_s=300.0, find_encoder=lambda _: encoder(multiplications=1e7))
    assert trained(made).network.backbone is None
    assert "too large" in told(made, "2d.network.backbone").reason


def test_without_weights_colour_pictures_are_told_how_to_get_them():
    made = plan(COLOURS)
    assert trained(made).network.backbone is None
    reason = told(made, "2d.network.backbone").reason
    assert "--set 2d.network.backbone=resnet34" in reason
    assert "pip install 'autoseg-unet[pretrained]'" in reason


def test_nobody_looks_for_an_encoder_of_other_images():
    def refuse(_):
        raise AssertionError

    for data in (BRAINS, PICTURES, with_facts(COLOURS, dtype="uint16")):
        plan(data, find_encoder=refuse)


@pytest.mark.parametrize(
    ("setting", "check"),
    [
        ("loss=cldice", lambda item: item.training.loss.kind == "cldice"),
        ("2d.network.dropout=0.3", lambda item: item.network.dropout == 0.3),
        ("2d.training.weight_decay=0.5", lambda item: item.training.weight_decay == 0.5),
        ("2d.network.decoder=attention", lambda item: item.network.decoder == "attention"),
    ],
)
def test_what_a_rule_decided_can_be_set(setting, check):
    made = apply_overrides(plan(PICTURES), [setting])
    assert check(made.configuration("2d"))
    assert plan_problems(made) == []
    assert [item.reason for item in made.decisions].count("Set by the user.") == 1


def test_every_decision_says_why_in_a_sentence():
    for data in (BRAINS, PICTURES, COLOURS):
        for machine in (None, GPU):
            for found in plan(data, machine, after=evidence()).decisions:
                assert found.reason.endswith("."), found
                assert found.rule


@pytest.mark.parametrize(("budget_s", "decoder"), [(3e7, "nested"), (5e4, "plain")])
def test_tiny_structures_get_gates_that_can_be_built_where_time_is_to_spare(budget_s, decoder):
    specks = with_facts(fingerprint_of([(40, 64, 64)] * 200), class_voxels=(163_800, 40))
    item = trained(plan(specks, GPU, budget_s=budget_s))
    assert item.network.decoder == decoder
    assert item.training.loss.kind == "dice_focal"
    with torch.device("meta"):
        network = build_network(item.network)
    assert sum(p.numel() for p in network.parameters()) == item.cost.parameters
