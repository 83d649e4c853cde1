"""A planned workspace, and training without torch."""

import pytest

from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.testing.synthetic import write_spheres


@pytest.fixture
def own_place(tmp_path):
    """A workspace of four volumes in two folds, planned for this test alone."""
    data = write_spheres(tmp_path / "spheres", num_cases=4, seed=0)
    options = PlanOptions(
        dataset=data,
        workspace=tmp_path / "s.autoseg",
        planner="nnunet",
        device="cpu",
        num_folds=2,
    )
    return make_plan(options).workspace
