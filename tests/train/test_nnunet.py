import pickle
import zipfile

import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.testing.nnunet import their_plans, their_weights, write_nnunet
from autoseg.train.nnunet import is_nnunet, load_nnunet, opened


class Foreign:
    """An object that only code could rebuild."""


@pytest.fixture
def weights():
    return their_weights("plain", 2, num_channels=2, num_outputs=3)


@pytest.fixture
def folder(tmp_path, weights):
    return write_nnunet(tmp_path, their_plans("plain", 2), {"0": weights, "all": weights})


def test_all_folds_are_read_with_numpy_numbers_in_them(folder):
    model = load_nnunet(folder)
    assert [fold.name for fold in model.folds] == ["0", "all"]
    assert model.trainer == "nnUNetTrainer"
    assert model.plan.configuration == "2d"
    assert model.plan.recipe.mirror_axes == (0, 1)
    assert len(model.folds[0].sha256) == 64


def test_numbers_as_numpy_1_wrote_them_are_read(folder):
    path = folder / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(path) as source:
        entries = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in entries.items():
            if name.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(name, content)
    assert load_nnunet(folder, folds=["0"]).folds[0].name == "0"


def test_other_objects_are_refused_with_a_way_to_save_the_weights_alone(folder):
    path = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "own": Foreign()}, path)
    with pytest.raises(TrainingError, match="more than tensors, numbers and texts") as refused:
        load_nnunet(folder)
    assert f"torch.load('{path}', weights_only=False)" in refused.value.fix


@pytest.mark.parametrize(
    "content", [b"", b"no checkpoint", b"hello", pickle.dumps({"a": 1}, protocol=2)]
)
def test_damaged_checkpoints_are_named(folder, content):
    path = folder / "fold_0" / "checkpoint_final.pth"
    path.write_bytes(content)
    with pytest.raises(TrainingError, match="fold_0") as refused:
        load_nnunet(folder)
    assert refused.value.fix == "copy the file again from where it was trained"


def test_weights_of_another_network_are_refused(tmp_path, weights):
    del weights["decoder.seg_layers.0.weight"]
    folder = write_nnunet(tmp_path, their_plans("plain", 2), {"0": weights})
    with pytest.raises(TrainingError, match=r"heads.1.weight: not in the checkpoint"):
        load_nnunet(folder)


def test_folds_and_checkpoints_that_are_not_there_are_named(folder):
    with pytest.raises(TrainingError, match="fold 7") as refused:
        load_nnunet(folder, folds=["7"])
    assert "0, all" in refused.value.expected
    with pytest.raises(TrainingError, match=r"checkpoint_best\.pth") as refused:
        load_nnunet(folder, checkpoint="checkpoint_best.pth")
    assert "did you mean 'checkpoint_final.pth'" in refused.value.fix


def test_the_folder_is_found_from_above_from_a_checkpoint_and_in_a_zip(folder, tmp_path):
    archive = tmp_path / "exported.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for path in folder.rglob("*"):
            target.write(path, path.relative_to(tmp_path))
    for path in (folder, folder.parent, tmp_path, folder / "fold_0" / "checkpoint_final.pth"):
        assert is_nnunet(path)
        with opened(path) as found:
            assert found == folder
    assert is_nnunet(archive)
    with opened(archive) as found:
        assert load_nnunet(found).plan.configuration == "2d"


def with_password(content):
    """Return a zip whose entries say that they need a password."""
    return content.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(
        b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"
    )


def with_damage(content):
    """Return a zip whose first compressed bytes are others."""
    start = content.index(b"plans.json") + len(b"plans.json")
    return content[:start] + b"\xff" * 20 + content[start + 20 :]


@pytest.mark.parametrize("spoil", [with_password, with_damage])
def test_a_zip_that_cannot_be_unpacked_is_refused(folder, tmp_path, spoil):
    archive = tmp_path / "exported.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.write(folder / "plans.json", "plans.json")
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(TrainingError, match=r"exported.zip cannot be unpacked"), opened(archive):
        pass


def test_a_zip_of_something_else_is_no_model_of_nnunet(tmp_path):
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("manifest.json", "{}")
    assert not is_nnunet(archive)
    assert not is_nnunet(tmp_path)


def test_of_several_configurations_one_must_be_named(folder, tmp_path, weights):
    plans = their_plans("plain", 2)
    plans["configurations"] = {"2d_other": plans["configurations"]["2d"]}
    write_nnunet(tmp_path, plans, {"0": weights})
    with pytest.raises(TrainingError, match="2 trained configurations"), opened(tmp_path):
        pass


def test_a_folder_without_plans_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"no plans.json"), opened(tmp_path):
        pass
