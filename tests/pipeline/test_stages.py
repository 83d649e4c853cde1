import shutil

import pytest
import torch

from autoseg.cli.main import main
from autoseg.dataset.dataset import Dataset
from autoseg.errors import PlanError, TrainingError
from autoseg.pipeline.pretraining import PretrainOptions, pretrain
from autoseg.pipeline.preview import preview_augmentation
from autoseg.pipeline.sharing import Shares
from autoseg.pipeline.training import TrainOptions, train_model
from autoseg.plan.plan import Plan
from autoseg.preprocess.previous_store import PreviousStore
from autoseg.runtime.images import read_labels, write_labels
from autoseg.testing.synthetic import write_spheres
from autoseg.train.checkpoint import load_weights
from autoseg.train.job import Interrupted
from autoseg.train.validation import prediction_path

FIRST, SECOND = "3d_lowres", "3d_cascade_fullres"
BOTH = (FIRST, SECOND)


@pytest.fixture
def found(training):
    """First stages find what is drawn; second stages remember what they were given."""
    given = {}

    def on_fold(job):
        if job.configuration == FIRST:
            find_drawn(job)
        elif job.previous is not None:
            given[job.fold] = job.previous.digest([case.id for case in job.dataset.cases])

    training.on_fold = on_fold
    return given


