import pytest

from autoseg.ensemble.postprocessing import PostprocessingChoice
from autoseg.errors import AutosegError
from autoseg.track.feed import feed
from autoseg.workspace import write_text


def test_every_line_is_fed_once(place, tracker):
    place.log(1, 2)
    assert feed(place.workspace, tracker) == 2
    assert feed(place.workspace, tracker) == 0
    place.log(3)
    assert feed(place.workspace, tracker) == 1
    assert tracker.steps() == [1, 2, 3]


def test_a_resumed_run_that_repeats_steps_gives_no_point_twice(place, tracker):
    place.log(1, 2, 3)
    feed(place.workspace, tracker)
    place.folder().metrics.unlink()
    place.log(1, 2)
    assert feed(place.workspace, tracker) == 0
    place.log(3, 4)
    feed(place.workspace, tracker)
    assert tracker.steps() == [1, 2, 3, 4]
    assert len(tracker.runs) == 1


def test_points_have_what_the_log_says_and_how_fast_it_was(place, tracker):
    place.log(4, 5)
    feed(place.workspace, tracker)
    ((_, point),) = tracker.points.values()
    batch_size = place.plan.configurations[0].batch_size
    assert dict(point.values) == {
        "loss": 0.2,
        "lr": 0.1,
        "dice": 0.5,
        "waiting": 0.5,
        "class_dice/ball": 0.5,
        "step_seconds": 1.0,
        "patches_per_second": batch_size,
    }


def test_runs_say_what_they_are(place, tracker):
    asked = []
    place.log(1)
    tell = tracker.tell
    tracker.tell = lambda run, news: (asked.append(run), tell(run, news))
    feed(place.workspace, tracker)
    parameters = asked[0].parameters
    assert asked[0].workspace == "balls"
    assert parameters["plan"] == place.plan.digest()
    wanted = {"planner": "test", "configuration": "3d_fullres", "fold": "0", "seed": "0"}
    assert wanted.items() <= parameters.items()


def test_folds_are_runs_of_their_own(place, tracker):
    place.begin("1")
    place.log(1, 2)
    place.log(1, fold="1")
    feed(place.workspace, tracker)
    assert sorted(len(points) for points in tracker.points.values()) == [1, 2]


def test_a_fold_that_is_trained_anew_is_a_new_run(place, tracker):
    place.log(1)
    feed(place.workspace, tracker)
    for path in place.folder().root.iterdir():
        path.unlink()
    place.begin()
    place.log(1)
    feed(place.workspace, tracker)
    assert tracker.steps() == [1, 1]
    assert len(tracker.runs) == 2


def test_folds_of_another_plan_are_left_out(place, tracker):
    place.begin("1", plan_digest="another")
    place.log(1, fold="1")
    feed(place.workspace, tracker)
    assert tracker.steps() == []


def test_a_result_is_told_once_and_again_when_the_configuration_has_its_own(place, tracker):
    place.log(10)
    place.end()
    feed(place.workspace, tracker)
    feed(place.workspace, tracker)
    ((first,),) = tracker.outcomes.values()
    assert first["result/dice"] == first["result/class_dice/ball"] == 0.8
    assert first["result/steps"] == 10
    assert "result/dice_cross_fitted" not in first
    write_text(place.workspace.postprocessing, choice(place, 0.85).to_json())
    feed(place.workspace, tracker)
    ((_, second),) = tracker.outcomes.values()
    assert second["result/dice_cross_fitted"] == 0.85


def choice(place, dice):
    return PostprocessingChoice(
        autoseg_version="0",
        plan_digest=place.plan.digest(),
        configuration="3d_fullres",
        steps=(),
        num_cases=1,
        trials=(),
        dice=0.8,
        dice_in_sample=0.9,
        dice_cross_fitted=dice,
        cross_fitting="folds",
        class_dice=(0.8,),
        class_dice_in_sample=(0.9,),
        class_dice_cross_fitted=(dice,),
        reason="",
    )


def test_a_class_without_cases_has_no_score(place, tracker):
    place.end(dice=None)
    feed(place.workspace, tracker)
    ((outcome,),) = tracker.outcomes.values()
    assert "result/dice" not in outcome
    assert "result/class_dice/ball" not in outcome


def test_what_fails_is_fed_again_later(place, tracker):
    place.log(1, 2)
    tracker.failure = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        feed(place.workspace, tracker)
    tracker.failure = None
    assert feed(place.workspace, tracker) == 2


def test_a_workspace_without_plan_has_nothing_to_feed(place, tracker):
    place.workspace.plan.unlink()
    assert feed(place.workspace, tracker) == 0


def test_damaged_settings_are_named(place, tracker):
    place.folder().settings.write_text("{")
    with pytest.raises(AutosegError, match=r"settings\.json"):
        feed(place.workspace, tracker)
