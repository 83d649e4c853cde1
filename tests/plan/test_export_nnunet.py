import json

import pytest

from autoseg.errors import PlanError
from autoseg.plan.export_nnunet import to_nnunet
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, request_of


def exported(name, *arguments, **options):
    fingerprint = fingerprint_of(*arguments, **options)
    return to_nnunet(load_planner(name)(request_of(fingerprint)), fingerprint)


def test_the_export_has_what_nnunet_reads():
    plans = exported("nnunet", [(400, 400, 400)] * 20, channels=("CT",))
    assert json.loads(json.dumps(plans)) == plans
    fullres = plans["configurations"]["3d_fullres"]
    assert fullres["patch_size"] == [128, 128, 128]
    assert fullres["normalization_schemes"] == ["CTNormalization"]
    assert fullres["architecture"]["arch_kwargs"]["n_conv_per_stage"] == [2] * 6
    assert fullres["architecture"]["arch_kwargs"]["conv_op"].endswith("Conv3d")
    assert plans["configurations"]["3d_lowres"]["next_stage"] == "3d_cascade_fullres"
    assert plans["configurations"]["3d_cascade_fullres"] == {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }


def test_residual_encoders_are_named_as_nnunet_names_them():
    plans = exported("resenc_m", [(64, 64, 64)] * 20)
    architecture = plans["configurations"]["3d_fullres"]["architecture"]
    assert architecture["network_class_name"].endswith("ResidualEncoderUNet")
    assert architecture["arch_kwargs"]["n_blocks_per_stage"] == [1, 3, 4, 6, 6]


def test_images_become_volumes_of_one_slice():
    plans = exported("nnunet", [(200, 300)] * 5, (1.0, 1.0))
    assert plans["transpose_forward"] == plans["transpose_backward"] == [0, 1, 2]


@pytest.mark.parametrize("change", ["encoder=mednext", "norm=batch", "decoder=nested"])
def test_a_network_that_nnunet_does_not_have_is_refused(change):
    fingerprint = fingerprint_of([(64, 64, 64)] * 20)
    plan = load_planner("nnunet")(request_of(fingerprint))
    changed = apply_overrides(plan, [f"3d_fullres.network.{change}"])
    with pytest.raises(PlanError, match=change):
        to_nnunet(changed, fingerprint)


def test_signals_are_refused_because_nnunet_has_no_1d():
    with pytest.raises(PlanError, match="1 axis") as caught:
        exported("auto", [(5000,)] * 20, (0.002,))
    assert "--export-nnunet" in caught.value.fix
