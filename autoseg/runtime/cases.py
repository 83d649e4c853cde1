"""Which files make up which case, and what became of each."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .errors import AutosegError
from .images import (
    can_hold_labels,
    case_stem,
    file_ending,
    is_image,
    is_image_name,
    is_store,
    list_images,
    output_ending,
)

CHANNEL_SUFFIX = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
"""nnU-Net's rule: `<case>_0000` is the first channel of a case."""


@dataclass(frozen=True)
class InputCase:
    """The files of one case, channels in order."""

    case_id: str
    paths: tuple[Path, ...]
    labels_name: str = ""
    """Of the label file, where the user has chosen it."""

    @property
    def output_name(self) -> str:
        """Name of the label file: the case's id and the ending of its image."""
        return self.labels_name or self.case_id + output_ending(self.paths[0])


@dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    case_id: str
    status: Literal["done", "skipped", "failed"]
    output: Path | None = None
    message: str = ""
    """Why it failed."""
    measures: str = ""
    """What was done to stay within the memory that there is; empty for nothing."""


@dataclass(frozen=True)
class Summary:
    """What became of all cases."""

    outcomes: tuple[Outcome, ...]

    def count(self, status: str) -> int:
        """Return how many cases ended this way."""
        return sum(item.status == status for item in self.outcomes)

    @property
    def exit_code(self) -> int:
        """Exit code of a command: 2 if a case failed."""
        return 2 if self.count("failed") else 0

    def to_dict(self) -> dict:
        """Return what programs read: files written, cases skipped, and why others failed."""
        chosen = {
            status: [item for item in self.outcomes if item.status == status]
            for status in ("done", "skipped", "failed")
        }
        return {
            "done": {item.case_id: str(item.output) for item in chosen["done"]},
            "skipped": {item.case_id: str(item.output) for item in chosen["skipped"]},
            "failed": {item.case_id: item.message for item in chosen["failed"]},
        }


def refuse_missing(inputs: Sequence[Path]) -> None:
    """Raise an error that names the inputs if none of them exists."""
    missing = [str(path) for path in inputs if not path.exists()]
    if missing and len(missing) == len(inputs):
        raise AutosegError(
            found=f"no file or folder {', '.join(missing)}",
            expected="image files, or folders of them",
            fix="correct the path",
        )


def find_cases(
    inputs: Iterable[Path],
    channel_files: Literal["suffix", "single"],
    num_channels: int,
    missing: Sequence[int] = (),
) -> tuple[list[InputCase], list[Outcome]]:
    """Return the cases in files and folders, and what cannot be a case with the reason.

    Parameters
    ----------
    inputs
        Image files, or folders whose image files are taken.
    channel_files
        `suffix`: `<case>_0000.ext` and so on are the channels of a case, a file without such a
        suffix holds all channels; `single`: each file is a case.
    num_channels
        Channels that the model takes.
    missing
        Those of them whose files need not be there, and are left out where they are.
    """
    files, outcomes = _list_files(inputs)
    groups: dict[tuple[Path, str], list[tuple[int, Path]]] = {}
    for path in files:
        case_id, channel = _split_name(path, channel_files)
        found = groups.setdefault((path.parent, case_id), [])
        if channel not in missing or case_id == case_stem(path):  # without a suffix: all channels
            found.append((channel, path))
    cases: dict[str, InputCase] = {}
    for (_, case_id), found in groups.items():
        channels = sorted(found)
        problem = _wrong_channels(channels, num_channels, missing)
        if case_id in cases and channels:
            problem = f"{cases[case_id].paths[0]} and {channels[0][1]} have the same name"
        if problem:
            outcomes.append(Outcome(case_id, "failed", message=problem))
        else:
            cases[case_id] = InputCase(case_id, tuple(path for _, path in channels))
    return list(cases.values()), outcomes


