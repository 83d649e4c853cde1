import sys

import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import dicom
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.open import open_dataset
from autoseg.errors import DatasetError
from autoseg.fingerprint.measure import measure_case
from autoseg.runtime.images import Geometry, Image, write_labels

pydicom = pytest.importorskip("pydicom", reason="needs the extra dicom")

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
SHAPE = (5, 6, 8)
SPACING = (2.5, 0.7, 0.5)
GEOMETRY = Geometry(SPACING, (-10.0, -20.0, 30.0), tuple(np.eye(3).ravel()))


def header(sop_class, modality, **values):
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made = pydicom.Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.Modality = modality
    made.StudyInstanceUID = made.FrameOfReferenceUID = "1.2.3"
    made.PatientName, made.PatientBirthDate, made.PatientSex = "", "", ""
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName = "", "", ""
    made.StudyDate, made.StudyTime, made.SeriesNumber = "", "", 1
    for name, value in values.items():
        setattr(made, name, value)
    return made


def write_slice(path, pixels, place, *, series="1.2.3.4", patient="p", number=1, **values):
    made = header(
        CT_STORAGE,
        "CT",
        SeriesInstanceUID=series,
        SeriesDescription=f"series {series}",
        PatientID=patient,
        InstanceNumber=number,
        ImagePositionPatient=[*GEOMETRY.origin[:2], place],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[SPACING[1], SPACING[2]],
        SliceThickness=1.0,
        Rows=pixels.shape[0],
        Columns=pixels.shape[1],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        RescaleSlope=1,
        RescaleIntercept=-1000,
        PixelData=pixels.astype("<u2").tobytes(),
    )
    for name, value in values.items():
        setattr(made, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def voxels(seed=0):
    return np.random.default_rng(seed).integers(0, 2000, SHAPE)


def labels():
    return (np.arange(240).reshape(SHAPE) % 11 == 0).astype(np.uint8)


def write_series(folder, array, **values):
    """Write slices under names that say nothing of their order."""
    for index, pixels in enumerate(array):
        place = GEOMETRY.origin[2] + SPACING[0] * index
        name = f"{(index * 3) % len(array)}.dcm"
        write_slice(folder / name, pixels, place, number=index + 1, **values)


@pytest.fixture
def root(tmp_path):
    for index in range(3):
        write_series(tmp_path / f"case{index}", voxels(index), patient=f"p{index // 2}")
        write_labels(tmp_path / f"labels/case{index}.nii.gz", labels(), GEOMETRY)
    return tmp_path


def test_slices_are_sorted_by_position_and_rescaled(root):
    dataset = open_dataset(root, None, None)
    assert dataset.layout == "dicom"
    assert dataset.channels == ("CT",)
    assert dataset.file_ending == ".nii.gz"
    image, classes = read_case(dataset, dataset.cases[1])
    np.testing.assert_array_equal(image.array[0], voxels(1) - 1000)
    np.testing.assert_array_equal(classes, labels())
    assert image.geometry.spacing == pytest.approx(SPACING)
    assert image.geometry.origin == pytest.approx(GEOMETRY.origin)
    assert image.geometry.orientation == "LPS"


def test_cases_of_a_patient_are_a_group_without_the_patients_name(root):
    groups = [case.group for case in open_dataset(root, None, None).cases]
    assert groups == ["patient 1", "patient 1", "patient 2"]


def test_one_patient_for_all_tells_nothing(tmp_path):
    for index in range(2):
        write_series(tmp_path / f"images/case{index}", voxels(index))
        write_labels(tmp_path / f"images/case{index}/seg.nii.gz", labels(), GEOMETRY)
    dataset = open_dataset(tmp_path, None, None)
    assert [case.group for case in dataset.cases] == ["case0", "case1"]
    assert dataset.cases[0].labels == ("images/case0/seg.nii.gz",)


def test_the_extent_needs_no_voxels(root):
    dataset = open_dataset(root, None, None)
    extent = find_format("dicom").read_extent(dataset, dataset.cases[0])
    assert (extent.num_channels, extent.shape) == (1, SHAPE)
    assert extent.spacing == pytest.approx(SPACING)


def test_labels_of_converters_are_turned_onto_the_series(root):
    mirrored = labels()[:, ::-1]
    origin = (-10.0, -20.0 + 0.7 * (SHAPE[1] - 1), 30.0)
    turned = Geometry(SPACING, origin, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    write_labels(root / "labels/case0.nii.gz", mirrored, turned)
    dataset = open_dataset(root, None, None)
    _, classes = read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(classes, labels())


@pytest.mark.parametrize("seed", range(4))
def test_turning_moves_no_voxel_in_space(seed):
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], (1, 3))
    spacing, origin = rng.uniform(1, 3, 3), rng.normal(size=3)
    image = Image(
        rng.random((1, 3, 4, 5)), Geometry(tuple(spacing), tuple(origin), tuple(axes.ravel()))
    )
    found = dicom.turned(image, GEOMETRY)
    assert found.geometry.direction == GEOMETRY.direction
    for voxel in ((0, 0, 0), (1, 2, 0)):
        offset = np.array(voxel[::-1]) * found.geometry.spacing[::-1]
        index = axes.T @ (found.geometry.origin + offset - origin) / spacing[::-1]
        before = tuple(np.rint(index).astype(int)[::-1])
        assert found.array[0][voxel] == image.array[0][before]


def test_missing_slices_are_named_with_their_neighbours(root):
    (root / "case1/1.dcm").unlink()  # the third
    (root / "case2/0.dcm").unlink()  # the first: the rest is even
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, DatasetSpec(channels=("CT",)), None)
    assert "case1: missing slices: 5 mm instead of 2.5 mm between 3.dcm and 4.dcm" in (
        caught.value.found
    )
    assert "missing slices" not in caught.value.found.split("case2")[-1]


