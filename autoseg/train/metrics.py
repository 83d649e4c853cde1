"""The record of a run: metrics.jsonl, read by the report, the monitor and the display."""

import math
import time
from typing import final

import torch

from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines
from autoseg.train.loop import StepResult
from autoseg.train.records import RunSettings
from autoseg.train.waiting import Waiting
from autoseg.train.watch import not_finite
from autoseg.workspace import append_line

NUM_LINES = 200
"""Lines of a whole run, about."""
MAX_INTERVAL = 250
"""Steps that one line covers at most: an epoch."""
PROGRESS_INTERVAL_S = 1.0


@final
class Metrics:
    """Gathers what steps did, on the device, and writes a line an interval.

    Parameters
    ----------
    job, listeners
        Whose fold, and who is told.
    settings
        Of the run.
    step
        Steps done; later lines of an interrupted run are dropped.
    """

    def __init__(
        self, job: FoldJob, listeners: Listeners, *, settings: RunSettings, step: int
    ) -> None:
        self._job = job
        self._listeners = listeners
        self._interval = min(MAX_INTERVAL, max(1, settings.num_steps // NUM_LINES))
        self._is_scaled = settings.precision == "fp16"
        self._last_line = step
        self._told_step, self._told = step, time.monotonic()
        self._loss: torch.Tensor | None = None
        self._norm: torch.Tensor | None = None
        self._dice: float | None = None
        self.waiting = Waiting()
        """Of the batches that the run takes through it."""
        keep_lines(job.folder.metrics, lambda line: line["step"] <= step)

    def add(self, result: StepResult) -> None:
        """Take in a step without waiting for the device."""
        self._loss = result.loss if self._loss is None else self._loss + result.loss
        norm = result.gradient_norm
        self._norm = norm if self._norm is None else self._norm + norm

    def is_due(self, step: int) -> bool:
        """Return whether a line is due after this step."""
        return step - self._last_line >= self._interval

    def write(
        self, result: StepResult, *, num_steps: int, elapsed_s: float, dice: list[float | None]
    ) -> None:
        """Write a line and tell the listener."""
        loss, norm = self.check(result.step)
        line: dict[str, object] = {
            "step": result.step,
            "num_steps": num_steps,
            "loss": loss,
            "lr": result.lr,
            "gradient_norm": norm if math.isfinite(norm) else None,
            "seconds": round(elapsed_s, 3),
            "waiting": round(self.waiting.share(), 3),
        }
        known = [value for value in dice if value is not None]
        if known:
            self._dice = sum(known) / len(known)
            line |= {"dice": self._dice, "class_dice": dice}
        append_line(self._job.folder.metrics, line)
        self._last_line = result.step
        self._loss, self._norm = None, None
        self._tell({**line, "dice": self._dice}, result.step)

    def tell(self, result: StepResult, num_steps: int) -> None:
        """Tell the listener where the run stands, between lines and not too often."""
        if time.monotonic() - self._told < PROGRESS_INTERVAL_S:
            return
        self._tell(
            {"step": result.step, "num_steps": num_steps, "lr": result.lr, "dice": self._dice},
            result.step,
        )

    def check(self, step: int) -> tuple[float, float]:
        """Return the means of loss and gradient norm since the last line.

        Raises
        ------
        AstrayError
            One of the losses was not a finite number, or a gradient (whose step was left out).
        """
        if self._loss is None or self._norm is None:
            return 0.0, 0.0
        count = max(1, step - self._last_line)
        loss, norm = self._loss.item() / count, self._norm.item() / count
        # In fp16 an infinite gradient is everyday life: the scaler leaves out the step.
        if math.isfinite(loss) and (math.isfinite(norm) or self._is_scaled):
            return loss, norm
        raise not_finite(self._job, "the loss" if not math.isfinite(loss) else "a gradient", step)

    def _tell(self, line: dict[str, object], step: int) -> None:
        now = time.monotonic()
        rate = (step - self._told_step) * self._job.planned.batch_size / (now - self._told)
        self._told_step, self._told = step, now
        place: dict[str, object] = {
            "event": "trained",
            **self._job.place,
            "patches_per_second": rate,
        }
        self._listeners.on_progress(place | line)
