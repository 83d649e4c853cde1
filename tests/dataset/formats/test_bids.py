import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import bids
from autoseg.dataset.open import open_dataset
from autoseg.dataset.problems import DatasetProblems
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image

SHAPE = (4, 12, 12)
CORD, GREY = np.zeros(SHAPE), np.zeros(SHAPE)
CORD[:, 2:10, 2:10] = 1
GREY[:, 4:7, 4:7] = 1
LESION = np.zeros(SHAPE)
LESION[:, 10:, 10:] = 1


def write(path, array, spacing=(3.0, 0.5, 0.5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Image(array.astype(np.float32)[None], Geometry(spacing)))


def image(root, subject, name, **options):
    shape = options.pop("shape", SHAPE)
    values = np.arange(np.prod(shape)).reshape(shape)
    write(root / subject / "anat" / f"{subject}_{name}.nii.gz", values, **options)


def mask(root, subject, name, array, pipeline="labels"):
    folder = root / "derivatives" / pipeline / subject / "anat"
    write(folder / f"{subject}_{name}.nii.gz", array)


def cord_set(root, subjects=("sub-01", "sub-02", "sub-03")):
    for subject in subjects:
        image(root, subject, "T2w")
        mask(root, subject, "T2w_gmseg-manual", GREY)
        mask(root, subject, "T2w_seg-manual", CORD)
    return root


def test_nested_masks_are_painted_inside_out_and_become_regions(tmp_path):
    dataset = open_dataset(cord_set(tmp_path), None, None)
    assert dataset.layout == "bids"
    assert dataset.channels == ("T2w",)
    assert dataset.channel_files == "single"
    assert [case.id for case in dataset.cases] == ["sub-01", "sub-02", "sub-03"]
    assert dataset.labels.names == ("background", "rest of seg", "gmseg")
    regions = {region.name: region.classes for region in dataset.labels.regions}
    assert regions == {"seg": (1, 2), "gmseg": (2,)}
    _, classes = read_case(dataset, dataset.cases[1])
    assert np.array_equal(classes, CORD + GREY)


def test_masks_that_lie_apart_are_plain_classes(tmp_path):
    for subject in ("sub-01", "sub-02"):
        image(tmp_path, subject, "FLAIR")
        mask(tmp_path, subject, "FLAIR_label-cord_mask", CORD)
        mask(tmp_path, subject, "FLAIR_label-lesion_mask", LESION)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.names == ("background", "cord", "lesion")
    assert dataset.labels.regions == ()
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], CORD + 2 * LESION)


def test_masks_that_overlap_in_part_are_a_problem_that_the_spec_settles(tmp_path):
    shifted = np.roll(CORD, 4, axis=2)
    for subject in ("sub-01", "sub-02"):
        image(tmp_path, subject, "T2w")
        mask(tmp_path, subject, "T2w_seg-manual", CORD)
        mask(tmp_path, subject, "T2w_other-manual", shifted)
    with pytest.raises(DatasetError, match="share 50% of the smaller one"):
        open_dataset(tmp_path, None, None)
    spec = DatasetSpec(labels={"background": 0, "seg": 1, "other": 2})
    dataset = open_dataset(tmp_path, spec, None)
    expected = np.where(shifted > 0, 2, CORD)
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], expected)


def test_fractions_in_masks_count_from_one_half(tmp_path):
    cord_set(tmp_path)
    mask(tmp_path, "sub-01", "T2w_seg-manual", 0.3 + 0.4 * CORD)
    dataset = open_dataset(tmp_path, None, None)
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], CORD + GREY)


def test_a_binary_mask_with_several_values_is_refused(tmp_path):
    root = cord_set(tmp_path)
    mask(root, "sub-02", "T2w_seg-manual", CORD + GREY)
    dataset = open_dataset(root, None, None)
    with pytest.raises(DatasetError, match=r"sub-02_T2w_seg-manual\.nii\.gz: the values 0, 1, 2"):
        read_case(dataset, dataset.cases[1])


