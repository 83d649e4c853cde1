import pytest

from autoseg.dataset.dataset import Case, DatasetSpec
from autoseg.dataset.groups import group_findings, infer_groups, join_groups, join_visits
from autoseg.dataset.open import open_dataset
from autoseg.testing.synthetic import write_rings


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        ("patient001_frame01 patient001_frame12 patient002_frame01", "patient001"),
        ("sub-12_ses-1 sub-12_ses-2 sub-13_ses-1_run-2_T2w", "sub-12"),
        ("sub-97Ses1_run-1_T2starw sub-97Ses2_run-1_T2starw sub-98_run-1_T2starw", "sub-97"),
        ("P03-slice7 P03-slice8 P04-slice7", "P03"),
        ("case_12_left case_12_right case_13_left case_13_right", "case_12 case_13"),
        ("Image_01L Image_01R Image_02L Image_02R", "Image_01 Image_02"),
        ("left_07 right_07 left_08", "07"),
        ("T1_001 T2_001 T1_002 T2_002", "001 002"),
        ("volume-3_slice-10 volume-3_slice-11 volume-4_slice-10", "volume-3"),
        ("scan_3_slice_1 scan_3_slice_2 scan_4_slice_1", "scan_3"),
        ("tile1_x0_y512 tile1_x512_y0 tile2_x0_y0", "tile1"),
        ("slide1_x0_y512 slide1_x512_y0 slide2_x0_y0", "slide1"),
        ("img1_0_0 img1_0_512 img1_512_0 img2_0_0 img2_512_512", "img1 img2"),
        ("forest_0_0 forest_448_896 lake_0_0 lake_896_448", "forest lake"),
        ("P3_slice7_0_0 P3_slice7_512_512 P3_slice8_0_0 P4_slice7_0_0", "P3"),
        ("day1_mouse3 day2_mouse3 day1_mouse4", "mouse3"),
        ("video2_clip1_f007 video2_clip3_f001 video9_clip1_f007", "video2"),
        ("A01_s1 A01_s2 B02_s1 B02_s2", "A01 B02"),
        ("img12 img12-copy img13", "img12"),
        ("IX_49_19960909_1 IX_49_19970101_1 IX_50_19970101_1 IX_50_19970101_2", "IX_49 IX_50"),
        ("12_1 12_2 13_1 13_2", "12 13"),
        ("sub-12_ses-1 sub-12_ses-2 sub-13_ses-1", "sub-12"),
        ("sub-9709Ses1 sub-9709Ses2 sub-9710Ses1", "sub-9709"),
        ("patient022_frame01 patient022_frame11 patient023_frame01", "patient022"),
        ("train_12_left train_12_right train_13_left train_13_right", "train_12 train_13"),
        ("img1_z01 img1_z02 img2_z01", "img1"),
        ("movieA_0000 movieA_0001 movieB_0000 movieB_0001", "movieA movieB"),
        ("video_b_f1 video_b_f2 video_c_f1", "video_b"),
        ("film1_0001 film1_0002 film2_0001", "film1"),
        ("anna_left anna_right bob_left bob_right", "anna bob"),
        ("anna-maria_OD anna-maria_OS eve_OD", "anna-maria"),
        ("anna_left anna_right case_12_left case_12_right", "anna case_12"),
        ("aachen_00_19 aachen_00_20 aachen_01_19 aachen_01_20", "aachen_00 aachen_01"),
    ],
)
def test_names_tell_which_cases_belong_together(names, groups):
    ids = names.split()
    found = infer_groups(ids)
    assert sorted(found) == sorted(ids)
    shared = {group for group in found.values() if list(found.values()).count(group) > 1}
    assert shared == set(groups.split())
    alone = {name: group for name, group in found.items() if group not in shared}
    assert all(name == group for name, group in alone.items())


@pytest.mark.parametrize(
    "names",
    [
        "case_001 case_002 case_003",
        "hippocampus_044 hippocampus_045",
        "img1 img2 img12",
        "exp1_num_108719 exp1_num_262480 exp2_num_108741 exp2_num_262572",
        "set1_001 set1_002 set2_001 set2_002",
        "ABC2019_001 ABC2019_002 ABC2020_001 ABC2020_002",
        "ABC19_Training_001 ABC19_Training_002 ABC20_Training_001 ABC20_Training_002",
        "IMG_20190101_1 IMG_20190101_2 IMG_20190102_1 IMG_20190102_2",
        "01_healthy 01_glaucoma 02_healthy 02_glaucoma",
        "benign_slice_1 benign_slice_2 malignant_slice_1 malignant_slice_2",
        "site1_s01 site1_s02 site2_s01 site2_s02",
        "batch1_x01 batch1_x02 batch2_x01 batch2_x02",
        "2018_s001 2018_s002 2019_s001 2019_s002",
        "2018_scan001 2018_scan002 2019_scan001 2019_scan002",
        "cohort1_001 cohort1_002 cohort2_001 cohort2_002",
        "LUNG1-001 LUNG1-002 LUNG2-001 LUNG2-002",
        "ge3t_001 ge3t_002 siemens3t_001 siemens3t_002",
        "ge15t_scan1 ge15t_scan2 siemens3t_scan1 siemens3t_scan2",
        "exp6_num_77744 exp6_num_77745 exp7_num_77744 exp7_num_77745",
        "img12 img13",
        "benign_left benign_right malignant_left malignant_right",
        "lung_left lung_right breast_left breast_right",
        "train_left train_right test_left test_right",
        "videos_0001 videos_0002 movies_0001 movies_0002",
        "anna_left bob_left anna_frontal bob_frontal",
        "dog_001 dog_002 cat_001 cat_002",
        "movie_l_1 movie_r_1 film_l_1 film_r_1",
        "img_0_0 img_0_512 img_512_0 img_512_512",
        "site1_left site1_right site2_left site2_right",
        "frame_0001 frame_0002",
        "slice7 slice8",
        "patient001_frame01 patient001_frame02",
        "patient001 patient002",
        "21_training 22_training",
        "00071198d059ba7f 0121d6759c5adb29 0121d6759c5adb20",
        "",
    ],
)
def test_running_numbers_and_single_groups_are_no_groups(names):
    assert infer_groups(names.split()) == {}


