import pytest

from autoseg.errors import AutosegError
from autoseg.pipeline.comparing import compare_plans, load_other
from autoseg.plan.expectation import expected_accuracy, planned_steps
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.registry import load_planner
from autoseg.testing.fingerprints import fingerprint_of, request_of
from autoseg.workspace import write_text

VOLUMES = fingerprint_of([(36, 50, 35)] * 20)


@pytest.fixture(scope="module")
def auto():
    return load_planner("auto")(request_of(VOLUMES, budget_s=1200.0))


def rows(first, second):
    return {row.name: row for row in compare_plans(first, second).differences}


def test_a_plan_does_not_differ_from_itself(auto):
    found = compare_plans(auto, auto)
    assert (found.differences, found.keys) == ((), {})


def test_patch_batch_loss_and_cost_stand_side_by_side_with_their_reasons(auto):
    settings = ["3d_fullres.batch_size=4", "3d_fullres.loss=focal", "num_threads=1"]
    found = compare_plans(auto, apply_overrides(auto, settings))
    by_name = {row.name: row for row in found.differences}
    batch = by_name["3d_fullres.batch_size"]
    assert (batch.first, batch.second) == ("2", "4")
    assert (batch.first_reason.endswith("."), batch.second_reason) == (True, "Set by the user.")
    assert by_name["3d_fullres.loss"].second == "focal"
    assert {"3d_fullres.a step", "3d_fullres.expected memory"} <= set(by_name)
    assert "3d_fullres.patch_size" not in by_name
    assert found.keys["num_threads"] == ("2", "1")


def test_the_accuracy_of_both_stands_with_their_steps(auto):
    changed = apply_overrides(auto, ["3d_fullres.batch_size=40"])
    row = rows(auto, changed)["3d_fullres.accuracy"]
    assert row.first != row.second
    for plan, told in ((auto, row.first), (changed, row.second)):
        item = plan.configuration("3d_fullres")
        steps = planned_steps(plan, item)
        assert told == f"{expected_accuracy(item, steps).accuracy}, {steps:,.0f} steps"


def test_what_is_not_trained_has_neither_a_time_nor_an_accuracy(auto):
    assert not auto.configuration("2d").train_by_default
    both = apply_overrides(auto, ["2d.train_by_default=true"])
    found = rows(auto, both)
    assert found["2d.a fold"].first == found["2d.accuracy"].first == "–"  # noqa: RUF001 (a dash)
    assert found["2d.a fold"].second != "–"  # noqa: RUF001 (a dash)


def test_a_budget_that_a_planner_takes_by_itself_is_told_with_its_length():
    nnunet = load_planner("nnunet")(request_of(VOLUMES))
    found = rows(load_planner("auto")(request_of(VOLUMES)), nnunet)
    assert (found["budget"].first, found["budget"].second) == (
        "2 h 00 min, the default",
        "250,000 steps a fold",
    )


def test_settings_of_a_configuration_that_one_plan_has_are_not_counted(auto):
    fewer = auto.revised(configurations=auto.configurations[1:])
    found = compare_plans(auto, fewer)
    assert found.keys
    assert found.shared_keys == 0
    changed = compare_plans(auto, apply_overrides(auto, ["num_threads=1", "2d.batch_size=4"]))
    assert set(changed.keys) == {"num_threads", "2d.batch_size"}
    assert changed.shared_keys == 2


def test_another_planner_differs_in_configurations_too(auto):
    other = load_planner("nnunet")(request_of(VOLUMES, budget_s=1200.0))
    found = rows(auto, other)
    assert (found["planner"].first, found["planner"].second) == ("auto", "nnunet")
    assert found["3d_fullres.network"].second.startswith("plain, 4 stages, 32 to 256 features")
    fewer = auto.revised(configurations=auto.configurations[1:])
    assert rows(auto, fewer)["2d.parameters"].second == "–"  # noqa: RUF001 (a dash)


def test_networks_that_look_the_same_but_are_not_are_told(auto):
    changed = apply_overrides(auto, ["3d_fullres.network.stages.1.kernel_size=1,3,3"])
    row = rows(auto, changed)["3d_fullres.network"]
    assert row.second == f"{row.first}, other kernels or strides"


def test_plans_for_other_data_say_so(auto):
    other = load_planner("auto")(request_of(fingerprint_of([(36, 50, 36)] * 20)))
    assert "data" in rows(auto, other)


def test_the_other_plan_is_a_file_or_in_a_workspace(auto, tmp_path):
    write_text(tmp_path / "w" / "plan.json", auto.to_json())
    assert load_other(tmp_path / "w") == load_other(tmp_path / "w" / "plan.json") == auto
    with pytest.raises(AutosegError, match="no folder"):
        load_other(tmp_path / "gone")
