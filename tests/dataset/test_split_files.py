import json

import pytest

from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.split_files import read_split_file, read_splits, splits_json
from autoseg.dataset.splits import Split, make_splits
from autoseg.errors import DatasetError


def cases_of(sizes):
    return [
        Case(
            id=f"g{group}_{index}",
            images=(f"imagesTr/g{group}_{index}_0000.nii.gz",),
            labels=(f"labelsTr/g{group}_{index}.nii.gz",),
            group=f"g{group}",
        )
        for group, size in enumerate(sizes)
        for index in range(size)
    ]


def write(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_splits_are_written_and_read_in_nnunets_form(tmp_path):
    cases = cases_of([2] * 5)
    splits, _ = make_splits(cases, None, 0)
    assert set(json.loads(splits_json(splits))[0]) == {"train", "val"}
    assert read_splits(write(tmp_path, splits_json(splits)), cases) == splits


def test_one_split_may_keep_cases_out(tmp_path):
    path = write(tmp_path, {"train": ["g0_0", "g0_1"], "val": ["g1_0"], "test": ["g2_0"]})
    found = read_split_file(path, cases_of([2, 1, 1]))
    assert found.splits == (Split(train=("g0_0", "g0_1"), val=("g1_0",)),)
    assert found.test == ("g2_0",)


@pytest.mark.parametrize(
    "name",
    [
        "imagesTr/g{}_0_0000.nii.gz",
        "./imagesTr/g{}_0_0000.nii.gz",
        "elsewhere/g{}_0_0000.nii.gz",
        "g{}_0.nii.gz",
        "g{}_0",
    ],
)
def test_a_data_list_of_monai_names_images_in_many_ways(tmp_path, name):
    entries = [{"image": name.format(i), "label": "any", "fold": i % 2} for i in range(4)]
    entries[3]["image"] = [entries[3]["image"]]
    path = write(tmp_path, {"training": entries, "testing": [{"image": name.format(4)}]})
    found = read_split_file(path, cases_of([1] * 5))
    assert found.splits == (
        Split(train=("g1_0", "g3_0"), val=("g0_0", "g2_0")),
        Split(train=("g0_0", "g2_0"), val=("g1_0", "g3_0")),
    )
    assert found.test == ("g4_0",)


def test_entries_without_a_fold_are_always_trained_on(tmp_path):
    entries = [{"image": "g0_0", "fold": 1}, {"image": "g1_0", "fold": 2}, {"image": "g2_0"}]
    splits = read_splits(write(tmp_path, {"training": entries}), cases_of([1] * 3))
    assert [split.val for split in splits] == [("g0_0",), ("g1_0",)]
    assert all("g2_0" in split.train for split in splits)


def test_a_data_list_with_validation_is_one_fold(tmp_path):
    content = {"training": [{"image": "g0_0"}], "validation": [{"image": "g1_0"}]}
    splits = read_splits(write(tmp_path, content), cases_of([1, 1]))
    assert splits == (Split(train=("g0_0",), val=("g1_0",)),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not of that form"),
        ('[{"train": ["g0_0"]}]', "not of that form"),
        ('[{"train": "g0_0", "val": "g1_0"}]', "not of that form"),
        ("7", "not of that form"),
        ('{"cases": []}', "not of that form"),
        ('{"training": [{"label": "a"}], "validation": [{"image": "b"}]}', "not of that form"),
        ("[]", "no folds"),
        ('{"training": [{"image": "g0_0"}]}', "no folds"),
        ('[{"train": ["g0_0"], "val": ["x"]}]', "unknown case 'x'"),
        ('[{"train": ["g0_0", "g1_0"], "val": ["g0_0"]}]', "twice: g0_0"),
        ('[{"train": ["g0_0"], "val": []}]', "0 to validate"),
        ('[{"train": ["g0_0"], "val": ["g0_1"]}]', r"group 'g0' on both sides.*(?s:.*)\(\.\*\)"),
        ('{"train": ["g0_0"], "val": ["g1_0"], "test": ["g1_0"]}', "test set: g1_0"),
    ],
)
def test_nonsense_in_splits_is_named(tmp_path, content, message):
    with pytest.raises(DatasetError, match=message):
        read_splits(write(tmp_path, content), cases_of([2, 2]))


@pytest.mark.parametrize("name", ["g2_0", "g2*"])
def test_cases_that_are_left_out_of_the_data_set_are_left_out_of_the_folds(tmp_path, name):
    entries = [{"image": f"imagesTr/g{i}_0_0000.nii.gz", "fold": i % 2} for i in range(4)]
    path = write(tmp_path, {"training": entries})
    cases = [case for case in cases_of([1] * 4) if case.id != "g2_0"]
    found = read_split_file(path, cases, DatasetSpec(exclude={name: "blurred"}))
    assert [split.val for split in found.splits] == [("g0_0",), ("g1_0", "g3_0")]
    with pytest.raises(DatasetError, match="unknown case"):
        read_split_file(path, cases)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.json cannot be read"):
        read_splits(tmp_path / "none.json", cases_of([2]))


def test_all_problems_are_listed_at_once(tmp_path):
    content = [{"train": ["g0_0"], "val": ["g0_1"]}, {"train": ["x"], "val": ["g1_0"]}]
    with pytest.raises(DatasetError) as caught:
        read_splits(write(tmp_path, content), cases_of([2, 2]))
    assert caught.value.found.splitlines() == [
        "splits.json: fold 0: group 'g0' on both sides: g0_0 to train, g0_1 to validate",
        "splits.json: fold 1: unknown case 'x'",
    ]
