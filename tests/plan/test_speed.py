import pytest

from autoseg.machine import Gpu, Precision, StepSpeed, TrainedSpeed
from autoseg.plan.speed import (
    GPU_FLOPS,
    MAX_CORRECTION,
    OTHER_GPU_FLOPS,
    base_speed,
    correction,
    estimated_speed,
    evidence,
    step_speed,
)
from autoseg.testing.fingerprints import machine_of

MEASURED = StepSpeed(
    device="cpu",
    precision="bf16",
    num_cpus=2,
    operation_s=1e-12,
    value_s=1e-9,
    parameter_s=1e-9,
    layer_s=1e-3,
)
MACHINE = machine_of()


def fold(
    ratio,
    dimensions=3,
    precision: Precision = "bf16",
    device="cpu",
    run="a 3d_fullres fold 0",
):
    return TrainedSpeed(
        run=run, device=device, dimensions=dimensions, precision=precision, ratio=ratio
    )


def corrected(*ratios, speeds=(MEASURED,)):
    machine = MACHINE.revised(speeds=speeds, trained=tuple(fold(ratio) for ratio in ratios))
    return correction(machine, "cpu", 3)[0]


def test_without_a_measurement_the_matrix_product_decides():
    assert base_speed(MACHINE, "cpu") == estimated_speed(MACHINE, "cpu")
    assert base_speed(MACHINE.revised(speeds=(MEASURED,)), "cpu") == MEASURED


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla V100S-PCIE-32GB", "V100"),
        ("NVIDIA GeForce RTX 4090", "4090"),
        ("Tesla T4", "T4"),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA T400 4GB", None),
    ],
)
def test_a_graphics_processor_is_known_by_a_whole_word_of_its_name(name, like):
    machine = machine_of(Gpu(name=name, memory_bytes=8 * 2**30))
    flops = OTHER_GPU_FLOPS if like is None else GPU_FLOPS[like]
    assert estimated_speed(machine, "cuda").operation_s == 1 / flops


def test_a_measurement_of_another_device_or_precision_does_not_count():
    for change in ({"device": "NVIDIA T4"}, {"precision": "fp32"}):
        machine = MACHINE.revised(speeds=(MEASURED.revised(**change),))
        assert base_speed(machine, "cpu") == estimated_speed(MACHINE, "cpu")


def test_fewer_processors_than_were_measured_are_slower():
    one = MACHINE.revised(num_cpus=1, speeds=(MEASURED,))
    assert base_speed(one, "cpu").operation_s == 2e-12


def test_a_single_slow_fold_does_not_make_a_measured_machine_slow():
    assert corrected(2.0) == 1.0
    assert corrected(2.0, 1.8) == 1.8
    assert corrected(2.0, 1.1, 2.2) == 1.1


def test_a_fast_fold_is_believed_at_once():
    assert corrected(0.7) == 0.7


def test_an_estimate_is_corrected_by_the_first_fold():
    assert corrected(2.0, speeds=()) == 2.0


def test_only_the_newest_folds_count():
    assert corrected(9.0, 9.0, 9.0, 1.2, 1.2, 1.2, 1.2) == 1.2


def test_a_correction_is_limited():
    assert corrected(40.0, 40.0) == MAX_CORRECTION
    assert corrected(0.01) == 1 / MAX_CORRECTION


def test_a_fold_corrects_its_own_device_dimension_and_precision():
    others = (fold(0.5, dimensions=2), fold(0.5, precision="fp32"), fold(0.5, device="NVIDIA T4"))
    machine = MACHINE.revised(speeds=(MEASURED,), trained=others)
    assert step_speed(machine, "cpu", 3) == MEASURED
    assert step_speed(machine, "cpu", 2).value_s == pytest.approx(0.5 * MEASURED.value_s)


def test_the_evidence_is_named():
    measured = MACHINE.revised(speeds=(MEASURED,))
    both = measured.revised(trained=(fold(0.8, run="hearts 3d_fullres fold 1"),))
    gpu = machine_of(Gpu(name="NVIDIA T4", memory_bytes=15 * 2**30))
    assert evidence(MACHINE, "cpu", 3).source == "estimated"
    assert "matrix product" in evidence(MACHINE, "cpu", 3).reason
    assert "name" in evidence(gpu, "cuda", 3).reason
    assert evidence(measured, "cpu", 3).source == "measured"
    found = evidence(both, "cpu", 3)
    assert found.source == "measured, corrected"
    assert "0.80 after hearts 3d_fullres fold 1" in found.reason
