"""The declarations in datasets_spec/ fit their data sets, and their schema accepts them."""

import json
import re
import warnings
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from autoseg.dataset.case import read_case
from autoseg.dataset.open import open_dataset
from autoseg.dataset.spec import load_spec, spec_json
from autoseg.runtime.images import NIFTI_FORMATS, Geometry, Image, write_image, write_labels
from autoseg.testing.synthetic import write_rings, write_spheres

FOLDER = Path(__file__).parents[1] / "datasets_spec"
SCHEMA = json.loads((FOLDER / "dataset.schema.json").read_text(encoding="utf-8"))
PATHS = sorted(path for path in FOLDER.rglob("*.json") if path.name != "dataset.schema.json")
SPECS = [path for path in PATHS if path.parent == FOLDER]
IDS = {
    "acdc": ("patient001_frame01", "patient001_frame12", "patient002_frame01"),
    "acdc_scribbles": ("patient001_frame01", "patient001_frame12", "patient002_frame01"),
    "acdc_official": ("patient001_frame01", "patient001_frame12", "patient002_frame01"),
    "camvid": ("0001TP_006690", "0001TP_006720", "Seq05VD_f00000"),
    "camvid_11": ("0001TP_006690", "0001TP_006720", "0016E5_00390"),
    "chase_db1": ("01L", "01R", "02L"),
    "drive": ("21", "22", "23"),
    "isbi2012": ("1", "2", "3"),
    "isic2018_task1": ("ISIC_0000000", "ISIC_0000001", "ISIC_0000003"),
    "kits19": ("case_00000", "case_00001", "case_00209"),
    "kvasir_seg": ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0r"),
    "oxford_pet": ("Abyssinian_1", "Bengal_2", "yorkshire_terrier_100"),
}
"""Ids as the download has them, for specs that say by patterns or folders where files are."""
STRAY = {
    "acdc_official": ("training/patient001/patient001_4d.nii.gz",),
    "kits19": ("case_00210/imaging.nii.gz", "case_00299/imaging.nii.gz"),
    "oxford_pet": ("annotations/trimaps/._Abyssinian_1.png",),
    "drive": ("mask/21_training_mask.gif",),
    "chase_db1": ("Image_01L_2ndHO.png",),
}
"""Files that the download has and that are no case."""
PICTURE, VOLUME = (12, 14), (4, 10, 12)


# Making a tiny folder of the shape that a spec declares


def make(root, name, spec):
    """Write a few cases as `spec` says that they lie."""
    if spec.layout == "patterns":
        write_patterns(root, name, spec)
    elif spec.layout == "folders":
        pattern = spec.revised(images=("images/{case}.png",), masks="masks/{case}.png")
        write_patterns(root, name, pattern)
    else:
        {
            "nnunet": write_nnunet,
            "msd": write_msd,
            "bids": write_bids,
            "instances": write_instances,
            "class_folders": write_class_folders,
            "signals": write_signals,
        }[spec.layout](root, spec)
    for stray in STRAY.get(name, ()):
        write_any_image(root / stray, 1)


def values_of(spec):
    """Return the numbers in masks, the background first; None where they are colours."""
    given = list((spec.labels or {}).values())
    if any(isinstance(value, str) for value in given):
        return None
    flat = [v for value in given for v in ((value,) if isinstance(value, int) else value)]
    return [*dict.fromkeys(flat), *([] if spec.ignore is None else [spec.ignore])]


def shape_and_geometry(path):
    if path.name.endswith(NIFTI_FORMATS):
        return VOLUME, Geometry((5.0, 1.5, 1.5))
    return PICTURE, Geometry((1.0, 1.0), unit="pixel")


def write_any_image(path, num_channels):
    shape, geometry = shape_and_geometry(path)
    numbers = np.arange(num_channels * np.prod(shape)) % 250
    array = numbers.reshape(num_channels, *shape).astype(np.uint8)
    lossless = path.with_suffix(".png") if path.suffix == ".jpg" else path
    write_image(lossless, Image(array, geometry))
    if lossless != path:
        as_jpeg(path)


def as_jpeg(path):
    """Store a picture that was written as PNG under a JPEG's name and in its form."""
    from PIL import Image as Pillow

    with Pillow.open(path.with_suffix(".png")) as picture:
        picture.save(path)
    path.with_suffix(".png").unlink()


