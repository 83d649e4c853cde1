"""What the lines of metrics.jsonl say, for those who show it or pass it on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One line of a fold's log; None where it says nothing."""

    step: int
    seconds: float
    """Active seconds of the fold until here."""
    values: Mapping[str, float]
    """Loss, learning rate, gradient norm, Dice and waiting share by the names that they have in
    the file, and what follows from this line and the one before: `step_seconds` and
    `patches_per_second`."""
    class_dice: tuple[float | None, ...] = ()
    """Of each foreground class; empty in lines without a look at validation cases."""


def readings(lines: Iterable[Mapping[str, object]], batch_size: int) -> list[Reading]:
    """Return the lines of a fold's log as readings, in order; lines without a step are left out.

    Lines of earlier versions lack what was not written then.
    """
    kept = [line for line in lines if isinstance(line.get("step"), int)]
    return [
        _reading(line, speed(before, line, batch_size)) for before, line in pairwise([{}, *kept])
    ]


def waiting_share(lines: Iterable[Mapping[str, object]]) -> float | None:
    """Return the part of a fold's time in which it waited for batches, 0 to 1; None: not known.

    Without the time before the first line, in which the machine was measured and the first batches
    were made, unless there is no other.
    """
    known = [line for line in lines if "waiting" in line and "seconds" in line]
    parts = [
        (_number(line["seconds"]) - _number(before["seconds"]), _number(line["waiting"]))
        for before, line in pairwise(known)
    ]
    total = sum(seconds for seconds, _ in parts)
    if total > 0:
        return sum(seconds * share for seconds, share in parts) / total
    return _number(known[-1]["waiting"]) if known else None


def speed(
    before: Mapping[str, object], line: Mapping[str, object], batch_size: int
) -> dict[str, float]:
    """Return the seconds of a step, with all that happens between steps, and patches a second.

    Between two lines of one fold; empty where they do not tell. Before the first line the machine
    was measured, too, so that it alone does not tell.
    """
    steps = _number(line.get("step")) - _number(before.get("step"))
    seconds = _number(line.get("seconds")) - _number(before.get("seconds"))
    if "seconds" not in before or "seconds" not in line or steps <= 0 or seconds <= 0:
        return {}
    return {"step_seconds": seconds / steps, "patches_per_second": steps * batch_size / seconds}


def _reading(line: Mapping[str, object], speeds: Mapping[str, float]) -> Reading:
    names = ("loss", "lr", "gradient_norm", "dice", "waiting")
    known = {
        name: float(value) for name in names if isinstance(value := line.get(name), int | float)
    }
    found = line.get("class_dice")
    classes = found if isinstance(found, list) else []
    return Reading(
        step=int(_number(line["step"])),
        seconds=_number(line.get("seconds")),
        values={**known, **speeds},
        class_dice=tuple(item if isinstance(item, float) else None for item in classes),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
