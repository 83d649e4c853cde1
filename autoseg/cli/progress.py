"""Progress of long work: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autoseg.report.text import duration

if TYPE_CHECKING:
    from rich.progress import TaskID

SHOWN_LAYERS = 6
"""Layers of a kind that are named; the others stand in a file."""
NUMBERS = (
    ("loss", "loss", ".3f"),
    ("Dice", "dice", ".3f"),
    ("lr", "lr", ".1e"),
    ("patches/s", "patches_per_second", ".1f"),
)
"""Numbers of a training: what they are called, their name in its events, their form."""
FIELDS = (*(name for _, name, _ in NUMBERS), "bound", "left")
"""What stands beside a bar, in this order."""
LINE_INTERVAL_S = 10.0
"""Without a terminal, a line of progress at most this often."""


class Progress:
    """Progress of long work on standard error; a context manager."""

    def __init__(self) -> None:
        self._bars = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}
        self._known: dict[str, dict[str, object]] = {}
        """The last values of each fold: not every event brings all of them."""

    def __enter__(self) -> "Progress":
        """Start drawing when there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bars = Bars(
                *columns,
                *(TextColumn(f"{{task.fields[{name}]}}") for name in FIELDS),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if self._bars is not None:
            self._bars.stop()

    def update(
        self, name: str, done: int, total: int, values: Mapping[str, object] | None = None
    ) -> None:
        """Show that `done` of `total` parts of the work called `name` are done.

        Parameters
        ----------
        values
            Numbers of a training that are shown beside it, as its events have them; those that are
            not given stay as they were.
        """
        now = time.monotonic()
        known = self._known.setdefault(name, {})
        known.update(values or {})
        fields: dict[str, Any] = {**_fields(known), "left": self._left(name, done, total, now)}
        if self._bars is None:
            self._line(name, done, total, fields, now)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, **fields)
        self._bars.update(self._tasks[name], completed=done, total=total, **fields)

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)

    def _line(
        self, name: str, done: int, total: int, fields: Mapping[str, str], now: float
    ) -> None:
        """Print a plain line, not too often."""
        if done < total and now - self._last_line.get(name, 0.0) < LINE_INTERVAL_S:
            return
        self._last_line[name] = now
        shown = (fields[field] for field in FIELDS if fields[field])
        self.note("  ".join([f"{name}: {done}/{total}", *shown]))

    def _left(self, name: str, done: int, total: int, now: float) -> str:
        """Return the time that is left at the pace since the work was first seen."""
        start, done_before = self._first.setdefault(name, (now, done))
        if not done_before < done < total:
            return ""
        return f"{duration((total - done) * (now - start) / (done - done_before))} left"

    def on_event(self, event: Mapping[str, object]) -> None:
        """Show an event of the pipeline or of a fold."""
        if event.get("event") == "prepared":
            self.update(
                f"prepare {event['configuration']}", _int(event["done"]), _int(event["total"])
            )
        elif event.get("event") == "validated":
            name = f"validate {event.get('name', _fold_name(event))}"
            self.update(name, _int(event["done"]), _int(event["total"]))
        elif event.get("event") == "dropped":
            reason = event.get("reason", "the budget is too short")
            self.note(f"{_fold_name(event)} is not trained: {reason}")
        elif event.get("event") == "note":
            self.note(str(event["text"]))
        elif event.get("event") == "initial":
            _print_initial(event)
        elif event.get("event") == "step":
            self.note(f"{event['name']} ...")
        elif "step" in event and "num_steps" in event:
            name = str(event.get("name", _fold_name(event)))
            self.update(name, _int(event["step"]), _int(event["num_steps"]), event)


def _print_initial(event: Mapping[str, object]) -> None:
    """Print how many layers begin with the weights of another model, and which do not."""
    layers = event["layers"]
    assert isinstance(layers, list)
    by_state: dict[str, list[str]] = {}
    for layer, state, reason in layers:
        by_state.setdefault(state, []).append(f"{layer} ({reason})" if reason else layer)
    whole = len(by_state.pop("loaded", ()))
    parts = [f"{whole} of {len(layers)} layers loaded"]
    for state, names in by_state.items():
        more = len(names) - SHOWN_LAYERS
        rest = f" and {more} more, listed in {event['table']}" if more > 0 else ""
        parts.append(f"{state}: {', '.join(names[:SHOWN_LAYERS])}{rest}")
    begins = f"{event['configuration']} begins with {event['source']}"
    print(f"{begins}: {'; '.join(parts)}", file=sys.stderr, flush=True)


def _fold_name(event: Mapping[str, object]) -> str:
    return f"{event.get('configuration')} fold {event.get('fold')}"


def _int(value: object) -> int:
    """Return a count from an event."""
    return int(value) if isinstance(value, (int, float)) else 0


def _fields(values: Mapping[str, object]) -> dict[str, str]:
    """Return loss, Dice, rate, speed and what bounds it as text; empty where they are not known."""
    fields = {
        key: f"{label} {value:{form}}" if isinstance(value := values.get(key), float) else ""
        for label, key, form in NUMBERS
    }
    waiting = values.get("waiting")
    return {**fields, "bound": _bound(waiting) if isinstance(waiting, float) else ""}


def _bound(waiting: float) -> str:
    """Return what bounds the speed of a training that waits for so large a part of its time."""
    from autoseg.train.waiting import bound

    word = bound(waiting)
    return f"bound by data ({waiting:.0%} waiting)" if word == "data" else f"bound by {word}"
