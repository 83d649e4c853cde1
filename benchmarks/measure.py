"""Wall time and peak memory of a command with all its processes.

`python benchmarks/measure.py autoseg plan DATASET` runs the command and prints one JSON line.
Memory is the proportional set size (shared pages counted once, divided among their users), summed
over all processes of the command at 10 Hz. Linux only: it reads /proc.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

PERIOD_S = 0.1
PROC = Path("/proc")


@dataclass(frozen=True)
class Measurement:
    """What one command took."""

    seconds: float
    peak_bytes: int
    exit_code: int

    def __add__(self, other: "Measurement") -> "Measurement":
        """Return the measurement of both commands, one after the other."""
        return Measurement(
            self.seconds + other.seconds,
            max(self.peak_bytes, other.peak_bytes),
            self.exit_code or other.exit_code,
        )

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.peak_bytes / 1e6:.0f} MB"


def measure(
    command: Sequence[str | Path], *, folder: Path | None = None, log: TextIO | None = None
) -> Measurement:
    """Run a command in a folder, its output going to `log`, and return what it took."""
    start, peak, seen = time.perf_counter(), 0, set()
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        start_new_session=True,
    )
    while True:
        peak = max(peak, tree_memory(process.pid, seen))
        try:
            code = process.wait(timeout=PERIOD_S)
        except subprocess.TimeoutExpired:
            continue
        return Measurement(time.perf_counter() - start, peak, code)


def must(
    command: Sequence[str | Path], *, folder: Path, variables: Mapping[str, Path]
) -> Measurement:
    """Run a command with environment variables; leave with its output if it fails."""
    log = folder / "output.log"
    settings = [f"{name}={value}" for name, value in variables.items()]
    with log.open("w", encoding="utf-8") as file:
        result = measure(["env", *settings, *command], folder=folder, log=file)
    if result.exit_code:
        tail = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        sys.exit(f"{tail}\nexit code {result.exit_code} of: {' '.join(map(str, command))}")
    return result


def tree_memory(root: int, seen: set[int]) -> int:
    """Return the bytes of a process and all its descendants.

    Parameters
    ----------
    root
        Process id; also the session that the command was started in.
    seen
        Processes of earlier calls, updated: one whose parent has died still counts.
    """
    parents = {int(path.name): _parent(path) for path in PROC.glob("[0-9]*")}
    members = {root} | (seen & parents.keys())
    while True:
        more = {
            pid
            for pid, (parent, session) in parents.items()
            if pid not in members and (parent in members or session == root)
        }
        if not more:
            break
        members |= more
    seen |= members
    return sum(_proportional_bytes(pid) for pid in members)


def _parent(process: Path) -> tuple[int, int]:
    """Return (parent, session) of a process, zeros if it is gone."""
    try:
        # The command's name, in parentheses, may hold spaces and parentheses.
        fields = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[1]), int(fields[3])


def _proportional_bytes(pid: int) -> int:
    """Return the proportional set size of a process, 0 if it is gone."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Measure the command in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    result = measure(parser.parse_args().command)
    print(json.dumps(asdict(result)))
    sys.exit(result.exit_code)


if __name__ == "__main__":
    main()
