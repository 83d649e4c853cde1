"""The eye on a fold while it trains: says what goes wrong, once, and leads the run back."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from torch import nn

from autoseg.errors import TrainingError, counted
from autoseg.evaluate.scores import CaseScore
from autoseg.evaluate.statistics import foreground_mean
from autoseg.train.checkpoint import copy_checkpoint
from autoseg.train.gradients import layer_gradients
from autoseg.train.guards import (
    LOST_TO_CONSTANT,
    LOWER_LR,
    Trouble,
    best_so_far,
    better,
    constant_output,
    gap,
    has_collapsed,
    lost_classes,
    only_background,
    weak_gradient,
)
from autoseg.train.job import FoldJob, Listeners
from autoseg.train.lines import keep_lines, read_lines
from autoseg.train.validation import Seen
from autoseg.workspace import append_line

LOG = logging.getLogger("autoseg")


class AstrayError(TrainingError):
    """A run has gone astray; its last good checkpoint can lead it back."""


class CollapseError(AstrayError):
    """A network that had found something finds nothing any more."""


def not_finite(job: FoldJob, what: str, step: int) -> AstrayError:
    """Return the error of a run in which `what`, such as "the loss", is no number any more."""
    return AstrayError(
        found=f"{job.name}: {what} is no longer a finite number at step {step}",
        expected="finite losses, gradients and weights",
        fix="look for extreme values with `autoseg check`, or lower the learning rate: "
        f"`autoseg plan --replan --set {job.configuration}.training.peak_lr=...`",
    )


@final
class Watch:
    """Looks at what a fold logs.

    What it has said and done is in the fold's events.jsonl, from which a resumed run goes on.

    Parameters
    ----------
    job, listeners
        Whose fold, and who is told.
    """

    def __init__(self, job: FoldJob, listeners: Listeners) -> None:
        self._job, self._listeners = job, listeners
        # A copy that is annealed goes on with what its fold has learnt about itself.
        events = keep_lines(replace(job, branch=None).folder.events)
        self._told = {
            (line["kind"], line["subject"]) for line in events if line["event"] == "trouble"
        }
        self._rollbacks = sum(line["event"] == "rolled back" for line in events)
        looks = read_lines(job.folder.metrics)
        self._best = best_so_far(looks)
        """Of each class."""
        self._best_mean = max((line["dice"] for line in looks if "dice" in line), default=-1.0)

    @property
    def lr_factor(self) -> float:
        """By how much the learning rate is lower than planned."""
        return LOWER_LR**self._rollbacks

    @property
    def may_go_back(self) -> bool:
        """Whether the run may go back to a checkpoint once more."""
        is_copy = self._job.branch is not None
        return not is_copy and self._rollbacks < self._job.planned.training.max_rollbacks

    def look(self, seen: Seen, model: nn.Module, *, step: int, progress: float) -> bool:
        """Judge a look at validation cases; return whether it is the best so far.

        Parameters
        ----------
        seen
            What the averaged weights find.
        model
            After a step, with its gradients.
        progress
            Part of the run that is done, 0 to 1.

        Raises
        ------
        CollapseError
            Everything that was found has been lost, and the run may go back.
        """
        dice, names = seen.dice, self._job.plan.labels.names
        if self.may_go_back and self._job.folder.best.exists():
            self._refuse_collapse(seen, step)
        troubles: list[Trouble | None] = [only_background(dice, step=step, progress=progress)]
        if seen.everywhere is not None:
            name = names[seen.everywhere]
            troubles.append(constant_output(name, step=step, progress=progress))
        if self._best:
            troubles += lost_classes(self._best, dice, names[1:], step)
        gradients = layer_gradients(model)
        if gradients is not None:
            troubles.append(weak_gradient(*gradients, step))
        for trouble in troubles:
            if trouble is not None:
                self.tell(trouble)
        self._best = better(self._best, dice)
        before, self._best_mean = self._best_mean, max(self._best_mean, _mean(dice))
        return _mean(dice) > before

    def _refuse_collapse(self, seen: Seen, step: int) -> None:
        """Raise an error if a network that had found something no longer tells voxels apart."""
        if has_collapsed(self._best, seen.dice):
            had = max(value or 0.0 for value in self._best)
            what = f"nothing is found any more at step {step}, where the Dice of a class was"
        elif seen.everywhere is not None and self._best_mean - _mean(seen.dice) > LOST_TO_CONSTANT:
            name = self._job.plan.labels.names[seen.everywhere]
            had = self._best_mean
            what = (
                f"nearly every voxel is given class {name} at step {step}, where the mean Dice was"
            )
        else:
            return
        raise CollapseError(
            found=f"{self._job.name}: {what} {had:.2f}",
            expected="a Dice that rises",
            fix="plan with a lower learning rate: `autoseg plan --replan --set "
            f"{self._job.configuration}.training.peak_lr=...`",
        )

    def tell(self, trouble: Trouble) -> None:
        """Write and say what goes wrong, unless it has been said."""
        if (trouble.kind, trouble.subject) in self._told:
            return
        self._told.add((trouble.kind, trouble.subject))
        append_line(
            self._job.folder.events, {"event": "trouble", **trouble.model_dump(mode="json")}
        )
        text = f"{self._job.name}: {trouble.found}. What helps: {trouble.fix}."
        LOG.warning("%s", text)
        self._listeners.on_progress({"event": "note", "text": text})

    def keep_best(self) -> None:
        """Keep the newest checkpoint as the best one."""
        copy_checkpoint(self._job.folder.last, self._job.folder.best)

    def prepare_return(self, error: AstrayError) -> None:
        """Choose the checkpoint to go back to; the newest one then is that.

        Raises
        ------
        AstrayError
            The run has gone back as often as it may.
        """
        if not self.may_go_back:
            raise _hopeless(error, self._rollbacks) if self._rollbacks else error
        folder = self._job.folder
        if isinstance(error, CollapseError):
            # The last two may have been written when much had been lost already.
            copy_checkpoint(folder.best, folder.last)
            folder.previous.unlink(missing_ok=True)

    def note_return(self, error: AstrayError, step: int, to_step: int) -> None:
        """Write and say that the run goes on from an earlier step with a lower learning rate."""
        self._rollbacks += 1
        line = {"event": "rolled back", "step": step, "to_step": to_step, "found": error.found}
        append_line(self._job.folder.events, {**line, "lr_factor": self.lr_factor})
        text = (
            f"{error.found}; it goes on from step {to_step} with {self.lr_factor:g} times the "
            "planned learning rate"
        )
        LOG.warning("%s", text)
        self._listeners.on_progress({"event": "note", "text": text})


def tell_gap(
    job: FoldJob,
    listeners: Listeners,
    train_dice: Sequence[float | None],
    scores: Sequence[CaseScore],
    *,
    step: int,
) -> None:
    """Say it if training cases were learnt by heart.

    Parameters
    ----------
    train_dice
        Of each foreground class on some training cases; empty where that is not known.
    scores
        Of the validation cases.
    """
    known = [value for value in train_dice if value is not None]
    if known and scores:
        trouble = gap(sum(known) / len(known), foreground_mean(scores), step)
        if trouble is not None:
            Watch(job, listeners).tell(trouble)


def _hopeless(error: AstrayError, rollbacks: int) -> AstrayError:
    """Return the error of a run that went astray again."""
    return type(error)(
        found=f"{error.found}, after going back to a checkpoint {counted(rollbacks, 'time')}",
        expected=error.expected,
        fix=error.fix,
    )


def _mean(dice: Sequence[float | None]) -> float:
    """Return the mean of what is known, -1 where nothing is."""
    known = [value for value in dice if value is not None]
    return sum(known) / len(known) if known else -1.0
