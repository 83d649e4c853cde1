import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoseg.dataset.case import inspect_case, read_case
from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats import signals
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.open import open_dataset
from autoseg.errors import AutosegError, DatasetError
from autoseg.fingerprint.measure import measure_case
from autoseg.runtime.images import read_image

BEGIN, END, P, QRS, T = 39, 40, 24, 1, 27
LENGTH, FREQUENCY = 200, 250
MARKS = [(50, BEGIN), (55, P), (60, END), (70, BEGIN), (72, QRS), (80, END)]


def write_annotation(path, marks):
    """Write annotations in the MIT format: for each 6 bits of code, 10 bits of distance."""
    words, last = [], 0
    for sample, code in marks:
        words.append(code << 10 | (sample - last))
        last = sample
    np.array([*words, 0], "<u2").tofile(path)


def write_record(folder, name, leads=("II", "V1"), annotated=("ii", "v1")):
    folder.mkdir(exist_ok=True)
    lines = [f"{name} {len(leads)} {FREQUENCY} {LENGTH}"]
    lines += [f"{name}.dat 16 100(0)/mV 16 0 0 0 0 {lead}" for lead in leads]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    samples = np.arange(LENGTH)[:, None] + 1000 * np.arange(len(leads))
    samples.astype("<i2").tofile(folder / f"{name}.dat")
    for ending in annotated:
        write_annotation(folder / f"{name}.{ending}", MARKS)


@pytest.fixture
def records(tmp_path):
    pytest.importorskip("wfdb", reason="needs the extra signals")
    for name in ("1", "2"):
        write_record(tmp_path / "data", name)
    return tmp_path


@pytest.fixture
def tables(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for index in range(3):
        rows = [f"{step * 0.01:.2f},{step % 7},{index}" for step in range(30)]
        (tmp_path / f"images/s{index}.csv").write_text("time,a,b\n" + "\n".join(rows))
        labels = (np.arange(30) > 12 + index).astype(int)
        (tmp_path / f"labels/s{index}.csv").write_text("\n".join(map(str, labels)))
    return tmp_path


def test_each_lead_is_a_case_and_a_record_is_a_group(records):
    dataset = open_dataset(records, None, None)
    assert dataset.layout == "signals"
    assert [case.id for case in dataset.cases] == ["1_II", "1_V1", "2_II", "2_V1"]
    assert {case.group for case in dataset.cases} == {"1", "2"}
    assert dataset.cases[1].part == "V1"
    assert dataset.labels.names == ("background", "P", "QRS", "T")
    assert dataset.file_ending == ".csv"


def test_a_lead_has_its_unit_its_spacing_and_its_waves(records):
    dataset = open_dataset(records, None, None)
    image, classes = read_case(dataset, dataset.cases[1])
    np.testing.assert_allclose(image.array, [(1000 + np.arange(LENGTH)) / 100], rtol=1e-6)
    assert image.geometry.unit == "s"
    assert image.geometry.spacing == (1 / FREQUENCY,)
    expected = np.full(LENGTH, -1)
    expected[50:81] = 0
    expected[50:61], expected[70:81] = 1, 2
    np.testing.assert_array_equal(classes, expected)


def test_a_lead_is_measured_like_any_image(records):
    dataset = open_dataset(records, None, None)
    measured = measure_case(dataset, dataset.cases[0])
    assert measured.stats is not None
    assert measured.unit == "s"
    assert measured.stats.shape == (LENGTH,)
    assert measured.stats.class_voxels == (9, 11, 11, 0)
    assert measured.stats.class_components == (0, 1, 1, 0)
    assert measured.stats.padding == ()
    extent = find_format("signals").read_extent(dataset, dataset.cases[0])
    assert (extent.num_channels, extent.shape, extent.spacing) == (1, (200,), (0.004,))


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([(2, BEGIN), (3, P), (4, END)], "iiPPPiii"),
        ([(2, QRS), (3, BEGIN), (4, END)], "iiQQQiii"),  # the peak is the beginning
        ([(2, QRS), (4, END)], "iiQQQiii"),
        ([(1, BEGIN), (2, END), (4, BEGIN), (4, T), (5, END)], "iii.TTii"),
        ([(1, BEGIN), (1, P), (1, END), (3, P), (4, T), (5, END)], "iP.iiiii"),
        ([(1, BEGIN), (1, P), (1, END), (6, QRS)], "iPiiiiii"),
        ([], "iiiiiiii"),
    ],
)
def test_waves_reach_from_their_first_mark_to_their_end(marks, expected):
    samples, codes = np.array([*marks, (0, 0)])[: len(marks)].T
    values = signals.draw_waves(samples, codes, 8)
    letters = {0: ".", 1: "P", 2: "Q", 3: "T", 255: "i"}
    assert "".join(letters[value] for value in values.tolist()) == expected


def test_records_without_signals_or_annotations_are_all_named(records):
    (records / "data/1.dat").unlink()
    write_record(records / "data", "3", annotated=())
    with pytest.raises(DatasetError) as caught:
        open_dataset(records, None, None)
    assert "1.hea: no signal file 1.dat" in caught.value.found
    assert "data/3.hea: no annotation of lead II in a file 3.II" in caught.value.found
    assert "data/3.hea: no annotation of lead V1 in a file 3.V1" in caught.value.found