def test_several_series_are_listed(root):
    write_slice(root / "case0/scout.dcm", voxels()[0], 0.0, series="1.2.3.9")
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    assert "case0: 2 series" in caught.value.found
    assert "series 1.2.3.9 (number 1, 1 files such as scout.dcm)" in caught.value.found


def test_time_points_in_one_series_are_refused(root):
    write_series(root / "case0/later", voxels())
    with pytest.raises(DatasetError, match="5 slices at the position of another"):
        open_dataset(root, None, None)


def test_cases_that_make_no_sense_may_be_excluded(root):
    (root / "case1/1.dcm").unlink()
    dataset = open_dataset(root, DatasetSpec(exclude={"case1": "a slice is missing"}), None)
    assert [case.id for case in dataset.cases] == ["case0", "case2"]


def test_contours_are_no_labels_and_the_message_says_what_to_do(root):
    (root / "labels/case0.nii.gz").unlink()
    contours = header(RTSTRUCT_STORAGE, "RTSTRUCT", SeriesInstanceUID="1.2.3.8")
    contours.save_as(root / "case0/rs.dcm", enforce_file_format=True)
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    assert "case0: contours (RTSTRUCT) in rs.dcm" in caught.value.found
    assert "labels/case0.nii.gz" in caught.value.fix


def test_missing_and_double_labels_are_problems(root):
    (root / "labels/case0.nii.gz").unlink()
    write_labels(root / "case1/segmentation.nrrd", labels(), GEOMETRY)
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, None, None)
    assert "case0: no labels" in caught.value.found
    assert "case1: several label files" in caught.value.found


def test_a_broken_file_is_named(root):
    (root / "case0/1.dcm").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"case0/1\.dcm cannot be read"):
        open_dataset(root, None, None)


def test_single_pictures_have_two_axes_and_black_is_zero(tmp_path):
    pixels = voxels()[0]
    for index in range(2):
        path = tmp_path / f"images/x{index}.dcm"
        write_slice(
            path,
            pixels,
            0.0,
            patient=str(index),
            RescaleIntercept=0,
            PhotometricInterpretation=f"MONOCHROME{2 - index}",
        )
        write_labels(tmp_path / f"labels/x{index}.png", labels()[0], Geometry((1.0, 1.0)))
    dataset = open_dataset(tmp_path, None, None)
    image, classes = read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(image.array, pixels[None])
    assert classes.shape == pixels.shape
    assert image.geometry.spacing == pytest.approx(SPACING[1:])
    inverted, _ = read_case(dataset, dataset.cases[1])
    np.testing.assert_array_equal(inverted.array, 4095 - pixels[None])
    assert find_format("dicom").read_extent(dataset, dataset.cases[0]).shape == pixels.shape
    assert measure_case(dataset, dataset.cases[0]).stats is not None


def test_files_without_ending_are_told_by_their_first_bytes(root):
    for path in root.rglob("*.dcm"):
        path.rename(path.with_suffix(""))
    assert dicom.is_found(root)
    assert len(open_dataset(root, None, None).cases) == 3


def test_folders_of_pictures_are_no_series(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(b"")
    (tmp_path / "a/README").write_bytes(b"nothing")
    assert not dicom.is_found(tmp_path)


def test_a_missing_package_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DatasetError, match=r"pip install 'autoseg-unet\[dicom\]'"):
        open_dataset(root, None, None)


def write_segmentation(path, folder, array, names):
    """Write a DICOM segmentation, segment i where `array` is i + 1, of a series in a folder."""
    highdicom = pytest.importorskip("highdicom", reason="needs the extra dicom")
    sources = [pydicom.dcmread(file) for file in sorted(folder.glob("*.dcm"))]
    sources.sort(key=lambda source: source.ImagePositionPatient[2])
    code = pydicom.sr.codedict.codes.SCT.Tissue
    algorithm = highdicom.AlgorithmIdentificationSequence("a", code, "1")
    segments = [
        highdicom.seg.SegmentDescription(
            number, name, code, code, highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm
        )
        for number, name in enumerate(names, start=1)
    ]
    made = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=array,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=2,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="a",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)


def test_segments_are_classes_by_their_names(tmp_path):
    array = labels() + 2 * np.roll(labels(), 1)
    for index, names in enumerate((["liver", "tumour"], ["tumour", "liver"])):
        folder = tmp_path / f"case{index}"
        write_series(folder, voxels(index))
        place = folder / "seg.dcm" if index else tmp_path / "labels/case0.dcm"
        write_segmentation(place, folder, array, names)
    dataset = open_dataset(tmp_path, None, None)
    assert dataset.labels.names == ("background", "liver", "tumour")
    _, first = read_case(dataset, dataset.cases[0])
    np.testing.assert_array_equal(first, array)
    _, second = read_case(dataset, dataset.cases[1])
    np.testing.assert_array_equal(second, np.array([0, 2, 1])[array])
    spec = DatasetSpec(labels={"background": 0, "liver": 1, "other": 2})
    dataset = open_dataset(tmp_path, spec, None)
    with pytest.raises(DatasetError, match="segments tumour, which are no classes"):
        read_case(dataset, dataset.cases[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "different orientations"),
        ({"ImagePositionPatient": None}, "5 images without position"),
        ({"Rows": 3, "Columns": 16}, "1 of 3 x 16, 4 of 6 x 8"),
    ],
)
def test_slices_that_are_no_stack_are_refused(root, values, message):
    path = root / "case0/0.dcm"
    slice_ = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(slice_, name, value)
    slice_.save_as(path)
    with pytest.raises(DatasetError, match=message):
        open_dataset(root, None, None)
