"""Small data sets in the layouts that are read, made by code: two classes, a few cases.

Letters in shapes: S spatial axes.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.formats.extras import load_package
from autoseg.runtime.images import Geometry, Image, write_image, write_labels
from autoseg.seeds import stream
from autoseg.testing.synthetic import Style, draw_balls, draw_rings, paint

NUM_CASES = 4
PICTURE, VOLUME = (24, 28), (8, 12, 10)
SPACING_MM = (3.0, 1.0, 1.5)


class Drawn(NamedTuple):
    """A case before it is written."""

    number: int
    image: Image
    """(1, *S) uint8."""
    labels: NDArray[np.uint8]
    """(*S): 0, 1 and 2."""


def draw(shape: tuple[int, ...]) -> Iterator[Drawn]:
    """Yield `NUM_CASES` cases, the same in every run: pictures of rings, or volumes of balls."""
    is_volume = len(shape) == 3
    spacing = SPACING_MM if is_volume else (1.0,) * len(shape)
    style = Style(shape=shape, spacing=spacing, num_classes=3)
    for index in range(NUM_CASES):
        rng = stream(0, "layouts", index)
        labels = (draw_balls if is_volume else draw_rings)(rng, style)
        array = np.clip(paint(rng, labels, 1), 0, 255).astype(np.uint8)
        geometry = Geometry(spacing, unit="mm" if is_volume else "pixel")
        yield Drawn(index + 1, Image(array, geometry), labels)


def write_nnunet(root: Path) -> None:
    """Write nnU-Net's raw folder: two channels a case."""
    for number, image, labels in draw(VOLUME):
        for channel in range(2):
            write_image(root / "imagesTr" / f"ball_{number:03d}_{channel:04d}.nii.gz", image)
        write_labels(root / "labelsTr" / f"ball_{number:03d}.nii.gz", labels, image.geometry)
    _write_json(
        root / "dataset.json",
        {
            "channel_names": {"0": "T1", "1": "T2"},
            "labels": {"background": 0, "small": 1, "bright": 2},
            "numTraining": NUM_CASES,
            "file_ending": ".nii.gz",
        },
    )


def write_msd(root: Path) -> None:
    """Write a task of the Medical Segmentation Decathlon: two channels on a fourth axis."""
    training = []
    for number, image, labels in draw(VOLUME):
        both = Image(np.concatenate([image.array, image.array]), image.geometry)
        name = f"ball_{number}.nii.gz"
        write_image(root / "imagesTr" / name, both)
        write_labels(root / "labelsTr" / name, labels, image.geometry)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    _write_json(
        root / "dataset.json",
        {
            "name": "balls",
            "modality": {"0": "T2", "1": "ADC"},
            "labels": {"0": "background", "1": "small", "2": "bright"},
            "numTraining": NUM_CASES,
            "training": training,
            "test": [],
        },
    )


def write_datalist(root: Path) -> None:
    """Write a MONAI data list, with folds."""
    training = []
    for number, image, labels in draw(VOLUME):
        write_image(root / "scans" / f"{number}.nii.gz", image)
        write_labels(root / "truth" / f"{number}.nii.gz", labels, image.geometry)
        entry = {"image": f"scans/{number}.nii.gz", "label": f"truth/{number}.nii.gz"}
        training.append({**entry, "fold": number % 2})
    _write_json(root / "datalist.json", {"training": training})


def write_table(root: Path) -> None:
    """Write a table of paths, with groups."""
    rows = ["image,label,group"]
    for number, image, labels in draw(PICTURE):
        write_image(root / "pictures" / f"a{number}.png", image)
        write_labels(root / "drawn" / f"a{number}.png", labels, image.geometry)
        rows.append(f"pictures/a{number}.png,drawn/a{number}.png,patient{number // 2}")
    (root / "cases.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def write_folders(root: Path) -> None:
    """Write images/ and masks/ with files of equal names."""
    for number, image, labels in draw(PICTURE):
        write_image(root / "images" / f"ring_{number}.png", image)
        write_labels(root / "masks" / f"ring_{number}.png", labels, image.geometry)


def write_related_names(root: Path) -> None:
    """Write images/ and masks/ whose files have names that are related but not equal."""
    for number, image, labels in draw(PICTURE):
        write_image(root / "images" / f"{number + 20}_training.tif", image)
        mask = (labels > 0) * 255
        write_labels(root / "1st_manual" / f"{number + 20}_manual1.gif", mask, image.geometry)


def write_stems(root: Path) -> None:
    """Write image and mask in one folder with one stem."""
    for number, image, labels in draw(PICTURE):
        _write_jpeg(root / f"ring{number}.jpg", image)
        write_labels(root / f"ring{number}.png", labels, image.geometry)


def write_bids(root: Path) -> None:
    """Write a BIDS data set with two nested masks a case under derivatives."""
    _write_json(root / "dataset_description.json", {"Name": "balls", "BIDSVersion": "1.8.0"})
    for number, image, labels in draw(VOLUME):
        name = f"sub-{number:02d}_T2w"
        write_image(root / f"sub-{number:02d}" / "anat" / f"{name}.nii.gz", image)
        folder = root / "derivatives" / "labels" / f"sub-{number:02d}" / "anat"
        inner = labels == 2
        outer = labels > 0
        write_labels(folder / f"{name}_seg-manual.nii.gz", outer * 1, image.geometry)
        write_labels(folder / f"{name}_gmseg-manual.nii.gz", inner * 1, image.geometry)


def write_instances(root: Path) -> None:
    """Write one folder a case, with a mask an object."""
    for number, image, labels in draw(PICTURE):
        folder = root / f"{number:08x}"
        write_image(folder / "images" / f"{number:08x}.png", image)
        for value in (1, 2):
            mask = (labels == value) * 255
            write_labels(folder / "masks" / f"{number}{value}.png", mask, image.geometry)


def write_class_folders(root: Path) -> None:
    """Write one folder a class, and one of healthy images with empty masks."""
    for number, image, labels in draw(PICTURE):
        for name, value in (("Break", 1), ("Crack", 2), ("Free", 3)):
            stem = root / name / "Imgs" / f"exp{number}_{value}"
            _write_jpeg(stem.with_suffix(".jpg"), image)
            write_labels(stem.with_suffix(".png"), (labels == value) * 255, image.geometry)


def write_coco(root: Path) -> None:
    """Write pictures with polygons in the form of COCO."""
    images, annotations = [], []
    for number, image, _ in draw(PICTURE):
        name = f"{number:012d}.png"
        write_image(root / "images" / name, image)
        images.append({"id": number, "file_name": name, "height": PICTURE[0], "width": PICTURE[1]})
        for category in (1, 2):
            low, high = 2 + 10 * (category - 1), 9 + 10 * (category - 1)
            corners = [low, low, high, low, high, high, low, high]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": category,
                    "segmentation": [corners],
                    "bbox": [low, low, high - low, high - low],
                    "area": (high - low) ** 2,
                    "iscrowd": 0,
                }
            )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    _write_json(root / "annotations.json", content)


