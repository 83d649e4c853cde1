"""A planned workspace, and training without torch."""

from dataclasses import replace

import pytest

from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.plan.compose import cascade
from autoseg.plan.plan import Plan
from autoseg.testing.plans import small_network
from autoseg.testing.synthetic import write_spheres
from autoseg.train.origin import cases_digest, previous_digest
from autoseg.train.records import FoldResult
from autoseg.workspace import write_text


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


SECOND = "3d_cascade_fullres"


@pytest.fixture
def cascade_place(own_place):
    """The same workspace, its plan with a coarse stage and one that sees what that found."""
    plan = Plan.load(own_place.plan)
    (full,) = (item for item in plan.configurations if item.name == "3d_fullres")
    full = full.revised(
        patch_size=(16, 16, 16),
        network=small_network(3, num_classes=2, stages=((4, 1), (8, 2))),
        training=full.training.revised(supervision_weights=(1.0,)),
    )
    coarse = full.revised(
        name="3d_lowres", recipe=replace(full.recipe, spacing=(2.0, 2.0, 2.0)), batch_size=2
    )
    stages = (full, coarse, cascade(full, coarse.name, "a test"))
    plan = plan.revised(configurations=stages)
    own_place.plan.write_text(plan.to_json(), encoding="utf-8")
    return own_place


class Training:
    """Stands in for training and finishing: writes results, remembers what it was asked to do."""

    def __init__(self, monkeypatch):
        self.jobs = []
        """Of the last call of `train_model`, as they came."""
        self.is_over = False
        self.num_finished = 0
        self.error = None
        self.on_fold = lambda _: None
        """Called before the result of a fold is written."""
        monkeypatch.setattr("autoseg.train.cluster.train_folds", self.train_folds)
        monkeypatch.setattr("autoseg.pipeline.sharing.slowness", lambda: 1.0)
        monkeypatch.setattr(
            "autoseg.pipeline.sharing.finishing_seconds", lambda _, folds, __: 20.0 + 4 * len(folds)
        )
        monkeypatch.setattr("autoseg.train.validation.expected_validation", lambda *_: 2.0)
        monkeypatch.setattr("autoseg.pipeline.finishing.finish", self.finish)

    def train_folds(self, jobs, *, num_workers, address, on_progress, should_stop):
        self.jobs = [*([] if self.is_over else self.jobs), *jobs]
        self.is_over = self.error is not None
        self.num_workers = num_workers
        if self.error is not None:
            raise self.error
        for job in jobs:
            self.on_fold(job)
            write_result(job)

    def finish(self, *_, should_stop, images, **__):
        assert not should_stop()
        self.images = images
        self.num_finished += 1
        self.is_over = True

    @property
    def folds(self):
        return [(job.configuration, job.fold) for job in self.jobs]


def write_result(job):
    result = FoldResult(
        autoseg_version="0",
        plan_digest=job.plan.digest(),
        configuration=job.configuration,
        fold=job.fold,
        seed=0,
        num_steps=job.num_steps or 77,
        train_seconds=1.0,
        validation_seconds=1.0,
        scores=(),
        request=job.request,
        cases_digest=cases_digest(job),
        previous_digest=previous_digest(job),
    )
    write_text(job.folder.result, result.to_json())


@pytest.fixture
def training(monkeypatch):
    return Training(monkeypatch)
