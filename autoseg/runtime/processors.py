"""How many processors and how much memory this process may use, and how much it uses."""

import ctypes
import os
import sys
from pathlib import Path

M_MMAP_THRESHOLD = -3
"""Of glibc's mallopt: blocks from this size on come from the system and go back to it."""
LARGE_BLOCK = 1 << 23
"""Bytes: small enough for the arrays that many are made of, large enough not to cost time."""


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


def usable_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory of the machine or the container, whichever is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    files = cgroup / "memory.max", cgroup / "memory/memory.limit_in_bytes"
    limits = [int(text) for text in map(_read, files) if text.isdigit()]
    return min([physical, *limits])


def return_large_blocks() -> None:
    """Have freed arrays leave this process at once, where the C library is glibc.

    By itself it keeps freed blocks of up to 32 MiB for later; among arrays of many sizes they are
    split and stay: 40 % of what predicting a large volume takes.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def resident_bytes(status: Path = Path("/proc/self/status")) -> tuple[int, int]:
    """Return the memory of this process, now and at its peak; zeros where the system hides it."""
    words = dict(line.split(":", 1) for line in _read(status).splitlines() if ":" in line)
    now, peak = (int(words.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
