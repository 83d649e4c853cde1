import pytest
import torch

from autoseg.errors import WorkspaceError
from autoseg.network.execution import Execution
from autoseg.train import checkpoint
from autoseg.train.checkpoint import (
    Standing,
    load_weights,
    restore_checkpoint,
    save_checkpoint,
    save_weights,
)
from autoseg.train.learner import build_learner
from autoseg.workspace import FoldFolder

CPU = Execution(device="cpu", precision="fp32")


def standing(step=3, digest="plan"):
    return Standing(plan_digest=digest, step=step, elapsed_s=1.5)


@pytest.fixture
def learner(prepared):
    return build_learner(prepared[0].configurations[0], CPU, seed=1)


@pytest.fixture
def folder(tmp_path):
    return FoldFolder(tmp_path / "fold_0")


def restored_step(folder, learner):
    found = restore_checkpoint(folder, learner, "plan")
    return None if found is None else found.step


def move(learner):
    """Change weights and optimiser state."""
    for parameter in learner.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()
    learner.ema.update(1)


def test_restoring_gives_everything_back(prepared, learner, folder):
    move(learner)
    torch.manual_seed(7)
    save_checkpoint(folder, learner, standing())
    expected = torch.rand(3)
    other = build_learner(prepared[0].configurations[0], CPU, seed=2)
    assert restore_checkpoint(folder, other, "plan") == standing()
    for name in ("model", "ema"):
        ours, theirs = getattr(learner, name), getattr(other, name)
        ours, theirs = (getattr(item, "model", item) for item in (ours, theirs))
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    first, second = (item.optimizer.state_dict()["state"] for item in (learner, other))
    assert torch.equal(first[0]["exp_avg"], second[0]["exp_avg"])
    assert torch.equal(torch.rand(3), expected)


def test_a_device_that_draws_goes_on_from_its_checkpoint(learner, folder, monkeypatch):
    drawn, set_again = torch.ones(4, dtype=torch.uint8), []
    monkeypatch.setattr(checkpoint, "random_state", lambda _: (torch.get_rng_state(), drawn))
    monkeypatch.setattr(checkpoint, "set_random_state", lambda *given: set_again.append(given))
    save_checkpoint(folder, learner, standing())
    assert restored_step(folder, learner) == 3
    ((states, device),) = set_again
    assert torch.equal(states[1], drawn)
    assert device == torch.device("cpu")


def test_a_checkpoint_of_an_earlier_version_knows_no_device(learner, folder):
    save_checkpoint(folder, learner, standing())
    content = torch.load(folder.last, weights_only=True)
    del content["device_random"]
    torch.save(content, folder.last)
    assert restored_step(folder, learner) == 3


def test_nothing_to_restore_is_none(learner, folder):
    assert restore_checkpoint(folder, learner, "plan") is None


def test_two_checkpoints_are_kept_and_no_rest_of_others(learner, folder):
    for step in (1, 2, 3):
        save_checkpoint(folder, learner, standing(step))
    assert restored_step(folder, learner) == 3
    assert sorted(path.name for path in folder.root.iterdir()) == ["last.pt", "previous.pt"]
    folder.last.unlink()
    assert restored_step(folder, learner) == 2


def test_two_damaged_checkpoints_are_an_error(learner, folder):
    folder.root.mkdir()
    folder.last.write_bytes(b"PK\x03\x04 cut off")
    folder.previous.write_bytes(b"")
    with pytest.raises(WorkspaceError, match="cannot be read"):
        restore_checkpoint(folder, learner, "plan")


@pytest.mark.parametrize(
    "garbage", [b"R", b"a", b"t", b"\x80\x02]q\x00.", b"\x80\x02J", bytes(2000), b"PK\x05\x06"]
)
def test_whatever_is_in_a_damaged_checkpoint_it_falls_back(learner, folder, garbage):
    for step in (1, 2):
        save_checkpoint(folder, learner, standing(step))
    folder.last.write_bytes(garbage)
    assert restored_step(folder, learner) == 1


def test_a_checkpoint_with_a_changed_weight_falls_back(learner, folder):
    for step in (1, 2):
        save_checkpoint(folder, learner, standing(step))
    content = folder.last.read_bytes()
    weights = learner.model.state_dict()["heads.0.weight"].numpy().tobytes()
    place = content.find(weights)
    assert place > 0
    folder.last.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert restored_step(folder, learner) == 1


@pytest.mark.parametrize("key", ["standing", "averaged", "optimizer"])
def test_checkpoint_that_lacks_something_falls_back_to_the_one_before(learner, folder, key):
    for step in (1, 2):
        save_checkpoint(folder, learner, standing(step))
    content = torch.load(folder.last, weights_only=True)
    del content[key]
    torch.save(content, folder.last)
    assert restored_step(folder, learner) == 1


def test_weights_that_are_not_ours_are_an_error(learner, folder):
    folder.root.mkdir()
    for content in ([1, 2], {"weights": {}}, {"standing": standing().model_dump()}):
        torch.save(content, folder.final)
        with pytest.raises(WorkspaceError, match="cannot be read"):
            load_weights(folder.final, "plan")


def test_checkpoint_that_cannot_be_renamed_is_an_error(learner, folder):
    save_checkpoint(folder, learner, standing(1))
    folder.previous.mkdir()
    with pytest.raises(WorkspaceError, match="cannot be written"):
        save_checkpoint(folder, learner, standing(2))
    assert restored_step(folder, learner) == 1
    assert sorted(path.name for path in folder.root.iterdir()) == ["last.pt", "previous.pt"]


def test_checkpoint_with_code_in_it_is_not_run(learner, folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    folder.root.mkdir()
    torch.save({"standing": Payload()}, folder.last)
    with pytest.raises(WorkspaceError):
        restore_checkpoint(folder, learner, "plan")
    assert not (tmp_path / "ran").exists()


def test_full_disk_keeps_the_old_checkpoint(learner, folder, largest_file):
    save_checkpoint(folder, learner, standing(1))
    with largest_file(10_000), pytest.raises(WorkspaceError, match="cannot be written"):
        save_checkpoint(folder, learner, standing(2))
    assert restored_step(folder, learner) == 1
    assert [path.name for path in folder.root.iterdir()] == ["last.pt"]


def test_final_weights_come_back_with_where_they_stand(learner, folder):
    save_weights(folder.final, learner.ema.model.state_dict(), standing())
    weights, found = load_weights(folder.final, "plan")
    assert found == standing()
    assert torch.equal(weights["heads.0.bias"], learner.ema.model.state_dict()["heads.0.bias"])


def test_missing_or_foreign_weights_are_an_error(learner, folder):
    with pytest.raises(WorkspaceError, match="missing"):
        load_weights(folder.final, "plan")
    save_weights(folder.final, learner.ema.model.state_dict(), standing())
    with pytest.raises(WorkspaceError, match="another plan"):
        load_weights(folder.final, "other")
