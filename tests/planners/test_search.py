import json
import shutil

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autoseg.errors import PlanError
from autoseg.plan.registry import load_searcher
from autoseg.plan.search_space import Dimension, neighbours
from autoseg.plan.searcher import PRIORS, Ended, Origin, Witness
from autoseg_planners.search import MAX_TRIES, MAX_TRIES_MEMORY, open_study, proposals

SPACE = (
    Dimension(name="learning_rate", default=1.0, low=0.3, high=3.0, is_log=True),
    Dimension(name="loss", default="dice_ce", options=("dice_ce", "dice_topk")),
)
USUAL = {"learning_rate": 1.0, "loss": "dice_ce"}
ORIGIN = Origin(
    dataset_name="spheres",
    fingerprint_digest="f",
    plan_digest="p",
    space_version=1,
    configuration="3d_fullres",
    fold="0",
    steps=None,
)
NUM_EARLY = 1 + len(neighbours(SPACE))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "search" / "study.journal"


def open_at(path, *, origin=ORIGIN, space=SPACE, seed=0, priors=(), depth=0, kills=None):
    witness = Witness(progress=lambda _: depth, memory_kills=kills)
    return open_study(path, origin, space, seed=seed, witness=witness, priors=priors)


def done(study, score=0.5):
    """Ask for a trial and complete it."""
    trial = study.ask()
    study.tell(trial.number, Ended(state="complete", score=score, seconds=1.0, steps=3))
    return trial


def stored(path):
    """Return the study as Optuna reads it."""
    return optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(path))))


def left_by_a_dead_process(path, **known):
    """Open a study, as if the process that runs a trial had been killed."""
    return open_at(path, **known)


# What is proposed


def test_the_searcher_is_found_by_its_entry_point():
    assert load_searcher() is open_study


def test_trial_0_is_the_plan_as_it_is_and_the_next_are_near_it(path):
    study = open_at(path)
    assert done(study).values == USUAL
    early = [done(study).values for _ in neighbours(SPACE)]
    assert early == neighbours(SPACE)


def test_values_stay_within_the_space(path):
    study = open_at(path)
    for _ in range(10):
        values = done(study).values
        assert 0.3 <= float(values["learning_rate"]) <= 3.0
        assert values["loss"] in ("dice_ce", "dice_topk")


def test_the_same_seed_proposes_the_same(tmp_path):
    def proposed(name, seed):
        study = open_at(tmp_path / name, seed=seed)
        return [done(study, score=0.1 * number).values for number in range(NUM_EARLY + 2)]

    assert proposed("a", 1) == proposed("b", 1)
    assert proposed("c", 2) != proposed("a2", 1)


def test_an_interrupted_study_proposes_what_it_would_have(tmp_path):
    whole, stopped = open_at(tmp_path / "a"), open_at(tmp_path / "b")
    for number in range(NUM_EARLY + 2):
        expected = done(whole, score=0.1 * number).values
        stopped.ask()
        stopped = left_by_a_dead_process(tmp_path / "b")
        assert done(stopped, score=0.1 * number).values == expected


# What survives


def test_everything_told_is_there_again(path):
    study = open_at(path)
    done(study, 0.8)
    trial = study.ask()
    study.constrain(trial.number, {"memory": 0.2})
    study.tell(trial.number, Ended(state="infeasible", reason="too much memory"))
    trial = study.ask()
    study.look(trial.number, 0.25, 0.31)
    study.tell(trial.number, Ended(state="killed", reason="far behind"))
    trial = study.ask()
    study.tell(trial.number, Ended(state="failed", reason="not a finite number"))
    study.keep("note", "text")
    again = open_at(path)
    assert again.trials() == study.trials()
    assert [item.ended.state for item in again.trials()] == [
        "complete",
        "infeasible",
        "killed",
        "failed",
    ]
    assert again.trials()[2].looks == {0.25: 0.31}
    assert again.kept("note") == "text"


def test_a_trial_of_a_dead_process_is_gone_on_with_in_its_folder(path):
    study = open_at(path)
    done(study)
    killed = study.ask()
    again = left_by_a_dead_process(path)
    assert again.trials()[1].ended.state == "interrupted"
    trial = again.ask()
    assert trial.number == killed.number + 1
    assert (trial.values, trial.folder) == (killed.values, killed.number)


