"""Trials proposed by Optuna's TPE, kept in a journal file: the only module that knows Optuna.

The file opens in optuna-dashboard. Nothing here trains: `autoseg.pipeline` asks and tells.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import final

from optuna import Study as OptunaStudy
from optuna import Trial as OptunaTrial
from optuna import create_study, load_study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.importance import get_param_importances
from optuna.logging import WARNING, set_verbosity
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autoseg.errors import PlanError
from autoseg.plan.search_space import Dimension, Values, neighbours
from autoseg.plan.searcher import PRIORS, Ended, Origin, Study, Trial, Witness
from autoseg.seeds import stream_seed

STUDY = "autoseg"
ORIGIN, EARLY, OUTCOME, FOLDER = "origin", "early", "outcome", "folder"
TRIES, DEPTH, MEMORY_KILLS = "tries", "depth", "memory kills"
"""Names of what is kept with the study and its trials. `TRIES`: how often in a row the process of a
trial ended without getting further than `DEPTH`."""
NUM_RANDOM = 5
"""Trials before TPE has something to learn from; few, because there are few in all."""
MIN_IMPORTANCES = 6
"""Completed trials without which importances would be noise."""
MAX_TRIES = 5
"""A trial whose process ended this often in a row, never further than before, is not tried again.
A kill from outside is no fault of the trial, but one that ends its process itself must end once."""
MAX_TRIES_MEMORY = 2
"""The same where the system has ended processes meanwhile because memory had run out."""
PRIORS_EACH, PRIORS_ALL = 2, 4
"""Early trials that one earlier study, and all of them, may propose."""
LARGEST_SEED = 2**32


def open_study(
    path: Path,
    origin: Origin,
    space: Sequence[Dimension],
    *,
    seed: int,
    witness: Witness,
    priors: Sequence[Path] = (),
) -> Study:
    """Return the study in a file, a new one if there is none (see `autoseg.plan.searcher`)."""
    set_verbosity(WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    mend(path)
    try:
        study = create_study(
            storage=_storage(path), study_name=STUDY, direction="maximize", load_if_exists=True
        )
        known = study.user_attrs.get(ORIGIN)
        before = None if known is None else Origin.model_validate(known)
    except (ValueError, KeyError, OSError) as error:
        raise _unreadable(path, error) from error
    found = JournalStudy(study, space, seed)
    if before is None:
        found.begin(origin, {str(prior): proposals(prior, space) for prior in priors})
    else:
        _require_same(path, before, origin)
        found.recover(witness)
    if witness.memory_kills is not None:
        found.keep(MEMORY_KILLS, str(witness.memory_kills))
    return found


def mend(path: Path) -> None:
    """Cut off what a killed process or a lost disk has left of the last lines.

    The next line would be appended to it, and then nothing could be read.

    Raises
    ------
    PlanError
        The first line is no entry: the file is no study, and stays as it is.
    """
    if not path.exists():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    if lines and lines[0].endswith(b"\n") and not _is_entry(lines[0]):
        raise _unreadable(path, ValueError("its first line is no entry"))
    whole = len(lines)
    while whole and not _is_entry(lines[whole - 1]):
        whole -= 1
    if whole < len(lines):
        with path.open("r+b") as file:
            file.truncate(sum(map(len, lines[:whole])))


def _is_entry(line: bytes) -> bool:
    """Return whether a line of a journal is whole."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def proposals(path: Path, space: Sequence[Dimension]) -> list[Values]:
    """Return what did better than the plan in an earlier study, best first, as far as it fits here.

    Values are relative to a plan (twice its learning rate, another loss), so that they mean
    something for other data as well. They are only tried early: naively taken over, winners of one
    data set fail on others (Auto-nnU-Net, arXiv 2505.16561).

    Raises
    ------
    PlanError
        The file is no study of ours.
    """
    if not path.is_file():
        raise _unreadable(path, FileNotFoundError("no such file"))
    try:
        study = load_study(study_name=STUDY, storage=_storage(path))
        Origin.model_validate(study.user_attrs[ORIGIN])
    except (ValueError, KeyError, OSError) as error:
        raise _unreadable(path, error) from error
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    planned = [_value(trial) for trial in complete if _folder(trial) == 0]
    better = [trial for trial in complete if planned and _value(trial) > planned[0]]
    better.sort(key=_value, reverse=True)
    found = [_fitted(trial.params, space) for trial in better]
    usual = {item.name: item.default for item in space}
    return [values for values in found if values != usual][:PRIORS_EACH]


