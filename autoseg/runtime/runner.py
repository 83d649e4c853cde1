"""An artifact at work: from image files to label files, without training code."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .cases import InputCase, Outcome, Summary, check_outputs, find_cases, name_output
from .errors import AutosegError
from .governor import Governor, Memory, Room
from .images import (
    VOLUME_FORMATS,
    Image,
    file_ending,
    read_image,
    write_labels,
    write_probabilities,
)
from .memory import Demand
from .model import ACCURATE as ACCURATE
from .model import BALANCED as BALANCED
from .model import EFFORTS as EFFORTS
from .model import FAST as FAST
from .model import Effort as Effort
from .model import Model as Model
from .prepare import Prepared
from .provenance import Maker, describe_maker, record_file, refuse_foreign

LOG = logging.getLogger("autoseg")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How files are predicted."""

    effort: Effort = BALANCED
    probabilities: bool = False
    """Write the probability of each class too."""
    overwrite: bool = False
    """Write again what is there already; else only files that are missing are written."""
    missing: tuple[int, ...] = ()
    """Channels that are absent (see `parse_missing`)."""
    ram: int | None = None
    """Bytes that the process may take; None: most of what the machine or container has."""


def predict_files(
    model: Model,
    inputs: Sequence[Path],
    output: Path,
    options: PredictOptions,
    on_case: Callable[[Outcome, int, int], None] = lambda *_: None,
    failed: Sequence[Outcome] = (),
) -> Summary:
    """Predict files and folders into `output`; a case that fails does not stop the others.

    `output` is a folder, or the label file of a single image.

    The next image is read and prepared while one is predicted, never more than one ahead, and only
    where memory holds both. Large arrays go to files in `output` where memory does not suffice.

    Parameters
    ----------
    on_case
        Called after each case with its outcome, how many are finished, and how many there are.
    failed
        Cases that came to nothing before: they are told and counted with the others.

    Raises
    ------
    AutosegError
        `output` cannot be written, is one file for several images, or holds a file that would be
        kept and that this model, with these options, has not made.
    """
    manifest = model.manifest
    cases, unfit = find_cases(
        inputs, manifest.channel_files, len(manifest.channels), options.missing
    )
    cases, output = name_output(cases, len(failed) + len(unfit), output)
    cases, refused = check_outputs(cases, output)
    known = [*failed, *unfit, *refused]
    maker = describe_maker(manifest, options.effort, options.missing)
    targets = _Targets(model, output, options, maker)
    refuse_foreign(output, [path for case in cases for path in targets.kept(case)], targets.maker)
    _make_folder(output)
    total = len(cases) + len(known)
    outcomes: list[Outcome] = []
    for outcome in _outcomes(known, cases, targets):
        outcomes.append(outcome)
        on_case(outcome, len(outcomes), total)
    return Summary(tuple(outcomes))


@dataclass(frozen=True)
class _Targets:
    """Which files a model writes for a case, and where."""

    model: Model
    output: Path
    options: PredictOptions
    maker: Maker

    def labels(self, case: InputCase) -> Path:
        """Return the file of a case's labels."""
        return self.output / case.output_name

    def beside(self, case: InputCase) -> Path:
        """Return the file of the probabilities that belong to the labels: 2D formats hold none."""
        target = self.labels(case)
        ending = file_ending(target)
        stem = target.name[: -len(ending)]
        is_volume = self.model.manifest.dimensions == 3 and ending in VOLUME_FORMATS
        return target.with_name(stem + ("_probabilities" + ending if is_volume else ".npz"))

    def missing(self, case: InputCase) -> list[Path]:
        """Return the files that are to be written: the labels, and what was asked besides."""
        kept = self.kept(case)
        return [path for path in self._asked(case) if path not in kept]

    def kept(self, case: InputCase) -> list[Path]:
        """Return the files that are there and stay as they are."""
        if self.options.overwrite:
            return []
        return [path for path in self._asked(case) if path.exists()]

    def _asked(self, case: InputCase) -> list[Path]:
        paths = [self.labels(case)]
        return [*paths, self.beside(case)] if self.options.probabilities else paths


