"""The manifest of an artifact: everything that prediction needs besides the networks themselves.

Plain frozen dataclasses and a strict reader, so that an artifact runs without autoseg. Axes are ZYX
(2D: YX); lengths are voxels, spacings mm or pixels.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from .errors import AutosegError
from .geometry import Unit
from .recipe import KeepLargest, Labels, Recipe, SmallestObject
from .restore import Decision
from .strict import parse_json, refusal, write_json
from .tiles import Centre

MANIFEST = "manifest.json"
INPUTS = ("tile", "mean", "std")
OUTPUT = "logits"


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of the artifact: name relative to its folder, size and hash."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Parity:
    """How well an exported network agrees with the training framework on real cases."""

    backend: Literal["onnx", "torch", "torch-bf16"]
    cases: Literal["validation", "training", "synthetic"] = "validation"
    """`training`: every fold has seen them, there were no others; `synthetic`: no image was there
    to export with."""
    num_cases: int
    num_voxels: int
    label_agreement: float
    """Fraction of voxels with the same class."""
    max_probability_difference: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds that a backend took on the machine that exported, with `num_threads` threads."""

    backend: Literal["onnx", "torch", "torch-bf16"]
    num_threads: int
    import_seconds: float
    """Import of the backend's library in a new process."""
    load_seconds: float
    """From the file to the first tile."""
    tile_seconds: float
    """One patch of this configuration, all folds."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """One exported configuration: how its input is made and which files compute its logits."""

    name: str
    weight: float
    """Share of its probabilities in the ensemble; the weights of all configurations sum to 1. One
    that only tells others where something is has 0."""
    folds: tuple[str, ...]
    """Folds whose logits the graph averages."""
    recipe: Recipe
    patch_size: tuple[int, ...]
    tiles_per_case: float
    """Tiles of the median training case without mirroring: what to expect from new ones."""
    input: Literal["raw", "normalised"]
    """`raw`: the graph clips and normalises; `normalised`: it gets mean 0 and std 1."""
    spatial: Literal["dynamic", "fixed"]
    """Whether the graph takes other sizes than the patch."""
    spatial_multiple: tuple[int, ...]
    """A dynamic graph takes multiples of these."""
    onnx: str
    torchscript: str
    parity: tuple[Parity, ...]
    timings: tuple[Timing, ...]
    output_margin: tuple[int, ...] = ()
    """Voxels by which the graph's output is smaller than the patch at each side; empty for none."""
    missing_channels: bool = False
    """Whether the graph takes NaN for a channel that is absent."""
    inputs: tuple[str, ...] = INPUTS
    output: str = OUTPUT
    decision: Decision = "largest"
    tile_centre: Centre = "middle"
    previous: str | None = None
    """Configuration, listed before, whose labels the graph takes as further channels: one for each
    class but the background, with mean 0 and std 1."""
    region_margin: float | None = None
    """Tiles farther than this from what `previous` found are background, not computed; in the unit
    of the recipe's spacing. None: all are computed."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A case inside the artifact with the labels that the training framework predicted for it."""

    kind: Literal["synthetic", "real"]
    """`real`: the artifact holds an image of the data set."""
    images: tuple[str, ...]
    expected: str
    label_agreement: float
    """Of the exported networks with `expected`, on the machine that exported."""


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an artifact is, what it takes, what it gives and what it was verified on."""

    schema_version: Literal[1] = 1
    autoseg_version: str
    name: str
    planner: str
    plan_digest: str
    fingerprint_digest: str
    seed: int
    unit: Unit
    channels: tuple[str, ...]
    channel_files: Literal["suffix", "single"]
    """`suffix`: one file a channel, `<case>_0000.ext`; `single`: one file a case."""
    file_ending: str
    labels: Labels
    configurations: tuple[Configuration, ...]
    postprocessing: tuple[KeepLargest, ...]
    verification: Verification | None
    offsets: tuple[float, ...] = ()
    """Added to the logits before classes are decided (to the logarithm of combined probabilities),
    one an output; empty for none."""
    smallest: tuple[SmallestObject, ...] = ()
    """Smaller objects are removed, after `postprocessing`."""
    files: tuple[StoredFile, ...] = field(default=())
    """Every other file of the artifact."""

    @property
    def dimensions(self) -> int:
        """Number of axes of the images."""
        return len(self.configurations[0].recipe.transpose)

    def num_inputs(self, configuration: Configuration) -> int:
        """Return how many channels the graph of a configuration takes."""
        further = 0 if configuration.previous is None else len(self.labels.values) - 1
        return len(self.channels) + further

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return write_json(self)


def parse_manifest(text: str | bytes, source: str = MANIFEST) -> Manifest:
    """Return the manifest written in `text`; `source` names it in errors.

    Raises
    ------
    AutosegError
        One line a problem: unknown, missing or mistyped fields, or values that make no sense.
    """
    manifest = parse_json(Manifest, text, source)
    problems = list(nonsense(manifest))
    if problems:
        raise refusal(problems, source)
    return manifest


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest of the artifact in a folder."""
    path = folder / MANIFEST
    if not path.is_file():
        raise AutosegError(
            found=f"no {MANIFEST} in {folder}",
            expected="the folder of an exported model",
            fix="name the folder `model` of a workspace, or an unzipped model.zip",
        )
    return parse_manifest(path.read_bytes(), str(path))


