import json

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.files import foreground
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.runtime.images import Geometry, Image, write_image

SHAPE = (4, 6, 6)
LABELS: dict[str, int | tuple[int, ...] | str] = {"background": 0, "x": 1}
BY_CLASS = {"images": ("images/{case}.nii.gz",), "masks": {"x": "masks/{case}.nii.gz"}}


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = array if array.ndim > 3 else array[None]
    write_image(path, Image(channels, Geometry((1.0,) * 3)))


def volumes(root, mask):
    """Write two cases with the same mask."""
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    for case_id in ("a", "b"):
        write(root / "images" / f"{case_id}.nii.gz", image)
        write(root / "masks" / f"{case_id}.nii.gz", mask)
    return root


def pictures(root, *masks):
    for index, mask in enumerate(masks):
        for folder, array in (
            (("images", np.arange(36, dtype=np.uint8).reshape(6, 6))),
            ("masks", mask),
        ):
            (root / folder).mkdir(exist_ok=True)
            Pillow.fromarray(array).save(root / folder / f"{index}.png")
    return root


def box(*values, kind=np.float32):
    """Return a mask with a plane of each value."""
    array = np.zeros(SHAPE, kind)
    for index, value in enumerate(values):
        array[index] = value
    return array


def first(root, **fields):
    """Return what a plane of each shows."""
    dataset = open_dataset(root, DatasetSpec(**fields), None)
    classes = read_case(dataset, dataset.cases[0])[1]
    return classes.reshape(len(classes), -1).max(axis=1).tolist()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ((0, 1), [0, 1, 0, 0]),
        ((0, 255), [0, 1, 0, 0]),
        ((0, 1.0001, 0.9999), [0, 1, 1, 0]),
        ((0.2, 0.6, 1), [0, 1, 1, 0]),
        ((-0.04, 0.7, 1.03), [0, 1, 1, 0]),
    ],
)
def test_binary_masks_show_one_value_or_fractions(tmp_path, values, shown):
    assert first(volumes(tmp_path, box(*values)), **BY_CLASS) == shown


@pytest.mark.parametrize("values", [(0, 1, 2, 3), (1, 2, 1, 2), (0, -1, 0, 0), (0, 1, 127.0001)])
def test_a_map_of_values_among_binary_masks_is_refused(tmp_path, values):
    with pytest.raises(DatasetError, match=r"masks/a\.nii\.gz: .*values.*") as caught:
        first(volumes(tmp_path, box(*values)), **BY_CLASS)
    assert '"threshold": 1' in caught.value.fix


def test_a_declared_threshold_makes_a_map_binary(tmp_path):
    root = volumes(tmp_path, box(0, 1, 2, 3))
    assert first(root, **BY_CLASS, threshold=1.0) == [0, 1, 1, 1]
    assert first(root, **BY_CLASS, threshold=2.5) == [0, 0, 0, 1]


def test_fractions_beyond_one_need_a_threshold(tmp_path):
    root = volumes(tmp_path, box(0, 3.7, 40.2, 80.5))
    with pytest.raises(DatasetError) as caught:
        first(root, **BY_CLASS)
    assert '"threshold": 40.25' in caught.value.fix
    assert first(root, **BY_CLASS, threshold=40.25) == [0, 0, 0, 1]


def test_zeros_and_ones_among_masks_that_are_cut_far_above_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="0 and 1"):
        first(volumes(tmp_path, box(0, 1)), labels=LABELS, threshold=128.0)
    assert not foreground(tmp_path, np.zeros((1, *SHAPE)), 128).any()


@pytest.mark.parametrize(
    "fields",
    [
        {"labels": LABELS},
        {"labels": LABELS, "threshold": 0.5},
        {"labels": LABELS, "fixes": ("round_labels",)},
        BY_CLASS,
        BY_CLASS | {"threshold": 0.5},
    ],
)
def test_nan_in_masks_is_no_background(tmp_path, fields):
    with pytest.raises(DatasetError, match="NaN or infinite values"):
        first(volumes(tmp_path, box(0, 1, np.nan)), **fields)


def test_nan_in_masks_with_a_channel_a_class_is_no_background(tmp_path):
    mask = np.stack([box(1, 0, 1, 1), box(0, 1, 0, 0)])
    labels = {**LABELS, "y": 2}
    assert first(volumes(tmp_path, mask), labels=labels, channels=("MRI",)) == [1, 2, 1, 1]
    mask[0, 3] = np.nan
    write(tmp_path / "masks" / "b.nii.gz", mask)
    dataset = open_dataset(tmp_path, DatasetSpec(labels=labels), None)
    with pytest.raises(DatasetError, match="NaN or infinite values"):
        read_case(dataset, dataset.cases[1])


def test_a_threshold_counts_in_every_channel(tmp_path):
    grey = np.zeros((6, 6, 3), np.uint8)
    grey[:3] = 200
    green = np.zeros((6, 6, 3), np.uint8)
    green[:3, :, 1] = 200
    dataset = open_dataset(
        pictures(tmp_path, grey, green), DatasetSpec(threshold=128.0, labels=LABELS), None
    )
    assert [int(read_case(dataset, case)[1].sum()) for case in dataset.cases] == [18, 18]


def test_rounding_does_not_drop_channels(tmp_path):
    mask = np.stack([box(0, 0.0), box(0, 0.9)])
    with pytest.raises(DatasetError, match="2 different channels"):
        first(volumes(tmp_path, mask), labels=LABELS, fixes=("round_labels",))
    root = volumes(tmp_path, np.stack([box(0, 0.9)] * 2))
    assert first(root, labels=LABELS, fixes=("round_labels",)) == [0, 1, 0, 0]


def test_a_threshold_gives_the_values_of_the_declared_classes(tmp_path):
    mask = np.zeros((6, 6), np.uint8)
    mask[2], mask[3] = 90, 255
    root = pictures(tmp_path, mask)
    dataset = open_dataset(
        root, DatasetSpec(threshold=128.0, labels={"background": 7, "x": 255}), None
    )
    assert dataset.labels.values == (7, 255)
    assert int(read_case(dataset, dataset.cases[0])[1].sum()) == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (BY_CLASS | {"label_map": {"1": 0}}, "label_map .* binaries"),
        ({"label_map": {"1": 0}, "labels": {"a": "#000000", "b": "#ffffff"}}, "label_map .* col"),
        ({"threshold": 1.0, "labels": {"a": "#000000", "b": "#ffffff"}}, "threshold .* colours"),
        ({"threshold": 1.0, "labels": LABELS | {"y": 2}}, "threshold .* 3 classes"),
        ({"threshold": 1.0, "labels": LABELS, "label_map": {"0": 1, "1": 0}}, "threshold .*_map"),
    ],
)
def test_fields_that_exclude_each_other_are_refused(tmp_path, fields, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(volumes(tmp_path, box(0, 1)), DatasetSpec(**fields), None)


def test_a_map_that_says_what_the_threshold_says_is_allowed(tmp_path):
    root = volumes(tmp_path, box(0, 200, 255))
    declared = json.loads('{"threshold": 128, "label_map": {"255": 1}, "labels": {"b": 0, "x": 1}}')
    assert first(root, **declared) == [0, 1, 1, 0]
