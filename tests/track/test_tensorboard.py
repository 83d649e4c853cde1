import sys
from types import SimpleNamespace
from typing import ClassVar

import pytest

from autoseg.track.feed import feed
from autoseg.track.tensorboard import TensorBoard, open_tensorboard


class FakeWriter:
    """Keeps what is written, as TensorBoard shows it: nothing from `purge_step` on stays."""

    shown: ClassVar[dict] = {}

    def __init__(self, folder, purge_step):
        self.kept = self.shown.setdefault(folder, {})
        for key in [key for key in self.kept if key[1] >= purge_step]:
            del self.kept[key]
        self.is_closed = False

    def add_text(self, name, text, step, walltime):
        self.kept[name, step] = text

    def add_scalar(self, name, value, step, walltime=None):
        assert (name, step) not in self.kept, "a point is written twice"
        self.kept[name, step] = value

    def flush(self):
        pass

    def close(self):
        self.is_closed = True


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(FakeWriter, "shown", {})
    return FakeWriter.shown


def open_fake(place):
    return TensorBoard(FakeWriter, place.workspace.tensorboard)


def losses(shown):
    return [step for kept in shown.values() for name, step in kept if name == "loss"]


def test_each_fold_is_a_folder(place, shown):
    place.begin("1")
    place.log(1)
    place.log(1, fold="1")
    feed(place.workspace, open_fake(place))
    root = place.workspace.tensorboard / "3d_fullres"
    assert sorted(shown) == [str(root / "fold_0"), str(root / "fold_1")]


def test_another_process_goes_on_where_the_last_one_ended(place, shown):
    place.log(1, 2)
    feed(place.workspace, open_fake(place))
    place.log(3)
    assert feed(place.workspace, open_fake(place)) == 1
    assert losses(shown) == [1, 2, 3]


def test_points_that_were_written_but_not_marked_are_replaced(place, shown):
    place.log(1)
    feed(place.workspace, open_fake(place))
    mark = place.workspace.tensorboard / "3d_fullres/fold_0/autoseg.json"
    before = mark.read_text()
    place.log(2)
    feed(place.workspace, open_fake(place))
    mark.write_text(before)
    feed(place.workspace, open_fake(place))
    assert losses(shown) == [1, 2]


def test_a_fold_that_is_trained_anew_replaces_the_one_before(place, shown):
    place.log(1, 2, 3)
    feed(place.workspace, open_fake(place))
    for path in place.folder().root.iterdir():
        path.unlink()
    place.begin()
    place.log(1)
    feed(place.workspace, open_fake(place))
    assert losses(shown) == [1]


def test_the_outcome_stands_at_the_last_step(place, shown):
    place.log(10)
    place.end()
    feed(place.workspace, open_fake(place))
    (kept,) = shown.values()
    assert kept["result/dice", 10] == 0.8
    assert "| planner | test |" in kept["parameters", 0]


def test_a_named_folder_keeps_workspaces_apart(place, shown, tmp_path, monkeypatch):
    stand_in = SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    place.log(1)
    feed(place.workspace, open_tensorboard(place.workspace, str(tmp_path / "runs")))
    assert list(shown) == [str(tmp_path / "runs/balls/3d_fullres/fold_0")]


def test_closing_closes_the_files(place, shown):
    tracker = open_fake(place)
    place.log(1)
    feed(place.workspace, tracker)
    (writer,) = tracker._writers.values()
    tracker.close()
    assert writer.is_closed


def test_tensorboard_itself_reads_what_is_written(place):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    place.log(1, 2)
    for steps in ((3, 5), (10,)):
        tracker = open_tensorboard(place.workspace, "")
        feed(place.workspace, tracker)
        tracker.close()
        place.log(*steps)
    place.end()
    tracker = open_tensorboard(place.workspace, "")
    feed(place.workspace, tracker)
    tracker.close()
    folder = place.workspace.tensorboard / "3d_fullres/fold_0"
    found = accumulators.EventAccumulator(str(folder)).Reload()
    assert [item.step for item in found.Scalars("loss")] == [1, 2, 3, 5, 10]
    assert [item.value for item in found.Scalars("class_dice/ball")] == [0.5, 0.5]
    assert found.Scalars("result/dice")[0].value == pytest.approx(0.8)
