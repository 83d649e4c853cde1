"""The search's bookkeeping: what is trained is faked, the study and the plan are real."""

import json
import shutil
from types import SimpleNamespace

import pytest

from autoseg.errors import AutosegError, PlanError, TrainingError, WorkspaceError
from autoseg.evaluate.scores import CaseScore, ClassScore
from autoseg.pipeline.planning import PlanOptions, make_plan
from autoseg.pipeline.run_record import RunRecord
from autoseg.pipeline.searching import SearchOptions, main_configuration, search_plan
from autoseg.plan.plan import Plan
from autoseg.plan.search import SearchSummary
from autoseg.plan.search_budget import NUM_LOOKS, smallest_search_s
from autoseg.testing.synthetic import write_spheres
from autoseg.train.job import Interrupted
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import FoldFolder, Workspace, append_line, write_text
from autoseg_planners.search import MAX_TRIES

STEPS = 7


def planned(root, num_cases=9, num_folds=3):
    data = write_spheres(root / "spheres", num_cases=num_cases, seed=0, shape=(16, 16, 16))
    options = PlanOptions(
        dataset=data, workspace=root / "s.autoseg", device="cpu", num_folds=num_folds
    )
    return make_plan(options).workspace


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return planned(tmp_path_factory.mktemp("planned"))


@pytest.fixture
def place(template, tmp_path):
    """A planned workspace of nine volumes in three folds, for this test alone."""
    return Workspace(shutil.copytree(template.root, tmp_path / "s.autoseg"))


class Trainer:
    """Stands for the cluster: every training ends at once with the Dice that `dice` gives it."""

    def __init__(self, monkeypatch):
        self.trained = []
        self.dice = lambda job: 0.5
        monkeypatch.setattr("autoseg.train.cluster.train_each", self.train_each)
        monkeypatch.setattr("autoseg.pipeline.search_jobs.prepare_cases", self.prepare)
        self.prepared = []

    def prepare(self, plan, dataset, workspace, names, listeners):
        self.prepared.append(workspace.root)

    def train_each(self, jobs, *, num_workers, address, on_progress, should_stop):
        for job in jobs:
            if should_stop():
                raise Interrupted("stopped")
            job.folder.stop.unlink(missing_ok=True)
            if job.folder.result.exists():
                yield job, FoldResult.load(job.folder.result)
                continue
            self.trained.append(job)
            outcome = self.dice(job)
            if isinstance(outcome, float):
                outcome = result(job, outcome)
                job.folder.root.mkdir(parents=True, exist_ok=True)
                job.folder.result.write_text(outcome.to_json())
                job.folder.last.write_bytes(b"weights")
            yield job, outcome

    @property
    def names(self):
        return [job.name for job in self.trained]


def result(job, dice):
    """Return what a training would write whose cases all have about this Dice."""
    item = {"iou": dice, "hd95": 1.0, "nsd": dice, "predicted_voxels": 1, "reference_voxels": 1}
    scores = tuple(
        CaseScore(
            case_id=case_id,
            classes=(ClassScore(dice=dice + 0.001 * index, **item),),
        )
        for index, case_id in enumerate(job.val_cases)
    )
    return FoldResult(
        autoseg_version="0",
        plan_digest=job.plan.digest(),
        configuration=job.configuration,
        fold=job.fold,
        seed=job.plan.seed,
        num_steps=STEPS,
        train_seconds=1.0,
        validation_seconds=0.1,
        scores=scores,
    )


@pytest.fixture
def trainer(monkeypatch):
    return Trainer(monkeypatch)


def forget_last_word(place):
    """Leave the study as if its process had been killed: how its last trial ended was not told."""
    lines = place.study.read_bytes().splitlines(keepends=True)
    began = max(index for index, line in enumerate(lines) if b"outcome" in line)
    place.study.write_bytes(b"".join(lines[:began]))


def killed(place, trainer):
    """Search until the first training begins, which ends the process."""

    def die(job):
        raise SystemExit

    trainer.dice = die
    with pytest.raises(SystemExit):
        search(place)
    forget_last_word(place)


