"""Every case read once, prepared for all configurations, stored; resumable case by case.

Cases are prepared by threads: reading, compressing and matrix products release Python's lock, and
unlike processes threads need neither a start-up nor memory of their own.

Letters in shapes: C channels, K classes, S' spatial axes of the prepared array, N voxels.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.big import memory_of, open_big, open_image
from autoseg.dataset.case import as_error, read_case
from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.files import changed_by
from autoseg.dataset.formats.registry import find_format
from autoseg.errors import AutosegError
from autoseg.machine import MemoryShares
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.preprocess.big import draw_big_locations, image_draft, label_draft
from autoseg.preprocess.identity import LOCATIONS_PER_CLASS, prepared_as, recipe_digest
from autoseg.preprocess.store import CaseArrays, CaseStore, PreparedCase, smallest_float
from autoseg.runtime.crop import Box
from autoseg.runtime.images import Image
from autoseg.runtime.normalise import network_input
from autoseg.runtime.prepare import (
    Placement,
    place,
    prepare,
    prepare_labels,
    recipe_change,
    recipe_spacing,
)
from autoseg.runtime.prepare_blocks import can_prepare, prepare_label_voxels, prepare_voxels
from autoseg.runtime.voxels import Voxels
from autoseg.seeds import stream
from autoseg.workspace import Workspace

MAX_INT8_CLASSES = 127
PROGRAM_BYTES = 300_000_000
"""Memory of the program itself, without any case."""
OLD_VOXEL_BYTES = 8
"""Peak memory of a channel's voxel as read: its value and a copy in single precision."""
NEW_VOXEL_BYTES = 18
"""Peak memory of a channel's voxel as prepared: resampled, normalised, halved, compressed."""
LABEL_VOXEL_BYTES = 14
"""Peak memory of a voxel's label: two shares in single precision, indices, comparisons."""


@dataclass(frozen=True)
class _Target:
    """One configuration to prepare cases for."""

    plan: ConfigurationPlan
    store: CaseStore
    recipe_digest: str


@dataclass(frozen=True)
class _Source:
    """One case as read."""

    case_id: str
    hash: str
    image: Image | Voxels
    """In memory, or read box by box."""
    labels: NDArray[np.signedinteger] | Voxels
    """(*S) class indices, or (1, *S) as the image is read."""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Of the image's own axes."""
        return self.image.geometry.spacing


@dataclass(frozen=True)
class _Outcome:
    """What is known of arrays that were prepared."""

    dtype: np.dtype
    shape: tuple[int, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    placement: Placement
    class_voxels: NDArray[np.integer]
    locations: list[NDArray[np.integer]]


@dataclass(frozen=True)
class _Written:
    """A case as it was prepared and written for one configuration."""

    target: _Target
    info: PreparedCase
    box: Box


def preprocess(
    dataset: Dataset,
    plan: Plan,
    workspace: Workspace,
    configurations: Sequence[str],
    *,
    num_workers: int,
    on_case: Callable[[str, str], None],
) -> None:
    """Prepare every case that may be in a fold; what is there and current stays.

    `on_case` is called in this thread with configuration and case id, also for cases that were
    there already. Configurations that share their cases are one (see `prepared_as`).

    Raises
    ------
    AutosegError
        A case cannot be read or does not fit into memory, or the workspace cannot be written.
    """
    folders = dict.fromkeys(prepared_as(plan, name) for name in configurations)
    targets = [_target(plan, workspace, name) for name in folders]
    # Volumes first: chunks for 3D patches serve slices too, not the other way round.
    targets.sort(key=lambda target: -len(target.plan.patch_size))
    for target in targets:
        target.store.remove_stale()
    memory = MemoryShares(max(1, plan.ram_bytes - PROGRAM_BYTES))
    workers = _affordable_workers(memory.total, targets, num_workers)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="prepare")
    try:
        jobs = {
            pool.submit(_prepare_case, dataset, plan, case, targets, memory): case.id
            for case in dataset.training_cases
        }
        for job in as_completed(jobs):
            job.result()
            for target in targets:
                on_case(target.plan.name, jobs[job])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _target(plan: Plan, workspace: Workspace, name: str) -> _Target:
    configuration = plan.configuration(name)
    digest = recipe_digest(configuration.recipe, plan)
    return _Target(configuration, CaseStore(workspace.preprocessed(name)), digest)


