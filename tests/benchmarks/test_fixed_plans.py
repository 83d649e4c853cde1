import pytest

from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.plan.search_space import assignments
from autoseg.testing.fingerprints import fingerprint_of, request_of
from benchmarks.fixed_plans import AUTO, BATCH, fixed, names, trained, verdict

SHAPES = {2: (1, 512, 512), 3: (35, 50, 35)}


@pytest.mark.parametrize("dims", SHAPES)
def test_every_fixed_plan_can_be_made_with_settings(dims):
    plan = load_planner("auto")(request_of(fingerprint_of([SHAPES[dims]] * 20)))
    item = trained(plan)
    for width, patch in names(dims).values():
        other = fixed(item, width, patch)
        made = trained(apply_overrides(plan, assignments(item, other)))
        assert made.network.stages[0].features == width
        assert made.patch_size == other.patch_size >= patch
        assert made.batch_size == BATCH[dims]


def test_the_verdict_compares_with_the_best_and_the_median():
    found = {AUTO: 0.8, "a": 0.81, "b": 0.5, "c": 0.7}
    assert verdict(found) == (
        "auto 0.8000: -0.0100 to the best of 3 fixed plans, +0.1000 to their median"
    )
