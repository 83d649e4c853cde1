import itertools
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.partners import find_partners
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.eye(8, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    "mask",
    ["case_12", "Case_012", "case_012_seg", "case_012.png", "mask_case_012", "caes_012", "cas_012"],
)
def test_names_that_differ_by_a_slip_are_partners(mask):
    assert find_partners(["case_012", "case_777"], [mask, "other_3"]) == {"case_012": mask}


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["case_012"], ["case_013"]),
        (["site1_02"], ["site2_02"]),
        (["siteA_01"], ["siteB_01"]),
        (["case_012"], ["case_12", "Case_012"]),  # either may be meant
        (["case_012", "Case_12"], ["case_12"]),
        (["cat"], ["dog"]),
    ],
)
def test_no_partner_is_made_up(images, masks):
    assert find_partners(images, masks) == {}


def test_thousands_of_names_without_numbers_are_compared_in_a_moment():
    names = ["".join(letters) for letters in itertools.product("abcdef", repeat=5)][:6000]
    images, masks = names[:3000], [f"{name}x" for name in names[3000:]]
    start = time.process_time()
    assert find_partners([*images, "anna"], [*masks, "Anna_mask"]) == {"anna": "Anna_mask"}
    assert time.process_time() - start < 2  # comparing all with all takes minutes


def problem_of(root, spec=None):
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(root, spec, None)
    (problem,) = caught.value.findings
    return problem


def rename_as_told(root, problem):
    mask, name = re.findall(r"rename (\S+) to ([^\s,]+)", problem.remedy)[0]
    (root / mask).rename((root / mask).with_name(name))


@pytest.mark.parametrize(
    "name", ["case_12.png", "Case_012.png", "mask_case_012.png", "case_012.png.png"]
)
@pytest.mark.parametrize(
    ("image", "mask", "spec"),
    [
        ("images/{}.png", "masks/{}.png", None),
        ("images/{}.jpg", "masks/{}.png", None),
        ("train/images/{}.png", "train/masks/{}.png", None),
        ("a/{}.png", "b/{}.png", DatasetSpec(images=("a/{case}.png",), masks="b/{case}.*")),
        ("{}.jpg", "{}.png", None),
    ],
)
def test_the_remedy_renames_the_likely_mask(tmp_path, image, mask, spec, name):
    ids = ["case_001", "case_002", "case_003", "case_012"]
    write(tmp_path, *(text.format(case_id) for case_id in ids for text in (image, mask)))
    last = tmp_path / mask.format("case_012")
    wrong = last.rename(last.with_name(name)).relative_to(tmp_path).as_posix()
    problem = problem_of(tmp_path, spec)
    assert problem.case == "case_012"
    assert f"did you mean {wrong}" in problem.found
    rename_as_told(tmp_path, problem)
    assert [case.id for case in open_dataset(tmp_path, spec, None).cases] == ids


def test_without_the_case_its_likely_mask_is_no_problem(tmp_path):
    write(tmp_path, *(f"{side}/case_0{i}.png" for side in ("images", "masks") for i in "12"))
    write(tmp_path, "images/case_03.png", "masks/case_3.png")
    dataset = open_dataset(tmp_path, DatasetSpec(exclude={"case_03": "no mask"}), None)
    assert len(dataset.cases) == 2


def test_many_slips_are_told_as_one(tmp_path):
    write(tmp_path, *(f"images/case_{i:03d}.png" for i in range(1, 20)))
    write(tmp_path, *(f"masks/case_{i}.png" for i in range(1, 20)))
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(tmp_path, None, None)
    remedies = {problem.remedy for problem in caught.value.findings}
    assert len(remedies) == 1
    assert Path("masks/case_1.png to case_001.png").as_posix() in remedies.pop()


def test_masks_beside_images_get_the_names_of_the_others(tmp_path):
    for case_id in ("p1", "p2", "p3"):
        write(tmp_path, f"{case_id}.png", f"{case_id}_mask.png")
    write(tmp_path, "p04.png", "p4_mask.png")
    problem = problem_of(tmp_path)
    assert "did you mean p4_mask.png" in problem.found
    rename_as_told(tmp_path, problem)
    assert len(open_dataset(tmp_path, None, None).cases) == 4