def begun_with(plan, num_threads):
    """Return what a training of the plan was begun with."""
    return RunSettings(
        plan_digest=plan.digest(),
        configuration=main_configuration(plan),
        fold="0",
        num_steps=10,
        device="cpu",
        precision="fp32",
        num_threads=num_threads,
        channels_last=False,
        seconds_per_step=0.1,
    )


def notes_of(place, **wanted):
    """Search; return the summary and the notes that were told."""
    told = []
    summary = search(place, on_event=told.append, **wanted)
    return summary, [str(item["text"]) for item in told if item["event"] == "note"]


def rate(job):
    return job.planned.training.peak_lr


def by_rate(job):
    """Return a Dice that a higher learning rate makes better, on every fold."""
    return 0.5 + 10 * rate(job)


def search(place, should_stop=lambda: False, on_event=lambda _: None, **wanted):
    given = {"steps": STEPS, "num_trials": 3, **wanted}
    return search_plan(SearchOptions(workspace=place, **given), on_event, should_stop)


# What is searched and what follows


def test_trial_0_is_the_plan_and_every_trial_has_a_folder_of_its_own(place, trainer):
    plan = Plan.load(place.plan)
    search(place)
    assert trainer.trained[0].plan == plan
    folders = {job.folder.root for job in trainer.trained}
    assert len(folders) == len(trainer.trained)
    assert all(folder.is_relative_to(place.search / "trials") for folder in folders)
    assert not place.training.exists()


def test_a_plan_that_is_better_on_all_other_folds_replaces_the_planned_one(place, trainer):
    trainer.dice = by_rate
    before = Plan.load(place.plan)
    summary = search(place)
    assert [row.differs for row in summary.trials][:2] == ["the plan as it is", "learning_rate 2"]
    after, name = Plan.load(place.plan), main_configuration(before)
    assert summary.verdict is not None
    assert summary.verdict.winner == "trial 1"
    rates = [plan.configuration(name).training.peak_lr for plan in (before, after)]
    assert rates[1] == pytest.approx(2 * rates[0])
    assert summary.applied == (f"{name}.training.peak_lr={rates[1]:g}",)
    decision = next(item for item in after.decisions if item.name == "search")
    assert decision.reason == summary.reason
    assert decision.value == "trial 1"
    changed = next(item for item in after.decisions if item.name == f"{name}.training.peak_lr")
    assert "search" in changed.reason.lower()
    assert SearchSummary.load(place.search_summary) == summary
    assert RunRecord.load(place.run).plan_digest == after.digest()


def test_rules_that_are_not_beaten_stay_and_the_plan_says_so(place, trainer):
    before = Plan.load(place.plan)
    summary = search(place)
    after = Plan.load(place.plan)
    assert summary.verdict is None, "no trial scored more, so nothing was worth confirming"
    assert after.configurations == before.configurations
    decision = next(item for item in after.decisions if item.name == "search")
    assert decision.value == "no change"
    assert "not beaten" in decision.reason


def test_luck_on_the_searched_fold_does_not_replace_the_plan(place, trainer):
    trainer.dice = lambda job: by_rate(job) if job.fold == "0" else 0.5
    before = Plan.load(place.plan)
    summary = search(place)
    assert summary.verdict is not None
    assert summary.verdict.winner is None
    assert summary.applied == ()
    assert summary.optimism == pytest.approx(10 * 0.003, rel=0.5)
    assert Plan.load(place.plan).configurations == before.configurations


def test_finalists_and_plan_have_equal_runs_on_folds_not_searched_on(place, trainer):
    trainer.dice = by_rate
    summary = search(place)
    runs = [job for job in trainer.trained if job.fold != "0"]
    assert summary.search_folds == ("0",)
    assert summary.confirm_folds == ("1", "2")
    pairs = [(job.fold, job.plan.seed, rate(job)) for job in runs]
    assert len(set(pairs)) == len(runs) == 2 * 2 * 2
    seeds = {job.plan.seed for job in runs}
    assert len(seeds) == 2
    assert Plan.load(place.plan).seed not in seeds, "trials were chosen with their own seed"
    assert {item.candidate for item in summary.scores} == {"incumbent", "trial 1"}