def write_signals(root: Path) -> None:
    """Write images/ and labels/ with tables of two channels, one row a sample."""
    for index in range(NUM_CASES):
        rng = stream(0, "layouts", "signal", index)
        labels = np.zeros(120, np.uint8)
        labels[20 + index : 40], labels[60 : 90 + index] = 1, 2
        signal = np.stack([labels * 3.0, -labels * 1.0]) + rng.normal(0, 0.1, (2, 120))
        for name, columns in (("images", signal.T), ("labels", labels[:, None])):
            (root / name).mkdir(exist_ok=True)
            kind = "%d" if name == "labels" else "%.6g"
            np.savetxt(root / name / f"beat{index}.csv", columns, fmt=kind, delimiter=",")


def write_zarr(root: Path) -> None:
    """Write images/ and labels/ with Zarr arrays."""
    zarr = load_package("zarr", "zarr")
    for number, image, labels in draw(VOLUME):
        for name, array in (("images", image.array[0]), ("labels", labels)):
            (root / name).mkdir(exist_ok=True)
            place = str(root / name / f"ball{number}.zarr")
            zarr.create_array(place, shape=array.shape, dtype=array.dtype)[...] = array


def write_dicom(root: Path) -> None:
    """Write a folder with a DICOM series for each case, and labels as NIfTI files."""
    pydicom = load_package("pydicom", "dicom")
    for number, image, labels in draw(VOLUME):
        for index, pixels in enumerate(image.array[0]):
            _write_slice(pydicom, root / "images" / f"scan{number}", number, index, pixels)
        geometry = Geometry(SPACING_MM, (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
        write_labels(root / "labels" / f"scan{number}.nii.gz", labels, geometry)


def _write_slice(
    pydicom: ModuleType, folder: Path, number: int, index: int, pixels: NDArray[np.uint8]
) -> None:
    """Write one slice of a series of MR images."""
    uid = f"1.2.3.{number}"
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": f"{uid}.{index + 1}",
        "Modality": "MR",
        "StudyInstanceUID": "1.2.3",
        "FrameOfReferenceUID": uid,
        "SeriesInstanceUID": uid,
        "PatientID": f"patient {number}",
        "InstanceNumber": index + 1,
        "ImagePositionPatient": [0.0, 0.0, index * SPACING_MM[0]],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": list(SPACING_MM[1:]),
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": pixels.astype("<u2").tobytes(),
    }
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.MediaStorageSOPClassUID = values["SOPClassUID"]
    made.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"]
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    for name, value in values.items():
        setattr(made, name, value)
    folder.mkdir(parents=True, exist_ok=True)
    made.save_as(folder / f"{index:03d}.dcm", enforce_file_format=True)


def _write_jpeg(path: Path, image: Image) -> None:
    from PIL import Image as Pillow

    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image.array[0]).save(path)


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


LAYOUTS: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {
        "nnunet": write_nnunet,
        "msd": write_msd,
        "datalist": write_datalist,
        "table": write_table,
        "bids": write_bids,
        "instances": write_instances,
        "class_folders": write_class_folders,
        "signals": write_signals,
        "coco": write_coco,
        "folders": write_folders,
        "stems": write_stems,
    }
)
"""A maker of a folder for each format that needs no extra package, by the format's name."""
EXTRA_LAYOUTS: Mapping[str, Callable[[Path], None]] = MappingProxyType(
    {"zarr": write_zarr, "dicom": write_dicom}
)
"""The same for formats that need the extra of their name."""
