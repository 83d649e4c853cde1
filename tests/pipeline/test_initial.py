"""The option --init, as far as the pipeline decides."""

import re
from dataclasses import replace

import pytest

from autoseg.cli.progress import Progress
from autoseg.errors import TrainingError
from autoseg.network.build import build_network
from autoseg.pipeline.training import with_initial
from autoseg.plan.overrides import apply_overrides
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.train.checkpoint import Standing, save_weights
from autoseg.train.job import FoldJob
from autoseg.train.lines import read_lines
from autoseg.workspace import Workspace

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
    path = write_weights(tmp_path / "final.pt", wider(jobs[0], [12]))
    plan = apply_overrides(jobs[0].plan, ["2d.network.stages.0.kernel_size=1,1"])
    with pytest.raises(TrainingError, match="no layer in common"):
        with_initial([replace(jobs[0], plan=plan)], path, lambda _: None)


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (0, 2, "a 2D model, and 3d_fullres is a 3D configuration"),
        (2, 0, "a 3D model, and 2d is a 2D configuration"),
    ],
)
def test_a_model_of_other_axes_is_called_so(jobs, tmp_path, source, target, words):
    path = write_weights(tmp_path / "final.pt", jobs[source])
    with pytest.raises(TrainingError) as caught:
        with_initial([jobs[target]], path, lambda _: None)
    assert words in caught.value.found
    assert "layer" not in caught.value.found
    proposed = caught.value.fix.partition("--configurations ")[2].partition(",")[0]
    assert proposed == jobs[source].configuration
    fitting = [job for job in jobs if job.configuration == proposed]
    assert all(job.initial for job in with_initial(fitting, path, lambda _: None))


def test_a_model_of_other_axes_is_left_out_where_nothing_fits_it(jobs, tmp_path):
    path = write_weights(tmp_path / "final.pt", jobs[2])
    plan = jobs[0].plan
    flat = plan.revised(configurations=(plan.configuration("2d"),))
    with pytest.raises(TrainingError) as caught:
        with_initial([replace(jobs[0], plan=flat)], path, lambda _: None)
    assert caught.value.fix == "name a 2D model, or leave out --init"


def test_what_is_printed_is_a_line_and_the_table_is_logged(jobs, tmp_path, capsys):
    path = write_weights(tmp_path / "final.pt", jobs[0])
    with Progress() as progress:
        with_initial(jobs[:1], path, progress.on_event)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"2d begins with {path}: 2 of 3 layers loaded; "
        "skipped: heads.0 (its outputs are no classes)"
    )
    (event,) = read_lines(Workspace(jobs[0].root).events)
    assert event["event"] == "initial"
    assert ["heads.0", "skipped", "its outputs are no classes"] in event["layers"]


def test_of_many_layers_a_few_are_named(capsys):
    layers = [(f"layer.{index}", "new", "not in the source") for index in range(40)]
    with Progress() as progress:
        progress.on_event(
            {
                "event": "initial",
                "configuration": "2d",
                "source": "model",
                "layers": layers,
                "table": "events.jsonl",
            }
        )
    (line,) = capsys.readouterr().err.splitlines()
    assert "0 of 40 layers loaded" in line
    assert "layer.5 (not in the source) and 34 more, listed in events.jsonl" in line
    assert "layer.6" not in line


def wider(job, widths):
    """Return a job with other numbers of features."""
    item = job.planned
    stages = zip(item.network.stages, widths, strict=True)
    network = item.network.revised(stages=tuple(s.revised(features=n) for s, n in stages))
    item = item.revised(network=network)
    return replace(job, plan=job.plan.revised(configurations=(item,)))


def test_other_widths_are_told_with_settings_that_make_them_equal(jobs, tmp_path):
    path = write_weights(tmp_path / "final.pt", wider(jobs[0], [12]))
    with pytest.raises(TrainingError) as caught:
        with_initial(jobs[:1], path, lambda _: None)
    settings = re.findall(r"--set (\S+?)(?=[ `])", caught.value.fix)
    assert settings == ["2d.network.stages.0.features=12"]
    plan = apply_overrides(jobs[0].plan, settings)
    (begun,) = with_initial([replace(jobs[0], plan=plan)], path, lambda _: None)
    assert begun.initial is not None