def test_a_process_that_dies_while_it_recovers_leaves_no_trial_twice(path):
    study = open_at(path)
    done(study)
    study.ask()
    left_by_a_dead_process(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # enqueued, but not yet told as failed
    again = left_by_a_dead_process(path)
    assert [done(again).folder for _ in range(2)] == [1, 3]


def test_only_the_first_look_at_a_rung_is_kept(path):
    study = open_at(path)
    trial = study.ask()
    for dice in (0.3, 0.4):
        study.look(trial.number, 0.25, dice)
    assert study.trials()[0].looks == {0.25: 0.3}


def test_the_plan_stays_the_first_when_its_process_died(path):
    open_at(path).ask()
    trial = left_by_a_dead_process(path).ask()
    assert (trial.values, trial.folder) == (USUAL, 0)


def test_a_trial_that_kills_its_process_is_given_up(path):
    study = open_at(path)
    done(study)
    for _ in range(MAX_TRIES):
        study.ask()
        study = left_by_a_dead_process(path)
    last = study.trials()[-1]
    assert last.ended.state == "failed"
    assert f"{MAX_TRIES} times without getting further" in last.ended.reason
    assert "does not say" in last.ended.reason
    assert study.ask().values != last.values
    assert left_by_a_dead_process(path).trials()[MAX_TRIES].ended == last.ended


def test_two_kills_from_outside_are_no_fault_of_the_plan(path):
    study = open_at(path)
    for _ in range(2):
        study.ask()
        study = left_by_a_dead_process(path, kills=7)
    trial = study.ask()
    assert (trial.values, trial.folder) == (USUAL, 0)


def test_a_trial_that_gets_further_between_kills_is_never_given_up(path):
    study = open_at(path)
    for depth in range(1, 2 * MAX_TRIES):
        study.ask()
        study = left_by_a_dead_process(path, depth=depth)
    assert study.ask().folder == 0


def test_a_trial_that_ran_out_of_memory_is_given_up_sooner(path):
    study = open_at(path, kills=3)
    done(study)
    for kills in range(4, 4 + MAX_TRIES_MEMORY):
        study.ask()
        study = left_by_a_dead_process(path, kills=kills)
    last = study.trials()[-1]
    assert last.ended.state == "failed"
    assert "because memory had run out" in last.ended.reason


def test_a_trial_that_was_complete_when_its_process_died_is_complete(path):
    study = open_at(path)
    done(study, 0.7)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))  # all but the last word to Optuna
    again = left_by_a_dead_process(path)
    assert [trial.ended.state for trial in again.trials()] == ["complete"]
    assert stored(path).best_value == 0.7
    assert again.ask().values != USUAL


def test_a_trial_that_was_stopped_is_not_held_against(path):
    study = open_at(path)
    done(study)
    for _ in range(MAX_TRIES + 2):
        trial = study.ask()
        study.tell(trial.number, Ended(state="interrupted"))
    assert study.ask().folder == 1


def test_a_line_that_was_cut_short_costs_that_line_only(path):
    done(open_at(path))
    with path.open("ab") as file:
        file.write(b'{"op_code": 5, "wor')
    study = open_at(path)
    assert len(study.trials()) == 1
    done(study)
    assert len(open_at(path).trials()) == 2


@pytest.mark.parametrize("rest", [b"\0\0\0", b"\0\0\0\n", b'{"op_code": 5, "wor\n', b"7\n{"])
def test_a_damaged_end_costs_no_more_than_itself(path, rest):
    done(open_at(path))
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    study = open_at(path)
    assert path.read_bytes().startswith(whole)
    assert all(map(json.loads, path.read_bytes().splitlines()))
    done(study)
    assert len(open_at(path).trials()) == 2


def test_damage_in_the_middle_is_told_and_left_alone(path):
    done(open_at(path))
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([first, b"\0" * len(second) + b"\n", *others]))
    damaged = path.read_bytes()
    with pytest.raises(PlanError, match="cannot be read as a study") as caught:
        open_at(path)
    assert "move it away" in caught.value.fix
    assert path.read_bytes() == damaged


def test_a_study_begun_in_part_is_begun_again(path):
    open_at(path)
    first, second, *_ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second)
    again = open_at(path)
    assert [done(again).values for _ in range(NUM_EARLY)] == [USUAL, *neighbours(SPACE)]