def source_hash(dataset: Dataset, case: Case) -> str:
    """Return a SHA-256 of the names, sizes and times of a case's files, and how they are read."""
    # A missing file gets its clear error when it is read.
    files = changed_by((*dataset.image_paths(case), *dataset.label_paths(case)))
    content = (files, case.paint, case.part, dataset.layout, dataset.reading)
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _affordable_workers(total: int, targets: Sequence[_Target], num_workers: int) -> int:
    """Return how many cases of median size fit into memory at once."""
    typical = 1
    for target in targets:
        per_voxel = NEW_VOXEL_BYTES * len(target.plan.recipe.channels) + LABEL_VOXEL_BYTES
        typical = max(typical, int(math.prod(target.plan.median_shape)) * per_voxel)
    return int(max(1, min(num_workers, total // typical)))


def _prepare_case(
    dataset: Dataset, plan: Plan, case: Case, targets: Sequence[_Target], memory: MemoryShares
) -> None:
    """Prepare one case for the configurations that lack it."""
    source = source_hash(dataset, case)
    missing = [
        target
        for target in targets
        if target.store.find(case.id, source_hash=source, recipe_digest=target.recipe_digest)
        is None
    ]
    if not missing:
        return
    try:
        with memory.claim(_peak_bytes(dataset, case, missing, memory.total)):
            image, labels = _read(dataset, case, missing)
            _write_all(_Source(case.id, source, image, labels), missing, plan)
    except MemoryError:
        raise AutosegError(
            found=f"case {case.id} does not fit into memory",
            expected="memory for several copies of one image",
            fix="close other programs, or use a machine with more memory",
        ) from None
    except Exception as error:
        error.add_note(f"while preparing case {case.id}")
        raise


def _read(
    dataset: Dataset, case: Case, targets: Sequence[_Target]
) -> tuple[Image, NDArray] | tuple[Voxels, Voxels]:
    """Return the image and the class indices of a case; a big one is to be read box by box."""
    big = open_big(dataset, case)
    if big is None:
        return read_case(dataset, case)
    if big.image is None or big.classes is None:
        raise as_error([finding for finding in big.findings if finding.severity == "error"])
    if all(can_prepare(big.image, target.plan.recipe) for target in targets):
        return big.image, big.classes
    return read_case(dataset, case)


def _peak_bytes(dataset: Dataset, case: Case, targets: Sequence[_Target], ram_bytes: int) -> int:
    """Return the estimated peak of memory while a case is read and prepared."""
    image = open_image(dataset, case)
    if image is None or all(can_prepare(image, target.plan.recipe) for target in targets):
        in_blocks = memory_of(dataset, case, ram_bytes)
        if in_blocks is not None:
            return in_blocks
    try:
        extent = find_format(dataset.layout).read_extent(dataset, case)
    except AutosegError:
        return 0  # reading the file says what is wrong with it
    new_voxels = 0
    for target in targets:
        recipe = target.plan.recipe
        old = [extent.shape[axis] for axis in recipe.transpose]
        change = recipe_change(old, extent.spacing, recipe)
        new_voxels = max(new_voxels, math.prod(change.new_shape))
    per_new = NEW_VOXEL_BYTES * extent.num_channels + LABEL_VOXEL_BYTES
    return math.prod(extent.shape) * OLD_VOXEL_BYTES * extent.num_channels + new_voxels * per_new


def _write_all(source: _Source, targets: Sequence[_Target], plan: Plan) -> None:
    """Write a case for each target; equal arrays are computed and stored once."""
    written: list[_Written] = []
    for target in targets:
        twin = next((item for item in written if _same_arrays(item, target, source)), None)
        written.append(_share(source, target, twin) if twin else _write(source, target, plan))


def _same_arrays(item: _Written, target: _Target, source: _Source) -> bool:
    """Return whether the arrays that were written are those that `target` needs, too."""
    first, second = item.target.plan.recipe, target.plan.recipe
    if (first.transpose, first.channels) != (second.transpose, second.channels):
        return False
    shape = tuple(stop - start for start, stop in item.box)
    changes = [recipe_change(shape, source.spacing, recipe) for recipe in (first, second)]
    if all(change.is_identity for change in changes):
        return True
    return (
        changes[0] == changes[1]
        and first.order == second.order
        and first.spline_order == second.spline_order
    )


def _share(source: _Source, target: _Target, twin: _Written) -> _Written:
    recipe = target.plan.recipe
    placement = place(source.image.shape, source.spacing, twin.box, recipe)
    info = twin.info.revised(
        spacing=recipe_spacing(source.spacing, recipe)[1],
        placement=placement.to_dict(),
        recipe_digest=target.recipe_digest,
    )
    target.store.share(info, twin.target.store)
    return _Written(target, info, twin.box)


def _write(source: _Source, target: _Target, plan: Plan) -> _Written:
    if isinstance(source.image, Voxels):
        return _write_big(source, target, plan)
    assert isinstance(source.labels, np.ndarray), "labels are read as the image is"
    recipe, num_classes = target.plan.recipe, len(plan.labels.names)
    prepared = prepare(source.image.array, source.spacing, recipe)
    image = smallest_float(network_input(prepared, recipe))
    labels = source.labels.astype(label_type(plan))
    labels = prepare_labels(labels, prepared.placement, recipe, source.spacing)
    rng = stream(plan.seed, "locations", source.case_id)
    locations = draw_locations(labels, num_classes, rng, ignored=plan.labels.ignore is not None)
    voxels = np.bincount(labels[labels >= 0], minlength=num_classes)
    outcome = _Outcome(
        image.dtype, image.shape, prepared.mean, prepared.std, prepared.placement, voxels, locations
    )
    arrays = CaseArrays(image, labels, np.concatenate(locations))
    info = _info(source, target, plan, outcome)
    info = target.store.write(info, arrays, target.plan.patch_size)
    return _Written(target, info, prepared.placement.box)


def _write_big(source: _Source, target: _Target, plan: Plan) -> _Written:
    """Prepare and write a case block by block."""
    assert isinstance(source.image, Voxels), "of big cases alone"
    assert isinstance(source.labels, Voxels), "labels are read as the image is"
    recipe, store, patch = target.plan.recipe, target.store, target.plan.patch_size
    prepared = prepare_voxels(source.image, recipe)
    kind = np.dtype(label_type(plan))
    classes = replace(source.labels.changed(lambda array: array.astype(kind)), dtype=kind)
    labels = prepare_label_voxels(classes, prepared.placement, recipe, source.spacing)
    num_classes, rng = len(plan.labels.names), stream(plan.seed, "locations", source.case_id)
    with (
        label_draft(store, source.case_id, labels, patch, num_classes=num_classes) as written,
        image_draft(store, source.case_id, prepared.voxels, patch) as image,
    ):
        locations = draw_big_locations(
            written, rng, limit=LOCATIONS_PER_CLASS, ignored=plan.labels.ignore is not None
        )
        outcome = _Outcome(
            image.array.dtype,
            image.array.shape,
            prepared.mean,
            prepared.std,
            prepared.placement,
            written.class_voxels,
            locations,
        )
        info = _info(source, target, plan, outcome)
        info = store.write_drafts(info, image, written.draft, np.concatenate(locations))
    return _Written(target, info, prepared.placement.box)


def label_type(plan: Plan) -> type[np.signedinteger]:
    """Return the smallest type that holds the class indices of a plan, and `IGNORE`."""
    return np.int8 if len(plan.labels.names) <= MAX_INT8_CLASSES else np.int16


def _info(source: _Source, target: _Target, plan: Plan, outcome: _Outcome) -> PreparedCase:
    """Return what is known about a prepared case besides its arrays."""
    return PreparedCase(
        autoseg_version=plan.autoseg_version,
        case_id=source.case_id,
        dtype="float16" if outcome.dtype == np.float16 else "float32",
        shape=outcome.shape,
        spacing=recipe_spacing(source.spacing, target.plan.recipe)[1],
        mean=tuple(float(value) for value in outcome.mean),
        std=tuple(float(value) for value in outcome.std),
        placement=outcome.placement.to_dict(),
        class_voxels=tuple(int(count) for count in outcome.class_voxels),
        num_annotated=int(outcome.class_voxels.sum()),
        location_offsets=tuple(np.cumsum([0, *map(len, outcome.locations)]).tolist()),
        source_hash=source.hash,
        recipe_digest=target.recipe_digest,
    )


def draw_locations(
    labels: NDArray[np.signedinteger],
    num_classes: int,
    rng: np.random.Generator,
    *,
    ignored: bool,
) -> list[NDArray[np.integer]]:
    """Return, for each class, flat indices of up to `LOCATIONS_PER_CLASS` of its voxels, rising.

    Index 0 holds voxels of any class if some voxels may be `ignored`, and is empty otherwise.
    """
    dtype = np.int32 if labels.size <= np.iinfo(np.int32).max else np.int64
    flat = labels.reshape(-1)
    foreground = np.flatnonzero(flat > 0).astype(dtype)
    values = flat[foreground]
    by_class = foreground[np.argsort(values, kind="stable")]
    ends = np.cumsum(np.bincount(values, minlength=num_classes))
    groups = [by_class[start:stop] for start, stop in itertools.pairwise(ends)]
    annotated = np.flatnonzero(flat >= 0).astype(dtype) if ignored else by_class[:0]
    return [_draw(group, rng) for group in (annotated, *groups)]


def _draw(voxels: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    if len(voxels) <= LOCATIONS_PER_CLASS:
        return voxels
    return np.sort(rng.choice(voxels, LOCATIONS_PER_CLASS, replace=False, shuffle=False))
