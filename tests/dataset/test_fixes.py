import json
import re
import time

import numpy as np
import pytest

from autoseg.dataset.case import inspect_case
from autoseg.dataset.dataset import DatasetSpec, Finding
from autoseg.dataset.fixes import grey_threshold, with_fixes
from autoseg.dataset.grids import box_overlap
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.testing.synthetic import write_rings, write_spheres

SHAPE = (12, 14, 16)
EYE = tuple(float(value) for value in np.eye(3).ravel())


def geometry(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=EYE):
    return Geometry(spacing, origin, direction)


@pytest.fixture
def root(tmp_path):
    return write_spheres(tmp_path / "a", num_cases=2, seed=0, shape=SHAPE)


def put(root, image=None, labels=None):
    if image is not None:
        write_image(root / "imagesTr" / "case_000_0000.nii.gz", image)
    if labels is not None:
        array, place = labels
        path = root / "labelsTr" / "case_000.nii.gz"
        if array.dtype.kind == "f":
            write_image(path, Image(array[None], place))
        else:
            write_labels(path, array, place)


def inspect(root, **spec):
    dataset = open_dataset(root, DatasetSpec.model_validate(spec), None)
    return inspect_case(dataset, dataset.cases[0])


def refused(root, **spec):
    """Return the only error of a case, which must have one."""
    image, classes, findings = inspect(root, **spec)
    assert image is None
    assert classes is None
    (error,) = [item for item in findings if item.severity == "error"]
    assert error.case == "case_000"
    return error


def mended(root, finding):
    """Return image, classes and the note of a case that is read with a finding's fix."""
    spec = with_fixes(DatasetSpec(), [finding])
    dataset = open_dataset(root, spec, None)
    image, classes, findings = inspect_case(dataset, dataset.cases[0])
    assert image is not None
    assert classes is not None
    assert all(item.severity == "note" for item in findings)
    return image, classes, findings


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_broken_voxels_become_the_smallest_of_their_channel(root, value):
    array = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE) - 5
    array[0, 3, 4, 5:8] = value
    put(root, image=Image(array, geometry()))
    error = refused(root)
    assert "3 of 2688 voxels" in error.found
    image, _, notes = mended(root, error)
    np.testing.assert_array_equal(image.array[0, 3, 4, 5:8], -5)
    assert np.count_nonzero(image.array != array) == 3
    assert image.array.dtype == np.float32
    assert "read as the smallest" in notes[0].found


def test_a_channel_without_any_number_cannot_be_mended(root):
    put(root, image=Image(np.full((1, *SHAPE), np.nan, np.float32), geometry()))
    assert refused(root).fix is None
    assert refused(root, fixes=("replace_nan",)).fix is None


def test_labels_of_half_the_resolution_are_laid_on_the_image(root):
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2, 3, 4] = 1
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    put(root, labels=(labels, geometry((2.0, 2.0, 2.0), (0.5, 0.5, 0.5))))
    error = refused(root)
    assert "12 x 14 x 16, the labels 6 x 7 x 8" in error.found
    _, classes, _ = mended(root, error)
    expected = np.zeros(SHAPE)
    expected[4:6, 6:8, 8:10] = 1
    np.testing.assert_array_equal(classes, expected)


def test_labels_that_were_cropped_lie_where_their_header_says(root):
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    put(root, labels=(np.ones((3, 4, 5), np.uint8), geometry(origin=(7.0, 6.0, 5.0))))
    _, classes, _ = mended(root, refused(root))
    expected = np.zeros(SHAPE)
    expected[5:8, 6:10, 7:12] = 1
    np.testing.assert_array_equal(classes, expected)


def test_labels_of_turned_axes_are_turned_back(root):
    turned = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # x and y swapped
    labels = np.zeros((12, 16, 14), np.uint8)
    labels[1, 2, 3] = 1
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    put(root, labels=(labels, geometry(direction=turned)))
    _, classes, _ = mended(root, refused(root))
    assert [int(n[0]) for n in np.nonzero(classes)] == [1, 3, 2]


def test_labels_elsewhere_are_not_moved(root):
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    put(root, labels=(np.ones((3, 4, 5), np.uint8), geometry(origin=(100.0, 0.0, 0.0))))
    assert refused(root).fix is None
    assert refused(root, fixes=("resample_labels",)).fix is None


def test_pictures_of_different_sizes_have_no_place_to_compare(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=2, seed=0, shape=(20, 20))
    write_labels(root / "masks" / "case_000.png", np.ones((10, 10), int), Geometry((1.0, 1.0)))
    assert refused(root).fix is None


def test_a_wrong_spacing_of_labels_gives_way_to_the_images(root):
    put(root, labels=(np.ones(SHAPE, np.uint8), geometry((2.0, 1.0, 1.0))))
    error = refused(root)
    assert "1 x 1 x 1 mm, the labels 2 x 1 x 1 mm" in error.found
    image, classes, _ = mended(root, error)
    assert image.geometry.spacing == (1.0, 1.0, 1.0)
    assert classes.all()