def test_prepared_cases_are_shared_unless_the_recipe_differs(place, trainer, monkeypatch):
    only = [{"learning_rate": 2.0}, {"normalisation": "unit"}]
    monkeypatch.setattr("autoseg.plan.search_space.NEIGHBOURS", only)
    search(place)
    plain, _, other = trainer.trained[:3]
    assert plain.trial.prepared == place.preprocessed(plain.configuration)
    assert other.trial.prepared.is_relative_to(place.search / "prepared")
    assert len(trainer.prepared) == len(set(trainer.prepared)) == 2


def test_cases_that_scored_trials_confirm_nothing(place, trainer):
    splits = json.loads(place.splits.read_text())
    shared = splits[0]["val"][0]
    for split in splits[1:]:
        split["train"].remove(shared)
        split["val"].append(shared)
    place.splits.write_text(json.dumps(splits))
    trainer.dice = by_rate
    summary = search(place)
    assert {item.fold for item in summary.scores} == {"1", "2"}
    assert shared not in {item.case for item in summary.scores}


def test_folds_with_the_same_cases_cannot_confirm(place, trainer):
    splits = json.loads(place.splits.read_text())
    place.splits.write_text(json.dumps([splits[0]] * 3))
    with pytest.raises(PlanError, match="0 with validation cases"):
        search(place)


def test_six_cases_confirm_one_finalist_only(place, trainer, monkeypatch):
    monkeypatch.setattr("autoseg.pipeline.search_confirm.FINALISTS_BY_STEPS", 3)
    trainer.dice = lambda job: 0.5 + 0.01 * (job.plan != trainer.trained[0].plan)
    summary = search(place, num_trials=4)
    assert {item.candidate for item in summary.scores} == {"incumbent", "trial 1"}


def test_which_configuration_is_searched_is_told(place, trainer):
    notes = []
    search(place, on_event=notes.append)
    name = main_configuration(Plan.load(place.plan))
    assert any(f"plan of {name} (" in str(note.get("text")) for note in notes)