def _list_files(inputs: Iterable[Path]) -> tuple[list[Path], list[Outcome]]:
    files: dict[Path, None] = {}
    outcomes: list[Outcome] = []
    for path in inputs:
        if path.is_dir() and not is_store(path):
            stores = sorted(item for item in path.iterdir() if item.is_dir() and is_store(item))
            tables = not stores  # which may describe the stores
            found = [*(item for item in list_images(path) if tables or is_image(item)), *stores]
            files.update(dict.fromkeys(found))
            if not found:
                outcomes.append(Outcome(path.name, "failed", message=f"no image in folder {path}"))
            continue
        try:
            file_ending(path)
        except AutosegError as error:
            message = str(error) if path.exists() else f"no file or folder {path}"
            outcomes.append(Outcome(path.name, "failed", message=message))
        else:
            files[path] = None
    return list(files), outcomes


def case_name(path: Path, channel_files: Literal["suffix", "single"]) -> str:
    """Return the case that a file belongs to, by its name (see `find_cases`)."""
    return _split_name(path, channel_files)[0]


def _split_name(path: Path, channel_files: str) -> tuple[str, int]:
    """Return a file's case and channel."""
    stem = case_stem(path)
    match = CHANNEL_SUFFIX.fullmatch(stem) if channel_files == "suffix" else None
    return (match["case"], int(match["channel"])) if match else (stem, 0)


def _wrong_channels(
    channels: Sequence[tuple[int, Path]], num_channels: int, missing: Sequence[int]
) -> str | None:
    """Return what is wrong with the files of a case; one file may hold all channels."""
    numbers = [number for number, _ in channels]
    wanted = [number for number in range(num_channels) if number not in missing]
    if numbers in ([0], wanted):
        return None
    if not channels:
        return "found only files of channels that --missing names, expected one of the others"
    names = ", ".join(path.name for _, path in channels)
    if len(set(numbers)) < len(numbers):
        return f"found {names}, expected one file a channel; take the others out of the folder"
    listed = ", ".join(f"_{number:04d}" for number in wanted) if missing else "_0000 and so on"
    return f"found the channels {names}, expected {len(wanted)} files {listed}"


def name_output(
    cases: Sequence[InputCase], num_failed: int, output: Path
) -> tuple[list[InputCase], Path]:
    """Return the cases and the folder of their labels; a single case may have its file named.

    Parameters
    ----------
    num_failed
        Inputs that are no cases.
    output
        A folder; or a file, if its name ends as an image's does.

    Raises
    ------
    AutosegError
        One file is named for several cases, or of a kind that cannot hold the labels.
    """
    if not is_image_name(output) or (output.is_dir() and not is_store(output)):
        return list(cases), output
    folder = output.with_name(output.name.partition(".")[0] + "_labels")
    if len(cases) + num_failed > 1:
        raise AutosegError(
            found=f"{len(cases) + num_failed} images, and {output} for their labels, which is the "
            "name of one file",
            expected="a folder: each image gets a file of its name there",
            fix=f"name a folder instead, for example {folder}",
        )
    for case in cases:
        if not can_hold_labels(output, case.paths[0]):
            ending = output_ending(case.paths[0])
            raise AutosegError(
                found=f"{output} for the labels of {case.paths[0]}",
                expected="a file of the same kind, without loss",
                fix=f"name a file that ends in {ending}, or a folder, for example {folder}",
            )
    return [replace(case, labels_name=output.name) for case in cases], output.parent


def check_outputs(
    cases: Sequence[InputCase], folder: Path
) -> tuple[list[InputCase], list[Outcome]]:
    """Return the cases whose output is not one of their own images, and the others as failed."""
    inputs = {path.resolve() for case in cases for path in case.paths}
    fine: list[InputCase] = []
    outcomes: list[Outcome] = []
    for case in cases:
        target = folder / case.output_name
        if target.resolve() in inputs:
            message = f"the labels would replace the image {target}; choose another output folder"
            outcomes.append(Outcome(case.case_id, "failed", message=message))
        else:
            fine.append(case)
    return fine, outcomes
