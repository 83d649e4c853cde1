import pytest

from autoseg.train.readings import readings, waiting_share

LINES = [
    {"step": 5, "seconds": 30.0, "loss": 1.0, "lr": 0.01, "gradient_norm": None},
    {"step": 15, "seconds": 35.0, "loss": 0.5, "dice": 0.7, "class_dice": [0.7, None]},
    {"step": 25, "seconds": 37.0, "loss": 0.4, "waiting": 0.25},
]


def test_speeds_follow_from_two_lines():
    first, second, third = readings(LINES, batch_size=2)
    assert "patches_per_second" not in first.values, "its time has the measuring in it"
    assert second.values["step_seconds"] == 0.5
    assert second.values["patches_per_second"] == 4.0
    assert third.values["patches_per_second"] == 10.0


def test_what_a_line_does_not_say_is_left_out():
    first, second, third = readings(LINES, batch_size=2)
    assert first.values == {"loss": 1.0, "lr": 0.01}
    assert second.class_dice == (0.7, None)
    assert "waiting" not in second.values, "lines of earlier versions have none"
    assert (third.values["waiting"], third.class_dice) == (0.25, ())


def test_lines_without_step_or_time_break_nothing():
    found = readings([{"loss": 1.0}, {"step": 1}, {"step": 2, "seconds": 3.0}], batch_size=2)
    assert [(item.step, item.values) for item in found] == [(1, {}), (2, {})]


def test_a_log_that_went_back_has_no_speed_there():
    lines = [{"step": 20, "seconds": 9.0}, {"step": 10, "seconds": 12.0}]
    assert "step_seconds" not in readings(lines, batch_size=2)[1].values


def test_the_part_of_the_time_that_was_waited_is_weighted_by_time():
    lines = [
        {"step": 1, "seconds": 100.0, "waiting": 0.9},  # the machine was measured, too
        {"step": 2, "seconds": 101.0, "waiting": 0.5},
        {"step": 3},  # of an earlier version
        {"step": 4, "seconds": 104.0, "waiting": 0.1},
    ]
    assert waiting_share(lines) == pytest.approx((1 * 0.5 + 3 * 0.1) / 4)
    assert waiting_share(lines[:1]) == 0.9
    assert waiting_share([{"step": 1, "seconds": 1.0}]) is None