def write_mask(path, spec):
    """Write a mask with bars of every class."""
    shape, geometry = shape_and_geometry(path)
    values = values_of(spec)
    if values is None:
        codes = [int(str(value)[1:], 16) for value in (spec.labels or {}).values()]
        bars = np.resize(np.array(codes), shape)
        colours = np.stack([bars >> 16, bars >> 8 & 255, bars & 255]).astype(np.uint8)
        write_image(path, Image(colours, geometry))
        return
    if spec.threshold is not None:
        values = [0, 255] if spec.threshold > 1 else [0, 1]
    bars = np.zeros(shape, int)
    for index, value in enumerate(values):
        bars[..., index * shape[-1] // len(values) :] = value
    lossless = path.with_suffix(".png") if path.suffix == ".jpg" else path
    write_labels(lossless, bars, geometry)
    if lossless != path:
        as_jpeg(path)


def placed(root, pattern, case_id, spec):
    """Return the path of a case; * is the folder of its group."""
    group = re.match(spec.group_by, case_id)[1] if spec.group_by else "any"
    return root / pattern.replace("{case}", case_id).replace("*", group)


def write_patterns(root, name, spec):
    for case_id in IDS[name]:
        for pattern in spec.images:
            write_any_image(placed(root, pattern, case_id, spec), len(spec.channels))
        write_mask(placed(root, spec.masks, case_id, spec), spec)


def write_nnunet(root, spec):
    for number in (1, 3, 4):
        write_any_image(root / "imagesTr" / f"hippocampus_{number:03d}_0000.nii.gz", 1)
        write_mask(root / "labelsTr" / f"hippocampus_{number:03d}.nii.gz", spec)
    content = {
        "channel_names": {"0": "MRI"},
        "labels": spec.labels,
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(content))


def write_msd(root, spec):
    training = []
    for number in (1, 2, 3):
        name = f"case_{number}.nii.gz"
        write_any_image(root / "imagesTr" / name, len(spec.channels))
        write_mask(root / "labelsTr" / name, spec)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "modality": {str(i): channel for i, channel in enumerate(spec.channels or ())},
        "labels": {str(value): f"name of {value}" for value in values_of(spec) or ()},
        "numTraining": 3,
        "numTest": 1,
        "training": training,
        "test": ["./imagesTs/case_4.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))


def write_bids(root, spec):
    for number in (1, 2, 3):
        stem = f"sub-{number:04d}_run-1_T2starw"
        write_any_image(root / f"sub-{number:04d}" / "anat" / f"{stem}.nii.gz", 1)
        for index, name in enumerate(("seg", "gmseg")):
            mask = np.zeros(VOLUME, np.float32)
            mask[:, 2 + index : -2 - index] = 1
            place = root / "derivatives" / "labels" / f"sub-{number:04d}" / "anat"
            file = place / f"{stem}_{name}-manual.nii.gz"
            write_image(file, Image(mask[None], Geometry((5.0, 1.5, 1.5))))


def write_instances(root, spec):
    for number in (1, 2, 3):
        folder = root / f"{number:064x}"
        write_any_image(folder / "images" / f"{number:064x}.png", 3)
        for nucleus in (1, 2):
            mask = np.zeros(PICTURE, int)
            mask[3 * nucleus : 3 * nucleus + 2] = 255
            write_labels(folder / "masks" / f"{nucleus:064x}.png", mask, Geometry((1.0, 1.0)))


def write_class_folders(root, spec):
    for index, name in enumerate(("Blowhole", "Break", "Crack", "Fray", "Free", "Uneven")):
        for number in (1, 2):
            stem = root / f"MT_{name}" / "Imgs" / f"exp{number}_num_{index}"
            write_any_image(stem.with_suffix(".jpg"), 1)
            mask = np.zeros(PICTURE, int)
            if name != "Free":
                mask[4:8], mask[3] = 255, 100
            write_labels(stem.with_suffix(".png"), mask, Geometry((1.0, 1.0)))


def write_signals(root, spec):
    wfdb = pytest.importorskip("wfdb")
    folder = root / "data"
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about how wfdb calls it
        for record in ("1", "2", "3"):
            signal = np.sin(np.arange(500) / 8)[:, None] * np.ones((1, 2))
            fields = {"units": ["mV"] * 2, "sig_name": ["i", "ii"], "fmt": ["16"] * 2}
            wfdb.wrsamp(record, fs=500, p_signal=signal, write_dir=str(folder), **fields)
            for lead in ("i", "ii"):
                samples = np.array([100, 110, 120, 140, 150, 160, 200, 220, 240])
                wfdb.wrann(record, lead, samples, list("(p)(N)(t)"), write_dir=str(folder))


# What must hold


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_schema_accepts_the_spec(path):
    jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), SCHEMA)


