"""Whether a workspace survives being killed anywhere, and still ends with the same results.

`python -m benchmarks.kills --kills 100` plans, trains and exports a small data set made by code,
once undisturbed. Then it does so again and again; in each phase of such a run all its processes
are killed (SIGKILL) at a random moment, and the same command is given again. What comes out is
compared with the undisturbed run: the final weights bit for bit, scores, predictions, choices, and
what the exported model says about an image.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoseg.seeds import stream
from autoseg.testing.synthetic import write_spheres
from autoseg.workspace import FoldFolder, Workspace
from benchmarks.ours import AUTOSEG

CONFIGURATION = "3d_fullres"
FOLDS = ("0", "1")
NUM_STEPS = 40
PERIOD_S = 0.002
PATIENCE_S = 600.0
"""No command takes so long, on a busy machine either."""
STAGES = [
    {"features": 4 * stride, "kernel_size": [3] * 3, "strides": [stride] * 3, "num_blocks": 1}
    for stride in (1, 2)
]
"""Of a network that trains in seconds."""
TIMES = ("seconds", "train_seconds", "validation_seconds")
"""Keys of results that differ from run to run."""


@dataclass(frozen=True)
class Phase:
    """A part of the run of one command."""

    name: str
    command: str
    has_begun: Callable[[Workspace], bool]


@dataclass(frozen=True)
class Bench:
    """The data set, and where workspaces are made."""

    data: Path
    folder: Path

    def words(self, command: str, workspace: Workspace) -> list[str]:
        """Return a command line."""
        if command == "plan":
            planned = ["plan", str(self.data), "--planner", "nnunet", "--folds", str(len(FOLDS))]
            stages = f"{CONFIGURATION}.network.stages={json.dumps(STAGES)}"
            return [str(AUTOSEG), *planned, "-w", str(workspace.root), "--set", stages]
        length = ["--steps", str(NUM_STEPS), "--configurations", CONFIGURATION]
        return [str(AUTOSEG), "train", "-w", str(workspace.root), *length]

    def start(self, command: str, workspace: Workspace) -> subprocess.Popen[bytes]:
        """Start a command, its output going to a file beside the workspace."""
        with workspace.root.with_suffix(".log").open("ab") as log:
            words = self.words(command, workspace)
            return subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        bench = make_bench(Path(folder))
        killed, wrong = Counter[str](), list[str]()
        for kind, differences in kill_often(bench, wanted.kills, wanted.seed):
            killed += kind
            wrong += differences
            print(
                f"{killed.total()} kills {dict(killed)}; differences: {wrong or 'none'}", flush=True
            )
    sys.exit(1 if wrong else 0)


def make_bench(folder: Path) -> Bench:
    """Write the data set."""
    data = write_spheres(folder / "spheres", num_cases=6, seed=0, shape=(14, 18, 16))
    return Bench(data, folder)


def kill_often(bench: Bench, kills: int, seed: int) -> Iterator[tuple[Counter[str], list[str]]]:
    """Yield, a workspace each, how often each phase was killed, and what came out differently."""
    rng = stream(seed, "kills")
    undisturbed = Workspace(bench.folder / "undisturbed.autoseg")
    seconds = watch(bench, undisturbed)
    done, number = 0, 0
    while done < kills:
        workspace = Workspace(bench.folder / f"killed_{number}.autoseg")
        killed = disturb(bench, workspace, seconds, rng, most=kills - done)
        done, number = done + killed.total(), number + 1
        yield killed, differences(bench, undisturbed, workspace)


def watch(bench: Bench, workspace: Workspace) -> dict[str, float]:
    """Return the seconds of each phase of an undisturbed run."""
    begun: dict[str, float] = {}
    ended = 0.0
    for command in ("plan", "train"):
        process = bench.start(command, workspace)
        while process.poll() is None:
            for phase in phases():
                if phase.name in begun or phase.command != command:
                    continue
                if phase.has_begun(workspace):
                    begun[phase.name] = time.monotonic()
            time.sleep(PERIOD_S)
        must_be_done(process, workspace)
        ended = time.monotonic()
        begun[f"after {command}"] = ended
    starts = list(begun.values())
    lengths = [later - start for start, later in zip(starts, [*starts[1:], ended], strict=True)]
    return dict(zip(begun, lengths, strict=True))


def disturb(
    bench: Bench,
    workspace: Workspace,
    seconds: dict[str, float],
    rng: np.random.Generator,
    *,
    most: int,
) -> Counter[str]:
    """Run both commands to their end, killed at most once in each phase; return where."""
    killed = Counter[str]()
    for phase in phases():
        if killed.total() == most:
            break
        if phase.command == "train":
            finish(bench, "plan", workspace)
        if kill_in(bench, workspace, phase, float(rng.uniform(0.0, seconds[phase.name]))):
            killed[phase.name] += 1
    for command in ("plan", "train"):
        finish(bench, command, workspace)
    return killed


def kill_in(bench: Bench, workspace: Workspace, phase: Phase, delay_s: float) -> bool:
    """Start a phase's command, kill all its processes so long after the phase has begun.

    Returns
    -------
    bool
        Whether it was still at work.
    """
    process = bench.start(phase.command, workspace)
    until = time.monotonic() + PATIENCE_S
    while not phase.has_begun(workspace) and process.poll() is None:
        if time.monotonic() > until:
            sys.exit(f"{phase.name} has not begun after {PATIENCE_S:g} s")
        time.sleep(PERIOD_S)
    try:
        process.wait(timeout=delay_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    must_be_done(process, workspace)
    return False


def finish(bench: Bench, command: str, workspace: Workspace) -> None:
    """Run a command to its end, unless it has been."""
    if command == "plan" and workspace.plan.exists() and workspace.training.exists():
        return  # it would refuse: folds are trained
    process = bench.start(command, workspace)
    process.wait(timeout=PATIENCE_S)
    must_be_done(process, workspace)


def must_be_done(process: subprocess.Popen[bytes], workspace: Workspace) -> None:
    """Leave with the output of a command that has failed."""
    if process.returncode:
        log = workspace.root.with_suffix(".log").read_text(encoding="utf-8", errors="replace")
        sys.exit(f"{log[-4000:]}\nexit code {process.returncode}")


def phases() -> tuple[Phase, ...]:
    """Return the phases of a run, in their order."""
    first, second = FOLDS
    return (
        Phase("plan", "plan", lambda _: True),
        Phase("preprocess", "train", lambda place: place.preprocessed(CONFIGURATION).exists()),
        Phase("train", "train", lambda place: _fold(place, first).settings.exists()),
        Phase("validate", "train", lambda place: _fold(place, first).final.exists()),
        Phase("second fold", "train", lambda place: _fold(place, second).settings.exists()),
        Phase("export", "train", lambda place: _fold(place, second).result.exists()),
    )


def differences(bench: Bench, undisturbed: Workspace, workspace: Workspace) -> list[str]:
    """Return what a workspace has come to that the undisturbed one has not, and broken files."""
    found = [f"{path} is broken" for path in broken(workspace)]
    for fold in FOLDS:
        ours, theirs = (_fold(place, fold) for place in (workspace, undisturbed))
        if not same_weights(ours.final, theirs.final):
            found.append(f"{ours.final}: other weights")
        if _content(ours.result) != _content(theirs.result):
            found.append(f"{ours.result}: other scores")
        found += [
            f"{path} differs"
            for path in sorted(theirs.validation.iterdir())
            if path.read_bytes() != (ours.validation / path.name).read_bytes()
        ]
    choices = ((place.ensemble, place.postprocessing) for place in (workspace, undisturbed))
    found += [
        f"{ours}: another choice"
        for ours, theirs in zip(*choices, strict=True)
        if _content(ours) != _content(theirs)
    ]
    if predicted(bench, workspace) != predicted(bench, undisturbed):
        found.append(f"{workspace.model}: another prediction")
    return found


def broken(workspace: Workspace) -> Iterator[Path]:
    """Yield files of JSON that cannot be read."""
    for path in sorted(workspace.root.rglob("*.json*")):
        text = path.read_text(encoding="utf-8")
        try:
            for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
                json.loads(part)
        except ValueError:
            yield path


def same_weights(ours: Path, theirs: Path) -> bool:
    """Return whether two files of final weights are equal in every bit."""
    first, second = (torch.load(path, weights_only=True)["weights"] for path in (ours, theirs))
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


def predicted(bench: Bench, workspace: Workspace) -> bytes:
    """Return the labels that the exported model gives the first image, as a file."""
    image = min((bench.data / "imagesTr").iterdir())
    out = workspace.root.with_suffix(".predicted")
    if not out.exists():
        words = [str(AUTOSEG), "predict", str(workspace.model), str(image), "-o", str(out)]
        subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE_S)
    (path,) = out.glob("*.nii.gz")
    return path.read_bytes()


def _fold(workspace: Workspace, fold: str) -> FoldFolder:
    return workspace.fold(CONFIGURATION, fold)


def _content(path: Path) -> object:
    """Return a file's JSON without what differs from run to run: times, and the plan's own digest.

    The digest changes with the speed that planning measured.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in (*TIMES, "plan_digest")}


if __name__ == "__main__":
    main()
