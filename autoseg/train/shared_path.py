"""Whether every node of a cluster sees the workspace and the data set where we see them.

Ray comes in as an object; this module imports nothing of it.
"""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from autoseg.errors import TrainingError
from autoseg.record import autoseg_version
from autoseg.train.crew import Connection
from autoseg.train.job import FoldJob
from autoseg.workspace import write_text

ANSWER_S = 120.0
"""A node that has to start a process first answers within seconds."""


def check_nodes(ray: Connection, jobs: Sequence[FoldJob]) -> None:
    """Refuse a cluster with a node that could not train: it would fail in the middle of the night.

    Raises
    ------
    TrainingError
        A node does not see a file that was just written, or the data set, runs another autoseg, or
        does not answer.
    """
    token = uuid4().hex
    path = jobs[0].root.absolute() / f".seen-{token}"
    write_text(path, token)
    try:
        for node in ray.api.nodes():
            if node["Alive"] and node["Resources"].get("CPU", 0) > 0:
                _check_node(ray, node, path, jobs[0].dataset.root)
    finally:
        path.unlink(missing_ok=True)


def what_is_missing(path: Path, token: str, data: Path, version: str) -> tuple[str, str] | None:
    """Return what a node does not have and what helps; None if it can train. Runs on the node."""
    if autoseg_version() != version:
        return (
            f"autoseg {autoseg_version()}, not {version}",
            "install the same version on every node",
        )
    if not path.is_file() or path.read_text(encoding="utf-8") != token:
        return (
            f"not the workspace {path.parent}",
            "put the workspace on a drive that all nodes mount under the same path, and give that "
            "path to --workspace",
        )
    if not data.is_dir():
        return (
            f"not the data set {data}",
            "put the data set on a drive that all nodes mount under the same path, and plan again "
            "from there",
        )
    return None


def _check_node(ray: Connection, node: dict, path: Path, data: Path) -> None:
    api, name = ray.api, node.get("NodeManagerHostname", node["NodeID"][:8])
    here = api.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        node_id=node["NodeID"], soft=False
    )
    asked = api.remote(num_cpus=0, scheduling_strategy=here, max_retries=0)(what_is_missing)
    token = path.name.removeprefix(".seen-")
    try:
        missing = api.get(
            asked.remote(path, token, data.absolute(), autoseg_version()), timeout=ANSWER_S
        )
    except Exception as error:  # of Ray, or of an autoseg that is not there
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TrainingError(
            found=f"node {name} cannot run autoseg: {reason[-1]}",
            expected="autoseg in the Python of every node",
            fix="install it there and start Ray again, or take the node out of the cluster",
        ) from error
    if missing is not None:
        found, fix = missing
        raise TrainingError(
            found=f"node {name} has {found}",
            expected="the same files and the same autoseg on every node",
            fix=fix,
        )
