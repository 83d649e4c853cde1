"""Every path that autoseg writes, and the only place that knows their names."""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from autoseg.errors import WorkspaceError

SUFFIX = ".autoseg"
PLAN = "plan.json"
FINGERPRINT = "fingerprint.json"
MEASURED = "measured"
SUPERSEDED = "superseded"
SPEC = "spec.json"
STUDY = "study.journal"
OWN_NAMES = frozenset({PLAN, MEASURED, SUPERSEDED, SPEC})
"""A folder that holds one of these is a workspace, planned or about to be."""


@dataclass(frozen=True)
class Workspace:
    """The folder of one data set: its plan, training, model and report."""

    root: Path

    @property
    def dataset(self) -> Path:
        return self.root / "dataset.json"

    @property
    def findings(self) -> Path:
        return self.root / "findings.json"

    @property
    def spec(self) -> Path:
        """What `autoseg check --fix` and `--skip-broken` declare: taken where no other is given."""
        return self.root / SPEC

    @property
    def fingerprint(self) -> Path:
        return self.root / FINGERPRINT

    @property
    def measured(self) -> Path:
        """Folder of measured cases, one file each, so that a fingerprint can be resumed."""
        return self.root / MEASURED

    @property
    def plan(self) -> Path:
        return self.root / PLAN

    @property
    def nnunet_plans(self) -> Path:
        return self.root / "nnUNetPlans.json"

    @property
    def splits(self) -> Path:
        return self.root / "splits.json"

    @property
    def run(self) -> Path:
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        """Held while run.json is changed."""
        return self.root / ".lock"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "autoseg.log"

    @property
    def ensemble(self) -> Path:
        return self.root / "ensemble.json"

    @property
    def postprocessing(self) -> Path:
        return self.root / "postprocessing.json"

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def model_zip(self) -> Path:
        return self.root / "model.zip"

    @property
    def exported_from(self) -> Path:
        """Digest of what the artifact was made from, so that it is not made twice."""
        return self.root / "model.inputs"

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def report_choice(self) -> Path:
        return self.root / "report.json"

    def augmentation_sheet(self, configuration: str) -> Path:
        """Return the contact sheet of a configuration's augmentation."""
        return self.root / f"augmentation_{configuration}.png"

    @property
    def training(self) -> Path:
        return self.root / "training"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files, unless the user names another."""
        return self.root / "tensorboard"

    @property
    def pretraining(self) -> Path:
        """Folder of what was learnt without labels."""
        return self.root / "pretraining"

    @property
    def superseded(self) -> Path:
        return self.root / SUPERSEDED

    @property
    def search(self) -> Path:
        """Folder of a search for a better plan."""
        return self.root / "search"

    @property
    def study(self) -> Path:
        """Every trial of the search, as Optuna keeps it."""
        return self.search / STUDY

    @property
    def search_summary(self) -> Path:
        """What the search has come to."""
        return self.search / "summary.json"

    @property
    def search_lock(self) -> Path:
        """Held by the process that searches."""
        return self.search / ".lock"

    def search_run(self, trial: int, run: str) -> Path:
        """Return the folder of one training of a trial."""
        return self.search / "trials" / str(trial) / run

    @property
    def search_recipes(self) -> Path:
        """Folder of cases that are prepared as trials alone need them."""
        return self.search / "prepared"

    def search_prepared(self, digest: str) -> "Workspace":
        """Return where cases are prepared for trials with another recipe than the plan's."""
        return Workspace(self.search_recipes / digest[:16])

    def encoder_weights(self, digest: str) -> Path:
        """Return the file of a pretrained encoder's weights, kept since they were planned."""
        return self.root / "encoders" / f"{digest[:16]}.pt"

    def preprocessed(self, configuration: str) -> Path:
        """Return the folder of a configuration's prepared cases."""
        return self.root / "preprocessed" / configuration

    def previous_labels(self, configuration: str) -> Path:
        """Return the folder of what a configuration's previous stage found, prepared for it."""
        return self.preprocessed(configuration) / "previous"

    def superseded_fold(self, configuration: str, fold: str) -> Path:
        """Return a new folder for a fold that is no longer current."""
        return self.superseded / f"{configuration}-fold_{fold}-{uuid4().hex[:4]}"

    def fold(self, configuration: str, fold: str) -> "FoldFolder":
        """Return the paths of one fold; `fold` is an index as text, or "all"."""
        return FoldFolder(self.training / configuration / f"fold_{fold}")

    def denoising(self, configuration: str, fold: str) -> "FoldFolder":
        """Return the paths of a pretraining.

        `fold` is the one whose validation images it left out, "all" where it saw all images.
        """
        folder = self.pretraining / configuration
        return FoldFolder(folder if fold == "all" else folder / f"fold_{fold}")