def test_optuna_itself_reads_the_study(path):
    done(open_at(path), 0.7)
    study = stored(path)
    assert study.best_value == 0.7
    assert study.user_attrs["origin"]["dataset_name"] == "spheres"


# What is refused


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fingerprint_digest": "g", "dataset_name": "rings"}, "data set spheres"),
        ({"fingerprint_digest": "g"}, "data set spheres as it was then"),
        ({"plan_digest": "q"}, "another plan"),
        ({"space_version": 2}, "another version"),
        ({"steps": 5}, "steps by time"),
    ],
)
def test_a_study_of_something_else_is_refused(path, changes, told):
    done(open_at(path))
    with pytest.raises(PlanError) as caught:
        open_at(path, origin=ORIGIN.revised(**changes))
    assert told in caught.value.found
    assert str(path.parent) in caught.value.fix


def test_a_file_that_is_no_study_is_refused(path):
    path.parent.mkdir()
    path.write_text("not a study\n")
    with pytest.raises(PlanError, match="cannot be read as a study"):
        open_at(path)


# What is learnt


def test_failed_trials_and_those_beyond_limits_are_avoided(path):
    study = open_at(path)
    for state in ("failed", "infeasible", "complete"):
        trial = study.ask()
        study.constrain(trial.number, {"memory": 0.5 if state == "infeasible" else -0.5})
        study.tell(trial.number, Ended(state=state, score=0.5 if state == "complete" else None))
    # Optuna's samplers learn from completed and pruned trials only, within the limits or beyond.
    found = stored(path).get_trials()
    assert [trial.state.name for trial in found] == ["PRUNED", "PRUNED", "COMPLETE"]
    beyond = [max(trial.constraints.values()) > 0 for trial in found]
    assert beyond == [True, True, False]


def test_importances_need_enough_trials_that_differ(path):
    study = open_at(path)
    done(study)
    assert study.importances() == {}
    for _ in range(7):
        trial = study.ask()
        score = float(trial.values["learning_rate"])
        study.tell(trial.number, Ended(state="complete", score=score))
    found = study.importances()
    assert found["learning_rate"] > found["loss"]


# Earlier studies


@pytest.fixture
def prior(tmp_path):
    """A finished study of other data, in which a larger learning rate was better."""
    path = tmp_path / "earlier" / "study.journal"
    study = open_at(path, origin=ORIGIN.revised(fingerprint_digest="other"))
    for _ in range(NUM_EARLY):
        trial = study.ask()
        score = float(trial.values["learning_rate"]) / 10
        study.tell(trial.number, Ended(state="complete", score=score))
    return path


def test_a_prior_proposes_early_trials_but_never_the_first(path, prior):
    study = open_at(path, priors=[prior])
    assert done(study).values == USUAL
    wanted = proposals(prior, SPACE)
    assert wanted
    assert [done(study).values for _ in wanted] == wanted
    assert all(float(values["learning_rate"]) > 1.0 for values in wanted)


def test_what_a_study_takes_from_a_prior_is_kept(path, prior):
    study = open_at(path, priors=[prior])
    assert json.loads(study.kept(PRIORS) or "") == {str(prior): len(proposals(prior, SPACE))}


def test_a_begun_study_reads_no_prior(path, tmp_path):
    done(open_at(path))
    assert json.loads(open_at(path, priors=[tmp_path / "nothing"]).kept(PRIORS) or "") == {}


def test_a_prior_proposes_only_once(path, prior):
    open_at(path, priors=[prior])
    again = open_at(path, priors=[prior])
    asked = [done(again).values for _ in range(NUM_EARLY + 2)]
    assert all(asked.count(values) == 1 for values in proposals(prior, SPACE))


def test_a_prior_proposes_what_the_space_has(prior):
    narrow = (SPACE[0].revised(high=1.2),)
    for values in proposals(prior, narrow):
        assert set(values) == {"learning_rate"}
        assert float(values["learning_rate"]) <= 1.2


def test_a_prior_is_not_changed(path, prior, tmp_path):
    copy = shutil.copy(prior, tmp_path / "copy")
    open_at(path, priors=[prior])
    assert prior.read_bytes() == copy.read_bytes()


def test_a_prior_that_is_missing_is_told_before_the_study_begins(path, tmp_path):
    with pytest.raises(PlanError, match="no such file"):
        open_at(path, priors=[tmp_path / "nothing"])
