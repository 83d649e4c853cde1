"""A workspace that training has written, without any training, and a tracker that can fail."""

import pytest

from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.track.tracker import Fed
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import Workspace, append_line, write_text


class FakeTracker:
    """Keeps what it is told; fails as long as it is told to."""

    def __init__(self):
        self.runs = {}
        self.points = {}
        self.outcomes = {}
        self.failure = None
        self.is_closed = False

    def fed(self, run):
        if self.failure is not None:
            raise self.failure
        return self.runs.setdefault(run.id, Fed(run=run.id))

    def tell(self, run, news):
        if self.failure is not None:
            raise self.failure
        self.points.setdefault(run.id, []).extend(news.points)
        self.outcomes.setdefault(run.id, []).extend([news.outcome] if news.outcome else [])
        self.runs[run.id] = news.fed

    def close(self):
        self.is_closed = True

    def steps(self):
        return [point.step for points in self.points.values() for point in points]


@pytest.fixture
def tracker():
    return FakeTracker()


class Place:
    """A workspace as training leaves it, without any training."""

    def __init__(self, root):
        self.workspace = Workspace(root)
        labels = Labels(names=("background", "ball"), values=(0, 1))
        self.plan = small_plan(labels, (small_configuration((8, 8, 8)),), num_folds=2)
        write_text(self.workspace.plan, self.plan.to_json())

    def folder(self, fold="0"):
        return self.workspace.fold("3d_fullres", fold)

    def begin(self, fold="0", **changes):
        """Write the settings of a fold."""
        values = {
            "plan_digest": self.plan.digest(),
            "configuration": "3d_fullres",
            "fold": fold,
            "num_steps": 10,
            "device": "cpu",
            "precision": "fp32",
            "num_threads": 1,
            "channels_last": False,
            "seconds_per_step": 0.0,
        }
        settings = RunSettings(**{**values, **changes})
        write_text(self.folder(fold).settings, settings.to_json())

    def log(self, *steps, fold="0"):
        """Write lines as training does."""
        for step in steps:
            line = {"step": step, "num_steps": 10, "seconds": float(step), "loss": 1 / step}
            line |= {"lr": 0.1, "gradient_norm": None, "waiting": 0.5}
            if step % 5 == 0:
                line |= {"dice": 0.5, "class_dice": [0.5]}
            append_line(self.folder(fold).metrics, line)

    def end(self, fold="0", dice=0.8):
        """Write the result of a fold."""
        score = ClassScore(
            dice=dice, iou=0.7, hd95=1.0, nsd=0.9, predicted_voxels=5, reference_voxels=5
        )
        result = FoldResult(
            autoseg_version="0",
            plan_digest=self.plan.digest(),
            configuration="3d_fullres",
            fold=fold,
            seed=0,
            num_steps=10,
            train_seconds=10.0,
            validation_seconds=2.0,
            scores=(CaseScore(case_id="a", classes=(score,)),),
        )
        write_text(self.folder(fold).result, result.to_json())


@pytest.fixture
def place(tmp_path):
    """A workspace with a plan, and one fold that has begun."""
    place = Place(tmp_path / "balls.autoseg")
    place.begin()
    return place