def test_preparing_cases_is_not_held_against_trials(place, trainer, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("autoseg.pipeline.search_trials.time", clock)

    def prepare(*_):
        now[0] += 1000

    monkeypatch.setattr("autoseg.pipeline.search_jobs.prepare_cases", prepare)
    assert all(row.seconds < 1000 for row in search(place).trials)


def test_workers_see_the_workspace_from_any_folder(place, trainer, monkeypatch):
    monkeypatch.chdir(place.root.parent)
    search(Workspace(place.root.relative_to(place.root.parent)))
    job = trainer.trained[0]
    assert job.root.is_absolute()
    assert job.folder.root.is_absolute()
    assert job.trial.prepared.is_absolute()


def test_what_the_planner_said_of_the_old_network_is_not_said_of_the_winner(
    place, trainer, monkeypatch
):
    monkeypatch.setattr("autoseg.plan.search_space.NEIGHBOURS", [{"width": 1.5}])
    trainer.dice = lambda job: 0.5 + 0.01 * job.planned.network.stages[0].features
    name = main_configuration(Plan.load(place.plan))
    assert search(place, num_trials=2).applied
    names = [item.name for item in Plan.load(place.plan).decisions]
    assert f"{name}.network" not in names
    assert f"{name}.network.stages.0.features" in names


def test_training_looks_where_the_rungs_are():
    from autoseg.train import steady_look

    assert steady_look.NUM_LOOKS == NUM_LOOKS


def test_weights_of_trials_are_not_kept(place, trainer):
    trainer.dice = by_rate
    search(place)
    assert not list(place.search.rglob("*.pt"))
    assert len(list(place.search.rglob("result.json"))) == len(trainer.trained)


def test_cases_prepared_for_trials_alone_are_not_kept(place, trainer):
    place.search_prepared("0123").root.mkdir(parents=True)
    search(place)
    assert not place.search_recipes.exists()


def test_weights_of_a_trial_that_killed_its_process_are_not_kept(place, trainer):
    def die(job):
        if rate(job) > 0.004:
            job.folder.root.mkdir(parents=True, exist_ok=True)
            job.folder.last.write_bytes(b"weights")
            raise SystemExit
        return 0.5

    trainer.dice = die
    for _ in range(MAX_TRIES):
        with pytest.raises(SystemExit):
            search(place)
        forget_last_word(place)
    summary = search(place)
    states = [row.state for row in summary.trials]
    assert states[:6] == ["complete", *["interrupted"] * (MAX_TRIES - 1), "failed"]
    assert not list(place.search.rglob("*.pt"))


# What goes wrong


def test_a_failed_trial_is_recorded_and_the_search_goes_on(place, trainer):
    failure = TrainingError(found="the loss is no longer finite", expected="b", fix="c")
    trainer.dice = lambda job: failure if rate(job) > 0.004 else 0.5
    summary = search(place)
    states = [row.state for row in summary.trials]
    assert states == ["complete", "failed", "complete"]
    assert summary.trials[1].reason == "the loss is no longer finite"


def test_a_fault_of_ours_in_a_trial_is_recorded_too(place, trainer):
    trainer.dice = lambda job: KeyError("x") if rate(job) > 0.004 else 0.5
    assert search(place).trials[1].reason == "KeyError: 'x'"


def test_a_variant_that_cannot_be_prepared_is_a_failed_trial(place, trainer, monkeypatch):
    only = [{"normalisation": "unit"}, {"learning_rate": 2.0}]
    monkeypatch.setattr("autoseg.plan.search_space.NEIGHBOURS", only)

    def prepare(plan, dataset, workspace, names, listeners):
        if workspace.root.is_relative_to(place.search):
            raise AutosegError(found="case 3 does not fit into memory", expected="b", fix="c")

    monkeypatch.setattr("autoseg.pipeline.search_jobs.prepare_cases", prepare)
    summary = search(place)
    assert [row.state for row in summary.trials] == ["complete", "failed", "complete"]
    told = "its cases cannot be prepared: case 3 does not fit into memory"
    assert summary.trials[1].reason == told


def test_a_finalist_that_cannot_be_prepared_again_is_left_out(place, trainer, monkeypatch):
    only = [{"normalisation": "unit"}]
    monkeypatch.setattr("autoseg.plan.search_space.NEIGHBOURS", only)
    trainer.dice = lambda job: 0.5 + 0.1 * (job.trial.prepared != plain)
    plain = place.preprocessed(main_configuration(Plan.load(place.plan)))
    with pytest.raises(Interrupted):
        search(place, lambda: len(trainer.trained) >= 2, num_trials=2)

    def prepare(plan, dataset, workspace, names, listeners):
        if workspace.root.is_relative_to(place.search):
            raise AutosegError(found="no memory", expected="b", fix="c")

    monkeypatch.setattr("autoseg.pipeline.search_jobs.prepare_cases", prepare)
    summary = search(place, num_trials=2)
    assert summary.verdict is None
    assert "No finalist" in summary.reason


def test_a_full_disk_while_a_variant_is_prepared_ends_the_search(place, trainer, monkeypatch):
    monkeypatch.setattr("autoseg.plan.search_space.NEIGHBOURS", [{"normalisation": "unit"}])

    def prepare(plan, dataset, workspace, names, listeners):
        if workspace.root.is_relative_to(place.search):
            raise WorkspaceError(found="full", expected="b", fix="c")

    with monkeypatch.context() as patched:
        patched.setattr("autoseg.pipeline.search_jobs.prepare_cases", prepare)
        with pytest.raises(WorkspaceError, match="full"):
            search(place)
    assert search(place).trials[-1].state == "complete"


def test_a_full_disk_ends_the_search(place, trainer):
    trainer.dice = lambda job: WorkspaceError(found="full", expected="b", fix="c")
    with pytest.raises(WorkspaceError, match="full"):
        search(place)
    trainer.dice = lambda job: 0.5
    assert search(place).trials[-1].state == "complete"


def test_a_plan_that_cannot_be_trained_is_told_at_once(place, trainer):
    trainer.dice = lambda job: TrainingError(found="no memory", expected="b", fix="c")
    for _ in range(2):
        with pytest.raises(TrainingError, match=r"as it is cannot be trained: no memory"):
            search(place)
    assert len(trainer.trained) == 1


def test_a_finalist_that_fails_is_left_out(place, trainer):
    def dice(job):
        if job.fold != "0" and rate(job) > 0.004:
            return TrainingError(found="diverged", expected="b", fix="c")
        return by_rate(job)

    trainer.dice = dice
    before = Plan.load(place.plan)
    summary = search(place)
    assert summary.verdict is None
    assert "No finalist" in summary.reason
    assert Plan.load(place.plan).configurations == before.configurations


def test_trials_beyond_the_memory_are_recorded_but_not_trained(place, trainer):
    plan = Plan.load(place.plan)
    name = main_configuration(plan)
    tight = plan.revised(memory_bytes=plan.configuration(name).cost.memory_bytes)
    place.plan.write_text(tight.to_json())
    summary = search(place, num_trials=4)
    infeasible = [row for row in summary.trials if row.state == "infeasible"]
    assert infeasible
    assert all("memory" in row.reason for row in infeasible)
    assert f"trial {infeasible[0].number}" not in trainer.names


def test_a_clearly_bad_trial_is_ended_early(place, trainer, monkeypatch):
    def train_each(jobs, *, on_progress, **_):
        for job in jobs:
            trainer.trained.append(job)
            dice = 0.1 if len(trainer.trained) == 5 else 0.8
            on_progress(
                {"name": job.name, "step": 25, "num_steps": 100, "dice": dice, "class_dice": [dice]}
            )
            stopped = job.folder.stop.exists()
            yield job, Interrupted("asked to stop") if stopped else result(job, dice)

    monkeypatch.setattr("autoseg.train.cluster.train_each", train_each)
    (place.search / "trials").mkdir(parents=True)
    for number in range(6):
        (place.search_run(number, "search")).mkdir(parents=True)
    summary = search(place, num_trials=5)
    assert [row.state for row in summary.trials] == ["complete"] * 4 + ["killed"]
    assert "Dice 0.100 after 25%" in summary.trials[4].reason
    assert summary.trials[4].steps == 25


# Stopping and going on


def test_a_stopped_search_goes_on_with_what_it_has(place, trainer):
    trainer.dice = by_rate
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 2)
    partial = SearchSummary.load(place.search_summary)
    assert "not finished" in partial.reason
    assert partial.applied == ()
    summary = search(place)
    assert summary.verdict is not None
    assert summary.verdict.winner == "trial 1"
    assert len(trainer.names) == len(set(trainer.names)), "nothing was trained twice"