@pytest.mark.parametrize("separator", ["_", "_s"])
def test_few_large_groups_are_collections_unless_words_tell_parts(separator):
    names = [f"{centre:02d}{separator}{i:03d}" for centre in (1, 2) for i in range(15)]
    assert infer_groups(names) == {}
    many = [f"{centre:02d}{separator}{i:03d}" for centre in range(10) for i in range(3)]
    assert len(set(infer_groups(many).values())) == 10
    slices = [f"P{centre:02d}_slice{i:03d}" for centre in (1, 2) for i in range(15)]
    assert set(infer_groups(slices).values()) == {"P01", "P02"}


def test_collections_beyond_the_ninth_are_collections_too():
    names = [f"LUNG{cohort}-{i:03d}" for cohort in range(1, 13) for i in range(1, 4)]
    assert infer_groups(names) == {}


def test_groups_that_a_layout_tells_are_joined_by_visits_alone():
    told = ["sub-97Ses1", "sub-97Ses2", "sub-98", "12_1", "12_2", "13_1", "rat1_L", "rat1_R"]
    found = join_visits(told)
    assert found["sub-97Ses1"] == found["sub-97Ses2"] == "sub-97"
    assert all(found[group] == group for group in told[2:])
    assert join_visits(told[2:]) == {}


def test_groups_in_a_table_are_as_they_stand_there(tmp_path):
    root = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    groups = ("rat1_ses1", "rat1_ses2", "rat2_ses1", "rat2_ses2")
    lines = [f"images/case_00{i}.png,masks/case_00{i}.png,{g}" for i, g in enumerate(groups)]
    (root / "cases.csv").write_text("\n".join(["image,mask,group", *lines]))
    dataset = open_dataset(root, DatasetSpec(table="cases.csv"), None)
    assert [case.group for case in dataset.cases] == [*groups]
    assert not dataset.groups_inferred


def cases_of(**groups):
    return [Case(id=i, images=("a",), labels=("b",), group=g) for i, g in groups.items()]


def test_copies_join_their_groups_whatever_the_order():
    cases = cases_of(a="g1", b="g2", c="g2", d="g3", e="g4")
    together = [("c", "d"), ("a", "b"), ("unknown", "e"), ("b", "c")]
    groups, used = join_groups(cases, together)
    assert len({groups[i] for i in "abcd"}) == 1
    assert groups["e"] == "g4"
    assert used == [("a", "b"), ("c", "d")]
    assert join_groups(cases[::-1], together[::-1])[0] == groups


@pytest.fixture
def slices(tmp_path):
    root = write_rings(tmp_path / "rings", num_cases=4, seed=0)
    for index in range(4):
        for folder in ("images", "masks"):
            old = root / folder / f"case_{index:03d}.png"
            old.rename(root / folder / f"P{index // 2}-slice{index % 2}.png")
    return root


def test_inferred_groups_are_told_with_the_way_to_change_them(slices):
    dataset = open_dataset(slices, None, None)
    assert [case.group for case in dataset.cases] == ["P0", "P0", "P1", "P1"]
    (note,) = group_findings(dataset)
    assert note.severity == "note"
    assert "4 cases in 2 groups" in note.found
    assert "P0: P0-slice0, P0-slice1" in note.found
    assert "--group-by '(.*)'" in note.remedy


def test_the_remedy_has_every_case_alone(slices):
    dataset = open_dataset(slices, None, "(.*)")
    assert len({case.group for case in dataset.cases}) == 4
    assert group_findings(dataset) == []


def test_what_a_user_says_is_not_told_again(slices):
    dataset = open_dataset(slices, None, r"(P\d)")
    assert [case.group for case in dataset.cases] == ["P0", "P0", "P1", "P1"]
    assert group_findings(dataset) == []


@pytest.mark.parametrize(
    ("name", "num_groups", "is_inferred"),
    [("acdc", 15, True), ("hippocampus", 208, False), ("isbi2012", 20, False)],
)
def test_real_data_sets_are_grouped_without_being_told(data, name, num_groups, is_inferred):
    dataset = open_dataset(data / name, None, None)
    assert len({case.group for case in dataset.cases}) == num_groups
    assert dataset.groups_inferred == is_inferred
