import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError

SHAPE = (8, 9)


def picture(path, box=None, value=255):
    """Write a grey ramp, or a mask with a box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.arange(72, dtype=np.uint8).reshape(SHAPE)
    if box is not None:
        array = np.zeros(SHAPE, np.uint8)
        array[box] = value
    Pillow.fromarray(array).save(path)


def spec(**fields):
    return DatasetSpec(**{"images": ("scans/{case}.png",), "masks": "truth/{case}.png"} | fields)


@pytest.fixture
def plain(tmp_path):
    for case_id in ("a", "b", "c"):
        picture(tmp_path / "scans" / f"{case_id}.png")
        picture(tmp_path / "truth" / f"{case_id}.png", np.s_[:2])
    return tmp_path


@pytest.fixture
def nested(tmp_path):
    for case_id in ("a", "b"):
        picture(tmp_path / "scans" / f"{case_id}.png")
        picture(tmp_path / "cord" / f"{case_id}.png", np.s_[:6, :6])
        picture(tmp_path / "grey" / f"{case_id}.png", np.s_[2:4, 2:4])
        picture(tmp_path / "bone" / f"{case_id}.png", np.s_[7:])
    return tmp_path


def masks(*names):
    return {name: f"{name}/{{case}}.png" for name in names}


def test_a_spec_says_where_images_and_masks_are(plain):
    dataset = open_dataset(plain, spec(), None)
    assert dataset.layout == "patterns"
    assert [case.id for case in dataset.cases] == ["a", "b", "c"]
    assert dataset.cases[0].images == ("scans/a.png",)
    assert dataset.cases[0].labels == ("truth/a.png",)
    assert dataset.labels.values == (0, 255)


def test_parts_that_vary_and_any_ending_are_allowed(tmp_path):
    for case_id, part in (("p_1", "x"), ("p_2", "y")):
        picture(tmp_path / part / "img" / f"{case_id}_t1.v2.png")
        picture(tmp_path / part / f"{case_id}_seg.gif", np.s_[:2], 1)
    found = open_dataset(
        tmp_path,
        DatasetSpec(images=("*/img/{case}_t1.*.*",), masks="*/{case}_seg.*"),
        None,
    )
    assert [case.id for case in found.cases] == ["p_1", "p_2"]
    assert found.cases[1].labels == ("y/p_2_seg.gif",)


def test_several_parts_may_carry_the_id(tmp_path):
    for case_id in ("s1", "s2"):
        for name in ("t1", "t2", "seg"):
            picture(tmp_path / case_id / f"{case_id}_{name}.png", np.s_[:3], 1)
    picture(tmp_path / "s1" / "s9_t1.png")  # belongs to no case
    declared = DatasetSpec(
        images=("{case}/{case}_t2.png", "{case}/{case}_t1.png"),
        masks="{case}/{case}_seg.png",
        channels=("T2", "T1"),
    )
    dataset = open_dataset(tmp_path, declared, None)
    assert dataset.cases[1].images == ("s2/s2_t2.png", "s2/s2_t1.png")
    assert dataset.channels == ("T2", "T1")
    assert read_case(dataset, dataset.cases[0])[0].array.shape == (2, *SHAPE)


def test_names_of_undeclared_channels_are_numbers(tmp_path):
    for name in ("a_t1", "a_t2", "a_seg"):
        picture(tmp_path / f"{name}.png", np.s_[:3], 1)
    declared = DatasetSpec(images=("{case}_t1.png", "{case}_t2.png"), masks="{case}_seg.png")
    assert open_dataset(tmp_path, declared, None).channels == ("channel_0", "channel_1")


def test_masks_that_fit_the_pattern_of_images_are_no_images(tmp_path):
    for case_id in ("a", "b"):
        picture(tmp_path / f"{case_id}.png")
        picture(tmp_path / f"{case_id}_mask.png", np.s_[:2])
    declared = DatasetSpec(images=("{case}.png",), masks="{case}_mask.png")
    assert [case.id for case in open_dataset(tmp_path, declared, None).cases] == ["a", "b"]
    for case_id in ("a", "b"):
        (tmp_path / f"{case_id}.png").rename(tmp_path / f"{case_id}_img.png")
        (tmp_path / f"{case_id}_mask.png").rename(tmp_path / f"{case_id}.png")
    declared = DatasetSpec(images=("{case}_img.png",), masks="{case}.png")
    assert open_dataset(tmp_path, declared, None).cases[1].labels == ("b.png",)


def test_letters_with_a_meaning_for_programs_are_letters(tmp_path):
    picture(tmp_path / "set [1]" / "a+b.png")
    picture(tmp_path / "set [1]" / "a+b (m).png", np.s_[:2])
    declared = DatasetSpec(images=("set [1]/{case}.png",), masks="set [1]/{case} (m).png")
    assert [case.id for case in open_dataset(tmp_path, declared, None).cases] == ["a+b"]


def test_all_that_does_not_fit_is_listed(plain):
    (plain / "truth" / "a.png").unlink()
    (plain / "scans" / "b.png").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(plain, spec(), None)
    assert "truth/a.png: missing, it is the mask of a.png" in caught.value.found
    assert "truth/b.png: a mask without an image" in caught.value.found


def test_a_missing_channel_is_named(plain):
    picture(plain / "t2" / "a.png")
    picture(plain / "t2" / "b.png")
    declared = spec(images=("scans/{case}.png", "t2/{case}.png"), channels=("T1", "T2"))
    with pytest.raises(DatasetError, match=r"t2/c\.png: missing, it is channel 1 \(T2\) of c"):
        open_dataset(plain, declared, None)


def test_a_mask_without_image_is_no_image(tmp_path):
    for case_id in "ab":
        picture(tmp_path / f"{case_id}.png")
        picture(tmp_path / f"{case_id}_lesion.png", np.s_[:2])
    picture(tmp_path / "c9_lesion.png", np.s_[:2])
    wanted = DatasetSpec(images=("{case}.png",), masks={"lesion": "{case}_lesion.png"})
    with pytest.raises(DatasetError, match="a mask without an image") as caught:
        open_dataset(tmp_path, wanted, None)
    assert caught.value.found == "c9_lesion.png: a mask without an image"
    dataset = open_dataset(tmp_path, wanted.revised(exclude={"c9": "no image"}), None)
    assert [case.id for case in dataset.cases] == ["a", "b"]


def test_a_file_for_each_channel_makes_names_with_numbers_for_prediction(tmp_path):
    for case_id in "ab":
        for channel in ("t1", "t2"):
            picture(tmp_path / f"{case_id}_{channel}.png")
        picture(tmp_path / f"{case_id}_seg.png", np.s_[:2])
    wanted = DatasetSpec(images=("{case}_t1.png", "{case}_t2.png"), masks="{case}_seg.png")
    assert open_dataset(tmp_path, wanted, None).channel_files == "suffix"
    one = wanted.revised(images=("{case}_t1.png",))
    assert open_dataset(tmp_path, one, None).channel_files == "single"


def test_an_id_that_comes_twice_is_a_problem(tmp_path):
    for part in ("x", "y"):
        picture(tmp_path / part / "1.png")
        picture(tmp_path / "truth" / "1.png", np.s_[:2])
    with pytest.raises(DatasetError, match=r"x/1\.png, y/1\.png: both fit \*/\{case\}\.png"):
        open_dataset(tmp_path, spec(images=("*/{case}.png",)), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": None}, "images in the spec, but no masks"),
        ({"images": None}, "masks in the spec, but no images"),
        ({"images": ("scans/*.png",)}, r"the pattern 'scans/\*\.png'"),
        ({"masks": "/truth/{case}.png"}, "the pattern '/truth"),
        ({"images": ("pictures/{case}.png",)}, r"no image that fits .*holds scans/, truth/"),
        ({"images": ("scans/{case}.png",) * 2, "channels": ("T1",)}, "2 patterns .* 1 channels"),
        ({"layout": "patterns", "images": None, "masks": None}, "no patterns"),
    ],
)
def test_patterns_that_make_no_sense_are_refused(plain, changes, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(plain, spec(**changes), None)


def test_masks_by_class_are_painted_in_their_order(nested):
    picture(nested / "bone" / "a.png", np.s_[4:])  # over the cord
    dataset = open_dataset(nested, spec(masks=masks("cord", "bone")), None)
    assert dataset.labels.names == ("background", "cord", "bone")
    assert dataset.labels.regions == ()
    classes = read_case(dataset, dataset.cases[0])[1]
    assert (classes[4:] == 2).all()
    assert (classes[:4, :6] == 1).all()
    assert (classes[:4, 6:] == 0).all()


def test_a_mask_inside_the_one_before_makes_regions(nested):
    dataset = open_dataset(nested, spec(masks=masks("cord", "grey", "bone")), None)
    assert dataset.labels.values == (0, 1, 2, 3)
    regions = {region.name: region.classes for region in dataset.labels.regions}
    assert regions == {"cord": (1, 2), "grey": (2,), "bone": (3,)}
    classes = read_case(dataset, dataset.cases[0])[1]
    assert np.bincount(classes.ravel()).tolist() == [72 - 36 - 9, 36 - 4, 4, 9]


def test_masks_that_never_come_all_together_are_compared(nested):
    picture(nested / "scans" / "c.png")
    picture(nested / "cord" / "c.png", np.s_[:6, :6])
    picture(nested / "rare" / "c.png", np.s_[4:6, 2:4])
    optional = {name: f"{pattern}?" for name, pattern in masks("cord", "grey", "rare").items()}
    dataset = open_dataset(nested, spec(masks=optional), None)
    regions = {region.name: region.classes for region in dataset.labels.regions}
    assert regions == {"cord": (1, 2, 3), "grey": (2,), "rare": (3,)}


def test_a_mask_that_is_there_without_the_one_around_it_is_not_inside(nested):
    (nested / "cord" / "b.png").unlink()
    optional = {"cord": "cord/{case}.png?", "grey": "grey/{case}.png"}
    assert open_dataset(nested, spec(masks=optional), None).labels.regions == ()


def test_declared_regions_are_not_looked_for(nested):
    labels = {"background": 0, "cord": (5, 7), "grey": 7}
    dataset = open_dataset(nested, spec(masks=masks("cord", "grey"), labels=labels), None)
    assert dataset.labels.values == (0, 5, 7)
    assert [region.name for region in dataset.labels.regions] == ["cord", "grey"]
    assert np.bincount(read_case(dataset, dataset.cases[0])[1].ravel()).tolist() == [36, 32, 4]


def test_declared_values_without_background_are_all_foreground(nested):
    labels = {"cord": 3, "grey": 1}
    dataset = open_dataset(nested, spec(masks=masks("cord", "grey"), labels=labels), None)
    assert dataset.labels.names == ("background", "grey", "cord")
    assert dataset.labels.regions == ()


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "cord": 1},
        {"background": 0, "cord": (1, 2), "grey": (1, 2)},
        {"background": 0, "cord": (1, 2, 3), "grey": 2},
    ],
)
def test_labels_without_a_value_for_each_mask_are_refused(nested, labels):
    with pytest.raises(DatasetError, match="without a value of their own"):
        open_dataset(nested, spec(masks=masks("cord", "grey"), labels=labels), None)


def test_smoothed_masks_are_split_in_the_middle(nested):
    array = np.zeros(SHAPE, np.uint8)
    array[2], array[3], array[4] = 100, 255, 200
    for case_id in ("a", "b"):
        Pillow.fromarray(array).save(nested / "cord" / f"{case_id}.png")
    dataset = open_dataset(nested, spec(masks=masks("cord")), None)
    assert dataset.reading.threshold == 128
    classes = read_case(dataset, dataset.cases[0])[1]
    assert classes[:, 0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


def test_a_missing_mask_of_a_class_is_a_problem_unless_it_may_be_missing(nested):
    (nested / "grey" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r'grey/b\.png: missing[^$]*end its pattern with "\?"'):
        open_dataset(nested, spec(masks=masks("cord", "grey")), None)
    optional = masks("cord", "grey") | {"grey": "grey/{case}.png?"}
    dataset = open_dataset(nested, spec(masks=optional), None)
    assert dataset.cases[1].labels == ("cord/b.png",)
    assert dataset.cases[1].paint == (1,)
    assert read_case(dataset, dataset.cases[1])[1].max() == 1


def test_a_case_without_any_mask_is_background_where_all_may_be_missing(nested):
    (nested / "grey" / "b.png").unlink()
    dataset = open_dataset(nested, spec(masks={"grey": "grey/{case}.png?"}), None)
    assert not read_case(dataset, dataset.cases[1])[1].any()


def test_unreadable_masks_are_reported_as_such(nested):
    (nested / "cord" / "a.png").write_bytes(b"no picture")
    dataset = open_dataset(nested, spec(masks=masks("cord", "grey")), None)
    assert dataset.labels.regions  # told by the other case
    with pytest.raises(DatasetError, match=r"cord/a\.png"):
        read_case(dataset, dataset.cases[0])


def test_real_nested_masks_become_regions(data):
    place = "derivatives/labels/{case}/anat/{case}_run-1_T2starw_"
    declared = DatasetSpec(
        images=("{case}/anat/{case}_run-1_T2starw.nii.gz",),
        masks={"cord": place + "seg-manual.nii.gz", "grey": place + "gmseg-manual.nii.gz"},
    )
    dataset = open_dataset(data / "gm_challenge", declared, None)
    assert len(dataset.cases) == 8
    assert [region.classes for region in dataset.labels.regions] == [(1, 2), (2,)]


def test_folders_of_patients_may_repeat_names_of_files(tmp_path):
    for group in ("P0", "P1"):
        for number in ("0", "1"):
            picture(tmp_path / group / "scans" / f"{number}.png")
            picture(tmp_path / group / "truth" / f"{number}_{group}.png", np.s_[:2])
    declared = spec(images=("{group}/scans/{case}.png",), masks="{group}/truth/{case}_{group}.png")
    cases = open_dataset(tmp_path, declared, None).cases
    assert [(case.id, case.group) for case in cases] == [
        ("P0_0", "P0"),
        ("P0_1", "P0"),
        ("P1_0", "P1"),
        ("P1_1", "P1"),
    ]
    (tmp_path / "P1" / "truth" / "0_P1.png").unlink()
    with pytest.raises(DatasetError, match=r"P1/truth/0_P1\.png: missing"):
        open_dataset(tmp_path, declared, None)


def split_spec():
    return spec(images=("scans/{split}/{case}.png",), masks="truth/{split}/{case}.png")


def test_folders_named_after_parts_are_the_official_split(tmp_path):
    for part, case_id in (("train", "a"), ("Train", "b"), ("validation", "c"), ("old", "a")):
        picture(tmp_path / "scans" / part / f"{case_id}.png")
        picture(tmp_path / "truth" / part / f"{case_id}.png", np.s_[:2])
    picture(tmp_path / "scans" / "test" / "d.png")
    cases = open_dataset(tmp_path, split_spec(), None).cases
    assert [(case.id, case.split) for case in cases] == [
        ("a", "train"),
        ("b", "train"),
        ("c", "val"),
    ]


def test_ids_that_parts_share_begin_with_the_part(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / "scans" / part / "0.png")
        picture(tmp_path / "truth" / part / "0.png", np.s_[:2])
    cases = open_dataset(tmp_path, split_spec(), None).cases
    assert [(case.id, case.split) for case in cases] == [("train_0", "train"), ("val_0", "val")]


def test_a_group_in_some_patterns_only_is_refused(plain):
    with pytest.raises(DatasetError, match="in some patterns only"):
        open_dataset(plain, spec(masks="{group}/{case}.png"), None)
