import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.dataset.dataset import Case
from autoseg.dataset.splits import make_splits, read_splits, splits_json
from autoseg.errors import DatasetError


def cases_of(sizes):
    return [
        Case(id=f"g{group}_{index}", images=("a",), labels=("b",), group=f"g{group}")
        for group, size in enumerate(sizes)
        for index in range(size)
    ]


@given(
    sizes=st.lists(st.integers(1, 4), min_size=2, max_size=20),
    num_folds=st.none() | st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_every_case_is_validated_once_and_no_group_is_torn(sizes, num_folds, seed):
    cases = cases_of(sizes)
    if num_folds is not None and num_folds > len(sizes):
        with pytest.raises(DatasetError, match=r"groups|cases"):
            make_splits(cases, num_folds, seed)
        return
    splits, findings = make_splits(cases, num_folds, seed)
    wanted = num_folds or min(5, len(sizes))
    assert len(splits) == wanted
    assert bool(findings) == (num_folds is None and len(sizes) < 5)
    assert sorted(i for split in splits for i in split.val) == sorted(c.id for c in cases)
    for split in splits:
        assert sorted((*split.train, *split.val)) == sorted(case.id for case in cases)
        train, val = ({i.split("_")[0] for i in side} for side in (split.train, split.val))
        assert not train & val
    lengths = [len(split.val) for split in splits]
    assert max(lengths) - min(lengths) <= max(sizes)
    assert make_splits(cases[::-1], num_folds, seed)[0] == splits


def test_another_seed_gives_other_folds():
    cases = cases_of([1] * 20)
    assert make_splits(cases, 5, 0)[0] != make_splits(cases, 5, 1)[0]


@pytest.mark.parametrize(
    ("sizes", "num_folds"), [([3], None), ([1], None), ([1] * 4, 5), ([1] * 4, 1)]
)
def test_too_few_groups_are_refused(sizes, num_folds):
    with pytest.raises(DatasetError):
        make_splits(cases_of(sizes), num_folds, 0)


def test_splits_are_written_and_read_in_nnunets_form(tmp_path):
    cases = cases_of([2] * 5)
    splits, _ = make_splits(cases, None, 0)
    (tmp_path / "splits.json").write_text(splits_json(splits))
    assert set(json.loads(splits_json(splits))[0]) == {"train", "val"}
    assert read_splits(tmp_path / "splits.json", cases) == splits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not of that form"),
        ('[{"train": ["g0_0"]}]', "not of that form"),
        ("[]", "no folds"),
        ('[{"train": ["g0_0"], "val": ["x"]}]', "unknown case 'x'"),
        ('[{"train": ["g0_0", "g1_0"], "val": ["g0_0"]}]', "twice: g0_0"),
        ('[{"train": ["g0_0"], "val": []}]', "0 to validate"),
        ('[{"train": ["g0_0"], "val": ["g0_1"]}]', "group 'g0' on both sides"),
    ],
)
def test_nonsense_in_splits_is_named(tmp_path, content, message):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DatasetError, match=message):
        read_splits(tmp_path / "splits.json", cases_of([2, 2]))
