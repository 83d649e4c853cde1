import json
from dataclasses import replace

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.network.build import build_network, initialise
from autoseg.runtime.recipe import Labels
from autoseg.testing.nnunet import their_plans, their_weights, write_nnunet
from autoseg.testing.plans import small_configuration, small_network, small_plan
from autoseg.train.checkpoint import Standing, load_weights, save_weights
from autoseg.train.fold import Interrupted, train_fold
from autoseg.train.initial_files import choose_initial, read_initial
from autoseg.train.origin import check_initial
from autoseg.train.records import FoldResult, RunSettings
from autoseg.workspace import Workspace, append_line, write_text

LABELS = Labels(names=("background", "ball"), values=(0, 1))


def train(job, stop_after=None):
    steps = iter(range(10**9))
    return train_fold(
        job, lambda _: None, lambda: stop_after is not None and next(steps) + 1 >= stop_after
    )


@pytest.fixture
def pretrained(make_job, tmp_path):
    """A file in the form of `autoseg pretrain`, for the network that jobs train."""
    model = build_network(make_job().planned.network)
    initialise(model, 7)
    path = tmp_path / "pretrained.pt"
    network = {k: v for k, v in model.state_dict().items() if not k.startswith("heads")}
    network["time.weight"] = torch.zeros(3, 3)
    torch.save({"network": network, "classes": None, "channels": ["MRI"]}, path)
    return path


def begin(job, path):
    choice, _ = choose_initial(job.plan, job.configuration, path)
    return replace(job, initial=choice)


def test_a_fold_begins_with_the_weights_and_records_them(make_job, pretrained):
    plain, begun = make_job(num_steps=1), begin(make_job(num_steps=1), pretrained)
    results = [train(job) for job in (plain, begun)]
    weights = [load_weights(job.folder.final, job.plan.digest())[0] for job in (plain, begun)]
    name = "encoder.0.0.conv.weight"
    theirs = torch.load(pretrained, weights_only=True)["network"][name]
    near, far = ((item[name] - theirs).abs().mean() for item in reversed(weights))
    assert near < far / 5
    assert results[0].initial is None
    assert results[1].initial == begun.initial
    assert RunSettings.load(begun.folder.settings).initial == begun.initial


