"""A process of its own that measures training steps of a compiled network (see `compiling`).

It reads a job, an execution and a limit from its parent and prints one line of JSON.
"""

import json
import pickle
import signal
import sys
import time
import warnings

import torch

from autoseg.network.execution import Execution
from autoseg.train.job import FoldJob
from autoseg.train.probe import time_steps
from autoseg.train.task import TASKS

SPARE_S = 5
"""A child that nobody waits for any more ends so many seconds after its limit."""


def main() -> None:
    """Measure, and print the seconds of a step and of the whole trial."""
    started = time.monotonic()
    job, execution, limit_s = pickle.load(sys.stdin.buffer)
    if hasattr(signal, "alarm"):
        signal.alarm(int(limit_s) + SPARE_S)  # the parent may be killed meanwhile
    warnings.simplefilter("ignore")  # compilers warn of much that is of no use to a user
    seconds = measure(job, execution, limit_s)
    print(json.dumps({"seconds": seconds, "taken_s": time.monotonic() - started}))  # noqa: T201


def measure(job: FoldJob, execution: Execution, limit_s: float) -> float:
    """Return the seconds of a training step, making its batch included."""
    torch.set_num_threads(job.num_threads)
    batches = TASKS[job.objective].build_batches(job, 0)
    return time_steps(job, batches, execution, limit_s)


if __name__ == "__main__":
    main()