def check_file(folder: Path, manifest: Manifest, name: str) -> Path:
    """Return the path of a file of the artifact whose content is as the manifest says.

    Raises
    ------
    AutosegError
        The file is missing, truncated or changed.
    """
    stored = next((item for item in manifest.files if item.name == name), None)
    path = folder / name
    found = "is missing" if not path.is_file() else None
    if found is None and stored is not None and stored != describe_file(folder, name):
        found = "is not the file that was exported (its size or SHA-256 differs)"
    if found is None:
        return path
    raise AutosegError(
        found=f"{path} {found}",
        expected="the artifact as it was exported",
        fix="unzip model.zip again, or export the model again",
    )


def describe_file(folder: Path, name: str) -> StoredFile:
    """Return name, size and hash of a file of the artifact."""
    path = folder / name
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(name=name, num_bytes=path.stat().st_size, sha256=digest)


def nonsense(manifest: Manifest) -> Iterator[str]:
    """Yield what is well-typed but cannot be: one line a problem, with its path."""
    yield from _label_problems(manifest.labels)
    names = [item.name for item in manifest.configurations]
    if not names or len(set(names)) < len(names):
        yield f"configurations: expected different names, at least one, found {names}"
    if names and not math.isclose(sum(item.weight for item in manifest.configurations), 1.0):
        yield "configurations: expected weights that sum to 1"
    if len({item.decision for item in manifest.configurations}) > 1:
        yield "configurations: expected the same decision"
    for index, item in enumerate(manifest.configurations):
        where = f"configurations[{index}]"
        yield from (f"{where}.{line}" for line in _configuration_problems(item, manifest))
        yield from (f"{where}.{line}" for line in _stage_problems(index, manifest))
    num_classes = len(manifest.labels.values)
    for index, step in enumerate(manifest.postprocessing):
        if not step.classes or not all(0 < item < num_classes for item in step.classes):
            yield (
                f"postprocessing[{index}].classes: expected indices from 1 to {num_classes - 1}, "
                f"found {list(step.classes)}"
            )
    yield from _decision_problems(manifest)
    yield from _file_problems(manifest)


def _decision_problems(manifest: Manifest) -> Iterator[str]:
    num_classes = len(manifest.labels.values)
    regions = any(item.decision == "regions" for item in manifest.configurations)
    if len(manifest.offsets) not in (0, num_classes - regions):
        yield (
            f"offsets: expected none, or {num_classes - regions}: one an output of the networks, "
            f"found {len(manifest.offsets)}"
        )
    for index, item in enumerate(manifest.smallest):
        if not 0 < item.class_index < num_classes or item.size <= 0:
            yield (
                f"smallest[{index}]: expected a class_index from 1 to {num_classes - 1} and a size "
                f"above 0, found {item.class_index} and {item.size:g}"
            )


def _label_problems(labels: Labels) -> Iterator[str]:
    if len(labels.names) != len(labels.values) or len(labels.values) < 2:
        yield "labels: expected as many names as values, at least two"
    if len(set(labels.values)) < len(labels.values) or labels.ignore in labels.values:
        yield f"labels.values: expected different values, found {list(labels.values)}"


