"""MLflow: the only place that knows it.

An experiment a workspace, a run a fold; tags of the run say which training it is of, and how much
of it it has.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, final

from autoseg.track.tracker import Fed, News, Point, Run, load_package
from autoseg.workspace import Workspace

RUN_TAG, STEP_TAG, OUTCOME_TAG = "autoseg.run", "autoseg.step", "autoseg.outcome"
BATCH = 1000
"""Metrics that MLflow takes at once."""
UNSUITABLE = re.compile(r"[^/\w.\- ]")
"""Characters that names of metrics may not have."""


def open_mlflow(workspace: Workspace, place: str) -> "Mlflow":
    """Return MLflow at a URI; where none is given, at the one that MLflow is set up for.

    Raises
    ------
    AutosegError
        The package is missing.
    """
    package = load_package("mlflow", "mlflow")
    client = package.MlflowClient(tracking_uri=place or None)
    return Mlflow(client, package.entities, workspace.root.stem)


@final
class Mlflow:
    """Runs on an MLflow server or in a database.

    Parameters
    ----------
    client
        A `MlflowClient`.
    entities
        The module `mlflow.entities`.
    experiment
        Name of the experiment.
    """

    def __init__(self, client: Any, entities: Any, experiment: str) -> None:  # noqa: ANN401
        self._client, self._entities = client, entities
        self._experiment = experiment
        self._ids: dict[str, str] = {}
        """MLflow's name of each run."""
        self._fed: dict[str, Fed] = {}

    def fed(self, run: Run) -> Fed:
        """Return what a run has; it is found again by its tag, and goes on."""
        if run.id not in self._ids:
            found = self._find(run) or self._create(run)
            tags = found.data.tags
            self._fed[run.id] = Fed(
                run=run.id,
                step=int(tags.get(STEP_TAG, 0)),
                outcome=tags.get(OUTCOME_TAG, ""),
            )
            self._ids[run.id] = found.info.run_id
        return self._fed[run.id]

    def tell(self, run: Run, news: News) -> None:
        """Log points, each batch together with the mark that says how far it goes."""
        mlflow_id, fed = self._ids[run.id], self.fed(run)
        if fed.step == 0:
            self._log(mlflow_id, params=run.parameters)
        for points in _batches(news.points):
            metrics = [item for point in points for item in self._metrics(run, point)]
            fed = fed.revised(step=points[-1].step)
            self._log(mlflow_id, metrics=metrics, tags={STEP_TAG: str(fed.step)})
            self._fed[run.id] = fed
        if news.outcome:
            last = Point(step=fed.step, seconds=time.time() - run.started_s, values=news.outcome)
            tags = {OUTCOME_TAG: news.fed.outcome}
            self._log(mlflow_id, metrics=self._metrics(run, last), tags=tags)
            self._client.set_terminated(mlflow_id, "FINISHED")
        self._fed[run.id] = news.fed

    def close(self) -> None:
        """Say of runs without an outcome that they were stopped."""
        for run_id, mlflow_id in self._ids.items():
            if not self._fed[run_id].outcome:
                self._client.set_terminated(mlflow_id, "KILLED")

    def _find(self, run: Run) -> Any:  # noqa: ANN401
        """Return the run of a training, which now goes on; None where there is none."""
        query = f"tags.`{RUN_TAG}` = '{run.id}'"
        found = self._client.search_runs([self._experiment_id()], query, max_results=1)
        if not found:
            return None
        if OUTCOME_TAG not in found[0].data.tags:
            self._client.update_run(found[0].info.run_id, status="RUNNING")
        return found[0]

    def _create(self, run: Run) -> Any:  # noqa: ANN401
        return self._client.create_run(
            self._experiment_id(),
            run_name=f"{run.configuration} fold {run.fold}",
            start_time=round(1000 * run.started_s),
            tags={RUN_TAG: run.id},
        )

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is None:
            return self._client.create_experiment(self._experiment)
        return found.experiment_id

    def _metrics(self, run: Run, point: Point) -> list[Any]:
        time_ms = round(1000 * (run.started_s + point.seconds))
        return [
            self._entities.Metric(UNSUITABLE.sub("_", name), value, time_ms, point.step)
            for name, value in point.values.items()
        ]

    def _log(
        self,
        mlflow_id: str,
        metrics: list[Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._client.log_batch(
            mlflow_id,
            metrics=metrics or [],
            params=[self._entities.Param(*item) for item in (params or {}).items()],
            tags=[self._entities.RunTag(*item) for item in (tags or {}).items()],
        )


def _batches(points: tuple[Point, ...]) -> list[list[Point]]:
    """Return points in groups that MLflow takes at once, each point whole."""
    groups: list[list[Point]] = []
    size = BATCH
    for point in points:
        if size + len(point.values) > BATCH:
            groups.append([])
            size = 0
        groups[-1].append(point)
        size += len(point.values)
    return groups
