import hashlib
import json

import pytest

from autoseg.pipeline import run_record
from autoseg.pipeline.run_record import ActiveTime, RunRecord, load_run
from autoseg.plan.plan import Plan


class Clock:
    """A clock that goes as the test says."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(run_record, "time", clock)
    return clock


def test_what_was_typed_can_be_read_in_the_file(own_place):
    plan = Plan.load(own_place.plan)
    load_run(own_place, plan, ("autoseg", "plan", "Käse", "caf\udce9"))
    text = own_place.run.read_bytes().decode()
    assert "autoseg plan 'Käse'" in text
    assert RunRecord.load(own_place.run).commands[-1].endswith("caf\\udce9'")


def active_s(place):
    return RunRecord.load(place.run).active_s


def test_commands_of_one_plan_are_gathered(own_place):
    plan = Plan.load(own_place.plan)
    load_run(own_place, plan, ("autoseg", "train", "-w", "a b"))
    assert load_run(own_place, plan, ()).commands[-1] == "autoseg train -w 'a b'"
    other = load_run(own_place, plan.revised(seed=7), ("autoseg", "plan"))
    assert other.commands == ("autoseg plan",)
    assert RunRecord.load(own_place.run) == other


def test_time_is_kept_while_the_work_goes_on(own_place, clock):
    active = ActiveTime(own_place, "request")
    should_stop = active.watched(lambda: False)
    clock.now += 10
    assert not should_stop()
    assert active_s(own_place) == {}
    clock.now += 25
    assert not should_stop()
    assert active_s(own_place) == {"request": 35.0}
    clock.now += 1
    should_stop()
    assert active_s(own_place) == {"request": 35.0}
    assert ActiveTime(own_place, "request").seconds == 35.0
    assert ActiveTime(own_place, "another").seconds == 0.0


def fail(error, action=lambda: None):
    action()
    raise error


def test_time_of_a_stopped_request_is_kept_and_of_a_completed_one_forgotten(own_place, clock):
    def work():
        clock.now += 5

    with pytest.raises(KeyboardInterrupt), ActiveTime(own_place, "request"):
        fail(KeyboardInterrupt, work)
    assert active_s(own_place) == {"request": 5.0}
    with pytest.raises(ZeroDivisionError), ActiveTime(own_place, "another"):
        fail(ZeroDivisionError)
    with ActiveTime(own_place, "request") as active:
        assert active.seconds == 5.0
    assert active_s(own_place) == {"another": 0.0}


def test_a_stop_is_passed_on(own_place):
    assert ActiveTime(own_place, "request").watched(lambda: True)()


def test_time_that_cannot_be_kept_does_not_hide_the_error(own_place):
    with pytest.raises(ZeroDivisionError), ActiveTime(own_place, "request"):
        fail(ZeroDivisionError, own_place.run.unlink)


def test_the_record_says_what_the_work_was_done_on_and_with(own_place):
    run = RunRecord.load(own_place.run)
    plan = Plan.load(own_place.plan)
    assert run.digests == {
        "dataset": hashlib.sha256(own_place.dataset.read_bytes()).hexdigest(),
        "splits": hashlib.sha256(own_place.splits.read_bytes()).hexdigest(),
        "fingerprint": plan.fingerprint_digest,
    }
    assert (run.seed, run.plan_digest, run.changes) == (plan.seed, plan.digest(), ())
    assert {"torch", "numpy", "edt", "pillow"} <= run.versions.keys()
    assert "not installed" not in run.versions.values()
    assert run.machine.python.startswith("3.")


def test_what_later_commands_find_changed_is_recorded_once(own_place, monkeypatch):
    plan = Plan.load(own_place.plan)
    before = run_record.package_versions()
    monkeypatch.setattr(run_record, "package_versions", lambda: {**before, "torch": "9.9"})
    own_place.splits.write_text("[]")
    load_run(own_place, plan, ("autoseg", "train"))
    run = load_run(own_place, plan, ("autoseg", "train"))
    versions, splits = run.changes
    assert versions == f"torch: {before['torch']}, then 9.9"
    assert splits.startswith("splits: ")
    assert run.versions["torch"] == "9.9"


def test_another_machine_is_recorded(own_place):
    plan, machine = Plan.load(own_place.plan), RunRecord.load(own_place.run).machine
    faster = machine.revised(flops=2 * machine.flops)
    assert load_run(own_place, plan, (), faster).changes == ()
    larger = machine.revised(num_cpus=96)
    (change,) = load_run(own_place, plan, (), larger).changes
    assert "machine: " in change
    assert "96 processors" in change


def test_a_record_of_an_earlier_version_is_read_and_completed(own_place):
    run = RunRecord.load(own_place.run)
    content = run.model_dump(mode="json", exclude={"digests", "changes"})
    own_place.run.write_text(json.dumps(content))
    completed = load_run(own_place, Plan.load(own_place.plan), ())
    assert completed.digests == run.digests
    assert completed.changes == ()