@dataclass(frozen=True)
class FoldFolder:
    """The files of one trained fold."""

    root: Path

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def last(self) -> Path:
        """The newest checkpoint: everything that a resumed run needs."""
        return self.root / "last.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the newest."""
        return self.root / "previous.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best look at validation cases: what a lost run goes back to."""
        return self.root / "best.pt"

    @property
    def final(self) -> Path:
        """The averaged weights after full annealing."""
        return self.root / "final.pt"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def tracked(self) -> Path:
        """Name of the training in experiment trackers."""
        return self.root / "tracked.json"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def scores(self) -> Path:
        """Scores of the validation cases that are done, one line each."""
        return self.root / "scores.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the fold."""
        return self.root / ".lock"

    def branch(self, index: int) -> "FoldFolder":
        """Return the paths of a copy that is annealed while the fold waits."""
        return FoldFolder(self.root / f"branch_{index}")

    @property
    def stop(self) -> Path:
        """Its presence asks the process that trains the fold to save and to stop."""
        return self.root / "stop"

    @property
    def probabilities(self) -> Path:
        """Folder of the validation cases' probabilities, for what is chosen after training."""
        return self.root / "probabilities"

    @property
    def again(self) -> Path:
        """Dice of validation cases that were predicted again, with other tiles or mirroring."""
        return self.root / "again.jsonl"

    @property
    def validation(self) -> Path:
        """Folder of the validation cases' predictions, in the user's geometry and values."""
        return self.root / "validation"


def named_workspace(root: Path) -> Workspace:
    """Return the workspace that a user names.

    Raises
    ------
    WorkspaceError
        There is no such folder, or it is no workspace; one that lies in it is named.
    """
    if (root / PLAN).is_file() or (root / FINGERPRINT).is_file():
        return Workspace(root.absolute())
    inside = sorted(path.parent for path in root.glob(f"*{SUFFIX}/{PLAN}"))
    if root.is_file():
        found = f"{root} is a file"
    else:
        found = f"no {PLAN} in {root}" if root.is_dir() else f"no folder {root}"
    fix = "make one with `autoseg plan DATASET`, or correct -w"
    raise WorkspaceError(
        found=found,
        expected="a workspace: the folder *.autoseg that `autoseg plan` makes",
        fix=" or ".join(f"-w {path}" for path in inside) if inside else fix,
    )


def writable_workspace(root: Path) -> Workspace:
    """Return the workspace to plan in, after making sure that it can be written.

    Raises
    ------
    WorkspaceError
        The folder cannot be made or written, or holds something else, such as a data set.
    """
    names = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
    if any(not name.startswith(".") for name in names) and not OWN_NAMES.intersection(names):
        raise WorkspaceError(
            found=f"{root} is no workspace: it holds {', '.join(names[:5])}",
            expected="a new or empty folder, or a workspace",
            fix="name a new folder with -w, or leave -w out",
        )
    probe = root / f".{uuid4().hex[:8]}.tmp"
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise WorkspaceError(
            found=f"{root} cannot be written: {error.strerror or error}",
            expected="a folder that can be made or written",
            fix="choose another folder with -w, or change its permissions",
        ) from error
    return Workspace(root.absolute())


def find_workspace(folder: Path) -> Workspace:
    """Return the only planned workspace in a folder.

    Raises
    ------
    WorkspaceError
        There is none, or there are several.
    """
    found = sorted(path.parent for path in folder.glob(f"*{SUFFIX}/{PLAN}"))
    if len(found) == 1:
        return Workspace(found[0])
    names = ", ".join(path.name for path in found) or "no workspace"
    raise WorkspaceError(
        found=f"{names} in {folder}",
        expected="one folder *.autoseg with a plan",
        fix="name the workspace with -w, or make one with `autoseg plan DATASET`",
    )


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file at once or not at all: temporary name, fsync, replace.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) at once or not at all."""
    write_bytes(path, text.encode())


def append_line(path: Path, content: dict) -> None:
    """Append one JSON line to a log, after the rest of one that was cut short.

    Raises
    ------
    WorkspaceError
        The disk is full or the folder cannot be written; the line may be cut short.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(content, sort_keys=True) + "\n"
        with path.open("ab+") as file:  # reads anywhere, writes at the end
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> WorkspaceError:
    """Return what a user is told about a file that cannot be written."""
    return WorkspaceError(
        found=f"{path} cannot be written: {error.strerror or error}",
        expected="a writable folder with enough free space",
        fix="free space or choose another folder with -w; then run the same command again",
    )