def test_broken_label_values_are_rounded(root):
    labels = np.zeros(SHAPE, np.float32)
    labels[3:6, 3:6, 3:6] = 0.8
    labels[4, 4, 4] = 1.1
    put(root, labels=(labels, Geometry((1.0, 1.0, 1.0))))
    error = refused(root)
    assert error.fix == {"fixes": ["round_labels"]}
    _, classes, _ = mended(root, error)
    assert int(classes.sum()) == 27


def test_255_for_1_is_read_as_1(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 3:6, 3:6] = 255
    put(root, labels=(labels, Geometry((1.0, 1.0, 1.0))))
    error = refused(root)
    assert error.fix == {"label_map": {"255": 1}}
    _, classes, _ = mended(root, error)
    assert int(classes.sum()) == 27


def test_values_that_mean_something_else_are_not_guessed(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 3:6, 3:6], labels[7] = 1, 2
    put(root, labels=(labels, Geometry((1.0, 1.0, 1.0))))
    assert refused(root).fix is None


def test_a_lone_value_that_is_not_white_is_not_taken_for_foreground(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:6, 3:6, 3:6] = 2
    put(root, labels=(labels, Geometry((1.0, 1.0, 1.0))))
    assert refused(root).fix is None


def test_255_is_not_mapped_where_a_file_has_1_beside_it():
    white, both = finding(label_map={"255": 1}), finding().revised(fix=None)
    assert with_fixes(DatasetSpec(), [white]).label_map == {"255": 1}
    assert with_fixes(DatasetSpec(), [white, both]).label_map is None


def test_mirrored_labels_are_refused_and_turned_losslessly(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 3:6, 1:5] = 1
    flipped = tuple(float(value) for value in np.diag((-1.0, 1.0, 1.0)).ravel())
    place = geometry(origin=(SHAPE[2] - 1.0, 0.0, 0.0), direction=flipped)
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    put(root, labels=(labels[:, :, ::-1], place))
    error = refused(root)
    assert "mirrored" in error.found
    assert error.fix == {"fixes": ["resample_labels"]}
    _, classes, _ = mended(root, error)
    np.testing.assert_array_equal(classes, labels)
    _, copied, _ = inspect(root, fixes=("copy_geometry",))
    np.testing.assert_array_equal(copied, labels[:, :, ::-1])


def test_mirrored_labels_without_a_place_are_not_turned_by_themselves(root):
    flipped = tuple(float(value) for value in np.diag((-1.0, 1.0, 1.0)).ravel())
    place = geometry(origin=(SHAPE[2] - 1.0, 0.0, 0.0), direction=flipped)
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), place))
    put(root, labels=(np.ones(SHAPE, np.uint8), geometry()))
    error = refused(root)
    assert error.fix is None
    assert "copy_geometry" in error.remedy


def test_smooth_edges_of_declared_masks_are_cut(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:9, 3:9, 3:9] = 255
    labels[3, 3, 3:9] = (30, 90, 130, 200, 250, 254)
    put(root, labels=(labels, Geometry((1.0, 1.0, 1.0))))
    error = refused(root)
    assert error.fix == {"threshold": 128.0}
    _, classes, _ = mended(root, error)
    assert int(classes.sum()) == 216 - 2


@pytest.mark.parametrize(
    ("distance", "turn", "severities"),
    [
        (0.0, 0.0, []),
        (0.004, 0.0, []),
        (0.2, 0.0, ["note"]),
        (0.0, 0.005, ["note"]),
        (0.7, 0.0, ["warning"]),
        (0.0, 0.1, ["error"]),
    ],
)
def test_small_differences_of_position_are_a_note(root, distance, turn, severities):
    cosine, sine = np.cos(turn), np.sin(turn)
    direction = tuple(float(n) for n in (cosine, -sine, 0, sine, cosine, 0, 0, 0, 1))
    put(root, image=Image(np.ones((1, *SHAPE), np.float32), geometry()))
    place = geometry(origin=(distance, 0.0, 0.0), direction=direction)
    put(root, labels=(np.ones(SHAPE, np.uint8), place))
    image, _, findings = inspect(root)
    assert (image is None) == ("error" in severities)
    assert [item.severity for item in findings] == severities


def test_boxes_overlap_by_the_part_of_the_smaller_one():
    def image(shape, **place):
        return Image(np.zeros((1, *shape)), geometry(**place))

    whole = image((10, 10, 10))
    assert box_overlap(whole, whole) == 1
    assert box_overlap(whole, image((10, 10, 10), origin=(5.0, 0.0, 0.0))) == 0.5
    assert box_overlap(whole, image((2, 2, 2), origin=(3.0, 3.0, 3.0))) == 1
    assert box_overlap(whole, image((10, 10, 10), origin=(50.0, 0.0, 0.0))) == 0
    assert box_overlap(whole, Image(np.zeros((1, 10, 10, 10)), Geometry((1.0,) * 3))) == 0
    assert box_overlap(whole, image((5, 5, 5), spacing=(2.0, 2.0, 2.0))) >= 0.5