def test_smoothed_masks_of_whole_numbers_are_split_in_the_middle(tmp_path):
    for subject in ("sub-01", "sub-02"):
        image(tmp_path, subject, "T2w")
        mask(tmp_path, subject, "T2w_seg-manual", np.zeros(SHAPE))
        path = tmp_path / "derivatives/labels" / subject / "anat" / f"{subject}_T2w_seg-manual"
        smoothed = (90 * CORD + 165 * GREY).astype(np.uint8)
        write_image(
            path.with_name(f"{path.name}.nii.gz"), Image(smoothed[None], Geometry((1.0,) * 3))
        )
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.reading.threshold == 128
    image(tmp_path, "sub-01", "T2w", spacing=(1.0, 1.0, 1.0))
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], GREY)


def test_a_dseg_is_a_map_of_values(tmp_path):
    for subject in ("sub-01", "sub-02"):
        image(tmp_path, subject, "T1w")
        mask(tmp_path, subject, "dseg", 2 * CORD + 5 * LESION)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.values == (0, 2, 5)
    assert dataset.cases[0].paint == ()
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], CORD + 2 * LESION)


def test_a_map_beside_binary_masks_must_be_chosen(tmp_path):
    for subject in ("sub-01", "sub-02"):
        image(tmp_path, subject, "T1w")
        mask(tmp_path, subject, "T1w_dseg", 3 * CORD)
        mask(tmp_path, subject, "T1w_seg-manual", CORD)
    with pytest.raises(DatasetError, match=r"maps of values \(dseg\)") as caught:
        open_dataset(tmp_path, None, None)
    assert '"masks": {"dseg": "dseg"}' in caught.value.fix
    chosen = DatasetSpec(layout="bids", masks={"cord": "seg"})
    assert open_dataset(tmp_path, chosen, None).labels.names == ("background", "cord")


def test_masks_get_the_names_of_the_spec(tmp_path):
    masks = {"cord": "seg-manual", "grey matter": "gmseg-manual"}
    spec = DatasetSpec(layout="bids", masks=masks)
    labels = open_dataset(cord_set(tmp_path), spec, None).labels
    assert [region.name for region in labels.regions] == ["cord", "grey matter"]
    with pytest.raises(DatasetError, match="masks white, which are not there"):
        open_dataset(tmp_path, DatasetSpec(layout="bids", masks={"white": "white"}), None)


def test_declared_regions_are_painted_as_declared(tmp_path):
    spec = DatasetSpec(labels={"background": 0, "gmseg": 7, "seg": (3, 7)})
    dataset = open_dataset(cord_set(tmp_path), spec, None)
    assert dataset.labels.values == (0, 3, 7)
    assert np.array_equal(read_case(dataset, dataset.cases[0])[1], CORD + GREY)


def test_images_on_one_grid_are_channels(tmp_path):
    cord_set(tmp_path)
    for subject in ("sub-01", "sub-02", "sub-03"):
        image(tmp_path, subject, "T1w")
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.channels == ("T1w", "T2w")
    assert [name[-10:-7] for name in dataset.cases[0].images] == ["T1w", "T2w"]
    chosen = open_dataset(tmp_path, DatasetSpec(channels=("T2w",)), None)
    assert [len(case.images) for case in chosen.cases] == [1, 1, 1]


@pytest.mark.parametrize(
    ("subjects", "shape", "message"),
    [
        (("sub-01", "sub-03"), SHAPE, "no T1w in 1 of 3 cases"),
        (("sub-01", "sub-02", "sub-03"), (5, 9, 9), "T1w and T2w lie on different grids"),
    ],
)
def test_images_that_are_no_channels_need_a_choice(tmp_path, subjects, shape, message):
    cord_set(tmp_path)
    for subject in subjects:
        image(tmp_path, subject, "T1w", shape=shape)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(tmp_path, None, None)
    assert '{"channels": ["T2w"]}' in caught.value.fix
    assert len(open_dataset(tmp_path, DatasetSpec(channels=("T2w",)), None).cases) == 3


def test_masks_of_two_images_need_a_choice(tmp_path):
    cord_set(tmp_path)
    for subject in ("sub-01", "sub-02", "sub-03"):
        image(tmp_path, subject, "T1w")
        mask(tmp_path, subject, "T1w_lesion-manual", LESION)
    with pytest.raises(DatasetError, match="masks of T1w and of T2w"):
        open_dataset(tmp_path, None, None)
    dataset = open_dataset(tmp_path, DatasetSpec(channels=("T1w",)), None)
    assert dataset.labels.names == ("background", "lesion")


