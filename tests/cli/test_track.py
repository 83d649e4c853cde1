"""`autoseg track`, and training that is followed."""

import json
from contextlib import contextmanager

import pytest

from autoseg.cli.main import main
from autoseg.track import follow, targets


@pytest.fixture
def fed(monkeypatch):
    """What was asked to be fed; no tracker is opened."""
    asked = []

    def feed(workspace, tracker):
        asked.append(tracker.name)
        return 3

    class Named:
        def __init__(self, name):
            self.name = name

        def close(self):
            pass

    openers = {
        name: lambda _, place, name=name: Named((name, place)) for name in ("tensorboard", "mlflow")
    }
    monkeypatch.setattr(targets, "TRACKERS", openers)
    monkeypatch.setattr(targets, "feed", feed)
    return asked


def test_a_workspace_is_fed_to_tensorboard_unless_something_else_is_named(
    scored_place, fed, capsys
):
    assert main(["track", "-w", str(scored_place.root)]) == 0
    assert fed == [("tensorboard", "")]
    assert capsys.readouterr().out == "tensorboard: 3 new points\n"


def test_programs_get_the_number_of_points(scored_place, fed, capsys):
    command = ["track", "-w", str(scored_place.root), "--json"]
    assert main([*command, "--to", "mlflow=http://a", "--to", "tensorboard=b"]) == 0
    assert json.loads(capsys.readouterr().out)["points"] == {
        "mlflow=http://a": 3,
        "tensorboard=b": 3,
    }


def test_an_unknown_tracker_is_refused(scored_place, capsys):
    assert main(["track", "-w", str(scored_place.root), "--to", "wandb"]) == 2
    assert "tensorboard=FOLDER" in capsys.readouterr().err


def test_training_is_followed_by_the_trackers_that_are_asked_for(
    scored_place, fed, monkeypatch, capsys
):
    from autoseg.cli import display
    from autoseg.pipeline import summary, training

    seen = []

    @contextmanager
    def followed(workspace, trackers, warn):
        seen.append(list(trackers))
        yield
        warn("a warning")

    monkeypatch.setattr(follow, "followed", followed)
    monkeypatch.setattr(training, "train_model", lambda *_: seen.append("trained"))
    monkeypatch.setattr(summary, "summarise_run", lambda _: {})
    monkeypatch.setattr(display, "print_summary", lambda _: None)
    command = ["train", "-w", str(scored_place.root), "--track", "tensorboard=b"]
    assert main([*command, "--track", "mlflow"]) == 0
    assert seen == [["tensorboard=b", "mlflow"], "trained"]
    assert "a warning" in capsys.readouterr().err


def test_a_tracker_that_is_not_there_stops_before_training(scored_place, monkeypatch):
    from autoseg.pipeline import training

    monkeypatch.setattr(training, "train_model", lambda *_: pytest.fail("trained"))
    assert main(["train", "-w", str(scored_place.root), "--track", "tensorbord"]) == 2
