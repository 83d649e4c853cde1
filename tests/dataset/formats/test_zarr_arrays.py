import numpy as np
import pytest

from autoseg.dataset import big
from autoseg.dataset.case import inspect_case, read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import zarr_arrays
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.fingerprint.measure import measure_case
from autoseg.fingerprint.measure_big import measure
from autoseg.runtime.crop import box_slices

zarr = pytest.importorskip("zarr", reason="needs the extra zarr")

SCALE = {"t": 1.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
KINDS = {"t": "time", "c": "channel"}


def numbers(shape, kind: type[np.generic] = np.uint16, high=200):
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


def write_ome(path, array, axes, *, unit: str | None = "micrometer", version="0.4"):
    """Write an OME-Zarr image with two levels."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for name, level in (("0", array), ("1", array[..., ::2])):
        group.create_array(name, shape=level.shape, dtype=level.dtype, chunks=level.shape)[:] = (
            level
        )
    entries = [
        {"name": axis, "type": KINDS.get(axis, "space")}
        | ({"unit": unit} if unit and axis not in KINDS else {})
        for axis in axes
    ]
    scale = {"type": "scale", "scale": [SCALE[axis] for axis in axes]}
    datasets = [{"path": name, "coordinateTransformations": [scale]} for name in ("0", "1")]
    multiscales = [{"version": version, "axes": entries, "datasets": datasets}]
    if version == "0.5":
        group.attrs["ome"] = {"version": version, "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = multiscales


def write_plain(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    zarr.create_array(str(path), shape=array.shape, dtype=array.dtype, **options)[...] = array


def write_folder(root, array, labels, **options):
    for index in range(2):
        write_plain(root / f"images/case{index}.zarr", array, **options)
        write_plain(root / f"labels/case{index}.zarr", labels)
    return root


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_axes_and_scale_of_ome_zarr_give_channels_and_spacing(tmp_path, version):
    array, labels = numbers((1, 2, 3, 8, 10)), numbers((3, 8, 10), np.uint8, 3)
    for index in range(2):
        path = tmp_path / f"case{index}.ome.zarr"
        write_ome(path, array, "tczyx", version=version)
        write_ome(path / "labels/nuclei", labels, "zyx", version=version)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.layout == "zarr"
    assert [case.id for case in dataset.cases] == ["case0", "case1"]
    assert dataset.channels == ("channel_0", "channel_1")
    image, classes = read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(image.array, array[0])
    np.testing.assert_array_equal(classes, labels)
    assert image.geometry.unit == "mm"
    assert image.geometry.spacing == pytest.approx((0.002, 0.0005, 0.00025))


def test_the_extent_is_read_from_metadata_alone(tmp_path):
    root = write_folder(tmp_path, numbers((4, 3, 8, 10)), numbers((3, 8, 10), np.uint8, 2))
    dataset = open_dataset(root, None, None)
    for chunk in (root / "images/case0.zarr/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    extent = find_format("zarr").read_extent(dataset, dataset.cases[0])
    assert (extent.num_channels, extent.shape) == (4, (3, 8, 10))
    _, _, findings = inspect_case(dataset, dataset.cases[0])
    assert "images/case0.zarr cannot be read" in findings[0].found


@pytest.mark.parametrize(
    ("shape", "channels", "space"),
    [
        ((12,), 1, (12,)),
        ((6, 8), 1, (6, 8)),
        ((3, 6, 8), 1, (3, 6, 8)),
        ((2, 3, 6, 8), 2, (3, 6, 8)),
    ],
)
def test_plain_arrays_have_channels_from_four_axes_on(tmp_path, shape, channels, space):
    write_folder(tmp_path, numbers(shape), numbers(space, np.uint8, 2))
    dataset = open_dataset(tmp_path, None, None)
    image, classes = read_case(dataset, dataset.cases[0])
    assert image.array.shape == (channels, *space)
    assert image.geometry.unit == "pixel"
    assert classes.shape == space
    assert measure_case(dataset, dataset.cases[0]).stats is not None


def test_names_of_axes_tell_channels_of_plain_arrays(tmp_path):
    array = numbers((6, 8, 2))
    write_folder(tmp_path, array, numbers((6, 8), np.uint8, 2), dimension_names=("y", "x", "c"))
    dataset = open_dataset(tmp_path, None, None)
    image, _ = read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))


def test_a_depth_of_one_slice_is_no_axis(tmp_path):
    for index in range(2):
        path = tmp_path / f"images/case{index}.zarr"
        write_ome(path, numbers((1, 1, 1, 6, 8)), "tczyx", unit=None)
        write_ome(path / "labels/a", numbers((1, 1, 1, 6, 8), np.uint8, 2), "tczyx", unit=None)
    dataset = open_dataset(tmp_path, None, None)
    image, _ = read_case(dataset, dataset.cases[0])
    assert image.array.shape == (1, 6, 8)
    assert (image.geometry.unit, image.geometry.spacing) == ("pixel", (0.5, 0.25))


def test_several_time_points_are_refused(tmp_path):
    path = tmp_path / "images/a.zarr"
    write_ome(path, numbers((3, 1, 2, 6, 8)), "tczyx")
    write_ome(path / "labels/a", numbers((2, 6, 8), np.uint8, 2), "zyx")
    with pytest.raises(DatasetError, match=r"shape \(3, 1, 2, 6, 8\) with the axes t, c, z, y, x"):
        open_dataset(tmp_path, None, None)


def test_several_label_images_need_a_name(tmp_path):
    for name in ("a", "b"):
        path = tmp_path / f"{name}.zarr"
        write_ome(path, numbers((6, 8)), "yx")
        for index, labels in enumerate(("cells", "nuclei")):
            write_ome(path / f"labels/{labels}", numbers((6, 8), np.uint8, 3 + index), "yx")
    with pytest.raises(DatasetError, match=r"a\.zarr: several label images \(cells, nuclei\)"):
        open_dataset(tmp_path, None, None)
    spec = DatasetSpec(layout="zarr", masks="labels/nuclei")
    assert len(open_dataset(tmp_path, spec, None).labels.names) == 4


def test_instances_become_foreground_by_a_threshold(tmp_path):
    write_folder(tmp_path, numbers((20, 20)), np.arange(400, dtype=np.int32).reshape(20, 20))
    with pytest.raises(DatasetError, match="400 different values"):
        open_dataset(tmp_path, None, None)
    dataset = open_dataset(tmp_path, DatasetSpec(threshold=1), None)
    _, classes = read_case(dataset, dataset.cases[0])
    assert classes.sum() == 399


def test_stores_without_partner_are_all_named(tmp_path):
    write_folder(tmp_path, numbers((6, 8)), numbers((6, 8), np.uint8, 2))
    (tmp_path / "labels/case0.zarr").rename(tmp_path / "labels/other.zarr")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, None, None)
    assert "images/case0.zarr: no labels" in caught.value.found
    assert "labels/other.zarr: no image" in caught.value.found


def test_what_is_no_array_is_named(tmp_path):
    write_folder(tmp_path, numbers((6, 8)), numbers((6, 8), np.uint8, 2))
    for path in sorted((tmp_path / "images/case0.zarr").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    dataset = open_dataset(tmp_path, DatasetSpec(channels=("a",), labels={"b": 0, "c": 1}), None)
    _, _, findings = inspect_case(dataset, dataset.cases[0])
    assert "case0.zarr cannot be read" in findings[0].found


def test_folders_of_other_files_are_not_taken(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes(b"")
    assert not zarr_arrays.is_found(tmp_path)


def test_labels_of_equal_channels_are_one_map_and_others_are_refused(tmp_path):
    for name, mask in (("a", np.ones((2, 3, 4, 5))), ("b", np.eye(2, 3)[..., None, None])):
        labels = np.broadcast_to(mask, (2, 3, 4, 5)).astype(np.uint8)
        write_folder(tmp_path / name, numbers((3, 4, 5)), labels)
    spec = DatasetSpec(labels={"background": 0, "x": 1})
    dataset = open_dataset(tmp_path / "a", spec, None)
    assert read_case(dataset, dataset.cases[0])[1].all()
    dataset = open_dataset(tmp_path / "b", spec, None)
    with pytest.raises(DatasetError, match="2 different channels"):
        read_case(dataset, dataset.cases[0])


@pytest.mark.parametrize("axes", ["czyx", "zcyx", "yx", "tczyx"])
def test_boxes_are_read_from_their_chunks(tmp_path, axes, monkeypatch):
    monkeypatch.setattr(big, "BIG_BYTES", 100)
    sizes = {"t": 1, "c": 2, "z": 6, "y": 20, "x": 24}
    shape = [sizes[axis] for axis in axes]
    array = numbers(shape)
    labels = numbers([sizes[axis] for axis in axes if axis in "zyx"], np.uint8, 3)
    for index in range(2):
        path = tmp_path / f"case{index}.ome.zarr"
        write_ome(path, array, axes)
        write_ome(path / "labels" / "cells", labels, [a for a in axes if a in "zyx"])
    dataset = open_dataset(tmp_path, None, None)
    image, classes, findings = inspect_case(dataset, dataset.cases[0])
    found = big.open_big(dataset, dataset.cases[0])
    assert found is not None
    assert list(found.findings) == findings == []
    assert image is not None
    assert classes is not None
    assert found.image is not None
    assert found.classes is not None
    assert found.image.geometry == image.geometry
    box = tuple((n // 4, n - 1) for n in image.shape)
    inside = box_slices(box)
    np.testing.assert_array_equal(found.image.read(box), image.array[(slice(None), *inside)])
    np.testing.assert_array_equal(found.classes.read(box)[0], classes[inside])
    stats = [read(dataset, dataset.cases[0]).stats for read in (measure, measure_case)]
    assert stats[1] is not None
    assert stats[0] == stats[1].revised(class_widths=(), class_lengths=())
