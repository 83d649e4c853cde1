"""Durations and sizes as users write them."""

import re

import typer

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}

LEAST_BYTES = 10**6
"""A smaller size without a unit is a number of GB or MB whose unit was forgotten."""


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
    if not unit and float(match.group(1)) < LEAST_BYTES:
        raise typer.BadParameter(f"found {text!r} without a unit, expected a size such as 8GB")
    return int(float(match.group(1)) * BYTES[unit])


def words(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def region(text: str) -> tuple[str, tuple[int, ...]]:
    """Return name and values of a region such as "tumour=1,2"."""
    name, equals, values = text.partition("=")
    parts = words(values)
    if not (name.strip() and equals and parts) or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"found {text!r}, expected name and values such as tumour=1,2")
    return name.strip(), tuple(int(part) for part in parts)