def test_a_case_without_a_chosen_image_is_a_problem(tmp_path):
    for subject in ("sub-01", "sub-02", "sub-03"):
        image(tmp_path, subject, "T1w")
        mask(tmp_path, subject, "label-cord_mask", CORD)
    image(tmp_path, "sub-01", "T2w")
    image(tmp_path, "sub-02", "T2w")
    with pytest.raises(DatasetError, match="no image T2w of sub-03") as caught:
        open_dataset(tmp_path, DatasetSpec(channels=("T2w",)), None)
    assert "sub-03_label-cord_mask.nii.gz" in caught.value.found


def test_images_of_other_folders_are_no_channels(tmp_path):
    cord_set(tmp_path)
    write(tmp_path / "sub-01" / "func" / "sub-01_task-rest_bold.nii.gz", np.ones(SHAPE))
    assert open_dataset(tmp_path, None, None).channels == ("T2w",)


def test_unknown_channels_are_refused_with_those_there_are(tmp_path):
    image(cord_set(tmp_path), "sub-01", "T1w")
    with pytest.raises(DatasetError, match="channels PD, FLAIR") as caught:
        open_dataset(tmp_path, DatasetSpec(channels=("PD", "FLAIR")), None)
    assert "T1w, T2w" in caught.value.expected


def test_sessions_and_runs_are_cases_of_one_group(tmp_path):
    for session in ("ses-1", "ses-2"):
        name = f"sub-01_{session}_run-1_T2w"
        write(tmp_path / "sub-01" / session / "anat" / f"{name}.nii.gz", 2 + CORD)
        folder = tmp_path / "derivatives" / "labels" / "sub-01" / session / "anat"
        write(folder / f"{name}_label-cord_seg.nii.gz", CORD)
    cord = open_dataset(tmp_path, None, None)
    assert [case.id for case in cord.cases] == ["sub-01_ses-1_run-1", "sub-01_ses-2_run-1"]
    assert {case.group for case in cord.cases} == {"sub-01"}


def test_all_that_is_missing_is_listed_and_can_be_excluded(tmp_path):
    cord_set(tmp_path, ("sub-01", "sub-02", "sub-03", "sub-04"))
    labels = tmp_path / "derivatives" / "labels"
    (labels / "sub-01" / "anat" / "sub-01_T2w_gmseg-manual.nii.gz").unlink()
    for path in (labels / "sub-02" / "anat").iterdir():
        path.unlink()
    (tmp_path / "sub-03" / "anat" / "sub-03_T2w.nii.gz").unlink()
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    assert "no mask gmseg" in caught.value.found
    assert "sub-02_T2w.nii.gz: no mask of sub-02" in caught.value.found
    assert "sub-03_T2w_seg-manual.nii.gz" in caught.value.found
    for path in (labels / "sub-03" / "anat").iterdir():
        path.unlink()
    spec = DatasetSpec(exclude={"sub-01": "no grey matter", "sub-02": "not annotated"})
    assert [case.id for case in open_dataset(tmp_path, spec, None).cases] == ["sub-04"]


def test_manual_masks_go_before_automatic_ones(tmp_path):
    cord_set(tmp_path)
    for subject in ("sub-01", "sub-02", "sub-03"):
        mask(tmp_path, subject, "T2w_seg", LESION, pipeline="automatic")
    dataset = open_dataset(tmp_path, None, None)
    assert "seg-manual" in dataset.cases[0].labels[0]
    mask(tmp_path, "sub-01", "T2w_seg-manual", LESION, pipeline="second")
    with pytest.raises(DatasetError, match="two masks seg of sub-01"):
        open_dataset(tmp_path, None, None)


def test_points_and_other_derivatives_are_left_aside(tmp_path):
    cord_set(tmp_path)
    mask(tmp_path, "sub-01", "T2w_labels-disc-manual", GREY)
    mask(tmp_path, "sub-01", "space-MNI_desc-preproc_T2w", GREY)
    assert len(open_dataset(tmp_path, None, None).cases[0].labels) == 2


