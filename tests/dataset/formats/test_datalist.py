import json

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError


def picture(path, value=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((8, 9), np.uint8)
    array[:4] = value
    Pillow.fromarray(array).save(path)


def entry(root, name, **more):
    picture(root / "scans" / f"{name}.png")
    picture(root / "truth" / f"{name}.png")
    return {"image": f"scans/{name}.png", "label": f"truth/{name}.png"} | more


def write(root, name="task.json", **content):
    (root / name).write_text(json.dumps(content))
    return root


def test_cases_have_the_folds_of_the_list(tmp_path):
    listed = [entry(tmp_path, name, fold=index % 2) for index, name in enumerate("abc")]
    dataset = open_dataset(write(tmp_path, training=listed), None, None)
    assert dataset.layout == "datalist"
    assert [(case.id, case.fold) for case in dataset.cases] == [("a", 0), ("b", 1), ("c", 0)]
    assert {case.split for case in dataset.cases} == {None}
    assert dataset.cases[0].labels == ("truth/a.png",)


def test_validation_and_labelled_test_cases_are_the_official_split(tmp_path):
    unlabelled = {"image": "scans/nowhere.png"}
    write(
        tmp_path,
        training=[entry(tmp_path, "a")],
        validation=[entry(tmp_path, "b")],
        testing=[unlabelled, "scans/nowhere.png", entry(tmp_path, "c")],
    )
    dataset = open_dataset(tmp_path, None, None)
    assert [(case.id, case.split) for case in dataset.cases] == [
        ("a", "train"),
        ("b", "val"),
        ("c", "test"),
    ]


def test_several_images_are_channels(tmp_path):
    listed = []
    for name in "ab":
        for channel in ("t1", "t2"):
            picture(tmp_path / name / f"{channel}.png")
        picture(tmp_path / name / "seg.png")
        images = [f"{name}/t1.png", f"{name}/t2.png"]
        listed.append({"image": images, "label": f"{name}/seg.png"})
    dataset = open_dataset(write(tmp_path, training=listed), None, None)
    assert [case.id for case in dataset.cases] == ["a", "b"]
    assert dataset.channels == ("channel_0", "channel_1")
    assert dataset.channel_files == "suffix"
    listed[1]["image"].pop()
    write(tmp_path, training=listed)
    with pytest.raises(DatasetError, match=r"training\[1\]: 1 images, expected 2"):
        open_dataset(tmp_path, DatasetSpec(channels=("T1", "T2")), None)


def test_channels_and_labels_may_stand_in_the_list(tmp_path):
    write(
        tmp_path,
        training=[entry(tmp_path, "a"), entry(tmp_path, "b")],
        modality={"0": "CT"},
        labels={"0": "background", "1": "liver"},
    )
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.channels == ("CT",)
    assert dataset.labels.names == ("background", "liver")


def test_a_list_elsewhere_is_named_by_the_spec(tmp_path):
    listed = [entry(tmp_path, "a"), entry(tmp_path, "b")]
    (tmp_path / "lists").mkdir()
    write(tmp_path / "lists", training=listed)
    dataset = open_dataset(tmp_path, DatasetSpec(table="lists/task.json"), None)
    assert dataset.layout == "datalist"
    assert len(dataset.cases) == 2
    with pytest.raises(DatasetError, match="cannot be read"):
        open_dataset(tmp_path, DatasetSpec(table="lists/absent.json"), None)


def test_two_lists_must_be_chosen_from(tmp_path):
    listed = [entry(tmp_path, "a"), entry(tmp_path, "b")]
    write(write(tmp_path, training=listed), "other.json", training=listed)
    with pytest.raises(DatasetError, match=r"other\.json, task\.json") as caught:
        open_dataset(tmp_path, DatasetSpec(layout="datalist"), None)
    assert '"table"' in caught.value.fix


def test_all_faults_of_a_list_are_told_at_once(tmp_path):
    listed = [
        entry(tmp_path, "a"),
        entry(tmp_path, "b", fold="two"),
        {"image": "scans/a.png"},
        {"label": "truth/a.png"},
        {"image": "scans/lost.png", "label": "truth/lost.png"},
        entry(tmp_path, "a"),
        7,
    ]
    with pytest.raises(DatasetError) as caught:
        open_dataset(write(tmp_path, training=listed), DatasetSpec(layout="datalist"), None)
    found = caught.value.found
    assert "training[1]: \"fold\" is 'two'" in found
    assert 'training[2]: no "label"' in found
    assert 'training[3]: no "image"' in found
    assert "scans/lost.png: no such file, listed in task.json: training[4]" in found
    assert "truth/lost.png" in found
    assert "training[5]: the case a again, as in task.json: training[0]" in found
    assert 'training[6]: no "image"' in found


@pytest.mark.parametrize("content", ["{", "[]", '{"training": 3}', '{"validation": []}'])
def test_what_is_no_list_of_cases_is_refused(tmp_path, content):
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, DatasetSpec(table="task.json"), None)
    assert '"training"' in caught.value.expected


def test_other_json_files_are_no_lists(tmp_path):
    write(tmp_path, training=[])
    write(tmp_path, "labels.json", background=0)
    with pytest.raises(DatasetError, match=r"holds labels\.json, task\.json"):
        open_dataset(tmp_path, None, None)
