import sys

import pytest

from autoseg.errors import AutosegError
from autoseg.track import targets
from autoseg.track.targets import feed_all, open_trackers


@pytest.fixture
def fakes(tracker, monkeypatch):
    """Where trackers were opened; all are the stand-in."""
    opened = []

    def opens(name):
        return lambda workspace, place: (opened.append((name, place)), tracker)[1]

    monkeypatch.setattr(
        targets, "TRACKERS", {name: opens(name) for name in ("tensorboard", "mlflow")}
    )
    return opened


def test_each_target_is_opened_once_where_it_is(place, fakes):
    asked = ("tensorboard", "mlflow=http://a:1/?b=c", "tensorboard")
    assert list(open_trackers(place.workspace, asked)) == ["tensorboard", asked[1]]
    assert fakes == [("tensorboard", ""), ("mlflow", "http://a:1/?b=c")]


def test_an_unknown_tracker_is_refused_before_any_is_opened(place, fakes):
    with pytest.raises(AutosegError, match="did you mean 'tensorboard'"):
        open_trackers(place.workspace, ("mlflow", "tensorbord=x"))
    assert fakes == []


@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")]
)
def test_a_missing_package_is_an_error_that_names_the_extra(place, name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AutosegError) as caught:
        open_trackers(place.workspace, (name,))
    assert caught.value.fix.startswith(f"pip install 'autoseg-unet[{name}]'")


def test_a_finished_workspace_is_fed(place, fakes, tracker):
    place.log(1, 2)
    assert feed_all(place.workspace, ("mlflow",)) == {"mlflow": 2}
    assert feed_all(place.workspace, ("mlflow",)) == {"mlflow": 0}
    assert tracker.is_closed


def test_a_tracker_that_does_not_answer_is_an_error(place, fakes, tracker):
    tracker.failure = ConnectionError("no answer")
    with pytest.raises(AutosegError, match="mlflow cannot be fed: no answer"):
        feed_all(place.workspace, ("mlflow",))
