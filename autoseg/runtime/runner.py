"""An artifact at work: from image files to label files, without training code."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .cases import (
    InputCase,
    Outcome,
    Summary,
    case_name,
    check_outputs,
    find_cases,
    name_output,
)
from .errors import AutosegError
from .governor import Governor, Memory, Room
from .images import Image, is_store, write_labels
from .loading import Loader, Source
from .memory import Demand
from .model import ACCURATE as ACCURATE
from .model import BALANCED as BALANCED
from .model import EFFORTS as EFFORTS
from .model import FAST as FAST
from .model import Effort as Effort
from .model import Model as Model
from .model import values_table
from .prepare import Prepared
from .probability_files import probabilities_path, write_probabilities
from .provenance import Maker, describe_maker, record_file, refuse_foreign
from .stream import label_rows
from .stream_files import NoStores, Stores, label_sink

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
    stores: Stores = field(default_factory=NoStores)
    """Reads and writes folders that are one image."""


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


def predict_case(
    model: Model, paths: Sequence[Path], output: Path, options: PredictOptions
) -> Path:
    """Predict one image as `predict_files` does, and return the file of its labels.

    Parameters
    ----------
    paths
        One file, or one a channel, in the model's order.
    output
        The label file, or a folder. What is there is replaced.

    Raises
    ------
    AutosegError
        The image is not one that the model takes, or needs more memory than there may be; or
        `output` cannot be written or would replace the image.
    """
    options = replace(options, overwrite=True)
    case = InputCase(case_name(paths[0], model.manifest.channel_files), tuple(paths))
    (case,), folder = name_output([case], 0, output)
    _, refused = check_outputs([case], folder)
    if refused:
        raise AutosegError(
            found=f"{folder / case.output_name} for the labels, which is the image",
            expected="another file",
            fix="choose another output",
        )
    _make_folder(folder)
    maker = describe_maker(model.manifest, options.effort, options.missing)
    targets = _Targets(model, folder, options, maker)
    for item in _read_ahead([case], targets):
        _write_case(item, targets)
    return targets.labels(case)


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
        """Return the file of the probabilities that belong to the labels."""
        return probabilities_path(self.labels(case), self.model.manifest.dimensions)

    def missing(self, case: InputCase) -> list[Path]:
        """Return the files that are to be written: the labels, and what was asked besides."""
        kept = self.kept(case)
        return [path for path in self._asked(case) if path not in kept]

    def kept(self, case: InputCase) -> list[Path]:
        """Return the files that are there and stay as they are."""
        if self.options.overwrite:
            return []
        return [path for path in self._asked(case) if path.exists()]

    def write_rows(
        self, case: InputCase, shape: Sequence[int], rows: Iterable[NDArray[np.integer]]
    ) -> None:
        """Write labels (*S) that come row by row."""
        target = self.labels(case)
        dtype = values_table(self.model.manifest.labels.values).dtype
        stores = self.options.stores
        with label_sink(target, shape, dtype, image=case.paths[0], stores=stores) as sink:
            for part in rows:
                sink.add(part)
        record_file(target, self.maker)

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

    source: Source
    image: Future[tuple[Image, list[Prepared]]]
    governor: Governor


def _read_ahead(cases: list[InputCase], targets: _Targets) -> Iterator[_Ready]:
    """Yield each case with its image, read and prepared in a thread, at most one case ahead."""
    options, model = targets.options, targets.model
    room = Room.of(options.ram, targets.output)
    memory = Memory(model.manifest, room, options.effort, probabilities=options.probabilities)
    loader = Loader(
        model,
        memory,
        options.effort,
        options.stores,
        rows=not options.probabilities,
        missing=options.missing,
    )
    ahead, source = None, loader.look(cases[0], targets.labels(cases[0])) if cases else None
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        for following in [*cases[1:], None]:
            if source is None:
                return
            current = ahead or pool.submit(loader.load, source)
            current.exception()  # waits, so that reading never gets two cases ahead
            after = None if following is None else loader.look(following, targets.labels(following))
            coming = None if after is None else after.demand
            both = memory.holds_both(source.demand, coming)
            ahead = pool.submit(loader.load, after) if after is not None and both else None
            governor = memory.governor(source.demand, coming if both else None)
            yield _Ready(source, current, governor)
            memory.learn(governor)
            source = after
            del current


def _predict_case(item: _Ready, targets: _Targets) -> Outcome:
    """Predict and write one case; whatever goes wrong becomes its outcome."""
    case = item.source.case
    done = partial(Outcome, case.case_id)
    try:
        _write_case(item, targets)
    except AutosegError as error:
        return done("failed", message=str(error))
    except MemoryError:
        return done("failed", message=_too_little(item.source.demand))
    except Exception as error:
        LOG.exception("%s failed", case.case_id)
        return done("failed", message=f"{type(error).__name__}: {error}")
    return done("done", targets.labels(case), measures=item.governor.measures)


def _write_case(item: _Ready, targets: _Targets) -> None:
    """Predict and write one case."""
    image, parts = item.image.result()
    if item.source.streams:
        rows = label_rows(targets.model, parts, targets.options.effort, item.governor)
        targets.write_rows(item.source.case, image.shape, rows)
    else:
        _predict_at_once(item, image, parts, targets)


def _predict_at_once(item: _Ready, image: Image, parts: list[Prepared], targets: _Targets) -> None:
    """Predict an image that is in memory, and write what is missing."""
    case, options = item.source.case, targets.options
    missing = targets.missing(case)
    labels, beside = targets.labels(case), targets.beside(case)
    result = targets.model.predict_prepared(
        parts, options.effort, probabilities=options.probabilities, scratch=item.governor
    )
    if labels in missing and is_store(labels):
        targets.write_rows(case, image.shape, [result.labels])
    elif labels in missing:
        write_labels(labels, result.labels, image.geometry)
        record_file(labels, targets.maker)
    if result.probabilities is not None and beside in missing:
        write_probabilities(beside, result.probabilities, image.geometry, item.governor)
        record_file(beside, targets.maker)


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
