import re
from dataclasses import replace

import pytest

from autoseg.errors import PlanError, as_pair
from autoseg.machine import Gpu
from autoseg.plan.fits import fitting_plan, has_room, memory_findings, refuse_misfits
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

DATA = fingerprint_of([(36, 50, 35)] * 200)
PICTURES = fingerprint_of([(512, 512)] * 20, (1.0, 1.0))
WORD = re.compile(r"--set ([\w.]+=\w+(?:,\d+)*)")


@pytest.fixture(scope="module")
def plan():
    return load_planner("nnunet")(request_of(DATA))


def auto(fingerprint, **options):
    """Return a request, and the plan that answers it."""
    request = replace(request_of(fingerprint, **options), ram_bytes=8 * 10**9)
    return request, load_planner("auto")(request)


def test_a_plan_within_its_memory_has_no_finding(plan):
    needed = max(item.cost.memory_bytes for item in plan.configurations)
    assert memory_findings(plan, needed) == ()
    refuse_misfits(plan, plan, request_of(DATA))


def test_what_was_set_slightly_beyond_the_memory_is_told_with_a_remedy_that_is_enough():
    request, plan = auto(DATA)
    changed = apply_overrides(plan, ["3d_fullres.batch_size=60"])
    limit = int(changed.configuration("3d_fullres").cost.memory_bytes / 1.1)
    (finding,) = memory_findings(changed, limit)
    assert finding.severity == "warning"
    assert f"needs {1.1 * limit / 1e9:.1f} GB" in finding.found
    assert f"{limit / 1e9:.1f} GB" in finding.expected
    for word in WORD.findall(finding.remedy):
        assert memory_findings(apply_overrides(changed, [word]), limit) == ()
    small = replace(request, ram_bytes=limit)
    refuse_misfits(changed.revised(ram_bytes=limit), plan, small)
    less = small.ram_bytes * 10 // 12
    with pytest.raises(PlanError, match="of memory"):
        refuse_misfits(changed.revised(ram_bytes=less), plan, replace(small, ram_bytes=less))


@pytest.mark.parametrize(
    ("data", "setting", "words"),
    [
        (PICTURES, "2d.batch_size=100000", ["2d.batch_size="]),
        (PICTURES, "2d.patch_size=16384,16384", ["2d.patch_size="]),
        (
            PICTURES,
            "2d.patch_size=2048,2048",
            ["2d.training.recompute=true", "2d.batch_size=1", "2d.patch_size=1024,1024"],
        ),
        (DATA, "3d_fullres.batch_size=5000", ["3d_fullres.batch_size="]),
    ],
)
def test_what_cannot_fit_is_refused_with_remedies_that_are_enough(data, setting, words):
    request, plan = auto(data)
    changed = apply_overrides(plan, [setting])
    with pytest.raises(PlanError, match="of memory") as caught:
        refuse_misfits(changed, plan, request)
    assert "at most 8.0 GB" in caught.value.expected
    proposed = WORD.findall(caught.value.fix)
    assert len(proposed) == len(words)
    for word, start in zip(proposed, words, strict=True):
        assert word.startswith(start)
        key = setting.partition("=")[0]
        kept = [word] if word.startswith(key) else [setting, word]
        fitting = apply_overrides(plan, kept)
        refuse_misfits(fitting, plan, request)
        assert memory_findings(fitting, 8 * 10**9) == ()


def test_the_largest_batch_that_fits_is_proposed():
    request, plan = auto(PICTURES)
    with pytest.raises(PlanError) as caught:
        refuse_misfits(apply_overrides(plan, ["2d.batch_size=100000"]), plan, request)
    (word,) = WORD.findall(caught.value.fix)
    one_more = f"2d.batch_size={int(word.rpartition('=')[2]) + 1}"
    assert memory_findings(apply_overrides(plan, [one_more]), 8 * 10**9)


def test_more_memory_is_proposed_where_the_machine_has_it():
    request, plan = auto(DATA, memory_bytes=10**9)
    changed = apply_overrides(plan, ["3d_fullres.batch_size=40"])
    with pytest.raises(PlanError, match="needs 3") as caught:
        refuse_misfits(changed, plan, request)
    memory = int(caught.value.fix.partition("--memory ")[2].partition("MB")[0]) * 10**6
    refuse_misfits(changed, plan, replace(request, memory_bytes=memory))
    needed = changed.configuration("3d_fullres").cost.memory_bytes
    assert needed <= memory <= needed + 10**6


def test_the_memory_that_a_user_sets_holds():
    request, plan = auto(DATA)
    changed = apply_overrides(plan, ["memory_bytes=1000000000", "3d_fullres.batch_size=40"])
    with pytest.raises(PlanError, match="needs"):
        refuse_misfits(changed, plan, request)
    more = apply_overrides(plan, ["memory_bytes=1000000000000", "3d_fullres.batch_size=4000"])
    with pytest.raises(PlanError, match="needs"):
        refuse_misfits(more, plan, request)


def test_networks_that_a_planner_makes_larger_than_asked_are_kept():
    request = replace(request_of(DATA, memory_bytes=8 * 10**9), ram_bytes=64 * 10**9)
    plan = load_planner("resenc_m")(request)
    assert plan.configuration("3d_fullres").cost.memory_bytes > 1.2 * plan.memory_bytes
    refuse_misfits(plan, plan, request)
    small = plan.revised(ram_bytes=4 * 10**9)
    with pytest.raises(PlanError, match="2d with patches"):
        refuse_misfits(small, small, replace(request, ram_bytes=4 * 10**9))
    on_gpu = request_of(DATA, machine_of(Gpu(name="NVIDIA T4", memory_bytes=4 * 10**9)))
    made = load_planner("resenc_m")(on_gpu)
    refuse_misfits(made, made, on_gpu)
    larger = apply_overrides(made, ["3d_fullres.batch_size=500"])
    with pytest.raises(PlanError, match="500 at once"):
        refuse_misfits(larger, made, on_gpu)


def test_a_network_that_is_too_large_for_any_patch_is_to_have_fewer_features():
    request, plan = auto(PICTURES)
    wide = [f"2d.network.stages.{i}.features=60000" for i in range(3)]
    with pytest.raises(PlanError) as caught:
        refuse_misfits(apply_overrides(plan, wide), plan, request)
    assert "fewer features" in caught.value.fix


def test_a_configuration_that_is_not_trained_may_need_what_it_likes(plan):
    needed = plan.configuration("3d_fullres").cost.memory_bytes
    idle = plan.configuration("3d_fullres").revised(train_by_default=False)
    plan = plan.revised(memory_bytes=needed // 2, configurations=(idle,))
    assert memory_findings(plan, needed // 2) == ()
    plan = plan.revised(ram_bytes=needed // 2)
    refuse_misfits(plan, plan, replace(request_of(DATA), ram_bytes=needed // 2))


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


def test_beside_what_if_the_memory_is_written_as_there():
    with pytest.raises(PlanError) as caught:
        fitting_plan(load_planner("nnunet"), of_memory(24), as_pair)
    assert caught.value.fix == "give memory=500MB or more"


def test_a_patch_of_a_few_voxels_is_no_network_unless_the_image_is_as_small():
    plan = load_planner("nnunet")(of_memory(10**6)).revised(memory_bytes=10**9)
    assert not has_room(plan)
    tiny = fingerprint_of([(3, 4, 5)] * 20)
    assert has_room(load_planner("nnunet")(request_of(tiny)))
    assert not has_room(load_planner("nnunet")(request_of(tiny, memory_bytes=10**8)))
