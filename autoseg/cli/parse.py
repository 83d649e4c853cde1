"""Durations and sizes as users write them."""

import re

import typer

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def seconds(text: str) -> float:
    """Return the seconds of a duration such as "90s", "20m", "2h" or "1h30m"."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    total = sum(float(number) * SECONDS[unit] for number, unit in parts)
    rest = re.sub(r"(\d+(?:\.\d+)?)\s*([smhd])", "", text.strip().lower()).strip()
    if rest or total <= 0:
        raise typer.BadParameter(
            f"found {text!r}, expected a duration such as 90s, 20m, 2h or 1h30m"
        )
    return total


def size(text: str) -> int:
    """Return the bytes of a size such as "8GB" (1e9) or "8GiB" (2^30)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().lower())
    unit = match.group(2).upper() if match else ""
    if match is None or unit not in BYTES or float(match.group(1)) <= 0:
        raise typer.BadParameter(f"found {text!r}, expected a size such as 8GB, 500MB or 16GiB")
    return int(float(match.group(1)) * BYTES[unit])


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def duration_text(duration_s: float) -> str:
    """Return a duration for people: "42 s", "17 min", "2 h 05 min"."""
    if duration_s < 120:
        return f"{duration_s:.0f} s"
    minutes = round(duration_s / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(num_bytes: float) -> str:
    """Return a size for people, in units of 1000 bytes: "8.0 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"
