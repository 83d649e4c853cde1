"""A few out-of-fold cases, predicted again with other tiles or mirroring.

What a case costs is counted in training steps, so that which cases are taken depends on no clock;
a budget limits the seconds besides.

Letters in shapes: K foreground classes, S image axes.
"""

import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from autoseg.dataset.annotated import without_unknown
from autoseg.dataset.case import read_classes
from autoseg.dataset.dataset import Case
from autoseg.ensemble.choose import Member
from autoseg.ensemble.effort import Outcomes, Setting
from autoseg.ensemble.stored import Source
from autoseg.ensemble.weights import class_dice
from autoseg.errors import AutosegError
from autoseg.evaluate.scores import CaseScore
from autoseg.infer.predict import count_tiles, load_network, mirroring
from autoseg.runtime.prepare import Placement
from autoseg.runtime.restore import restore_rows
from autoseg.seeds import stream
from autoseg.train.checkpoint import load_weights
from autoseg.train.device import check_device
from autoseg.train.job import FoldJob
from autoseg.train.lines import Line, keep_lines
from autoseg.train.probe import execution_of
from autoseg.train.records import FoldResult, RunSettings
from autoseg.train.validation import CASE_S, VALUE_S, predict_case, prediction_work
from autoseg.workspace import append_line

AGAIN_FRACTION = 0.03
"""Part of the steps that a configuration was trained for, and of a budget, that this may cost."""
MAX_PATIENTS = 100


@final
class Again:
    """The out-of-fold cases of a member that are predicted again: one a patient, folds in turns.

    Every case with every setting is a line in its fold's folder, so that nothing is done twice.

    Raises
    ------
    AutosegError
        The weights or prepared cases of a fold are no longer there, or not its device.
    """

    def __init__(self, source: Source, member: Member) -> None:
        self._source = source
        self._folds = {fold: _Fold(source, member.configuration, fold) for fold in member.folds}
        self._planned = Setting.of(source.plan.configuration(member.configuration).recipe)
        self._drawn = list(self._draw())

    @property
    def num_patients(self) -> int:
        """How many there are to predict at most."""
        return len(self._drawn)

    def calls(self, settings: Sequence[Setting], count: int | None = None) -> tuple[int, ...]:
        """Return how many tiles the first `count` cases take with each setting."""
        return tuple(
            sum(fold.calls(case.id, setting) for fold, case in self._drawn[:count])
            for setting in settings
        )

    def affordable(self, settings: Sequence[Setting], part: float) -> int:
        """Return how many cases may be predicted, with a part of what predicting may cost."""
        left = part * AGAIN_FRACTION * sum(fold.result.num_steps for fold in self._folds.values())
        for count, (fold, case) in enumerate(self._drawn):
            wanted = [item for item in settings if item != self._planned]
            left -= sum(fold.work(case.id, setting) for setting in wanted)
            if left < 0:
                return count
        return len(self._drawn)

    def predict(
        self, settings: Sequence[Setting], count: int, limit_s: float | None
    ) -> tuple[Outcomes, float]:
        """Return how the first `count` cases come out, and the seconds of all lines so far.

        Fewer cases where that has taken `limit_s`, earlier calls included. The plan's setting is
        scored as validation did.

        Raises
        ------
        Interrupted
            The user has asked to stop; what is done is kept.
        """
        spent = sum(fold.seconds for fold in self._folds.values())
        rows: list[list[NDArray[np.float64]]] = []
        for fold, case in self._drawn[:count]:
            row = []
            for setting in settings:
                self._source.listeners.stop_if_asked("the choice of mirroring and tiles")
                if setting == self._planned:
                    row.append(fold.validated(case.id))
                    continue
                if not fold.has(case.id, setting) and limit_s is not None and spent >= limit_s:
                    break
                before = fold.seconds
                row.append(fold.dice(case, setting))
                spent += fold.seconds - before
            if len(row) < len(settings):
                break
            rows.append(row)
        done = self._drawn[: len(rows)]
        num_classes = self._source.num_classes - 1
        outcomes = Outcomes(
            table=np.array(rows).reshape(len(rows), len(settings), num_classes),
            calls=self.calls(settings, len(rows)),
            folds=tuple(fold.name for fold, _ in done),
            patients=tuple(case.group for _, case in done),
        )
        return outcomes, spent

    def _draw(self) -> Iterator[tuple["_Fold", Case]]:
        taken: set[str] = set()
        by_fold = []
        for fold in self._folds.values():
            order = stream(self._source.plan.seed, "again", fold.name).permutation(len(fold.scores))
            cases = [self._source.cases[list(fold.scores)[index]] for index in order]
            own = []
            for case in cases:
                if case.group not in taken and np.isfinite(fold.validated(case.id)).any():
                    taken.add(case.group)
                    own.append((fold, case))
            by_fold.append(own)
        turns = itertools.chain.from_iterable(itertools.zip_longest(*by_fold))
        yield from itertools.islice(filter(None, turns), MAX_PATIENTS)