def test_a_stopped_confirmation_goes_on_with_what_it_has(place, trainer):
    trainer.dice = by_rate
    before = Plan.load(place.plan)
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 6)
    assert Plan.load(place.plan) == before
    summary = search(place)
    assert summary.applied
    assert len(trainer.names) == len(set(trainer.names))


def test_a_finished_search_is_not_repeated(place, trainer):
    trainer.dice = by_rate
    first = search(place)
    count, plan, notes = len(trainer.trained), Plan.load(place.plan), []
    again = search(place, on_event=notes.append)
    assert again == first
    assert len(trainer.trained) == count
    assert Plan.load(place.plan) == plan
    assert any("finished" in str(note.get("text")) for note in notes)


def test_a_verdict_against_all_is_not_asked_again(place, trainer):
    trainer.dice = lambda job: by_rate(job) if job.fold == "0" else 0.5
    first = search(place)
    count = len(trainer.trained)
    assert search(place) == first
    assert len(trainer.trained) == count


def test_planning_again_takes_the_winner_again(place, trainer):
    trainer.dice = by_rate
    before = place.plan.read_text()
    search(place)
    after = place.plan.read_text()
    place.plan.write_text(before)
    search(place)
    assert place.plan.read_text() == after


def test_active_time_counts_over_calls(place, trainer):
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 1)
    assert RunRecord.load(place.run).active_s["search"] > 0
    summary = search(place)
    assert summary.seconds > 0
    assert RunRecord.load(place.run).active_s == {}


