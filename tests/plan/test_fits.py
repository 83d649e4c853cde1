from dataclasses import replace

import pytest

from autoseg.errors import PlanError
from autoseg.machine import Gpu
from autoseg.plan.fits import fitting_plan, has_room, memory_findings
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of


@pytest.fixture(scope="module")
def plan():
    return load_planner("nnunet")(request_of(fingerprint_of([(36, 50, 35)] * 200)))


def test_a_plan_within_its_memory_has_no_finding(plan):
    needed = max(item.cost.memory_bytes for item in plan.configurations)
    assert memory_findings(plan.revised(memory_bytes=needed)) == ()


def test_what_was_set_beyond_the_memory_is_told_with_its_size_and_a_remedy(plan):
    needed = plan.configuration("3d_fullres").cost.memory_bytes
    plan = plan.revised(memory_bytes=2 * needed)
    changed = apply_overrides(plan, ["3d_fullres.batch_size=64"])
    (finding,) = [item for item in memory_findings(changed) if "3d_fullres" in item.found]
    assert finding.severity == "warning"
    assert f"{changed.configuration('3d_fullres').cost.memory_bytes / 1e9:.1f} GB" in finding.found
    assert f"{2 * needed / 1e9:.1f} GB" in finding.expected
    (patch,) = [word for word in finding.remedy.split() if "patch_size=" in word]
    smaller = apply_overrides(changed, [patch.rstrip(",")]).configuration("3d_fullres")
    assert smaller.cost.memory_bytes < changed.configuration("3d_fullres").cost.memory_bytes


def test_a_configuration_that_is_not_trained_may_need_what_it_likes(plan):
    needed = plan.configuration("3d_fullres").cost.memory_bytes
    idle = plan.configuration("3d_fullres").revised(train_by_default=False)
    plan = plan.revised(memory_bytes=needed // 2, configurations=(idle,))
    assert memory_findings(plan) == ()


GPU = Gpu(name="NVIDIA A100", memory_bytes=40 * 2**30)


def of_memory(memory_bytes, *, ram_bytes=8 * 10**9, gpus=()):
    request = request_of(
        fingerprint_of([(36, 50, 35)] * 20), machine_of(*gpus), memory_bytes=memory_bytes
    )
    return replace(request, ram_bytes=ram_bytes)


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (of_memory(10**8), ["--memory 500MB"]),
        (of_memory(None, ram_bytes=10**8), ["--ram 500MB"]),
        (of_memory(10**8, ram_bytes=2 * 10**8), ["--ram 500MB", "--memory 500MB"]),
        (of_memory(10**8, ram_bytes=10**8, gpus=(GPU,)), ["--memory 500MB"]),
    ],
    ids=["memory", "ram", "both", "gpu"],
)
def test_memory_below_the_smallest_network_names_the_options_that_limit_it(request_, options):
    with pytest.raises(PlanError, match="no useful network fits") as caught:
        fitting_plan(load_planner("nnunet"), request_)
    assert caught.value.fix == f"give {' and '.join(options)} or more"


def test_a_patch_of_a_few_voxels_is_no_network_unless_the_image_is_as_small():
    plan = load_planner("nnunet")(of_memory(10**6)).revised(memory_bytes=10**9)
    assert not has_room(plan)
    tiny = fingerprint_of([(3, 4, 5)] * 20)
    assert has_room(load_planner("nnunet")(request_of(tiny)))
    assert not has_room(load_planner("nnunet")(request_of(tiny, memory_bytes=10**8)))