def threshold_of(counts):
    values = sorted(counts)
    return grey_threshold(np.array(values), np.array([counts[value] for value in values]))


@pytest.mark.parametrize(
    "counts",
    [
        {0: 900, 1: 9, 2: 3, 253: 3, 254: 9, 255: 300},  # stored as JPEG
        {0: 900, 64: 5, 90: 4, 128: 6, 150: 3, 191: 5, 200: 2, 254: 1, 255: 300},  # resized
    ],
)
def test_smoothed_masks_are_cut_in_the_middle(counts):
    assert threshold_of(counts) == 128


@pytest.mark.parametrize(
    "counts",
    [
        {0: 900, 255: 300},
        {0: 900, 1: 100, 255: 300},  # 255 is what is not annotated
        {**dict.fromkeys(range(21), 50), 255: 30},  # many classes, and the same
        {0: 900, 85: 100, 170: 100, 255: 100},  # classes in shades of grey
        {value: 10 for value in range(0, 256, 8)},  # instances
        {0: 900, 1: 10, 2: 10, 3: 10, 4: 10},
        {},
    ],
)
def test_classes_are_not_taken_for_smooth_edges(counts):
    assert threshold_of(counts) is None


def finding(**fix):
    return Finding(severity="error", found="a", expected="b", remedy="c", fix=fix)


def test_fixes_add_to_what_a_spec_says():
    spec = DatasetSpec(fixes=("replace_nan",), exclude={"a": "old"}, name="kept")
    found = with_fixes(
        spec,
        [
            finding(fixes=["round_labels"]),
            finding(fixes=["replace_nan"], label_map={"255": 1}),
            finding(exclude={"a": "new", "b": "new"}, threshold=128.0),
            finding(threshold=3.0),
        ],
    )
    assert found.name == "kept"
    assert found.fixes == ("replace_nan", "round_labels")
    assert found.label_map == {"255": 1}
    assert found.exclude == {"a": "old", "b": "new"}
    assert found.threshold == 128.0
    assert with_fixes(found, [finding(fixes=["round_labels"])]) == found


def test_an_unknown_field_of_a_fix_is_refused():
    with pytest.raises(Exception, match="thresh"):
        with_fixes(DatasetSpec(), [finding(thresh=3)])


def test_smoothed_masks_without_declared_labels_are_refused_with_the_cut(tmp_path):
    root = write_rings(tmp_path / "a", num_cases=2, seed=0, shape=(20, 20))
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 255
    mask[5, 5:10] = (3, 100, 160, 252, 254)
    for name in ("case_000.png", "case_001.png"):
        write_labels(root / "masks" / name, mask, Geometry((1.0, 1.0), unit="pixel"))
    with pytest.raises(DatasetError, match="near either end") as caught:
        open_dataset(root, None, None)
    assert "masks/case_000.png" in caught.value.found
    assert '"threshold": 128.0' in caught.value.fix
    dataset = open_dataset(root, DatasetSpec(threshold=128.0), None)
    assert dataset.labels.values == (0, 1)


def test_files_of_excluded_cases_need_not_pair(root):
    (root / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(DatasetError, match="case_001"):
        open_dataset(root, None, None)
    dataset = open_dataset(root, DatasetSpec(exclude={"case_001": "no labels"}), None)
    assert [case.id for case in dataset.cases] == ["case_000"]
    with pytest.raises(DatasetError, match="exclude: case_9"):
        open_dataset(root, DatasetSpec(exclude={"case_001": "", "case_9": ""}), None)


def test_the_remedy_of_a_stray_value_keeps_what_is_mapped_already(root):
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:8, 4:8, 4:8] = 5
    labels[0, 1, 2] = 7
    put(root, labels=(labels, geometry()))
    error = refused(root, label_map={"5": 1})
    assert "1 voxel of 2688, the first at 0, 1, 2 (ZYX)" in error.found
    (told,) = re.findall(r"declare ({.*?}}) in", error.remedy)
    _, classes, findings = inspect(root, **json.loads(told))
    assert findings == []
    assert classes is not None
    assert int(np.count_nonzero(classes)) == 64


def test_the_fixes_of_thousands_of_cases_are_joined_in_a_moment():
    def about(found, fix=None):
        return Finding(severity="error", found=found, expected="a", remedy="b", fix=fix)

    white = [about("values 255", {"label_map": {"255": 1}})] * 5_000
    strays = [about(f"values 7: 1 voxel, the first at {index}") for index in range(5_000)]
    start = time.process_time()
    assert with_fixes(DatasetSpec(), [*white, *strays]).label_map == {"255": 1}
    assert time.process_time() - start < 1  # comparing all with all takes 5 s
    unclear = about("values 255: 1 voxel, the first at 0")
    assert with_fixes(DatasetSpec(), [*white, unclear]).label_map is None