def test_two_kills_in_trial_0_do_not_end_the_search(place, trainer):
    for _ in range(2):
        killed(place, trainer)
    trainer.dice = lambda job: 0.5
    summary = search(place)
    states = [row.state for row in summary.trials]
    assert states[:3] == ["interrupted", "interrupted", "complete"]
    assert summary.trials[2].assignments == {}


def test_a_plan_whose_process_always_ends_is_given_up_with_a_remedy(place, trainer):
    for _ in range(MAX_TRIES):
        killed(place, trainer)
    for _ in range(2):
        with pytest.raises(TrainingError) as caught:
            search(place)
        assert f"ended {MAX_TRIES} times without getting further" in caught.value.found
        assert str(place.search) in caught.value.fix


def test_training_that_gets_further_between_kills_is_gone_on_with(place, trainer):
    metrics = FoldFolder(place.search_run(0, "search")).metrics
    for step in range(1, 2 * MAX_TRIES):
        append_line(metrics, {"step": 10 * step})
        killed(place, trainer)
    trainer.dice = lambda job: 0.5
    assert search(place).trials[-1].state == "complete"


def test_a_kill_while_the_plan_is_prepared_is_no_trials(place, trainer, monkeypatch):
    def die(*_):
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("autoseg.pipeline.search_jobs.prepare_cases", die)
        with pytest.raises(SystemExit):
            search(place)
    assert [row.state for row in search(place).trials] == ["complete"] * 3


@pytest.mark.parametrize(("first", "second"), [(1, 2), (2, 1), (2, 4)])
def test_more_or_fewer_workers_leave_every_training_as_much(place, trainer, first, second):
    plan = Plan.load(place.plan)
    place.plan.write_text(plan.revised(num_threads=4).to_json())
    trainer.dice = by_rate
    wanted = {"steps": None, "budget_s": 4000.0, "num_trials": 3}
    with pytest.raises(Interrupted):
        search(place, lambda: len(trainer.trained) >= 2, num_workers=first, **wanted)
    with pytest.raises(Interrupted):
        search(place, lambda: len(trainer.trained) >= 6, num_workers=second, **wanted)
    assert search(place, num_workers=first, **wanted).verdict is not None
    for jobs in (trainer.trained[:3], trainer.trained[3:]):
        assert len({job.num_threads for job in jobs}) == 2
        assert len({round(job.budget_s * job.num_threads) for job in jobs}) == 1


def test_a_training_that_is_gone_on_with_keeps_its_time(place, trainer):
    plan = Plan.load(place.plan).revised(num_threads=4)
    place.plan.write_text(plan.to_json())
    settings = FoldFolder(place.search_run(0, "search")).settings
    settings.parent.mkdir(parents=True)
    settings.write_text(begun_with(plan, num_threads=4).to_json())
    search(place, steps=None, budget_s=4000.0, num_trials=2, num_workers=2)
    gone_on, new = trainer.trained[:2]
    assert gone_on.budget_s == pytest.approx(new.budget_s / 2)


def test_a_prior_for_a_search_under_way_is_told_to_have_no_effect(place, trainer, tmp_path):
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 1)
    _, notes = notes_of(place, priors=(tmp_path / "earlier",))
    told = next(text for text in notes if "--prior" in text)
    assert "has no effect" in told
    assert f"move the folder {place.search} away" in told