def test_a_lead_without_annotation_may_be_excluded(records):
    (records / "data/2.v1").unlink()
    with pytest.raises(DatasetError, match=r"data/2\.hea: no annotation .* 2\.V1"):
        open_dataset(records, None, None)
    dataset = open_dataset(records, DatasetSpec(exclude={"2_V1": "not annotated"}), None)
    assert [case.id for case in dataset.cases] == ["1_II", "1_V1", "2_II"]


def test_truncated_signals_are_named(records):
    path = records / "data/1.dat"
    path.write_bytes(path.read_bytes()[:100])
    dataset = open_dataset(records, None, None)
    _, _, findings = inspect_case(dataset, dataset.cases[0])
    assert "cannot be read" in findings[0].found


def test_equal_names_of_records_are_told_apart_by_their_folders(records):
    write_record(records / "more", "1")
    dataset = open_dataset(records, None, None)
    assert dataset.cases[0].id == "data_1_II"
    assert dataset.cases[-1].group == "more_1"


def test_a_missing_package_says_what_to_install(records, monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(DatasetError, match=r"pip install 'autoseg-unet\[signals\]'"):
        open_dataset(records, None, None)


def test_tables_are_signals_with_a_column_a_channel(tables):
    dataset = open_dataset(tables, None, None)
    assert dataset.layout == "signals"
    assert dataset.channels == ("channel_0", "channel_1")
    assert dataset.file_ending == ".csv"
    image, classes = read_case(dataset, dataset.cases[1])
    assert image.geometry.unit == "s"
    assert image.geometry.spacing == pytest.approx((0.01,))
    np.testing.assert_array_equal(image.array[1], np.ones(30))
    assert classes.sum() == 16


def test_tables_without_partner_are_problems(tables):
    (tables / "labels/s0.csv").rename(tables / "labels/t.csv")
    with pytest.raises(DatasetError) as caught:
        open_dataset(tables, None, None)
    assert "images/s0.csv: no labels" in caught.value.found
    assert "labels/t.csv: no image" in caught.value.found


def test_tables_beside_pictures_are_no_signals(tables):
    (tables / "images/a.png").write_bytes(b"")
    assert not signals.is_found(tables)


def test_arrays_of_one_axis_are_plain_folders(tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(tmp_path / f"images/s{index}.npy", rng.normal(size=(3, 50)).astype(np.float32))
        np.save(tmp_path / f"labels/s{index}.npy", np.arange(50) % 5 == 0)
    dataset = open_dataset(tmp_path, None, None)
    assert (dataset.layout, dataset.file_ending) == ("folders", ".npy")
    assert dataset.channels == ("channel_0", "channel_1", "channel_2")
    measured = measure_case(dataset, dataset.cases[0])
    assert measured.stats is not None
    assert measured.stats.shape == (50,)
    assert measured.stats.class_components == (0, 10)


def test_the_ignore_value_and_the_classes_may_be_declared(records):
    spec = DatasetSpec(labels={"rest": 0, "QRS": 2, "other": 1}, ignore=255)
    dataset = open_dataset(records, spec, None)
    _, classes = read_case(dataset, dataset.cases[0])
    assert np.unique(classes).tolist() == [-1, 0, 1, 2]
    assert dataset.labels.names == ("rest", "other", "QRS")


def test_real_records_are_read(data):
    pytest.importorskip("wfdb", reason="needs the extra signals")
    dataset = open_dataset(data / "ludb", None, None)
    assert len(dataset.cases) == 40 * 12
    assert len({case.group for case in dataset.cases}) == 40
    case = next(case for case in dataset.cases if case.id == "1_ii")
    image, classes = read_case(dataset, case)
    assert image.array.shape == (1, 5000)
    assert set(np.unique(classes)) == {-1, 0, 1, 2, 3}
    # The steepest slopes of an electrocardiogram are in its QRS complexes.
    slopes = np.abs(np.diff(image.array[0], append=image.array[0, -1]))
    assert slopes[classes == 2].mean() > 5 * slopes[classes == 3].mean()


def test_a_table_of_times_may_not_skip(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time;a\n0;1\n1;2\n2;2\n4;4\n")
    with pytest.raises(AutosegError, match="uneven"):
        read_image([path])


@pytest.mark.parametrize(
    ("line", "expected"),
    [("r 1 500/1000(3) 40\n", (500.0, 40)), ("# remark\n\nr/2 1 250.5 40\n", (250.5, 40))],
)
def test_the_times_of_a_record_are_read_from_one_line(tmp_path, line, expected):
    (tmp_path / "r.hea").write_text(line)
    unused: Any = None
    assert signals._timing(unused, tmp_path / "r.hea") == expected


def test_times_that_a_record_leaves_out_are_asked_of_the_package(tmp_path):
    (tmp_path / "r.hea").write_text("r 1\n")
    header = SimpleNamespace(fs=250, sig_len=7)
    wfdb: Any = SimpleNamespace(rdheader=lambda _: header)
    assert signals._timing(wfdb, tmp_path / "r.hea") == (250, 7)
