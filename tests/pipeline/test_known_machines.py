import json
import time
from threading import Thread

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
from autoseg.plan.speed import KEPT_RUNS, base_speed, estimated_speed, step_speed
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
    folder = write_fold(place, [2 * EXPECTED_S] * 10)
    list(learn_from_folds([folder], PLAN, path))
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
    names = map(str, range(KEPT_RUNS + 1))
    folders = [write_fold(place, [EXPECTED_S] * 10, fold=name) for name in names]
    told = list(learn_from_folds(folders, PLAN, path))
    assert len(told) == KEPT_RUNS + 1
    assert "1.00 times" in told[0]
    assert len(kept(path).trained) == KEPT_RUNS
    newest = kept(path).trained[-1].run
    list(learn_from_folds(folders, PLAN, path))
    runs = [item.run for item in kept(path).trained]
    assert len(set(runs)) == len(runs) == KEPT_RUNS
    assert newest in runs


def test_steps_stay_as_long_as_folds_have_shown_when_the_matrix_product_was_better(path, quiet):
    busy = remembered(MACHINE.revised(flops=MACHINE.flops / 4), path)
    shown = TrainedSpeed(run="one", device="cpu", dimensions=3, precision="bf16", ratio=0.5)
    known_machines._keep(busy.revised(trained=(shown,)), path)
    before = step_speed(kept(path), "cpu", 3)
    after = step_speed(remembered(MACHINE, path), "cpu", 3)
    assert after.operation_s == pytest.approx(before.operation_s)
    assert after.value_s == pytest.approx(before.value_s)


def test_what_was_measured_does_not_change_with_the_matrix_product(path):
    shown = TrainedSpeed(run="one", device="cpu", dimensions=3, precision="bf16", ratio=0.5)
    measured = keep_speed(MACHINE, SPEED, path).revised(trained=(shown,))
    known_machines._keep(measured, path)
    assert remembered(MACHINE.revised(flops=4 * MACHINE.flops), path).trained == (shown,)


def test_folds_that_left_no_settings_or_no_end_say_nothing(tmp_path, path, quiet):
    place = Workspace(tmp_path)
    folders = [write_fold(place, [EXPECTED_S] * 10, fold=name) for name in ("0", "1")]
    folders[0].settings.unlink()
    folders[1].result.unlink()
    assert list(learn_from_folds(folders, PLAN, path)) == []


def test_a_measurement_that_ends_later_keeps_what_other_processes_have_learnt(path):
    gpu = Gpu(name="NVIDIA T4", memory_bytes=15 * 2**30)
    before = remembered(machine_of(gpu), path)
    shown = TrainedSpeed(run="one", device=gpu.name, dimensions=3, precision="fp16", ratio=0.5)
    known_machines._keep(before.revised(trained=(shown,)), path)
    assert keep_speed(before, SPEED, path).trained == (shown,)


def test_two_processes_lose_nothing_of_each_other(path, monkeypatch):
    def keep_others():
        for count in range(4):
            remembered(MACHINE.revised(num_cpus=10 + count), path)

    def slow_load(file, load=known_machines._load):
        found = load(file)
        time.sleep(0.01)
        return found

    monkeypatch.setattr(known_machines, "_load", slow_load)
    other = Thread(target=keep_others)
    other.start()
    for count in range(4):
        remembered(MACHINE.revised(num_cpus=20 + count), path)
    other.join()
    assert len(known_machines._load(path)) == 8


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"{", b"[]", b"null", b'{"schema_version": 1, "machines": [{}]}', None],
)
def test_a_spoilt_file_is_written_anew(path, content):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    assert remembered(MACHINE, path) == MACHINE
    assert known_machine(MACHINE, path) == MACHINE


@pytest.mark.parametrize("change", [{"flops": 0.0}, {"flops": float("nan")}, {"num_cpus": 0}])
def test_impossible_machines_are_not_believed(path, tmp_path, change):
    remembered(MACHINE, path)
    content = json.loads(path.read_text())
    content["machines"][0] |= change
    path.write_text(json.dumps(content))
    assert remembered(MACHINE, path) == MACHINE
    file = tmp_path / "m.json"
    file.write_text(json.dumps(content["machines"][0] | change))
    with pytest.raises(AutosegError, match=r"m\.json: (flops|num_cpus): "):
        load_machine(file)


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert remembered(MACHINE, tmp_path / "cache" / "machine.json") == MACHINE


def test_a_cache_that_is_in_use_stops_nothing(path, monkeypatch):
    monkeypatch.setattr(known_machines, "LOCK_WAIT_S", 0.0)
    with known_machines._alone(path):
        assert remembered(MACHINE, path) == MACHINE


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
