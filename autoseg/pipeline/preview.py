"""Contact sheets of the planned augmentation: `autoseg plan --preview-augmentation`."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.dataset import Dataset
from autoseg.plan.plan import ConfigurationPlan, Plan
from autoseg.report.augmentation_sheet import draw_sheet
from autoseg.workspace import Workspace, write_bytes

NUM_CASES = 4
"""Cases that are prepared for the preview; training finds them ready."""
CACHE_BYTES = 1 << 28


def preview_augmentation(dataset: Dataset, plan: Plan, workspace: Workspace) -> tuple[Path, ...]:
    """Write a contact sheet for each configuration that is trained by default; return the files.

    Not for second stages: what the first one finds is not known yet.

    The first training cases are prepared for it where they are not yet, and read and changed by
    the code that training runs.

    Raises
    ------
    AutosegError
        A case cannot be read, or the workspace cannot be written.
    """
    from autoseg.preprocess.preprocess import preprocess

    few = dataset.revised(cases=dataset.training_cases[:NUM_CASES])
    names = [
        item.name
        for item in plan.configurations
        if item.train_by_default and item.previous_stage is None
    ]
    preprocess(few, plan, workspace, names, num_workers=1, on_case=lambda *_: None)
    return tuple(_write(few, plan, workspace, name) for name in names)


def _write(dataset: Dataset, plan: Plan, workspace: Workspace, name: str) -> Path:
    """Write the contact sheet of one configuration."""
    from autoseg.preprocess.store import CaseStore
    from autoseg.train.kept_cases import KeptCases
    from autoseg.train.sampling import Batches

    store = CaseStore(workspace.preprocessed(name))
    case_ids = [case.id for case in dataset.cases]

    def patches(item: ConfigurationPlan, step: int) -> tuple[NDArray[np.float32], NDArray]:
        batches = Batches(
            KeptCases(store, CACHE_BYTES),
            case_ids,
            item,
            labels=plan.labels,
            seed=plan.seed,
            fold="preview",
        )
        batch = batches.batch(step)
        return batch.images[0].numpy(), batch.labels[0].numpy()

    path = workspace.augmentation_sheet(name)
    write_bytes(path, draw_sheet(plan.configuration(name), patches))
    return path