def find_drawn(job):
    for case_id in job.val_cases:
        path = prediction_path(job, case_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(job.dataset.label_paths(job.case(case_id))[0], path)


def options_of(place, names=BOTH, **wanted):
    return TrainOptions(workspace=place, configurations=names, **{"steps": 10, **wanted})


def test_all_folds_of_the_first_stage_come_before_the_second(cascade_place, training, found):
    train_model(options_of(cascade_place))
    assert training.folds == [(FIRST, "0"), (FIRST, "1"), (SECOND, "0"), (SECOND, "1")]
    assert len(set(found.values())) == 1
    store = PreviousStore(cascade_place.previous_labels(SECOND))
    for case in Dataset.load(cascade_place.dataset).cases:
        assert store.made_of(case.id) is not None
        assert set(store.labels(case.id)[:].ravel()) == {0, 1}


def test_several_workers_wait_for_the_first_stage_too(cascade_place, training, found):
    train_model(options_of(cascade_place, num_workers=2))
    assert [name for name, _ in training.folds] == [FIRST, FIRST, SECOND, SECOND]
    assert set(found) == {"0", "1"}


def test_a_second_stage_goes_on_from_an_earlier_command(cascade_place, training, found):
    train_model(options_of(cascade_place, (FIRST,)))
    train_model(options_of(cascade_place, (SECOND,)))
    assert training.folds == [(SECOND, "0"), (SECOND, "1")]


def test_a_second_stage_without_all_of_the_first_is_refused(cascade_place, training, found):
    train_model(options_of(cascade_place, (FIRST,), folds=("0",)))
    with pytest.raises(TrainingError, match=r"without 1 fold of 3d_lowres \(1\)") as refusal:
        train_model(options_of(cascade_place, (SECOND,), folds=("0",)))
    assert f"--configurations {FIRST} --folds 1" in str(refusal.value)
    train_model(options_of(cascade_place, (FIRST,), folds=("1",)))
    train_model(options_of(cascade_place, (SECOND,), folds=("0",)))
    assert training.folds == [(SECOND, "0")]


def test_a_second_stage_that_nobody_named_is_left_out_without_the_first(
    cascade_place, training, found
):
    plan = Plan.load(cascade_place.plan)
    items = tuple(
        item.revised(train_by_default=item.name in ("3d_fullres", SECOND))
        for item in plan.configurations
    )
    cascade_place.plan.write_text(plan.revised(configurations=items).to_json())
    train_model(options_of(cascade_place, None))
    assert {name for name, _ in training.folds} == {"3d_fullres"}


def test_cases_that_no_fold_holds_out_are_refused(cascade_place, training):
    cascade_place.splits.write_text(
        '[{"train": ["case_001", "case_002", "case_003"], "val": ["case_000"]}]'
    )
    with pytest.raises(TrainingError, match="3 cases that no fold holds out"):
        train_model(options_of(cascade_place))


def test_a_second_stage_begins_anew_when_the_first_finds_something_else(
    cascade_place, training, found
):
    train_model(options_of(cascade_place))
    cascade_place.fold(FIRST, "1").result.unlink()
    before, events = dict(found), []
    training.on_fold = lambda job: find_nothing(job) if job.configuration == FIRST else None
    train_model(options_of(cascade_place), events.append)
    assert training.folds == [(FIRST, "1"), (SECOND, "0"), (SECOND, "1")]
    assert before == found
    kept = {path.name[: path.name.rindex("-")] for path in cascade_place.superseded.iterdir()}
    assert kept == {f"{SECOND}-fold_0", f"{SECOND}-fold_1"}
    assert sum("finds something else" in str(event.get("text")) for event in events) == 2


def test_a_second_stage_is_kept_when_the_first_finds_the_same_again(cascade_place, training, found):
    train_model(options_of(cascade_place))
    cascade_place.fold(FIRST, "1").result.unlink()
    train_model(options_of(cascade_place))
    assert training.folds == [(FIRST, "1")]
    assert not cascade_place.superseded.exists()


def find_nothing(job):
    for case_id in job.val_cases:
        image = read_labels(prediction_path(job, case_id))
        write_labels(prediction_path(job, case_id), 0 * image.array[0], image.geometry)


def test_a_short_budget_drops_second_stages_whose_first_is_dropped(
    cascade_place, training, found, monkeypatch
):
    monkeypatch.setattr(Shares, "affordable", lambda _, jobs, **__: [jobs[0], *jobs[2:]])
    train_model(options_of(cascade_place, steps=None, budget_s=3600.0))
    assert training.folds == [(FIRST, "0")]


def test_a_budget_is_shared_by_both_stages(cascade_place, training, found):
    train_model(options_of(cascade_place, steps=None, budget_s=3600.0))
    assert training.folds == [(FIRST, "0"), (FIRST, "1"), (SECOND, "0"), (SECOND, "1")]
    assert sum(job.budget_s for job in training.jobs) > 0.5 * 3600
    # Nothing was used of the time, so that each later fold may have more.
    times = [job.budget_s for job in training.jobs]
    assert times == sorted(times)


def test_second_stages_are_not_pretrained_on_images_alone(cascade_place):
    options = PretrainOptions(workspace=cascade_place, configuration=SECOND)
    with pytest.raises(PlanError, match="pretrain 3d_lowres"):
        pretrain(options, print, lambda: False)


def test_second_stages_have_no_preview(cascade_place):
    plan = Plan.load(cascade_place.plan)
    few = tuple(item.revised(train_by_default=item.name in BOTH) for item in plan.configurations)
    sheets = preview_augmentation(
        Dataset.load(cascade_place.dataset), plan.revised(configurations=few), cascade_place
    )
    assert sheets == (cascade_place.augmentation_sheet(FIRST),)


@pytest.mark.slow
@pytest.mark.end_to_end
def test_both_stages_survive_stops_and_predict(cascade_place, tmp_path):
    """Stopped while it prepares and while it trains the second stage, a run ends as without."""
    quiet = tmp_path / "quiet.autoseg"
    shutil.copytree(cascade_place.root, quiet)
    command = ["train", "--configurations", ",".join(BOTH), "--steps", "8", "-w"]
    assert main([*command, str(quiet)]) == 0

    seen = []

    def should_stop():
        last = seen[-1] if seen else {}
        is_second = last.get("configuration") == SECOND
        return is_second and (last.get("event"), last.get("step")) in (
            ("prepared", None),
            ("step", 4),
        )

    for _ in range(2):
        with pytest.raises(Interrupted):
            train_model(options_of(cascade_place, steps=8), seen.append, should_stop)
        seen.clear()
    assert main([*command, str(cascade_place.root)]) == 0
    digest = Plan.load(cascade_place.plan).digest()
    for name in BOTH:
        for fold in ("0", "1"):
            final = cascade_place.fold(name, fold).final
            other = quiet / final.relative_to(cascade_place.root)
            assert_same(*(load_weights(path, digest)[0] for path in (final, other)))

    unseen = write_spheres(tmp_path / "unseen", num_cases=2, seed=1)
    out = tmp_path / "out"
    place = str(cascade_place.root)
    assert main(["predict", place, str(unseen / "imagesTr"), "-o", str(out)]) == 0
    assert len(list(out.glob("*.nii.gz"))) == 2


def assert_same(weights, others):
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
