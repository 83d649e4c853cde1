import pytest

from autoseg.plan.fits import memory_findings
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, request_of


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
