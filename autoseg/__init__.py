"""autoseg: from a folder of images and masks to a verified segmentation model and its report.

The names below are the public surface. They are imported on first use, so that `import autoseg`
and `autoseg --help` load neither pydantic nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoseg.dataset.dataset import Case as Case
    from autoseg.dataset.dataset import Dataset as Dataset
    from autoseg.dataset.dataset import DatasetSpec as DatasetSpec
    from autoseg.dataset.open import open_dataset as open_dataset
    from autoseg.errors import AutosegError as AutosegError
    from autoseg.fingerprint.fingerprint import Fingerprint as Fingerprint
    from autoseg.pipeline.planning import PlanOptions as PlanOptions
    from autoseg.pipeline.planning import make_plan as make_plan
    from autoseg.pipeline.predicting import Predictor as Predictor
    from autoseg.pipeline.predicting import Result as Result
    from autoseg.pipeline.predicting import load as load
    from autoseg.pipeline.training import TrainOptions as TrainOptions
    from autoseg.pipeline.training import train_model as train_model
    from autoseg.plan.plan import Plan as Plan
    from autoseg.plan.registry import load_planner as load_planner
    from autoseg.plan.request import PlanRequest as PlanRequest
    from autoseg.runtime.runner import Model as Model
    from autoseg.workspace import Workspace as Workspace

_HOMES = {
    "autoseg.dataset.dataset": ("Case", "Dataset", "DatasetSpec"),
    "autoseg.dataset.open": ("open_dataset",),
    "autoseg.errors": ("AutosegError",),
    "autoseg.fingerprint.fingerprint": ("Fingerprint",),
    "autoseg.pipeline.planning": ("PlanOptions", "make_plan"),
    "autoseg.pipeline.predicting": ("Predictor", "Result", "load"),
    "autoseg.pipeline.training": ("TrainOptions", "train_model"),
    "autoseg.plan.plan": ("Plan",),
    "autoseg.plan.registry": ("load_planner",),
    "autoseg.plan.request": ("PlanRequest",),
    "autoseg.runtime.runner": ("Model",),
    "autoseg.workspace": ("Workspace",),
}


def __getattr__(name: str) -> object:
    """Import a public name from its home on first use (PEP 562)."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'autoseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(name for names in _HOMES.values() for name in names)
