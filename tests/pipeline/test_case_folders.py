import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.pipeline.case_folders import propose_case_folders
from autoseg.pipeline.proposals import unknown_layout


def is_mask(path):
    return "mask" in path.name


def write(root, *names, size=9):
    array = np.zeros((12, 12), np.uint8)
    array[:size, :size] = 255
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(array).save(path)


def proposed(root):
    return propose_case_folders(root, sorted(root.rglob("*.png")), is_mask)


def test_nested_masks_of_each_case_are_painted_with_the_smaller_one_on_top(tmp_path):
    for case in "abc":
        write(tmp_path / case, "t1.png", "t2.png")
        write(tmp_path / case, "core_mask.png", size=3)
        write(tmp_path / case, "whole_mask.png", size=8)
    spec = proposed(tmp_path)
    assert spec == DatasetSpec(
        images=("{case}/t1.png", "{case}/t2.png"),
        masks={"whole": "{case}/whole_mask.png", "core": "{case}/core_mask.png"},
        channels=("t1", "t2"),
    )
    assert spec is not None
    assert [*(spec.masks or {})] == ["whole", "core"]
    dataset = open_dataset(tmp_path, spec, None)
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert {region.name for region in dataset.labels.regions} == {"whole", "core"}


def test_the_name_of_the_case_may_stand_in_its_files(tmp_path):
    for case in ("p1", "p2"):
        write(tmp_path, f"{case}/x/{case}_flair.png", f"{case}/x/{case}_mask.png")
    assert proposed(tmp_path) == DatasetSpec(
        images=("{case}/x/{case}_flair.png",), masks="{case}/x/{case}_mask.png"
    )


def test_a_mask_that_some_cases_lack_is_optional(tmp_path):
    for case in "abcdef":
        write(tmp_path / case, "scan.png", "cell_mask.png")
    for case in "ab":
        write(tmp_path / case, "spot_mask.png", size=2)
    spec = proposed(tmp_path)
    assert spec is not None
    assert spec.masks == {"cell": "{case}/cell_mask.png", "spot": "{case}/spot_mask.png?"}


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "b/2.png", "a/1_mask.png", "b/2_mask.png"),
        ("a/scan.png", "b/scan.png"),
        ("a/mask.png", "b/mask.png"),
        ("a/scan.png", "a/mask.png"),
        ("scan.png", "mask.png"),
    ],
)
def test_folders_that_do_not_repeat_are_no_cases(tmp_path, names):
    write(tmp_path, *names)
    assert proposed(tmp_path) is None


def test_an_unknown_folder_of_cases_gets_this_proposal(tmp_path):
    for case in "abc":
        write(tmp_path / case, "t2.png", "whole_mask.png")
        write(tmp_path / case, "core_mask.png", size=3)
    assert '"core": "{case}/core_mask.png"' in unknown_layout(tmp_path).fix


def test_tables_alone_are_told_how_signals_lie(tmp_path):
    for name in ("r1", "r2"):
        (tmp_path / f"{name}.csv").write_text("time,ecg,label\n0,0.5,1\n")
    assert "labels are another one: images/a.csv" in unknown_layout(tmp_path).found
