"""TensorBoard: the only place that knows it.

Each run is a folder `<configuration>/fold_<k>` with event files and, beside them, a small file that
says how much of the training they have.
"""

from pathlib import Path
from typing import Any, final

from autoseg.track.tracker import Fed, News, Run, load_package
from autoseg.workspace import Workspace, write_text

MARK = "autoseg.json"
"""How much of a training a folder has."""


def open_tensorboard(workspace: Workspace, place: str) -> "TensorBoard":
    """Return TensorBoard files in a folder, by default in the workspace.

    A folder that the user names may hold runs of several workspaces, each below its name.

    Raises
    ------
    AutosegError
        The package is missing.
    """
    package = load_package("torch.utils.tensorboard", "tensorboard")
    root = Path(place) / workspace.root.stem if place else workspace.tensorboard
    return TensorBoard(package.SummaryWriter, root)


@final
class TensorBoard:
    """Runs as TensorBoard's event files.

    Parameters
    ----------
    make_writer
        torch's SummaryWriter.
    root
        Folder of the runs.
    """

    def __init__(self, make_writer: Any, root: Path) -> None:  # noqa: ANN401
        self._make_writer, self._root = make_writer, root
        self._writers: dict[str, Any] = {}

    def fed(self, run: Run) -> Fed:
        """Return what a run's folder has; of another training, that is nothing."""
        mark = self._folder(run) / MARK
        fed = Fed.load(mark) if mark.exists() else None
        return fed if fed is not None and fed.run == run.id else Fed(run=run.id)

    def tell(self, run: Run, news: News) -> None:
        """Write points, and the outcome at the last step; then say how far they go."""
        before = self.fed(run)
        writer = self._writer(run, before)
        if before.step == 0 and news.points:
            writer.add_text("parameters", _table(run), 0, walltime=run.started_s)
        time_s = run.started_s
        for point in news.points:
            time_s = run.started_s + point.seconds
            for name, value in point.values.items():
                writer.add_scalar(name, value, point.step, walltime=time_s)
        for name, value in news.outcome.items():
            writer.add_scalar(name, value, news.fed.step)
        writer.flush()
        write_text(self._folder(run) / MARK, news.fed.to_json())

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, run: Run, before: Fed) -> Any:  # noqa: ANN401
        """Return what writes a run. TensorBoard forgets what was written beyond the mark.

        That is what a process left that was killed between writing and marking, or what another
        training has written into the same folder.
        """
        if run.id not in self._writers:
            folder = self._folder(run)
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[run.id] = self._make_writer(str(folder), purge_step=before.step + 1)
        return self._writers[run.id]

    def _folder(self, run: Run) -> Path:
        return self._root / run.configuration / f"fold_{run.fold}"


def _table(run: Run) -> str:
    """Return the parameters of a run in Markdown, as TensorBoard shows text."""
    rows = [f"| {name} | {value} |" for name, value in run.parameters.items()]
    return "\n".join(["| parameter | value |", "| --- | --- |", *rows])