def test_participants_tell_sites_and_groups(tmp_path):
    cord_set(tmp_path)
    rows = [
        "participant_id\tsite\tfamily",
        "sub-01\tnorth\tA",
        "sub-02\tsouth\tA",
        "sub-03\tn/a\tB",
    ]
    (tmp_path / "participants.tsv").write_text("\n".join(rows))
    dataset = open_dataset(tmp_path, None, None)
    assert [case.site for case in dataset.cases] == ["north", "south", None]
    assert [case.group for case in dataset.cases] == ["sub-01", "sub-02", "sub-03"]
    families = open_dataset(tmp_path, DatasetSpec(group_by="family"), None)
    assert [case.group for case in families.cases] == ["A", "A", "B"]


def test_a_folder_without_masks_says_how_they_are_named(tmp_path):
    image(tmp_path, "sub-01", "T1w")
    (tmp_path / "derivatives").mkdir()
    with pytest.raises(DatasetError, match="no masks under") as caught:
        open_dataset(tmp_path, None, None)
    assert "-manual" in caught.value.expected


def test_subjects_without_derivatives_are_another_layout(tmp_path):
    image(tmp_path, "sub-01", "T1w")
    assert not bids.FORMAT.is_found(tmp_path)


def test_the_grey_matter_challenge_opens_as_it_lies_there(data):
    dataset = open_dataset(data / "gm_challenge", None, None)
    assert len(dataset.cases) == 8
    assert {region.name for region in dataset.labels.regions} == {"seg", "gmseg"}
    _, classes = read_case(dataset, dataset.cases[0])
    assert np.bincount(classes.ravel()).tolist()[1:] == [2889, 690]


TISSUES = CORD + GREY


def tissue_set(root):
    for subject in ("sub-01", "sub-02"):
        image(root, subject, "T2w")
        mask(root, subject, "desc-tissue_dseg", TISSUES)
    return root / "derivatives"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("desc-tissue_dseg.tsv", "index\tname\n0\tbg\n1\twhite\n2\tgrey\n7\tnowhere\n"),
        ("labels/sub-01/anat/sub-01_desc-tissue_dseg.tsv", "index\tname\n1\twhite\n2\tgrey\n"),
        ("labels/dseg.tsv", "index\tcolor\tname\n1\t#fff\twhite\n2\t#000\tgrey\n"),
        ("desc-tissue_dseg.json", '{"LabelMap": {"1": "white", "2": "grey"}}'),
        ("dseg.json", '{"Sources": ["x"], "labels": {"white": 1, "grey": 2}}'),
    ],
)
def test_a_table_names_the_values_of_maps(tmp_path, place, text):
    path = tissue_set(tmp_path) / place
    path.write_text(text)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.names == ("background", "white", "grey")
    assert dataset.labels.values == (0, 1, 2)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("desc-lesion_dseg.tsv", "index\tname\n1\twhite\n2\tgrey\n"),
        ("dseg.tsv", "index\tname\n1\tsame\n2\tsame\n"),
        ("dseg.tsv", "index\tname\none\twhite\n"),
        ("dseg.json", '{"Manual": true}'),
        ("dseg.json", "no JSON"),
    ],
)
def test_tables_of_something_else_name_nothing(tmp_path, place, text):
    (tissue_set(tmp_path) / place).write_text(text)
    labels = open_dataset(tmp_path, None, None).labels
    assert labels.names == ("background", "class_1", "class_2")


def test_a_mask_that_one_case_lacks_does_not_change_what_the_masks_are(tmp_path):
    path = cord_set(tmp_path) / "derivatives" / "labels" / "sub-01" / "anat"
    (path / "sub-01_T2w_seg-manual.nii.gz").unlink()
    with pytest.raises(DatasetProblems) as caught:
        open_dataset(tmp_path, None, None)
    assert [problem.case for problem in caught.value.findings] == ["sub-01"]
    dataset = open_dataset(tmp_path, DatasetSpec(exclude={"sub-01": "no cord"}), None)
    assert {region.name for region in dataset.labels.regions} == {"seg", "gmseg"}
