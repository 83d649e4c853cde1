"""Progress of long work: bars on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping

from autoseg.report.text import duration

SHOWN_LAYERS = 6
"""Layers of a kind that are named; the others stand in a file."""
LINE_INTERVAL_S = 10.0
"""Without a terminal, a line of progress at most this often."""


class Progress:
    """Progress of long work on standard error; a context manager."""

    def __init__(self) -> None:
        self._bars = None
        self._tasks: dict[str, object] = {}
        self._last_line: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "Progress":
        """Start drawing when there is a terminal."""
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bars = Bars(
                *columns,
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing."""
        if self._bars is not None:
            self._bars.stop()

    def update(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` parts of the work called `name` are done."""
        if self._bars is None:
            self._line(name, done, total, note)
            return
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note=note)
        self._bars.update(self._tasks[name], completed=done, total=total, note=note)  # type: ignore[arg-type]

    def _line(self, name: str, done: int, total: int, note: str) -> None:
        """Print a plain line, not too often."""
        now = time.monotonic()
        left = self._left(name, done, total, now)
        if done < total and now - self._last_line.get(name, 0.0) < LINE_INTERVAL_S:
            return
        self._last_line[name] = now
        parts = [part for part in (f"{name}: {done}/{total}", note, left) if part]
        print("  ".join(parts), file=sys.stderr, flush=True)

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
            print(
                f"{event['configuration']} fold {event['fold']} is not trained: "
                f"{event.get('reason', 'the budget is too short')}",
                file=sys.stderr,
                flush=True,
            )
        elif event.get("event") == "note":
            print(event["text"], file=sys.stderr, flush=True)
        elif event.get("event") == "initial":
            _print_initial(event)
        elif event.get("event") == "step":
            print(f"{event['name']} ...", file=sys.stderr, flush=True)
        elif "step" in event and "num_steps" in event:
            name = str(event.get("name", _fold_name(event)))
            self.update(name, _int(event["step"]), _int(event["num_steps"]), _note(event))


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


def _note(event: Mapping[str, object]) -> str:
    """Return loss, Dice, rate and speed of a training event, as far as they are there."""
    parts = [
        f"{label} {value:{form}}"
        for label, key, form in (
            ("loss", "loss", ".3f"),
            ("Dice", "dice", ".3f"),
            ("lr", "lr", ".1e"),
            ("patches/s", "patches_per_second", ".1f"),
        )
        if isinstance(value := event.get(key), float)
    ]
    return "  ".join(parts)
