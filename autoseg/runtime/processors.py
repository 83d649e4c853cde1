"""How many processors this process may use."""

import os
from pathlib import Path


def usable_cpus(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the processors of this process: its affinity, and the container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, period = _quota(cgroup)
    return min(count, max(1, quota // period)) if quota > 0 and period > 0 else count


def _quota(cgroup: Path) -> tuple[int, int]:
    """Return a container's share of time and its period (cgroup version 2, then 1); 0 for none."""
    try:
        words = (cgroup / "cpu.max").read_text(encoding="utf-8").split()
    except OSError:
        names = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"
        try:
            words = [(cgroup / name).read_text(encoding="utf-8").strip() for name in names]
        except OSError:
            return 0, 0
    if len(words) != 2 or not all(word.isdigit() for word in words):  # "max", or -1
        return 0, 0
    return int(words[0]), int(words[1])
