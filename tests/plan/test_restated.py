import pytest

from autoseg.plan.expectation import expected_accuracy, planned_steps
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.plan.restated import BEFORE, BY_USER
from autoseg.testing.fingerprints import fingerprint_of, request_of

VOLUMES = fingerprint_of([(36, 50, 35)] * 200)


@pytest.fixture(scope="module")
def plan():
    return load_planner("auto")(request_of(VOLUMES, budget_s=3600.0))


def decided(plan):
    return {item.name: item for item in plan.decisions}


def test_a_larger_batch_tells_the_accuracy_and_the_steps_that_are_left(plan):
    changed = apply_overrides(plan, ["3d_fullres.batch_size=20"])
    item, told = changed.configuration("3d_fullres"), decided(changed)
    steps = planned_steps(changed, item)
    assert steps < planned_steps(plan, plan.configuration("3d_fullres")) / 5
    accuracy = told["3d_fullres.accuracy"]
    assert accuracy.inputs["steps"] == str(int(steps))
    assert accuracy.value == expected_accuracy(item, steps).accuracy
    network = told["3d_fullres.network"]
    assert int(network.inputs["steps"]) == int(item.cost.train_seconds / item.cost.step_seconds)
    assert network.inputs["step"] == f"{item.cost.step_seconds:.2g} s"
    assert network.reason.endswith(BEFORE)


def test_no_number_of_the_plan_before_is_left_where_steps_changed(plan):
    before = decided(plan)
    stale = before["3d_fullres.network"].inputs["steps"]
    changed = apply_overrides(plan, ["3d_fullres.batch_size=20"])
    texts = [text for item in changed.decisions for text in item.inputs.values()]
    assert stale in before["3d_fullres.accuracy"].inputs.values()
    assert stale not in texts
    assert "passes" not in decided(changed)["3d_fullres.regularisation"].inputs


def test_what_costs_nothing_leaves_all_reasons_as_they_are(plan):
    changed = apply_overrides(plan, ["nsd_tolerance=2.0"])
    told = decided(changed)
    assert told.pop("nsd_tolerance").reason == BY_USER
    assert told == decided(plan)


def test_a_wider_network_is_told_with_its_width(plan):
    changed = apply_overrides(plan, ["3d_fullres.network.stages.0.features=32"])
    assert decided(changed)["3d_fullres.network"].value == "4 stages, 32 to 128 features"


def test_other_hours_are_divided_again(plan):
    changed = apply_overrides(plan, ["budget_s=36000.0"])
    time = decided(changed)["time of a fold"]
    item = changed.configuration("3d_fullres")
    assert item.cost.train_seconds == pytest.approx((36000 * 0.92 - 30) / 5)
    assert (time.value, time.inputs["budget"]) == ("110 min", "10 h 00 min")
    assert "default" not in time.reason
    other = apply_overrides(plan, ["2d.train_by_default=true"])
    half = other.configuration("2d").cost.train_seconds
    assert half == other.configuration("3d_fullres").cost.train_seconds
    assert half == pytest.approx((3600 * 0.92 - 30) / 10)
    assert other.configuration("2d").why == BY_USER
    assert "2d.accuracy" in decided(other)


@pytest.mark.parametrize(
    ("assignment", "name"),
    [
        ("3d_fullres.training.foreground_fraction=0.8", "oversampling"),
        ("3d_fullres.loss=focal", "loss"),
        ("3d_fullres.training.optimizer=sgd", "optimiser"),
        ("3d_fullres.recipe.overlap=0.2", "tile overlap"),
        ("3d_fullres.training.weight_decay=0.5", "3d_fullres.regularisation"),
        ("memory_bytes=9000000000", "memory"),
    ],
)
def test_what_a_user_decides_otherwise_is_not_said_to_be_the_rules(plan, assignment, name):
    assert name in decided(plan)
    assert name not in decided(apply_overrides(plan, [assignment]))


def test_setting_twice_in_turn_is_the_same_as_at_once(plan):
    settings = ["3d_fullres.batch_size=20", "3d_fullres.training.peak_lr=0.001"]
    once = apply_overrides(plan, settings)
    twice = apply_overrides(apply_overrides(plan, settings[:1]), settings[1:])
    assert decided(once)["3d_fullres.accuracy"] == decided(twice)["3d_fullres.accuracy"]
    assert decided(once)["3d_fullres.network"] == decided(twice)["3d_fullres.network"]
