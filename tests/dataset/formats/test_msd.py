import json

import pytest

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.msd import is_found
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.testing.synthetic import write_spheres


@pytest.fixture
def decathlon(tmp_path):
    """A raw folder of nnU-Net, rewritten in the style of the Medical Segmentation Decathlon."""
    root = write_spheres(tmp_path / "Task01", num_cases=3, seed=0, shape=(8, 9, 10))
    for path in (root / "imagesTr").iterdir():
        path.rename(path.with_name(path.name.replace("_0000", "")))
        (root / "imagesTr" / f"._{path.name}").write_bytes(b"left by macOS")
    names = [f"case_{index:03d}.nii.gz" for index in range(3)]
    pairs = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    describe(root, training=pairs, numTraining=3, modality={"0": "MRI"}, test=[])
    describe(root, labels={"0": "background", "1": "ball"}, file_ending=None, channel_names=None)
    return root


def describe(root, **changes):
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_a_task_is_read_as_listed(decathlon):
    dataset = open_dataset(decathlon, None, None)
    assert dataset.layout == "msd"
    assert dataset.channels == ("MRI",)
    assert dataset.labels.names == ("background", "ball")
    assert [case.id for case in dataset.cases] == ["case_000", "case_001", "case_002"]
    assert dataset.cases[0].images == ("imagesTr/case_000.nii.gz",)
    assert dataset.channel_files == "single"


def test_what_a_spec_declares_goes_first(decathlon):
    declared = DatasetSpec(channels=("T2",), labels={"background": 0, "sphere": 1})
    dataset = open_dataset(decathlon, declared, None)
    assert dataset.channels == ("T2",)
    assert dataset.labels.names == ("background", "sphere")


def test_everything_wrong_with_the_list_is_told_at_once(decathlon):
    content = json.loads((decathlon / "dataset.json").read_text())
    training = content["training"]
    training += [training[1], {"image": "./imagesTr/x.txt", "label": training[0]["label"]}]
    describe(decathlon, training=training, numTraining=9)
    (decathlon / "labelsTr" / "case_002.nii.gz").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(decathlon, None, None)
    found = caught.value.found
    assert 'numTraining is 9, but "training" lists 5 cases' in found
    assert "labelsTr/case_002.nii.gz: listed in dataset.json, but there is no such file" in found
    assert "two training cases are called case_001" in found
    assert "imagesTr/x.txt is no image" in found


def test_files_left_by_macos_are_ignored(decathlon):
    content = json.loads((decathlon / "dataset.json").read_text())
    stray = {"image": "./imagesTr/._case_000.nii.gz", "label": "./labelsTr/._case_000.nii.gz"}
    describe(decathlon, training=[*content["training"], stray], numTraining=4)
    assert len(open_dataset(decathlon, None, None).cases) == 3


def test_old_folders_of_nnunet_are_left_to_their_format(decathlon):
    for path in (decathlon / "imagesTr").glob("case*"):
        path.rename(path.with_name(path.name.replace(".nii.gz", "_0000.nii.gz")))
    assert not is_found(decathlon)
    dataset = open_dataset(decathlon, None, None)
    assert dataset.layout == "nnunet"
    assert dataset.channel_files == "suffix"
    assert len(dataset.cases) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"training": []},
        {"training": ["a.nii.gz"]},
        {"training": None},
        {"labels": None},
        {"modality": None},
    ],
)
def test_other_descriptions_are_of_other_layouts(decathlon, changes):
    describe(decathlon, **changes)
    assert not is_found(decathlon)
    with pytest.raises(DatasetError, match="no training cases"):
        open_dataset(decathlon, DatasetSpec(layout="msd"), None)


def test_a_folder_without_description_is_another_layout(tmp_path):
    assert not is_found(tmp_path)
    (tmp_path / "dataset.json").write_text("[")
    assert not is_found(tmp_path)
