import json

import pytest

from autoseg.errors import AutosegError
from autoseg.machine import Gpu, Machine, TrainedSpeed
from autoseg.pipeline import known_machines
from autoseg.pipeline.known_machines import (
    MAX_MACHINES,
    keep_speed,
    known_machine,
    learn_from_folds,
    load_machine,
    remembered,
    step_intervals,
    trained_speed,
)
from autoseg.plan.cost import step_cost
from autoseg.plan.speed import KEPT_RUNS, base_speed, estimated_speed
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import machine_of
from autoseg.testing.plans import small_configuration, small_plan
from autoseg.train.records import RunSettings
from autoseg.workspace import Workspace, append_line, write_text

MACHINE = machine_of()
LABELS = Labels(names=("background", "ring"), values=(0, 1))
PLAN = small_plan(LABELS, (small_configuration(),))
ITEM = PLAN.configurations[0]
EXPECTED_S = step_cost(
    ITEM.network,
    ITEM.patch_size,
    batch_size=ITEM.batch_size,
    speed=base_speed(MACHINE, "cpu"),
    training=ITEM.training,
)[1]
SPEED = estimated_speed(MACHINE, "cpu")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "machine.json"


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(known_machines, "measure_machine", lambda: MACHINE)
    monkeypatch.setattr(known_machines, "_is_busy", lambda _: False)


def write_fold(place, seconds, fold="0", plan=PLAN, **changes):
    """Write what a fold leaves: a line every ten steps, which took so many seconds each."""
    folder = place.fold("3d_fullres", fold)
    settings = RunSettings(
        plan_digest=plan.digest(),
        configuration="3d_fullres",
        fold=fold,
        num_steps=10 * len(seconds),
        device="cpu",
        precision="bf16",
        num_threads=2,
        channels_last=False,
        seconds_per_step=0.0,
    )
    write_text(folder.settings, settings.revised(**changes).to_json())
    write_text(folder.result, "{}")
    now = 5.0
    append_line(folder.metrics, {"step": 10, "seconds": now})
    for index, each in enumerate(seconds, start=2):
        now += 10 * each
        append_line(folder.metrics, {"step": 10 * index, "seconds": now})
    return folder


def speed_of(tmp_path, seconds, *, is_busy=False, machine=MACHINE, **changes):
    folder = write_fold(Workspace(tmp_path), seconds, **changes)
    return trained_speed(folder, PLAN, machine, is_busy=is_busy)


def told_by(tmp_path, seconds, **changes) -> TrainedSpeed:
    """Return what a fold with these steps says; it must say something."""
    found = speed_of(tmp_path, seconds, **changes)
    assert found is not None
    return found


def kept(path) -> Machine:
    """Return what is known of the machine; it must be known."""
    found = known_machine(MACHINE, path)
    assert found is not None
    return found


def test_machines_are_kept_side_by_side(path):
    one = MACHINE.revised(num_cpus=1)
    for machine in (MACHINE, one):
        assert remembered(machine, path) == machine
    assert known_machine(MACHINE.revised(flops=1.0), path) == MACHINE
    assert known_machine(one, path) == one
    assert known_machine(MACHINE.revised(num_cpus=3), path) is None


def test_only_so_many_machines_are_kept(path):
    machines = [MACHINE.revised(num_cpus=count) for count in range(1, MAX_MACHINES + 2)]
    for machine in machines:
        remembered(machine, path)
    assert known_machine(machines[0], path) is None
    assert all(known_machine(machine, path) for machine in machines[1:])


def test_a_better_matrix_product_keeps_what_was_measured(path):
    measured = keep_speed(MACHINE, SPEED, path)
    faster = remembered(MACHINE.revised(flops=9e11), path)
    assert (faster.flops, faster.speeds) == (9e11, measured.speeds)
    assert remembered(MACHINE, path) == faster


def test_a_file_of_another_version_is_written_anew(path):
    write_text(path, MACHINE.to_json())
    assert remembered(MACHINE, path) == MACHINE
    assert known_machine(MACHINE, path) == MACHINE


def test_a_new_measurement_forgets_the_folds_before_it(path, tmp_path, quiet):
    place = Workspace(tmp_path)
    write_fold(place, [2 * EXPECTED_S] * 10)
    list(learn_from_folds(place, PLAN, path))
    known = kept(path)
    assert len(known.trained) == 1
    again = keep_speed(keep_speed(known, SPEED, path), SPEED.revised(value_s=1.0), path)
    assert again.trained == ()
    assert [speed.value_s for speed in again.speeds] == [1.0]