@final
class JournalStudy:
    """An Optuna study as `autoseg.plan.searcher.Study`."""

    def __init__(self, study: OptunaStudy, space: Sequence[Dimension], seed: int) -> None:
        self._study, self._space, self._seed = study, space, seed
        self._running: dict[int, OptunaTrial] = {}

    def begin(self, origin: Origin, proposed: Mapping[str, Sequence[Values]]) -> None:
        """Say what is tried first, the plan as it is, and what the study is about.

        Parameters
        ----------
        proposed
            By earlier studies, by their files.
        """
        usual = {item.name: item.default for item in self._space}
        foreign = [(name, values) for name, found in proposed.items() for values in found]
        foreign = foreign[:PRIORS_ALL]
        early: list[Values] = []
        for values in (usual, *(item for _, item in foreign), *neighbours(self._space)):
            if values not in early:
                early.append(values)
        taken = {name: sum(other == name for other, _ in foreign) for name in proposed}
        self._study.set_user_attr(EARLY, early)
        self._study.set_user_attr(PRIORS, json.dumps(taken))
        self._study.set_user_attr(ORIGIN, origin.model_dump(mode="json"))

    def recover(self, witness: Witness) -> None:
        """Mark what a dead process has left running as failed, and enqueue it again.

        Not for ever: see `MAX_TRIES`.
        """
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            known = _ended(trial)
            if known.state == "complete":  # it died just before it could say so
                self._study.tell(trial.number, known.score)
                continue
            if known.state in ("running", "interrupted"):
                self._recover(trial, witness)
            self._study.tell(trial.number, state=TrialState.FAIL)

    def _recover(self, trial: FrozenTrial, witness: Witness) -> None:
        """Enqueue a trial again whose process died, or keep why it is given up."""
        before, depth = trial.user_attrs.get(DEPTH, 0), witness.progress(_folder(trial))
        tries = 1 if depth > before else trial.user_attrs.get(TRIES, 0) + 1
        cause = self._cause(tries, witness)
        if cause is None:
            self._enqueue_again(trial, tries, max(depth, before))
            return
        ended = Ended(state="failed", reason=cause)
        OptunaTrial(self._study, trial._trial_id).set_user_attr(OUTCOME, asdict(ended))

    def _cause(self, tries: int, witness: Witness) -> str | None:
        """Return why a trial is not tried again; None: it is."""
        before, now = self.kept(MEMORY_KILLS), witness.memory_kills
        ran_out = now is not None and before is not None and now > int(before)
        if tries < (MAX_TRIES_MEMORY if ran_out else MAX_TRIES):
            return None
        times = f"its process ended {tries} times without getting further"
        if ran_out:
            return f"{times}, and the system has ended processes because memory had run out"
        return f"{times}: it was killed, or memory ran out; the system does not say which"

    def ask(self) -> Trial:
        """Return the next trial to train."""
        # A sampler for each trial: an interrupted search proposes what it would have proposed.
        seed = stream_seed(self._seed, "search", self._num_ended()) % LARGEST_SEED
        self._study.sampler = TPESampler(seed=seed, n_startup_trials=NUM_RANDOM, multivariate=True)
        self._enqueue_early()
        trial = self._study.ask(self._distributions())
        self._running[trial.number] = trial
        return _trial(self._study.get_trials(deepcopy=False)[trial.number])

    def constrain(self, number: int, excesses: Mapping[str, float]) -> None:
        """Keep by how much a running trial exceeds each limit."""
        for name, excess in excesses.items():
            self._running[number].set_constraint(name, excess)

    def look(self, number: int, rung: float, dice: float) -> None:
        """Keep the first Dice of a running trial at a rung, in per cent of its length."""
        step = round(100 * rung)
        if step not in self._study.get_trials(deepcopy=False)[number].intermediate_values:
            self._running[number].report(dice, step)

    def tell(self, number: int, ended: Ended) -> None:
        """Keep how a running trial ended; one that was interrupted is enqueued again.

        What a plan cannot do, by its memory or its learning rate, is told as pruned and outside
        the limits: the sampler passes over failed trials, and would propose the like again.
        """
        trial = self._running.pop(number)
        trial.set_user_attr(OUTCOME, asdict(ended))
        if ended.state == "complete":
            self._study.tell(trial, ended.score)
        elif ended.state == "interrupted":
            frozen = self._study.get_trials(deepcopy=False)[number]
            tries, depth = (frozen.user_attrs.get(name, 0) for name in (TRIES, DEPTH))
            self._enqueue_again(frozen, tries, depth)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            if ended.state == "failed":
                trial.set_constraint("trainable", 1.0)
            self._study.tell(trial, state=TrialState.PRUNED)

    def trials(self) -> tuple[Trial, ...]:
        """Return all trials that were begun, in order."""
        found = self._study.get_trials(deepcopy=False)
        return tuple(_trial(item) for item in found if item.state != TrialState.WAITING)

    def importances(self) -> dict[str, float]:
        """Return which part of the scores' variance each dimension explains (PED-ANOVA)."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(complete) < MIN_IMPORTANCES or len({trial.value for trial in complete}) == 1:
            return {}
        found = get_param_importances(self._study)
        return {name: float(part) for name, part in found.items() if math.isfinite(part)}

    def kept(self, key: str) -> str | None:
        """Return a text that was kept with the study."""
        return self._study.user_attrs.get(key)

    def keep(self, key: str, text: str) -> None:
        """Keep a text with the study."""
        self._study.set_user_attr(key, text)

    def _distributions(self) -> dict[str, BaseDistribution]:
        return {item.name: _distribution(item) for item in self._space}

    def _num_ended(self) -> int:
        """Return how many trials were not interrupted."""
        return sum(trial.ended.state != "interrupted" for trial in self.trials())

    def _enqueue_early(self) -> None:
        """Enqueue the next trial of the early ones, unless one is waiting to be gone on with."""
        trials = self._study.get_trials(deepcopy=False)
        early = self._study.user_attrs[EARLY]
        begun = sum(_folder(trial) == trial.number for trial in trials)
        if begun < len(early) and all(trial.state != TrialState.WAITING for trial in trials):
            self._study.enqueue_trial(early[begun])

    def _enqueue_again(self, trial: FrozenTrial, tries: int, depth: int) -> None:
        folder = _folder(trial)
        waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        if any(other.user_attrs.get(FOLDER) == folder for other in waiting):
            return  # its process died just after it had done so
        # Of a process that died while it asked, only what was enqueued is known.
        values = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        self._study.enqueue_trial(values, user_attrs={FOLDER: folder, TRIES: tries, DEPTH: depth})


def _trial(trial: FrozenTrial) -> Trial:
    return Trial(
        number=trial.number,
        values=dict(trial.params),
        ended=_ended(trial),
        folder=_folder(trial),
        looks={step / 100: dice for step, dice in trial.intermediate_values.items()},
    )


def _ended(trial: FrozenTrial) -> Ended:
    """Return how a trial ended, as it was told, or as the process that died could not tell."""
    if OUTCOME in trial.user_attrs:
        return Ended(**trial.user_attrs[OUTCOME])
    if trial.state != TrialState.FAIL:
        return Ended(state="running")
    return Ended(state="interrupted", reason="its process ended")


def _folder(trial: FrozenTrial) -> int:
    return trial.user_attrs.get(FOLDER, trial.number)


def _distribution(item: Dimension) -> BaseDistribution:
    if item.options:
        return CategoricalDistribution(item.options)
    return FloatDistribution(item.low, item.high, log=item.is_log)


def _fitted(params: Mapping[str, object], space: Sequence[Dimension]) -> Values:
    """Return a point of this space: what it does not have stays as planned."""
    fitted: dict[str, float | str] = {}
    for item in space:
        value = item.clipped(params[item.name]) if item.name in params else None
        fitted[item.name] = item.default if value is None else value
    return fitted


def _value(trial: FrozenTrial) -> float:
    return -math.inf if trial.value is None else trial.value


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _require_same(path: Path, found: Origin, wanted: Origin) -> None:
    """Raise an error if a study is of another data set, plan, fold, length or space."""
    other = next(_differences(found, wanted), None)
    if other is None:
        return
    raise PlanError(
        found=f"{path} is a study of {other[0]}",
        expected=other[1],
        fix=f"to search anew, move the folder {path.parent} away (its study can be given with "
        "--prior), or use another workspace (-w)",
    )


def _differences(found: Origin, wanted: Origin) -> Iterator[tuple[str, str]]:
    """Yield what a study is of, and what it should be of, the gravest first."""
    if found.fingerprint_digest != wanted.fingerprint_digest:
        name = f"data set {found.dataset_name}"
        same = " as it was then" if found.dataset_name == wanted.dataset_name else ""
        yield f"{name}{same}", f"one of {wanted.dataset_name} as it is planned now"
    if found.plan_digest != wanted.plan_digest:
        yield "another plan of this data set", "one of the plan in plan.json"
    if found.space_version != wanted.space_version:
        yield "another version's choices", "one of this version of autoseg"
    for name in ("configuration", "fold", "steps"):
        old, new = getattr(found, name), getattr(wanted, name)
        if old != new:
            yield f"{name} {_text(old)}", f"{name} {_text(new)}, as it is asked for now"


def _text(value: object) -> str:
    return "by time" if value is None else str(value)


def _unreadable(path: Path, error: Exception) -> PlanError:
    return PlanError(
        found=f"{path} cannot be read as a study of autoseg: {error}",
        expected="the file search/study.journal that a search has written",
        fix="correct the path; or, if it is damaged, move it away and search anew",
    )
