"""How long `autoseg --help` takes: the median of ten runs."""

import statistics
import subprocess
import time

from benchmarks.ours import AUTOSEG

NUM_RUNS = 10


def main() -> None:
    """Print the median and all runs."""
    seconds = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        subprocess.run([AUTOSEG, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - start)
    runs = ", ".join(f"{value:.2f}" for value in sorted(seconds))
    print(f"autoseg --help: {statistics.median(seconds):.2f} s (median of {runs})")


if __name__ == "__main__":
    main()
