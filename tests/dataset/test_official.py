import pytest

from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.official import declared_parts, official_splits
from autoseg.dataset.open import open_dataset
from autoseg.dataset.splits import Split
from autoseg.errors import DatasetError
from autoseg.testing.synthetic import write_rings

IDS = ("a1", "a2", "b1", "c[1]")


def test_what_is_not_to_be_tested_is_trained_on():
    parts = declared_parts(IDS, DatasetSpec(split={"test": ("a*",), "val": ("c[1]",)}))
    assert parts == {"a1": "test", "a2": "test", "b1": "train", "c[1]": "val"}


def test_every_problem_of_a_declared_split_is_listed():
    split = {"train": ("a1", "a2"), "val": ("a*",), "dev": (), "test": ("x*",)}
    with pytest.raises(DatasetError) as caught:
        declared_parts(IDS, DatasetSpec(split=split))
    assert caught.value.found.splitlines() == [
        "split: no part is called 'dev'",
        "split.test: 'x*' is no case",
        "split: case 'a1' is in train and val",
        "split: case 'a2' is in train and val",
        "split: case 'b1' is in no part",
        "split: case 'c[1]' is in no part",
    ]


def test_something_must_be_left_to_train_on():
    with pytest.raises(DatasetError, match="every case is in test"):
        declared_parts(IDS, DatasetSpec(split={"test": ("*",)}))


def test_a_spec_goes_before_what_the_layout_tells(tmp_path):
    root = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    spec = DatasetSpec(split={"val": ("case_000",), "test": ("*1",)})
    dataset = open_dataset(root, spec, None)
    assert [case.split for case in dataset.cases] == ["val", "test", "train", "train"]
    assert [case.id for case in dataset.training_cases] == ["case_000", "case_002", "case_003"]


def test_cases_that_are_left_out_may_be_named_in_the_split(tmp_path):
    root = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    spec = DatasetSpec(
        split={"train": ("case_000", "case_001"), "val": ("case_002", "*3")},
        exclude={"case_001": "blurred", "case_003": "blurred"},
    )
    dataset = open_dataset(root, spec, None)
    assert [case.split for case in dataset.cases] == ["train", "val"]


def test_cases_that_a_pattern_leaves_out_may_be_named_in_the_split():
    spec = DatasetSpec(split={"val": ("a1", "a*", "c[1]")}, exclude={"a*": "blurred"})
    assert declared_parts(("b1", "c[1]"), spec) == {"b1": "train", "c[1]": "val"}


def case_of(case_id, **facts):
    return Case(id=case_id, images=("a",), labels=("b",), group=case_id, **facts)


def test_an_official_validation_set_is_the_only_fold():
    cases = [case_of("a", split="train", fold=3), case_of("b"), case_of("c", split="val")]
    cases.append(case_of("d", split="test"))
    assert official_splits(cases) == (Split(train=("a", "b"), val=("c",)),)


def test_numbers_of_folds_are_honoured():
    cases = [case_of("a", fold=1), case_of("b", fold=0), case_of("c"), case_of("d", split="test")]
    assert official_splits(cases) == (
        Split(train=("a", "c"), val=("b",)),
        Split(train=("b", "c"), val=("a",)),
    )


def test_a_test_set_alone_tells_no_folds():
    assert official_splits([case_of("a", split="train"), case_of("b", split="test")]) is None