def _configuration_problems(item: Configuration, manifest: Manifest) -> Iterator[str]:
    recipe, dims = item.recipe, len(item.patch_size)
    checks = {
        "folds: expected at least one": len(item.folds) > 0,
        "patch_size: expected 1 to 3 positive lengths": 1 <= dims <= 3
        and _positive(item.patch_size),
        "tiles_per_case: expected at least 1": item.tiles_per_case >= 1,
        "spatial_multiple: expected divisors of patch_size": _positive(item.spatial_multiple, dims)
        and not any(p % m for p, m in zip(item.patch_size, item.spatial_multiple, strict=True)),
        "output_margin: expected margins that leave something of patch_size": _leaves(item),
        f"inputs: expected {list(INPUTS)}": item.inputs == INPUTS,
        f"output: expected {OUTPUT!r}": item.output == OUTPUT,
        "recipe.transpose: expected an order of the image's axes": sorted(recipe.transpose)
        == list(range(manifest.dimensions))
        and len(recipe.transpose) >= dims,
        "recipe.spacing: expected one positive number an axis of the patch": _positive(
            recipe.spacing, dims
        ),
        "recipe.spline_order: expected 0, 1 or 3": recipe.spline_order in (0, 1, 3),
        "recipe.coarse_ratio: expected a number of at least 1": recipe.coarse_ratio >= 1,
        "recipe.overlap: expected a fraction from 0 to below 1": 0 <= recipe.overlap < 1,
        "recipe.mirror_axes: expected different axes of the patch": set(recipe.mirror_axes)
        <= set(range(dims))
        and len(set(recipe.mirror_axes)) == len(recipe.mirror_axes),
        f"recipe.channels: expected {len(manifest.channels)}, as in channels": len(recipe.channels)
        == len(manifest.channels),
    }
    yield from (problem for problem, holds in checks.items() if not holds)
    for index, channel in enumerate(recipe.channels):
        if channel.std is not None and channel.std <= 0:
            yield f"recipe.channels[{index}].std: expected a number above 0, found {channel.std}"
        if None not in (channel.lower, channel.upper) and channel.lower > channel.upper:  # type: ignore[operator]
            yield f"recipe.channels[{index}]: expected lower below upper"
        if channel.scheme == "pretrained" and None in (channel.mean, channel.std):
            yield f"recipe.channels[{index}]: expected the mean and std of pretrained weights"


def _stage_problems(index: int, manifest: Manifest) -> Iterator[str]:
    """Yield what is wrong between a configuration and the stages before and after it."""
    item, items = manifest.configurations[index], manifest.configurations
    serves = any(other.previous == item.name for other in items[index + 1 :])
    if not (item.weight > 0 or (item.weight == 0 and serves)):
        yield "weight: expected a number above 0, or 0 of a stage that others follow"
    if item.previous is None:
        if item.region_margin is not None:
            yield "region_margin: expected none without a previous stage"
        return
    before = [other.name for other in items[:index]]
    if item.previous not in before:
        listed = ", ".join(map(repr, before)) or "of which there are none"
        yield (
            f"previous: expected a configuration that is listed before, {listed}, "
            f"found {item.previous!r}"
        )
    if item.decision != "largest":
        yield "previous: expected classes that exclude each other, not regions"
    if item.region_margin is not None and item.region_margin < 0:
        yield f"region_margin: expected a number of at least 0, found {item.region_margin:g}"


def _leaves(item: Configuration) -> bool:
    margins = item.output_margin or (0,) * len(item.patch_size)
    return len(margins) == len(item.patch_size) and all(
        0 <= 2 * margin < size for margin, size in zip(margins, item.patch_size, strict=True)
    )


def _positive(values: tuple[float, ...], count: int | None = None) -> bool:
    return all(value > 0 for value in values) and count in (None, len(values))


def _file_problems(manifest: Manifest) -> Iterator[str]:
    used = [name for item in manifest.configurations for name in (item.onnx, item.torchscript)]
    if manifest.verification is not None:
        used += [*manifest.verification.images, manifest.verification.expected]
    listed = {item.name for item in manifest.files}
    for name in dict.fromkeys([*used, *sorted(listed)]):
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or "\\" in name or ":" in name or ".." in parts:
            yield f"files: expected names inside the artifact, found {name!r}"
    yield from (f"files: {name!r} is not listed" for name in used if name not in listed)
    for item in manifest.files:
        if not re.fullmatch("[0-9a-f]{64}", item.sha256):
            yield f"files: expected a SHA-256 of {item.name!r}, found {item.sha256!r}"
