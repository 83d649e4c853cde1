"""The option --init, as far as the pipeline decides."""

import pytest

from autoseg.cli.progress import Progress
from autoseg.errors import TrainingError
from autoseg.network.build import build_network
from autoseg.pipeline.training import with_initial
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.train.checkpoint import Standing, save_weights
from autoseg.train.job import FoldJob

LABELS = Labels(names=("background", "ball", "ring"), values=(0, 1, 2))


@pytest.fixture
def jobs(tmp_path):
    plan = small_plan(LABELS, (small_configuration((8, 8)), small_configuration((8, 8, 8))))
    return [
        FoldJob(
            plan=plan,
            dataset=None,  # type: ignore[arg-type]
            root=tmp_path,
            configuration=name,
            fold=fold,
            train_cases=(),
            val_cases=(),
            device="cpu",
            num_threads=1,
        )
        for name in ("2d", "3d_fullres")
        for fold in ("0", "1")
    ]


def write_weights(path, job):
    weights = build_network(job.planned.network).state_dict()
    save_weights(path, weights, Standing(plan_digest="0", step=1, elapsed_s=0.0))
    return path


def test_all_folds_of_a_configuration_begin_with_the_same_weights(jobs, tmp_path):
    events = []
    path = write_weights(tmp_path / "final.pt", jobs[0])
    begun = with_initial(jobs[:2], path, events.append)
    assert {job.initial.source for job in begun if job.initial} == {str(path)}
    (event,) = events
    assert (event["event"], event["configuration"]) == ("initial", "2d")
    assert ("encoder.0.0.conv", "loaded", "channels in their order") in event["layers"]


def test_a_configuration_without_a_layer_in_common_stops_before_training(jobs, tmp_path):
    path = write_weights(tmp_path / "final.pt", jobs[0])
    with pytest.raises(TrainingError, match="no layer in common"):
        with_initial(jobs, path, lambda _: None)


def test_the_table_names_every_layer_with_its_reason(jobs, tmp_path, capsys):
    path = write_weights(tmp_path / "final.pt", jobs[0])
    with Progress() as progress:
        with_initial(jobs[:1], path, progress.on_event)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"2d begins with {path}"
    assert lines[-2].split(None, 2) == ["heads.0", "skipped", "its outputs are no classes"]
    assert lines[-1] == "2 loaded, 1 skipped of 3 layers"