def test_the_prior_that_a_search_was_begun_with_is_not_told_again(
    place, trainer, template, tmp_path
):
    trainer.dice = by_rate
    search(place)
    other = Workspace(shutil.copytree(template.root, tmp_path / "other.autoseg"))
    told = []
    with pytest.raises(Interrupted):
        search(
            other,
            should_stop=lambda: len(trainer.trained) > 8,
            on_event=told.append,
            priors=(place.root,),
        )
    assert any("1 trial of it will be tried early" in str(item.get("text")) for item in told)
    shutil.rmtree(place.root)
    _, notes = notes_of(other, priors=(place.root,))
    assert not any("--prior" in text for text in notes)


def test_how_much_is_left_to_confirm_is_told(place, trainer):
    trainer.dice = by_rate
    told = []
    with pytest.raises(Interrupted):
        search(place, lambda: len(trainer.trained) >= 6, on_event=told.append)
    begins = next(item for item in told if item["event"] == "confirming")
    assert (begins["done"], begins["total"]) == (0, 8)
    runs = [item for item in told if item["event"] == "confirmed"]
    assert [(item["done"], item["total"]) for item in runs] == [(1, 8), (2, 8), (3, 8)]
    assert runs[0]["name"] == "the plan as it is, fold 1, seed 1"
    assert runs[0]["left_s"] == pytest.approx(7 * 1.1)
    told.clear()
    search(place, on_event=told.append)
    begins = next(item for item in told if item["event"] == "confirming")
    assert (begins["done"], begins["total"]) == (3, 8)


def test_the_winner_is_exported_for_nnunet_where_the_plan_was(place, trainer, monkeypatch):
    exported = []
    monkeypatch.setattr(
        "autoseg.pipeline.search_outcome.nnunet_json",
        lambda plan, fingerprint: exported.append(plan) or "new",
    )
    place.nnunet_plans.write_text("of the earlier plan")
    trainer.dice = by_rate
    search(place)
    assert place.nnunet_plans.read_text() == "new"
    assert exported == [Plan.load(place.plan)]


def test_an_export_that_the_winner_cannot_have_is_removed_and_told(place, trainer, monkeypatch):
    def refuse(plan, fingerprint):
        raise PlanError(found="a decoder of another kind", expected="b", fix="c")

    monkeypatch.setattr("autoseg.pipeline.search_outcome.nnunet_json", refuse)
    place.nnunet_plans.write_text("of the earlier plan")
    trainer.dice = by_rate
    _, notes = notes_of(place)
    assert not place.nnunet_plans.exists()
    assert any("a decoder of another kind, which nnU-Net has not" in text for text in notes)


def test_an_export_of_a_plan_that_stays_stays(place, trainer):
    place.nnunet_plans.write_text("of this plan")
    search(place)
    assert place.nnunet_plans.read_text() == "of this plan"


# What is refused


def test_two_folds_are_too_few(tmp_path, trainer):
    place = planned(tmp_path, num_cases=4, num_folds=2)
    with pytest.raises(PlanError, match="2 folds") as caught:
        search(place)
    assert "--folds 3" in caught.value.fix


def test_a_handful_of_cases_can_prove_nothing(tmp_path, trainer):
    place = planned(tmp_path, num_cases=4, num_folds=3)
    with pytest.raises(PlanError, match="validation cases in the folds"):
        search(place)


def test_training_of_the_plan_is_told_before_the_search(place, trainer):
    place.training.mkdir()
    with pytest.raises(WorkspaceError) as caught:
        search(place)
    assert "--replan" in caught.value.fix
    assert not trainer.trained


def test_with_replan_a_winner_moves_training_aside(place, trainer):
    place.training.mkdir()
    trainer.dice = by_rate
    search(place, replan=True)
    assert not place.training.exists()
    assert list(place.superseded.glob("*/training"))


