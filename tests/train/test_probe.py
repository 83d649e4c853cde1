import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from autoseg.errors import WorkspaceError
from autoseg.network.execution import Execution
from autoseg.train import probe
from autoseg.train.checkpoint import Standing, save_weights
from autoseg.train.compiling import as_planned
from autoseg.train.fold import _batches
from autoseg.train.probe import candidates, probe_settings, run_settings, usual_execution
from autoseg.train.records import RunSettings


def test_given_steps_need_no_clock(make_job, monkeypatch):
    job = make_job(num_steps=7)
    monkeypatch.setattr(probe, "_step_seconds", None)
    settings = probe_settings(job, _batches(job))
    assert settings.num_steps == 7
    assert settings.precision == usual_execution("cpu").precision


def compiled(job, wanted):
    training = job.planned.training.revised(compiled=wanted)
    item = job.planned.revised(training=training)
    return replace(job, plan=job.plan.revised(configurations=(item,)))


@pytest.mark.parametrize("wanted", [False, True])
def test_a_plan_says_without_a_clock_whether_the_network_is_compiled(make_job, wanted):
    job = compiled(make_job(num_steps=7), wanted)
    settings = probe_settings(job, _batches(job))
    assert (settings.compiled, settings.compiled_why) == (wanted, "as planned")
    found = as_planned(job, Execution(device="mps", precision="fp32"))
    assert found is not None
    assert not found.execution.compiled


@pytest.mark.parametrize("wanted", [False, True])
def test_with_a_budget_a_plan_that_says_so_is_timed_as_it_will_run(make_job, monkeypatch, wanted):
    timed = []
    monkeypatch.setattr(probe, "fastest_execution", lambda *_: usual_execution("cpu"))
    monkeypatch.setattr(probe, "decide", None)
    monkeypatch.setattr(probe, "keep_going", lambda: None)
    monkeypatch.setattr(probe, "time_steps", lambda *args: timed.append(args[2].compiled) or 0.5)
    job = compiled(make_job(num_steps=None, budget_s=1e5), wanted)
    settings = probe_settings(job, _batches(job))
    assert timed == [wanted]
    assert settings.compiled == wanted
    assert settings.seconds_per_step == 0.5


def test_steps_fill_the_budget_that_probing_left(make_job, monkeypatch):
    monkeypatch.setattr(probe, "fastest_execution", lambda *_: usual_execution("cpu"))
    monkeypatch.setattr(probe, "time_steps", lambda *_: 0.5)
    job = make_job(num_steps=None, budget_s=100.0)
    assert 180 <= probe_settings(job, _batches(job)).num_steps <= 194  # a machine may be busy


def test_without_steps_and_budget_the_plan_decides(make_job):
    job = make_job(num_steps=None)
    with pytest.raises(ValueError, match="neither"):
        probe_settings(job, _batches(job))


def test_fastest_execution_is_chosen(make_job, monkeypatch):
    seconds = {("fp32", False): 3.0, ("fp32", True): 1.0, ("bf16", False): 2.0, ("bf16", True): 4.0}
    job = make_job()
    monkeypatch.setattr(
        probe,
        "_step_seconds",
        lambda _, execution, *__: [seconds[execution.precision, execution.channels_last]],
    )
    batch = _batches(job).batch(0)
    found = probe.fastest_execution(job, batch, 60.0)
    assert found == Execution(device="cpu", precision="fp32", channels_last=True)
    assert probe.fastest_execution(job, batch, 0.0) == usual_execution("cpu")


def test_a_precision_that_would_fill_the_memory_is_not_tried(make_job, monkeypatch):
    tried = []

    def seconds(_, execution, *__):
        tried.append(execution.precision)
        return [1.0]

    monkeypatch.setattr(probe, "_step_seconds", seconds)
    job = make_job()
    job = replace(job, plan=job.plan.revised(memory_bytes=1))
    probe.fastest_execution(job, _batches(job).batch(0), 60.0)
    assert set(tried) == {usual_execution("cpu").precision}


def test_every_candidate_runs(make_job):
    job = make_job()
    batch = _batches(job).batch(0)
    found = candidates("cpu")
    assert len(found) == len(set(found)) == 4
    for execution in found:
        assert min(probe._step_seconds(job, execution, [batch] * 3, 60.0)) > 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own code
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_probing_slow_steps_ends_with_the_first_after_its_limit(make_job, monkeypatch):
    taken = []

    def slow_steps(*_, **__):
        for step in range(1, 18):
            taken.append(step)
            time.sleep(0.6)
            yield SimpleNamespace(step=step, loss=torch.zeros(()))

    monkeypatch.setattr(probe, "train", slow_steps)
    job = make_job(num_steps=None, budget_s=100.0)
    batches = _batches(job)
    assert probe.fastest_execution(job, batches.batch(0), 0.5) == usual_execution("cpu")
    assert taken == [1]
    assert 0.6 <= probe.time_steps(job, batches, usual_execution("cpu"), 0.5) < 5.0
    assert taken == [1, 1]
    taken.clear()
    compiled = replace(usual_execution("cpu"), compiled=True)
    probe.time_steps(job, batches, compiled, 0.5)
    assert taken == [1, 2, 3]  # the first may have been compiling


def test_decision_is_written_once_and_read_ever_after(make_job):
    job = make_job(num_steps=5)
    first = run_settings(job, _batches(job))
    assert RunSettings.load(job.folder.settings) == first
    again = make_job(num_steps=50, root=job.root)
    assert run_settings(again, _batches(again)) == first


def test_decision_for_another_plan_is_not_read(make_job):
    job = make_job(num_steps=5)
    run_settings(job, _batches(job))
    other = make_job(num_steps=6, root=job.root, plan=job.plan.revised(seed=3))
    assert run_settings(other, _batches(other)).num_steps == 6


def test_decision_is_not_replaced_beside_weights_of_another_plan(make_job):
    job = make_job(num_steps=5)
    settings = run_settings(job, _batches(job))
    standing = Standing(plan_digest=settings.plan_digest, step=5, elapsed_s=1.0)
    save_weights(job.folder.final, {}, standing)
    job.folder.events.write_text('{"event": "revised", "num_steps": 4, "step": 2}\n')
    other = make_job(num_steps=6, root=job.root, plan=job.plan.revised(seed=3))
    with pytest.raises(WorkspaceError, match="another plan"):
        run_settings(other, _batches(other))
    assert RunSettings.load(job.folder.settings) == settings
    assert job.folder.events.exists()
