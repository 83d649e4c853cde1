"""What the first stage of a cascade found in each case is prepared for the second one."""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from numpy.typing import NDArray

from autoseg.dataset.dataset import Case, Dataset
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.label_values import to_classes
from autoseg.errors import AutosegError, TrainingError
from autoseg.plan.plan import Plan
from autoseg.preprocess.identity import prepared_as, recipe_digest
from autoseg.preprocess.preprocess import label_type
from autoseg.preprocess.previous_store import PreviousStore
from autoseg.preprocess.store import CaseStore
from autoseg.runtime.cascade import previous_labels
from autoseg.runtime.images import read_labels
from autoseg.runtime.prepare import Placement
from autoseg.workspace import FoldFolder, Workspace


@dataclass(frozen=True)
class _Target:
    """A second stage whose cases are prepared."""

    dataset: Dataset
    plan: Plan
    workspace: Workspace
    name: str

    def prepare(self, case: Case, prediction: Path) -> None:
        """Prepare the labels of one case, unless they were made of just this."""
        recipe = self.plan.configuration(self.name).recipe
        cases = CaseStore(self.workspace.preprocessed(prepared_as(self.plan, self.name)))
        info = cases.info(case.id)
        content = f"{recipe_digest(recipe, self.plan)} {info.source_hash} ".encode()
        made_of = hashlib.sha256(content + self._content(case, prediction)).hexdigest()
        if self.store.made_of(case.id) != made_of:
            self._write(case, prediction, Placement.from_dict(info.placement), made_of)

    def _write(self, case: Case, prediction: Path, placement: Placement, made_of: str) -> None:
        """Bring the labels of one case to the grid of its prepared image, and write them."""
        item = self.plan.configuration(self.name)
        classes = self._classes(case, prediction, placement.image_shape)
        # Its own spacing: formats round those of predictions.
        spacing = find_format(self.dataset.layout).read_extent(self.dataset, case).spacing
        found = previous_labels(
            classes.astype(label_type(self.plan)), placement, item.recipe, spacing
        )
        self.store.write(case.id, found, item.patch_size, made_of)

    def _content(self, case: Case, prediction: Path) -> bytes:
        """Return the content of a prediction's file."""
        try:
            return prediction.read_bytes()
        except OSError as error:
            found = f"no prediction of case {case.id}: {prediction}: {error.strerror or error}"
            raise self._unusable(found, FoldFolder(prediction.parents[1]).result) from None

    def _classes(self, case: Case, prediction: Path, shape: tuple[int, ...]) -> NDArray:
        """Return the class indices (*S) in a prediction's file."""
        result = FoldFolder(prediction.parents[1]).result
        try:
            image = read_labels(prediction)
            classes = to_classes(image.array[0], replace(self.plan.labels, ignore=None))
        except AutosegError as error:
            found = f"the prediction of case {case.id}: {error.found}"
            raise self._unusable(found, prediction, result) from error
        if image.shape != shape:
            found = f"{prediction}: {_sizes(image.shape)} voxels; its image has {_sizes(shape)}"
            raise self._unusable(found, prediction, result)
        return classes

    def _unusable(self, found: str, *deleted: Path) -> TrainingError:
        """Return that a prediction must be made again, which it is once some files are gone."""
        previous = self.plan.configuration(self.name).previous_stage
        return TrainingError(
            found=found,
            expected=f"what {previous} found in the case, as validation wrote it",
            fix=f"delete {' and '.join(map(str, deleted))}, and run "
            f"`autoseg train --configurations {previous},{self.name}`: it is predicted again",
        )

    @property
    def store(self) -> PreviousStore:
        """What is prepared."""
        return PreviousStore(self.workspace.previous_labels(self.name))


def prepare_previous(
    dataset: Dataset,
    plan: Plan,
    workspace: Workspace,
    name: str,
    predictions: Mapping[str, Path],
    *,
    num_workers: int,
    on_case: Callable[[str], None],
) -> None:
    """Prepare what the previous stage of a configuration found; what is there and current stays.

    Parameters
    ----------
    name
        Of the configuration that has a previous stage; its cases are prepared.
    predictions
        By case, the file with the previous stage's labels on the image's own grid.
    on_case
        Called in this thread with every case.

    Raises
    ------
    TrainingError
        A prediction is missing, cannot be read or is of another grid: with what makes it again.
    WorkspaceError
        The workspace cannot be written.
    """
    target = _Target(dataset, plan, workspace, name)
    target.store.remove_stale()
    known = {case.id: case for case in dataset.cases}
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="previous")
    try:
        jobs = {
            pool.submit(target.prepare, known[case_id], path): case_id
            for case_id, path in predictions.items()
        }
        for job in as_completed(jobs):
            job.result()
            on_case(jobs[job])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