def test_a_resumed_run_is_exact_without_naming_the_source_again(make_job, pretrained):
    whole = begin(make_job(num_steps=4), pretrained)
    train(whole)
    parts = begin(make_job(num_steps=4), pretrained)
    with pytest.raises(Interrupted):
        train(parts, stop_after=2)
    pretrained.unlink()  # a checkpoint is there: the source is not needed any more
    result = train(replace(parts, initial=None))
    assert result.initial == whole.initial
    ends = [load_weights(job.folder.final, job.plan.digest())[0] for job in (whole, parts)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_run_killed_before_its_first_checkpoint_begins_with_the_same_weights(
    make_job, pretrained
):
    whole = begin(make_job(num_steps=2), pretrained)
    train(whole)
    killed = begin(make_job(num_steps=2), pretrained)
    with pytest.raises(Interrupted):
        train(killed, stop_after=1)
    killed.folder.last.unlink()
    train(replace(killed, initial=None))
    ends = [load_weights(job.folder.final, job.plan.digest())[0] for job in (whole, killed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_resumed_run_keeps_its_settings_where_the_same_weights_lie_elsewhere(
    make_job, pretrained
):
    job = begin(make_job(num_steps=3), pretrained)
    with pytest.raises(Interrupted):
        train(job, stop_after=2)
    before = job.folder.settings.read_bytes()
    append_line(job.folder.events, {"event": "revised", "step": 2, "num_steps": 3})
    elsewhere = pretrained.rename(pretrained.with_name("elsewhere.pt"))
    train(begin(job, elsewhere))
    assert job.folder.settings.read_bytes() == before
    assert job.folder.events.exists()


def test_another_source_is_refused_where_a_fold_is_begun(make_job, pretrained):
    job = begin(make_job(num_steps=2), pretrained)
    train(job)
    check_initial(job)
    check_initial(replace(job, initial=None))
    content = torch.load(pretrained, weights_only=True)
    torch.save({**content, "more": 1}, pretrained)
    with pytest.raises(TrainingError, match="is trained, from the weights of") as refused:
        train(begin(job, pretrained))
    assert "leave out --init" in refused.value.fix
    drawn = make_job(num_steps=1)
    train(drawn)
    with pytest.raises(TrainingError, match="from drawn weights"):
        check_initial(begin(drawn, pretrained))


def test_weights_that_change_before_the_first_step_are_refused(make_job, pretrained):
    job = begin(make_job(num_steps=1), pretrained)
    content = torch.load(pretrained, weights_only=True)
    torch.save({**content, "more": 1}, pretrained)
    with pytest.raises(TrainingError, match="other weights in"):
        train(job)


def test_a_checkpoint_of_a_workspace_knows_its_classes_and_channels(make_job):
    job = make_job(num_steps=1)
    train(job)
    write_text(Workspace(job.root).plan, job.plan.to_json())
    for path in (job.folder.final, job.folder.last):
        found = read_initial(path, job.plan, job.configuration)
        assert found.classes == job.plan.labels.names
        assert found.channels == ("MRI",)
        assert not found.is_pretraining


def test_a_checkpoint_alone_has_no_names(tmp_path):
    plan = small_plan(LABELS, (small_configuration((8, 8)),))
    weights = build_network(plan.configurations[0].network).state_dict()
    path = tmp_path / "final.pt"
    save_weights(path, weights, Standing(plan_digest="0", step=1, elapsed_s=0.0))
    found = read_initial(path, plan, "2d")
    assert (found.classes, found.channels) == (None, ())


@pytest.mark.parametrize("name", ["folder", "checkpoint"])
def test_what_nnunet_has_trained_is_taken(tmp_path, name):
    weights = their_weights("plain", 2, num_channels=2, num_outputs=3)
    folder = write_nnunet(tmp_path, their_plans("plain", 2), {"0": weights, "1": weights})
    path = folder if name == "folder" else folder / "fold_1" / "checkpoint_final.pth"
    network = small_network(2, stages=((4, 1), (6, 2)))
    item = small_configuration((8, 8), network=network)
    plan = small_plan(LABELS, (item,))
    found = read_initial(path, plan, "2d")
    assert found.classes == ("background", "liver", "spleen")
    assert found.channels == ("T1", "CT")
    assert "encoder.2.1.conv.weight" in found.weights


@pytest.mark.parametrize("content", [b"", b"weights", b"hello", b"\x80\x02}."])
def test_files_that_hold_no_weights_are_refused(tmp_path, content):
    plan = small_plan(LABELS, (small_configuration((8, 8)),))
    for name in ("weights.pt", "model.zip"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TrainingError, match=f"--init .*{name}"):
            read_initial(tmp_path / name, plan, "2d")


@pytest.mark.parametrize(
    "content", [{"network": 3}, {"weights": {"conv.weight": [1.0]}}, {"averaged": None}, [1]]
)
def test_files_of_torch_that_hold_something_else_are_refused(tmp_path, content):
    plan = small_plan(LABELS, (small_configuration((8, 8)),))
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(TrainingError, match="without weights that autoseg has written"):
        read_initial(tmp_path / "other.pt", plan, "2d")


def test_missing_paths_and_empty_workspaces_are_refused(tmp_path):
    plan = small_plan(LABELS, (small_configuration((8, 8)),))
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(TrainingError, match="--init"):
            read_initial(path, plan, "2d")


def test_records_without_initial_weights_are_read_as_before(make_job):
    job = make_job(num_steps=1)
    train(job)
    for kind, path in ((RunSettings, job.folder.settings), (FoldResult, job.folder.result)):
        content = json.loads(path.read_text())
        assert content.pop("initial") is None
        assert kind.from_json(json.dumps(content), "old").initial is None