def test_a_fold_says_how_long_its_steps_took_against_what_was_expected(tmp_path):
    found = told_by(tmp_path, [1.5 * EXPECTED_S] * 10)
    assert found.ratio == pytest.approx(1.5)
    assert (found.device, found.dimensions, found.precision) == ("cpu", 3, "bf16")
    assert found.run.startswith("made 3d_fullres fold 0")


def test_moments_in_which_the_machine_was_busy_do_not_count(tmp_path):
    found = told_by(tmp_path, [1.1 * EXPECTED_S] * 9 + [9 * EXPECTED_S] * 3)
    assert found.ratio == pytest.approx(1.1)


@pytest.mark.parametrize(("factors", "is_busy"), [([1.2, 3.0] * 6, False), ([1.2, 1.2] * 6, True)])
def test_slow_steps_on_a_busy_machine_say_nothing(tmp_path, factors, is_busy):
    steps = [factor * EXPECTED_S for factor in factors]
    assert speed_of(tmp_path, steps, is_busy=is_busy) is None


def test_fast_steps_count_even_on_a_busy_machine(tmp_path):
    steps = [factor * EXPECTED_S for factor in [0.5, 2.0, 0.5] * 4]
    assert told_by(tmp_path, steps, is_busy=True).ratio == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changes",
    [{"num_threads": 1}, {"precision": "fp32"}, {"plan_digest": "other"}, {"device": "cuda:0"}],
)
def test_what_was_trained_otherwise_says_nothing(tmp_path, changes):
    assert speed_of(tmp_path, [EXPECTED_S] * 10, **changes) is None


def test_a_run_of_a_few_lines_says_nothing(tmp_path):
    assert speed_of(tmp_path, [EXPECTED_S] * 4) is None


def test_a_gpu_is_known_by_its_name(tmp_path):
    machine = machine_of(Gpu(name="NVIDIA T4", memory_bytes=15 * 2**30))
    changes = {"device": "cuda", "precision": "bf16", "num_threads": 1}
    found = told_by(tmp_path, [1.0] * 10, machine=machine, **changes)
    assert (found.device, found.precision) == ("NVIDIA T4", machine.training_precision("cuda"))


def test_looks_at_cases_are_no_steps(tmp_path):
    folder = write_fold(Workspace(tmp_path), [1.0, 1.0])
    append_line(folder.metrics, {"step": 40, "seconds": 1e3, "dice": 0.5})
    append_line(folder.metrics, {"step": 50, "seconds": 1e3 + 10})
    assert step_intervals(folder) == pytest.approx([1.0, 1.0, 1.0])


def test_a_fold_counts_once_and_old_ones_are_forgotten(tmp_path, path, quiet):
    place = Workspace(tmp_path)
    for fold in range(KEPT_RUNS + 1):
        write_fold(place, [EXPECTED_S] * 10, fold=str(fold))
    told = list(learn_from_folds(place, PLAN, path))
    assert len(told) == KEPT_RUNS + 1
    assert "1.00 times" in told[0]
    assert len(kept(path).trained) == KEPT_RUNS
    newest = kept(path).trained[-1].run
    list(learn_from_folds(place, PLAN, path))
    runs = [item.run for item in kept(path).trained]
    assert len(set(runs)) == len(runs) == KEPT_RUNS
    assert newest in runs


def test_what_doctor_prints_can_be_planned_for(tmp_path):
    file = tmp_path / "m.json"
    printed = {**MACHINE.model_dump(mode="json"), "versions": {}, "cache": "", "free_bytes": {}}
    file.write_text(json.dumps(printed))
    assert load_machine(file) == MACHINE


@pytest.mark.parametrize("text", ["{", "[]", '{"num_cpus": 2}', None])
def test_a_file_that_is_no_machine_is_told_with_how_to_make_one(tmp_path, text):
    file = tmp_path / "m.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AutosegError, match=r"m\.json") as caught:
        load_machine(file)
    assert "doctor --json" in caught.value.fix


def test_a_machine_is_busy_when_more_wants_to_compute_than_it_has_processors(monkeypatch):
    for load, expected in ((1.0, False), (10.0, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (0.0, load, 0.0), raising=False)
        assert known_machines._is_busy(MACHINE) is expected
