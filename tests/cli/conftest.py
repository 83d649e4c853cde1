"""Workspaces as the commands find them, without the time that training takes."""

import json
import subprocess
import sys

import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import Dataset
from autoseg.dataset.label_values import to_values
from autoseg.evaluate.score import score_case
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.runtime.images import write_labels
from autoseg.testing.synthetic import write_spheres
from autoseg.train.records import FoldResult
from autoseg.workspace import write_text

FULL_DISK = """
import resource, sys
from autoseg.cli.main import main
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def on_full_disk():
    """Function that runs a command in a process that can write no file over a limit of bytes."""

    def run(limit, *arguments):
        command = [sys.executable, "-c", FULL_DISK, str(limit), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    return run


@pytest.fixture
def scored_place(tmp_path):
    """A workspace with two scored folds: predictions are the references and a speck beside them."""
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0, shape=(10, 12, 14))
    options = PlanOptions(
        dataset=data, workspace=tmp_path / "s.autoseg", planner="nnunet", num_folds=2
    )
    outcome = make_plan(options)
    for index, split in enumerate(json.loads(outcome.workspace.splits.read_text())):
        _write_fold(outcome, str(index), split["val"])
    return outcome.workspace


def _write_fold(outcome, fold, case_ids):
    plan, folder = outcome.plan, outcome.workspace.fold("3d_fullres", fold)
    folder.validation.mkdir(parents=True)
    result = FoldResult(
        autoseg_version="0",
        plan_digest=plan.digest(),
        configuration="3d_fullres",
        fold=fold,
        seed=0,
        num_steps=1,
        train_seconds=1.0,
        validation_seconds=1.0,
        scores=tuple(_write_case(outcome.dataset, plan, folder, name) for name in case_ids),
    )
    write_text(folder.result, result.to_json())


def _write_case(dataset: Dataset, plan, folder, case_id):
    case = next(case for case in dataset.cases if case.id == case_id)
    image, reference = read_case(dataset, case)
    found = reference.copy()
    found[0, 0, 0] = 1
    values = to_values(found, plan.labels)
    write_labels(folder.validation / f"{case_id}.nii.gz", values, image.geometry)
    return score_case(case_id, found, reference, image.geometry.spacing, 2, plan.nsd_tolerance)