def _outcomes(known: list[Outcome], cases: list[InputCase], targets: _Targets) -> Iterator[Outcome]:
    yield from known
    waiting = []
    for case in cases:
        if targets.missing(case):
            waiting.append(case)
        else:
            yield Outcome(case.case_id, "skipped", targets.labels(case))
    for item in _read_ahead(waiting, targets):
        yield _predict_case(item, targets)


@dataclass(frozen=True)
class _Ready:
    """A case whose image has been read, or could not be."""

    case: InputCase
    image: Future[tuple[Image, list[Prepared]]]
    demand: Demand | None
    """What it takes, as far as its header told."""
    governor: Governor


def _read_ahead(cases: list[InputCase], targets: _Targets) -> Iterator[_Ready]:
    """Yield each case with its image, read and prepared in a thread, at most one case ahead."""
    options = targets.options
    room = Room.of(options.ram, targets.output)
    memory = Memory(
        targets.model.manifest, room, options.effort, probabilities=options.probabilities
    )

    def read(case: InputCase, demand: Demand | None) -> tuple[Image, list[Prepared]]:
        if demand is not None:
            memory.refuse(demand)
        return _read(case, targets.model, options.missing)

    ahead, demand = None, memory.demand(cases[0].paths) if cases else None
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        for index, case in enumerate(cases):
            following = cases[index + 1] if index + 1 < len(cases) else None
            current = ahead or pool.submit(read, case, demand)
            current.exception()  # waits, so that reading never gets two cases ahead
            after = memory.demand(following.paths) if following is not None else None
            both = memory.holds_both(demand, after)
            ahead = pool.submit(read, following, after) if following is not None and both else None
            governor = memory.governor(demand, after if both else None)
            yield _Ready(case, current, demand, governor)
            memory.learn(governor)
            demand = after
            del current


def _read(case: InputCase, model: Model, missing: tuple[int, ...]) -> tuple[Image, list[Prepared]]:
    """Return a case's image, without its voxels, and what the configurations take."""
    image = read_image(case.paths)
    try:
        parts = model.prepare(image, missing)
    except AutosegError as error:
        names = ", ".join(str(path) for path in case.paths)
        found = f"{names}: {error.found}"
        raise AutosegError(found=found, expected=error.expected, fix=error.fix) from None
    return replace(image, array=image.array[:0]), parts


def _predict_case(item: _Ready, targets: _Targets) -> Outcome:
    """Predict and write one case; whatever goes wrong becomes its outcome."""
    case = item.case
    done = partial(Outcome, case.case_id)
    missing, options = targets.missing(case), targets.options
    labels, beside = targets.labels(case), targets.beside(case)
    try:
        image, parts = item.image.result()
        result = targets.model.predict_prepared(
            parts,
            options.effort,
            probabilities=options.probabilities,
            scratch=item.governor,
        )
        if labels in missing:
            write_labels(labels, result.labels, image.geometry)
            record_file(labels, targets.maker)
        if result.probabilities is not None and beside in missing:
            write_probabilities(beside, result.probabilities, image.geometry)
            record_file(beside, targets.maker)
    except AutosegError as error:
        return done("failed", message=str(error))
    except MemoryError:
        return done("failed", message=_too_little(item.demand))
    except Exception as error:
        LOG.exception("%s failed", case.case_id)
        return done("failed", message=f"{type(error).__name__}: {error}")
    return done("done", labels)


def _too_little(demand: Demand | None) -> str:
    """Return what to say where memory ran out in spite of all."""
    size = "" if demand is None else f" (about {demand.peak / 1e9:.1f} GB were expected)"
    return (
        f"not enough memory for this image{size}; with --ram below what is free, large arrays go "
        "to files"
    )


def _make_folder(folder: Path) -> None:
    if folder.is_file():
        stem = folder.name.partition(".")[0]
        raise AutosegError(
            found=f"{folder} is a file",
            expected="a folder: each image gets a file of its name there",
            fix=f"name a folder instead, for example {folder.with_name(stem + '_labels')}",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AutosegError(
            found=f"the folder {folder} cannot be made: {error.strerror or error}",
            expected="a folder that can be written",
            fix="choose another output folder",
        ) from error
