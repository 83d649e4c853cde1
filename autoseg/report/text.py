"""Numbers as people read them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from autoseg import errors

if TYPE_CHECKING:  # the command line imports this module at once
    from autoseg.evaluate.statistics import MetricSummary

MISSING = "–"  # noqa: RUF001 (a dash for a cell without a value)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed digits, a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}"


def short(value: float | None) -> str:
    """Return a number with four significant digits, at least all before the point."""
    if value is None:
        return MISSING
    return count(value) if abs(value) >= 10_000 else f"{value:.4g}"


def signed(value: float | None, digits: int = 4) -> str:
    """Return a difference with its sign."""
    return MISSING if value is None else f"{value:+.{digits}f}".replace("-", "−")  # noqa: RUF001


def count(value: float | None) -> str:
    """Return a whole number with thin spaces between thousands."""
    return MISSING if value is None else f"{round(value):,}".replace(",", "\u202f")


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def interval(item: "MetricSummary", digits: int = 3) -> str:
    """Return the limits of a confidence interval."""
    if item.low is None or item.high is None:
        return ""
    return f"{item.low:.{digits}f} – {item.high:.{digits}f}"  # noqa: RUF001


def duration(seconds: float | None) -> str:
    """Return a duration in words, a dash for None."""
    return MISSING if seconds is None else errors.duration(seconds)


def size(num_bytes: float | None) -> str:
    """Return a size in units of 1000 bytes: "8.0 GB"."""
    if num_bytes is None:
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def times(values: Iterable[float]) -> str:
    """Return lengths along axes, with multiplication signs between them."""
    return " × ".join(f"{value:.4g}" for value in values)  # noqa: RUF001


FILTERS = {
    function.__name__: function
    for function in (number, short, signed, count, percent, interval, duration, size, times)
}
