import pytest

from autoseg.pipeline import measuring
from autoseg.pipeline.measuring import LEAST_PROBES, PROBES, Probe, fit_speed, measure_speed
from autoseg.plan.cost import step_work, work_seconds
from autoseg.plan.speed import estimated_speed
from autoseg.testing.fingerprints import Gpu, machine_of

MACHINE = machine_of().revised(num_cpus=1)
ESTIMATE = estimated_speed(MACHINE, "cpu")
TRUE = ESTIMATE.revised(operation_s=7e-12, value_s=5e-9, parameter_s=3e-9, layer_s=2e-3)


def works(probes=PROBES):
    return [
        step_work(
            probe.network, probe.patch_size, batch_size=probe.batch_size, training=probe.training
        )
        for probe in probes
    ]


@pytest.mark.parametrize("count", [LEAST_PROBES, len(PROBES)])
def test_the_networks_tell_the_constants_apart(count):
    own = works(PROBES[:count])
    found = fit_speed(own, [work_seconds(work, TRUE) for work in own], ESTIMATE)
    for name in ("operation_s", "value_s", "layer_s"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.25)
    assert [work_seconds(work, found) for work in own] == pytest.approx(
        [work_seconds(work, TRUE) for work in own], rel=0.05
    )


def test_what_the_networks_cannot_tell_stays_as_estimated():
    own = works(PROBES[:1]) * 5
    found = fit_speed(own, [work_seconds(work, ESTIMATE) for work in own], ESTIMATE)
    assert found.parameter_s == pytest.approx(ESTIMATE.parameter_s, rel=0.2)


def test_no_constant_is_negative():
    own = works()
    seconds = [work.operations * 1e-12 for work in own]
    found = fit_speed(own, seconds, ESTIMATE)
    assert min(found.value_s, found.parameter_s, found.layer_s) >= 0


def test_a_gpu_of_which_only_the_name_is_known_can_be_fitted():
    gpu = machine_of(Gpu(name="NVIDIA T4", memory_bytes=15 * 2**30))
    own = works()
    seconds = [work_seconds(work, TRUE) for work in own]
    found = fit_speed(own, seconds, estimated_speed(gpu, "cuda"))
    assert found.device == "NVIDIA T4"
    assert [work_seconds(work, found) for work in own] == pytest.approx(seconds, rel=0.1)


def test_an_estimate_of_a_busy_moment_does_not_spoil_the_fit():
    own = works()
    seconds = [work_seconds(work, ESTIMATE) for work in own]
    busy = estimated_speed(MACHINE.revised(flops=MACHINE.flops / 20), "cpu")
    assert [work_seconds(work, fit_speed(own, seconds, busy)) for work in own] == pytest.approx(
        seconds, rel=0.1
    )


@pytest.mark.slow
def test_real_steps_are_measured(monkeypatch):
    tiny = (Probe(4, 2, (8, 8), 2), Probe(4, 2, (8, 8, 8), 1), Probe(4, 2, (16,), 1))
    monkeypatch.setattr(measuring, "PROBES", tiny)
    told = []
    found = measure_speed(MACHINE, "cpu", lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found.layer_s + found.value_s > 0
    assert (found.device, found.num_cpus) == ("cpu", 1)