@final
class _Fold:
    """A trained fold and the cases that it has not seen."""

    def __init__(self, source: Source, configuration: str, fold: str) -> None:
        self._source, self.name = source, fold
        folder = source.workspace.fold(configuration, fold)
        self.result = FoldResult.load(folder.result)
        self._settings = RunSettings.load(folder.settings)
        check_device(self._settings.device)
        self.scores: dict[str, CaseScore] = {item.case_id: item for item in self.result.scores}
        self._job = FoldJob(
            plan=source.plan,
            dataset=source.dataset,
            root=source.workspace.root,
            configuration=configuration,
            fold=fold,
            train_cases=(),
            val_cases=tuple(self.scores),
            device=self._settings.device,
            num_threads=self._settings.num_threads,
        )
        if not folder.final.is_file():
            raise AutosegError(
                found=f"no weights in {folder.root}",
                expected="those of a trained fold",
                fix=f"delete {folder.result} and run `autoseg train` again",
            )
        for case_id in self.scores:
            self._job.store.info(case_id)
        with folder.final.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines = keep_lines(folder.again, self._is_ours)
        self._lines = {(line["case_id"], _setting(line)): line for line in lines}

    @property
    def seconds(self) -> float:
        """Of all predictions so far."""
        return sum(line["seconds"] for line in self._lines.values())

    def validated(self, case_id: str) -> NDArray[np.float64]:
        """Return the (K,) Dice of a case as planned; NaN where nothing counts."""
        values = [item.dice for item in self.scores[case_id].classes]
        return np.array([np.nan if value is None else value for value in values])

    def has(self, case_id: str, setting: Setting) -> bool:
        """Return whether a case is predicted already."""
        return (case_id, setting) in self._lines

    def dice(self, case: Case, setting: Setting) -> NDArray[np.float64]:
        """Return the (K,) Dice of a case with a setting, predicted now unless it was before."""
        if not self.has(case.id, setting):
            self._predict(case, setting)
        values = self._lines[case.id, setting]["dice"]
        return np.array([np.nan if value is None else value for value in values])

    def calls(self, case_id: str, setting: Setting) -> int:
        """Return how many tiles go through the network."""
        planned = self._job_with(setting).planned
        shape = self._job.store.info(case_id).shape[1:]
        return 2 ** len(mirroring(planned)) * count_tiles(shape, planned)

    def work(self, case_id: str, setting: Setting) -> float:
        """Return what predicting and scoring a case costs, in training steps."""
        job = self._job_with(setting)
        values = math.prod(job.store.info(case_id).shape[1:]) * job.planned.network.num_classes
        fixed = (CASE_S + VALUE_S * values) / job.planned.cost.step_seconds
        return 2 ** len(mirroring(job.planned)) * prediction_work(job, case_id) + fixed

    def _predict(self, case: Case, setting: Setting) -> None:
        start = time.monotonic()
        job = self._job_with(setting)
        execution = execution_of(self._settings)
        rows = predict_case(job, self._network, execution, case.id)
        placement = Placement.from_dict(job.store.info(case.id).placement)
        labels, _ = restore_rows(rows, placement)
        labels = without_unknown(labels, case, self._source.plan.labels, fill=0)
        reference = read_classes(self._source.dataset, case)
        found = class_dice(labels, reference, self._source.num_classes)
        line = {
            "weights": self._digest,
            "case_id": case.id,
            "overlap": setting.overlap,
            "mirrored": setting.mirrored,
            "dice": [float(value) if np.isfinite(value) else None for value in found],
            "seconds": time.monotonic() - start,
        }
        append_line(job.folder.again, line)
        self._lines[case.id, setting] = line

    def _job_with(self, setting: Setting) -> FoldJob:
        if setting not in self._jobs:
            plan = self._source.plan
            changes = {"overlap": setting.overlap, "test_time_mirroring": setting.mirrored}
            configurations = tuple(
                item.revised(recipe=replace(item.recipe, **changes))
                if item.name == self._job.configuration
                else item
                for item in plan.configurations
            )
            changed = plan.revised(configurations=configurations)
            self._jobs[setting] = replace(self._job, plan=changed)
        return self._jobs[setting]

    @cached_property
    def _jobs(self) -> dict[Setting, FoldJob]:
        return {}

    @cached_property
    def _network(self) -> nn.Module:
        weights, _ = load_weights(self._job.folder.final, self._source.plan.digest())
        model = load_network(self._job.planned.network, weights)
        return execution_of(self._settings).place(model)

    def _is_ours(self, line: Line) -> bool:
        wanted = {"weights", "case_id", "overlap", "mirrored", "dice", "seconds"}
        return wanted <= line.keys() and line["weights"] == self._digest


def _setting(line: Line) -> Setting:
    return Setting(line["overlap"], line["mirrored"])
