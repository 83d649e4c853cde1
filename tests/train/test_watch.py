"""Which look a fold takes for its best one."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from torch import nn

from autoseg.train.job import Listeners
from autoseg.train.lines import read_lines
from autoseg.train.validation import Seen
from autoseg.train.watch import CollapseError, Watch
from autoseg.workspace import append_line, write_text


@pytest.fixture
def listeners():
    return Listeners(lambda _: None, lambda: False)


def looks(watch, *dice):
    return [watch.look(Seen(item), nn.Identity(), step=1, progress=0.1) for item in dice]


@pytest.fixture
def job(make_job):
    """A job with two classes to find; it is not trained."""
    made = make_job()
    labels = replace(made.plan.labels, names=("background", "a", "b"), values=(0, 1, 2))
    return replace(made, plan=made.plan.model_copy(update={"labels": labels}))


def test_a_look_is_the_best_by_its_mean_not_against_the_best_of_each_class(job, listeners):
    found = looks(Watch(job, listeners), [0.5, 0.1], [0.3, 0.6], [0.52, 0.56], [0.5, 0.5])
    assert found == [True, True, True, False]


def test_a_resumed_run_knows_its_best_look(job, listeners):
    for dice in ([0.5, 0.1], [0.3, 0.6]):
        line = {"step": 1, "dice": sum(dice) / 2, "class_dice": dice}
        append_line(job.folder.metrics, line)
    assert looks(Watch(job, listeners), [0.4, 0.4], [0.52, 0.56]) == [False, True]


def troubles(job):
    return [line["kind"] for line in read_lines(job.folder.events) if line["event"] == "trouble"]


@pytest.mark.parametrize(("progress", "told"), [(0.4, []), (0.6, ["constant output"])])
def test_one_class_everywhere_is_told_late_in_a_run(job, listeners, progress, told):
    """Early, a network that has hardly begun looks like that, too."""
    Watch(job, listeners).look(Seen([0.4, 0.0], 1), nn.Identity(), step=9, progress=progress)
    assert troubles(job) == told


@pytest.mark.parametrize(("dice", "collapsed"), [(0.4, True), (0.55, False)])
def test_one_class_everywhere_is_a_collapse_where_it_was_better(job, listeners, dice, collapsed):
    watch = Watch(job, listeners)
    looks(watch, [0.6, 0.6])
    write_text(job.folder.best, "weights")
    expected = pytest.raises(CollapseError, match="nearly every voxel is given class a")
    with expected if collapsed else nullcontext():
        watch.look(Seen([dice, dice], 1), nn.Identity(), step=2, progress=0.2)
