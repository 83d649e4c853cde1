from types import SimpleNamespace

import pytest

from autoseg.errors import TrainingError
from autoseg.record import autoseg_version
from autoseg.train.shared_path import check_nodes, what_is_missing


class Cluster:
    """Stands in for Ray: each node sees files as its function says."""

    def __init__(self, **nodes):
        self._nodes = nodes
        affinity = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node_id, soft: node_id)
        self.util = SimpleNamespace(scheduling_strategies=affinity)
        self.api = self

    def nodes(self):
        return [
            {"NodeID": name, "NodeManagerHostname": name, "Alive": True, "Resources": {"CPU": 2}}
            for name in self._nodes
        ]

    def remote(self, scheduling_strategy, **_):
        ask = self._nodes[scheduling_strategy]
        return lambda function: SimpleNamespace(remote=lambda *given: ask(function, *given))

    def get(self, answer, timeout):
        assert timeout > 0
        return answer

    @property
    def is_alive(self):
        return True

    def check(self):
        pass


def sees_all(function, *given):
    return function(*given)


def elsewhere(function, path, *given):
    return function(path.with_name("elsewhere"), *given)


def cannot(*_):
    raise ModuleNotFoundError("No module named 'autoseg'")


def test_nodes_that_see_the_workspace_may_train_and_nothing_is_left(make_job):
    job = make_job()
    check_nodes(Cluster(first=sees_all, second=sees_all), [job])
    assert not list(job.root.glob(".seen-*"))


@pytest.mark.parametrize(
    ("node", "found"), [(elsewhere, "node second has not the workspace"), (cannot, "No module")]
)
def test_the_node_that_cannot_train_is_named_before_anything_starts(make_job, node, found):
    job = make_job()
    with pytest.raises(TrainingError, match=found):
        check_nodes(Cluster(first=sees_all, second=node), [job])
    assert not list(job.root.glob(".seen-*"))


def test_another_version_and_a_missing_data_set_are_told(tmp_path):
    path = tmp_path / "token"
    path.write_text("t")
    version = autoseg_version()
    assert what_is_missing(path, "t", tmp_path, version) is None
    for given, told in (
        ((path, "t", tmp_path, "0.0.0"), "not 0.0.0"),
        ((path, "other", tmp_path, version), "workspace"),
        ((path, "t", tmp_path / "gone", version), "data set"),
    ):
        missing = what_is_missing(*given)
        assert missing is not None
        assert told in missing[0]
