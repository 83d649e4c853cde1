import pytest

from autoseg.errors import AutosegError, PlanError
from autoseg.plan.registry import load_planner
from autoseg.plan.speed import GPU_FLOPS
from autoseg.plan.what_if import GPU_GIB, WhatIf, changed_request, earlier_request, find_gpu
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

VOLUMES = fingerprint_of([(36, 50, 35)] * 20)
GB = 10**9


def ask(**changes):
    return changed_request(request_of(VOLUMES, budget_s=1200.0), WhatIf(**changes))


def test_nothing_changed_asks_the_same():
    assert ask() == request_of(VOLUMES, budget_s=1200.0)


def test_a_plan_says_what_it_was_asked_except_its_memory():
    request = request_of(VOLUMES, budget_s=1200.0, num_folds=3, seed=2)
    plan = load_planner("auto")(request)
    assert earlier_request(plan, VOLUMES, request.machine) == request


def test_every_key_changes_what_it_names():
    asked = ask(budget_s=60.0, num_folds=3, ram_bytes=12 * GB, memory_bytes=4 * GB)
    assert (asked.budget_s, asked.num_folds) == (60.0, 3)
    assert (asked.ram_bytes, asked.memory_bytes) == (12 * GB, 4 * GB)


def test_more_cores_are_faster_in_proportion():
    machine = ask(num_cpus=16).machine
    assert (machine.num_cpus, machine.flops) == (16, pytest.approx(8 * machine_of().flops))


def test_more_memory_on_a_cpu_is_a_machine_with_more_memory():
    asked = ask(memory_bytes=24 * GB)
    assert asked.ram_bytes == asked.memory_bytes == 24 * GB


def test_memory_that_contradicts_the_memory_of_all_processes_is_refused():
    with pytest.raises(PlanError, match="memory=24GB and ram=8GB") as caught:
        ask(memory_bytes=24 * GB, ram_bytes=8 * GB)
    assert "ram=24GB" in caught.value.fix


def test_a_named_gpu_brings_its_memory_and_forgets_that_of_the_other_device():
    request = request_of(VOLUMES, memory_bytes=2 * GB)
    asked = changed_request(request, WhatIf(gpu=find_gpu("A100")))
    assert (asked.device, asked.memory_bytes) == ("cuda", None)
    assert asked.machine.gpus[0].memory_bytes == 40 * 2**30
    assert changed_request(request, WhatIf(num_cpus=4)).memory_bytes == 2 * GB


def test_a_plan_for_a_gpu_can_be_asked_for_a_cpu():
    request = request_of(VOLUMES, machine_of(find_gpu("T4")))
    assert changed_request(request, WhatIf(device="cpu")).device == "cpu"


@pytest.mark.parametrize("name", ["a100", "NVIDIA A100-SXM4", "RTX 4090", "H200"])
def test_gpus_are_found_by_a_part_of_their_names_with_a_speed(name):
    gpu = find_gpu(name)
    assert any(part in gpu.name for part in GPU_FLOPS)


def test_every_gpu_of_known_memory_has_a_known_speed():
    assert set(GPU_GIB) <= set(GPU_FLOPS)


def test_an_unknown_gpu_needs_its_memory():
    assert find_gpu("B9000", 192 * GB).memory_bytes == 192 * GB
    with pytest.raises(PlanError, match="gpu=H10") as caught:
        find_gpu("H10")
    assert "'H100'" in caught.value.fix
    assert "gpu=H10:24GB" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_folds": 21}, "folds=21 of 20 cases"),
        ({"device": "cuda"}, "no such device"),
        ({"device": "tpu"}, "'tpu'"),
        ({"device": "cpu", "gpu": find_gpu("T4")}, "device=cpu"),
    ],
)
def test_what_cannot_be_is_told(changes, words):
    with pytest.raises(AutosegError, match=words):
        ask(**changes)
