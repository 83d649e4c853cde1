import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.check import headers
from autoseg.check.headers import check_headers
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.open import list_dataset
from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.testing.synthetic import write_rings

SPEC = DatasetSpec(labels={"background": 0, "a": 1}, channels=("x",))
SHAPE = (4, 10, 12)
LIMIT_S = 60.0
"""A quiet machine takes 4 s; tests share theirs."""
MEMORY_PER_CASE = 8_000
"""Bytes: names, ids and an extent; measured: 3,300."""


def looked(root, spec=SPEC):
    dataset, problems = list_dataset(root, spec, None)
    assert dataset is not None
    assert problems == []
    return check_headers(dataset, lambda _: None)


def texts(root, spec=SPEC):
    return [item.found for item in looked(root, spec)]


def store(path, shape):
    zarr = pytest.importorskip("zarr", reason="needs the extra zarr")
    path.parent.mkdir(parents=True, exist_ok=True)
    zarr.create_array(str(path), shape=shape, dtype="uint8")


def test_zarr_arrays_are_compared_by_their_metadata(tmp_path):
    for case in range(3):
        store(tmp_path / f"images/{case}.zarr", SHAPE)
        store(tmp_path / f"labels/{case}.zarr", (3, 10, 12) if case == 1 else SHAPE)
    (error,) = looked(tmp_path)
    assert error.found == "shapes 4 x 10 x 12 and 3 x 10 x 12"
    assert error.files == ("images/1.zarr", "labels/1.zarr")
    assert error.case == "1"


def test_broken_zarr_arrays_and_other_channels_are_told(tmp_path):
    for case in range(3):
        store(tmp_path / f"images/{case}.zarr", (2, *SHAPE) if case == 1 else SHAPE)
        store(tmp_path / f"labels/{case}.zarr", SHAPE)
    (tmp_path / "images/2.zarr/zarr.json").write_text("{")
    found = {item.case: item.found for item in looked(tmp_path)}
    assert found["1"] == "2 channels"
    assert "cannot be read" in found["2"]


def listed(root, heights):
    """Write a COCO file with pictures of 10 x 12, listed with other heights."""
    names = [f"{case}.png" for case in range(len(heights))]
    for name in names:
        Pillow.fromarray(np.zeros((10, 12), np.uint8)).save(root / name)
    images = [
        {"id": i, "file_name": name, "height": height, "width": 12}
        for i, (name, height) in enumerate(zip(names, heights, strict=True))
    ]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (root / "instances.json").write_text(json.dumps(content))


def test_coco_sizes_are_compared_with_the_images(tmp_path):
    listed(tmp_path, [10, 11, 10, 0])
    (error,) = looked(tmp_path, DatasetSpec(channels=("x",)))
    assert error.found == "shapes 10 x 12 and 11 x 12"
    assert error.case == "1"


def test_tables_of_signals_are_compared(tmp_path):
    for case in range(3):
        for folder, length in (("images", 30), ("labels", 29 if case == 2 else 30)):
            (tmp_path / folder).mkdir(exist_ok=True)
            rows = "\n".join(str(i % 2) for i in range(length))
            (tmp_path / folder / f"{case}.csv").write_text(rows)
    assert texts(tmp_path) == ["shapes 30 and 29"]


def write_series(folder, num_slices, rows=10):
    pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")
    for index in range(num_slices):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        item = pydicom.dataset.Dataset()
        item.file_meta = meta
        item.SOPClassUID, item.SOPInstanceUID = meta[0x00020002].value, meta[0x00020003].value
        item.SeriesInstanceUID, item.Modality, item.PatientID = "1.2", "CT", folder.name
        item.ImagePositionPatient = [0, 0, 3.0 * index]
        item.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        item.PixelSpacing, item.SliceThickness = [1.0, 1.0], 3.0
        item.Rows, item.Columns, item.SamplesPerPixel = rows, 12, 1
        item.BitsAllocated = item.BitsStored = 16
        item.HighBit, item.PixelRepresentation = 15, 0
        item.PhotometricInterpretation, item.InstanceNumber = "MONOCHROME2", index + 1
        item.PixelData = np.zeros((rows, 12), np.uint16).tobytes()
        folder.mkdir(parents=True, exist_ok=True)
        item.save_as(folder / f"{index}.dcm", enforce_file_format=True)


def test_dicom_series_are_compared_with_their_labels_whatever_the_order_of_axes(tmp_path):
    shapes = {"right": SHAPE, "turned": (10, 12, 4), "short": (3, 10, 12)}
    for name, shape in shapes.items():
        write_series(tmp_path / name, SHAPE[0])
        spacing = tuple(3.0 if n in (3, 4) else 1.0 for n in shape)
        write_labels(
            tmp_path / f"labels/{name}.nii.gz", np.zeros(shape, np.uint8), Geometry(spacing)
        )
    (error,) = looked(tmp_path)
    assert error.found == "shapes 4 x 10 x 12 and 3 x 10 x 12"
    assert error.case == "short"


def test_a_format_that_reads_no_extents_is_said(tmp_path, monkeypatch):
    root = write_rings(tmp_path / "rings", num_cases=2, seed=0)
    own = replace(find_format("folders"), read_image=lambda *_: None)
    monkeypatch.setattr(headers, "find_format", lambda _: own)
    (note,) = looked(root)
    assert note.severity == "note"
    assert "tell no sizes" in note.found


def test_spacings_of_pictures_are_not_held_against_those_of_volumes(tmp_path):
    for name, ending, geometry in (
        ("images", ".nii.gz", Geometry((0.5, 0.5), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))),
        ("masks", ".png", Geometry((1.0, 1.0), unit="pixel")),
    ):
        for case in range(2):
            array = np.zeros((1, 8, 9), np.uint8)
            write_image(tmp_path / name / f"{case}{ending}", Image(array, geometry))
    assert texts(tmp_path) == []


CHECK = """
import resource, sys, time
from autoseg.cli.main import main
start = time.perf_counter()
assert main(["check", sys.argv[1], "--headers"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, time.perf_counter() - start)
"""


def many(root, count):
    """Write one case, and its files again under other names: hard links take no time."""
    geometry = Geometry((1.0, 1.0, 1.0))
    array = np.zeros((4, 5, 6), np.uint8)
    write_image(root / "images" / "0.nii.gz", Image(array[None], geometry))
    write_labels(root / "labels" / "0.nii.gz", array, geometry)
    for folder in ("images", "labels"):
        for index in range(1, count):
            (root / folder / f"{index}.nii.gz").hardlink_to(root / folder / "0.nii.gz")
    return root


@pytest.mark.slow
def test_ten_thousand_cases_are_checked_in_seconds_and_little_memory(tmp_path):
    peaks = {}
    for count in (1_000, 10_000):
        root = many(tmp_path / str(count), count)
        command = [sys.executable, "-c", CHECK, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
        peak, seconds = map(float, done.stdout.splitlines()[-1].split())
        peaks[count] = peak
        assert seconds < LIMIT_S
    assert peaks[10_000] - peaks[1_000] < 9_000 * MEMORY_PER_CASE
