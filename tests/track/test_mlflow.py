from dataclasses import replace
from types import SimpleNamespace

import pytest

from autoseg.track.feed import feed
from autoseg.track.mlflow import BATCH, Mlflow, open_mlflow


class FakeEntities:
    @staticmethod
    def Metric(key, value, timestamp, step):
        assert isinstance(timestamp, int)
        return key, step, value

    @staticmethod
    def Param(key, value):
        return key, value

    RunTag = Param


class FakeServer:
    """What MLflow keeps, and the calls of its client that are used."""

    def __init__(self):
        self.experiments = {}
        self.runs = {}
        self.most_at_once = 0

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id=f"id of {name}")
        return f"id of {name}"

    def create_run(self, experiment_id, run_name, start_time, tags):
        run_id = f"run {len(self.runs)}"
        info = SimpleNamespace(run_id=run_id, status="RUNNING", name=run_name)
        data = SimpleNamespace(tags=dict(tags), params={}, metrics=[])
        self.runs[run_id] = SimpleNamespace(info=info, data=data)
        return self.runs[run_id]

    def search_runs(self, experiment_ids, query, max_results):
        wanted = query.split("'")[1]
        assert query.startswith("tags.`autoseg.run` = ")
        return [run for run in self.runs.values() if run.data.tags["autoseg.run"] == wanted]

    def log_batch(self, run_id, metrics, params, tags):
        self.most_at_once = max(self.most_at_once, len(metrics))
        data = self.runs[run_id].data
        data.metrics += metrics
        data.params |= dict(params)
        data.tags |= dict(tags)

    def update_run(self, run_id, status):
        self.runs[run_id].info.status = status

    set_terminated = update_run

    def steps(self):
        found = [run.data.metrics for run in self.runs.values()]
        return [step for metrics in found for key, step, _ in metrics if key == "loss"]


@pytest.fixture
def server():
    return FakeServer()


def connect(server):
    return Mlflow(server, FakeEntities, "balls")


def test_a_fold_is_a_run_of_the_workspaces_experiment(place, server):
    place.log(1)
    feed(place.workspace, connect(server))
    (run,) = server.runs.values()
    assert list(server.experiments) == ["balls"]
    assert run.info.name == "3d_fullres fold 0"
    assert run.data.params["plan"] == place.plan.digest()
    assert ("loss", 1, 1.0) in run.data.metrics


def test_another_process_goes_on_with_the_same_run(place, server):
    place.log(1, 2)
    tracker = connect(server)
    feed(place.workspace, tracker)
    tracker.close()
    (run,) = server.runs.values()
    assert run.info.status == "KILLED"
    place.log(3)
    feed(place.workspace, connect(server))
    assert run.info.status == "RUNNING"
    assert len(server.runs) == 1
    assert server.steps() == [1, 2, 3]


def test_a_finished_fold_is_a_finished_run_with_its_scores(place, server):
    place.log(10)
    place.end()
    tracker = connect(server)
    feed(place.workspace, tracker)
    tracker.close()
    feed(place.workspace, connect(server))
    (run,) = server.runs.values()
    assert run.info.status == "FINISHED"
    assert [item for item in run.data.metrics if item[0] == "result/dice"] == [
        ("result/dice", 10, 0.8)
    ]


def test_a_run_that_breaks_off_between_batches_goes_on_there(place, server, monkeypatch):
    place.log(*range(1, 401))
    log_batch = server.log_batch

    def broken(run_id, metrics, params, tags):
        if server.steps():
            raise ConnectionError("no answer")
        log_batch(run_id, metrics, params, tags)

    server.log_batch = broken
    tracker = connect(server)
    with pytest.raises(ConnectionError):
        feed(place.workspace, tracker)
    assert 0 < len(server.steps()) < 400
    server.log_batch = log_batch
    feed(place.workspace, tracker)
    assert server.steps() == list(range(1, 401))
    assert server.most_at_once <= BATCH


def test_names_that_mlflow_refuses_are_changed(place, server):
    labels = replace(place.plan.labels, names=("background", "ball (left)"))
    place.plan = place.plan.revised(labels=labels)
    place.workspace.plan.write_text(place.plan.to_json())
    place.begin()
    place.log(5)
    feed(place.workspace, connect(server))
    (run,) = server.runs.values()
    assert "class_dice/ball _left_" in [key for key, _, _ in run.data.metrics]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's of its own database
def test_mlflow_itself_keeps_what_is_logged(place, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    place.log(1, 2)
    for steps in ((3, 5), (10,)):
        feed(place.workspace, open_mlflow(place.workspace, uri))
        place.log(*steps)
    place.end()
    feed(place.workspace, open_mlflow(place.workspace, uri))
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("balls").experiment_id
    (run,) = client.search_runs([experiment])
    found = client.get_metric_history(run.info.run_id, "loss")
    assert [item.step for item in found] == [1, 2, 3, 5, 10]
    assert run.data.metrics["result/dice"] == 0.8
    assert run.info.status == "FINISHED"