def test_the_schema_refuses_a_misspelt_key():
    with pytest.raises(jsonschema.ValidationError, match="chanels"):
        jsonschema.validate({"chanels": ["MRI"]}, SCHEMA)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_spec_is_complete_and_written_as_we_write_it(path):
    spec = load_spec(path)
    assert spec.name == path.stem
    assert all((spec.task, spec.source, spec.licence, spec.channels, spec.labels, spec.layout))
    assert "://" not in path.read_text(encoding="utf-8")
    assert path.read_text(encoding="utf-8") == spec_json(spec)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_the_table_names_the_spec_with_its_source_and_licence(path):
    rows = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    spec = load_spec(path)
    row = f"| `{path.name}` | {spec.task} | {spec.source} | {spec.layout} | {spec.licence} |"
    assert rows.count(row) == 1, f"expected the row\n{row}"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_a_folder_of_the_declared_shape_opens(path, tmp_path):
    spec = load_spec(path)
    make(tmp_path, path.stem, spec)
    dataset = open_dataset(tmp_path, spec, None)
    assert dataset.layout == spec.layout
    assert dataset.channels == spec.channels
    assert len(dataset.cases) >= 3
    if path.stem in IDS:
        assert sorted(case.id for case in dataset.cases) == sorted(IDS[path.stem])
    shown: set[int] = set()
    for case in dataset.cases:
        image, classes = read_case(dataset, case)
        assert image.array.shape == (len(dataset.channels), *classes.shape)
        shown |= {int(index) for index in np.unique(classes)}
    ignored = set() if spec.ignore is None else {-1}
    assert shown == {*range(len(dataset.labels.names)), *ignored}


@pytest.mark.parametrize(("name", "num_groups"), [("acdc_official", 2), ("chase_db1", 2)])
def test_cases_of_one_patient_are_a_group(name, num_groups, tmp_path):
    spec = load_spec(FOLDER / f"{name}.json")
    make(tmp_path, name, spec)
    groups = {case.group for case in open_dataset(tmp_path, spec, None).cases}
    assert len(groups) == num_groups


def test_the_32_colours_of_camvid_differ():
    labels = load_spec(FOLDER / "camvid.json").labels or {}
    assert len(labels) == len(set(labels.values())) == 32


@pytest.mark.parametrize(("name", "write"), [("spheres", write_spheres), ("rings", write_rings)])
def test_a_synthetic_spec_declares_what_is_written(name, write, tmp_path):
    spec = load_spec(FOLDER / "synthetic" / f"{name}.json")
    assert spec.source is not None
    call = f"autoseg.testing.synthetic.{write.__name__}(root, "
    assert spec.source.startswith(call)
    arguments = eval(f"dict({spec.source.removeprefix(call)}")  # ours, and checked to be a call
    root = write(tmp_path / name, **{**arguments, "num_cases": 3})
    found = open_dataset(root, spec.revised(labels=None, channels=None), None)
    declared = open_dataset(root, spec, None)
    assert declared.labels.values == found.labels.values
    assert len(declared.channels) == len(found.channels) == 1
    assert declared.layout == found.layout


@pytest.mark.parametrize(
    ("name", "folder", "num_cases", "num_groups"),
    [
        ("hippocampus", "hippocampus", 208, 208),
        ("isbi2012", "isbi2012", 20, 20),
        ("acdc", "acdc", 30, 15),
        ("acdc_scribbles", "acdc", 30, 15),
        ("drive", "drive", 20, 20),
        ("gm_challenge", "gm_challenge", 8, 6),
        ("dsb2018", "dsb2018", 100, 100),
        ("magnetic_tile", "magnetic_tile", 238, 238),
        ("ludb", "ludb", 480, 40),
    ],
)
def test_a_spec_fits_the_real_data(data, name, folder, num_cases, num_groups):
    spec = load_spec(FOLDER / f"{name}.json")
    if spec.layout == "signals":
        pytest.importorskip("wfdb")
    dataset = open_dataset(data / folder, spec, None)
    assert len(dataset.cases) == num_cases
    assert len({case.group for case in dataset.cases}) == num_groups
    assert dataset.channels == spec.channels
    if not dataset.labels.regions:
        assert dataset.labels.names == tuple(spec.labels or ())
    read_case(dataset, dataset.cases[0])


def test_membranes_are_the_foreground_of_isbi2012(data):
    dataset = open_dataset(data / "isbi2012", load_spec(FOLDER / "isbi2012.json"), None)
    assert dataset.labels.names == ("background", "membrane")
    assert dataset.labels.values == (255, 0)