def test_a_plan_is_there_even_if_the_process_dies_while_training_is_moved(
    place, trainer, monkeypatch
):
    place.training.mkdir()
    trainer.dice = by_rate
    before = place.plan.read_text()

    def die(path, text):
        if path in (place.plan, place.splits):
            raise SystemExit
        write_text(path, text)

    with monkeypatch.context() as killed:
        killed.setattr("autoseg.pipeline.search_outcome.write_text", die)
        with pytest.raises(SystemExit):
            search(place, replan=True)
    assert place.plan.read_text() == before
    assert place.splits.exists()
    assert search(place).applied
    assert place.plan.read_text() != before
    assert place.splits.exists()


def test_with_replan_and_no_winner_training_stays_valid(place, trainer):
    place.training.mkdir()
    before = place.plan.read_text()
    search(place, replan=True)
    assert place.training.exists()
    assert place.plan.read_text() == before


def test_a_short_budget_is_refused(place, trainer):
    with pytest.raises(PlanError, match="60 s"):
        search(place, steps=None, budget_s=60.0)


def test_a_search_without_time_for_a_trial_does_not_praise_the_rules(place, trainer, monkeypatch):
    monkeypatch.setattr("autoseg.pipeline.search_trials.overhead_seconds", lambda _: 1000.0)
    summary = search(place, steps=None, budget_s=400.0)
    assert [row.number for row in summary.trials] == [0]
    assert "no time for a trial" in summary.reason
    monkeypatch.undo()
    Trainer(monkeypatch).dice = by_rate
    assert len(search(place, steps=None, budget_s=400.0).trials) > 1


def test_a_budget_decides_lengths_once(place, trainer):
    search(place, steps=None, budget_s=float(smallest_search_s()), num_trials=2)
    assert {job.num_steps for job in trainer.trained} == {None}
    assert len({job.budget_s for job in trainer.trained if job.fold == "0"}) == 1


def test_a_study_of_another_plan_is_refused(place, trainer):
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 1)
    plan = Plan.load(place.plan)
    place.plan.write_text(plan.revised(seed=plan.seed + 1).to_json())
    with pytest.raises(PlanError, match="another plan"):
        search(place)


def test_a_study_of_another_data_set_is_refused_and_the_plan_stays(place, trainer):
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 1)
    plan = Plan.load(place.plan)
    other = plan.revised(dataset_name="rings", fingerprint_digest="0" * 64)
    place.plan.write_text(other.to_json())
    before = place.plan.read_text()
    with pytest.raises(PlanError, match="a study of data set spheres") as caught:
        search(place)
    assert str(place.search) in caught.value.fix
    assert place.plan.read_text() == before


def test_a_study_that_cannot_be_read_is_refused_and_the_plan_stays(place, trainer):
    place.search.mkdir()
    place.study.write_text("not a study\n")
    before = place.plan.read_text()
    with pytest.raises(PlanError, match="cannot be read as a study"):
        search(place)
    assert place.plan.read_text() == before
    assert place.study.read_text() == "not a study\n"


def test_a_study_with_a_damaged_end_is_gone_on_with(place, trainer):
    with pytest.raises(Interrupted):
        search(place, should_stop=lambda: len(trainer.trained) >= 1)
    with place.study.open("ab") as file:
        file.write(b"\0" * 64)
    assert search(place).trials[0].state == "complete"
    assert len(trainer.names) == len(set(trainer.names)) == 3


def test_a_workspace_is_a_prior(place, trainer, template, tmp_path):
    trainer.dice = by_rate
    search(place)
    other = Workspace(shutil.copytree(template.root, tmp_path / "other.autoseg"))
    trainer.trained.clear()
    search(other, priors=(place.root,))
    first = json.loads(json.dumps([rate(job) for job in trainer.trained[:2]]))
    assert first[1] > first[0], "the earlier winner is the first that is tried"


def test_two_searches_of_a_workspace_do_not_meet(place, trainer):
    from autoseg.train.lock import held

    with held(place.search_lock, 1.0), pytest.raises(TrainingError, match="in use"):
        search(place)
