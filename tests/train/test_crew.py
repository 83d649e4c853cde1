import json
import pickle
from types import SimpleNamespace

import pytest

from autoseg.errors import TrainingError, WorkspaceError
from autoseg.train.crew import Crew, FoldLog
from autoseg.train.job import Interrupted, Listeners
from autoseg.workspace import Workspace, append_line


class RayError(Exception):
    pass


class RayTaskError(RayError):
    cause: BaseException


class FakeRay:
    """A Ray whose tasks end at once with what a script says: a value, or an exception."""

    is_alive = True

    def __init__(self, script):
        self.script = {fold: list(outcomes) for fold, outcomes in script.items()}
        self.most_at_once = 0
        self.api = self
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def check(self):
        pass

    def remote(self, **options):
        assert options["max_retries"] == 0
        return lambda _: SimpleNamespace(remote=lambda job: (job.fold, len(self.script[job.fold])))

    def wait(self, references, timeout, num_returns=1):
        self.most_at_once = max(self.most_at_once, len(references))
        return references[:1], references[1:]

    def get(self, reference, timeout):
        outcome = self.script[reference[0]].pop(0)
        if isinstance(outcome, RayError):
            raise outcome
        return outcome


def crew(ray, jobs, num_workers=2, should_stop=lambda: False):
    """Return what runs some jobs."""
    made = Crew(ray, num_workers, Listeners(lambda _: None, should_stop))
    return SimpleNamespace(run=lambda: made.run(jobs), each=lambda: made.each(iter(jobs)))


@pytest.fixture
def jobs(make_job, tmp_path):
    return [make_job(fold, root=tmp_path / "run.autoseg") for fold in ("0", "1")]


def test_results_come_in_the_order_of_the_jobs(jobs):
    ray = FakeRay({"0": ["first"], "1": ["second"]})
    assert crew(ray, jobs[::-1]).run() == ["second", "first"]


def test_no_more_folds_than_workers_run_at_once(jobs):
    ray = FakeRay({"0": ["first"], "1": ["second"]})
    crew(ray, jobs, num_workers=1).run()
    assert ray.most_at_once == 1


def test_worker_that_dies_is_started_again(jobs):
    ray = FakeRay({"0": [RayError("died"), RayError("died"), "first"], "1": ["second"]})
    assert crew(ray, jobs).run() == ["first", "second"]
    events = Workspace(jobs[0].root).events.read_text().splitlines()
    assert [json.loads(line)["event"] for line in events] == ["restarted", "restarted"]


def test_worker_that_dies_three_times_is_given_up(jobs):
    ray = FakeRay({"0": [RayError("out of memory")] * 3, "1": ["second"]})
    with pytest.raises(TrainingError, match="died 3 times, at last: out of memory"):
        crew(ray, jobs).run()


def test_error_of_a_worker_is_the_error_of_the_call(jobs):
    error = pickle.loads(pickle.dumps(WorkspaceError(found="a", expected="b", fix="c")))
    with pytest.raises(WorkspaceError):
        crew(FakeRay({"0": [error], "1": ["second"]}), jobs).run()


def test_programming_error_of_a_worker_is_not_tried_again(jobs):
    ray = FakeRay({"0": [RayTaskError("KeyError"), "first"], "1": ["second"]})
    with pytest.raises(RayTaskError):
        crew(ray, jobs).run()


def test_jobs_end_one_by_one_with_their_results_or_errors(jobs):
    ray = FakeRay({"0": [RayTaskError("KeyError")], "1": ["second"]})
    ended = {job.fold: outcome for job, outcome in crew(ray, jobs).each()}
    assert isinstance(ended["0"], RayTaskError)
    assert ended["1"] == "second"


def test_a_programming_error_comes_as_the_worker_raised_it(jobs):
    error = RayTaskError("ray::_work() (pid=7)\n  File ...\nKeyError: 'x'")
    error.cause = KeyError("x")
    ended = {job.fold: item for job, item in crew(FakeRay({"0": [error], "1": [1]}), jobs).each()}
    assert ended["0"] is error.cause
    assert "pid=7" in ended["0"].__notes__[0]


def test_a_job_is_taken_only_when_a_worker_is_free(jobs):
    taken = []

    def source():
        for job in jobs:
            taken.append(job.fold)
            yield job

    made = Crew(FakeRay({"0": ["first"], "1": ["second"]}), 1, Listeners(lambda _: None, bool))
    for count, _ in enumerate(made.each(source()), start=1):
        assert len(taken) == count


def test_whoever_stops_listening_stops_the_workers(jobs):
    ray = FakeRay({"0": ["first"], "1": ["second"]})
    ended = crew(ray, jobs).each()
    next(ended)
    assert not jobs[1].folder.stop.exists()
    asked = []

    def wait(references, timeout, num_returns=1):
        asked.append(jobs[1].folder.stop.exists())
        return references, []

    ray.wait = wait
    ended.close()
    assert asked == [True]


def test_stop_request_is_left_for_running_folds_until_they_end(jobs):
    ray = FakeRay({"0": ["first"], "1": [None]})
    asked = []

    def wait(references, timeout, num_returns=1):
        asked.append([job.folder.stop.exists() for job in jobs])
        return references[:1], references[1:]

    ray.wait = wait
    with pytest.raises(Interrupted):
        crew(ray, jobs, should_stop=lambda: True).run()
    assert asked == [[False, False], [False, True]]
    assert not any(job.folder.stop.exists() for job in jobs)


def test_lines_of_a_log_are_heard_once_and_only_when_complete(jobs):
    path = jobs[0].folder.metrics
    append_line(path, {"step": 1})
    log = FoldLog(jobs[0])
    append_line(path, {"step": 2})
    with path.open("a") as file:
        file.write('{"step": 3')
    assert [line["step"] for line in log.new_lines()] == [2]
    with path.open("a") as file:
        file.write("}\n")
    heard = list(log.new_lines())
    assert [line["step"] for line in heard] == [3]
    assert heard[0]["configuration"] == "3d_fullres"


def test_lines_of_a_log_tell_how_fast_the_fold_is(jobs):
    log = FoldLog(jobs[0])
    for step, seconds in ((10, 30.0), (20, 35.0)):
        append_line(jobs[0].folder.metrics, {"step": step, "seconds": seconds})
    first, second = log.new_lines()
    assert "patches_per_second" not in first
    assert second["patches_per_second"] == 2 * jobs[0].planned.batch_size


def test_damaged_lines_of_a_log_are_passed_over(jobs):
    path = jobs[0].folder.metrics
    log = FoldLog(jobs[0])
    append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "lo\n')
    append_line(path, {"step": 3})
    assert [line["step"] for line in log.new_lines()] == [1, 3]


def test_validated_cases_are_told(jobs):
    log = FoldLog(jobs[0])
    for done, case_id in enumerate(jobs[0].val_cases, start=1):
        append_line(jobs[0].folder.scores, {"score": {"case_id": case_id}, "seconds": 1.0})
        place = {"configuration": "3d_fullres", "fold": "0"}
        assert list(log.new_lines()) == [{"event": "validated", **place, "done": done, "total": 2}]
    assert list(log.new_lines()) == []
