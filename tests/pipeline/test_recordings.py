"""Records of signals on their way to a model that reads tables."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoseg.errors import DatasetError
from autoseg.pipeline.recordings import tables_of
from autoseg.runtime.images import read_image

FREQUENCY, LENGTH = 250, 40


def manifest(channels=("signal",)) -> Any:
    return SimpleNamespace(channels=channels)


def write_record(folder, name, leads=("i", "V1")):
    """Write lead k as 10 k, 10 k + 0.01, ... mV."""
    folder.mkdir(exist_ok=True)
    lines = [f"{name} {len(leads)} {FREQUENCY} {LENGTH}"]
    lines += [f"{name}.dat 16 100(0)/mV 16 0 0 0 0 {lead}" for lead in leads]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    samples = np.arange(LENGTH)[:, None] + 1000 * np.arange(len(leads))
    samples.astype("<i2").tofile(folder / f"{name}.dat")


@pytest.fixture
def records(tmp_path):
    pytest.importorskip("wfdb", reason="needs the extra signals")
    write_record(tmp_path / "records", "1")
    write_record(tmp_path / "records", "2")
    (tmp_path / "tables").mkdir()
    return tmp_path / "records"


def tables(inputs, model, missing=()):
    folder = (inputs[0] if inputs[0].is_dir() else inputs[0].parent).parent / "tables"
    found, failed = tables_of(inputs, model, missing, folder)
    return [path for path in found if path.parent == folder], failed


def test_each_lead_is_a_case_of_a_model_of_one_channel(records):
    found, failed = tables([records], manifest())
    assert [path.name for path in found] == ["1_i.csv", "1_V1.csv", "2_i.csv", "2_V1.csv"]
    assert failed == ()
    image = read_image([found[1]])
    np.testing.assert_allclose(image.array, [10 + np.arange(LENGTH) / 100], rtol=1e-6)
    assert image.geometry.unit == "s"
    assert image.geometry.spacing == pytest.approx((1 / FREQUENCY,))


@pytest.mark.parametrize("ending", [".hea", ".dat"])
def test_a_record_may_be_named_by_either_file(records, ending):
    found, _ = tables([records / f"1{ending}", records / "1.hea"], manifest())
    assert [path.name for path in found] == ["1_i.csv", "1_V1.csv"]


def test_leads_are_the_channels_of_their_names_in_the_models_order(records):
    found, _ = tables([records / "1.hea"], manifest(("v1", "I")))
    assert [path.name for path in found] == ["1.csv"]
    assert read_image(found).array[:, 0] == pytest.approx([10, 0])


def test_a_record_without_a_channel_fails_and_the_others_do_not(records):
    write_record(records, "3", ("i", "V2"))
    found, failed = tables([records], manifest(("i", "V2")))
    assert [path.name for path in found] == ["3.csv"]
    assert [outcome.case_id for outcome in failed] == ["1", "2"]
    assert "leads i, V1, not V2" in failed[0].message
    found, failed = tables([records], manifest(("i", "V2")), missing=(1,))
    assert [len(read_image([path]).array) for path in found] == [1, 1, 1]
    assert failed == ()


def test_a_damaged_record_fails_alone(records):
    (records / "1.dat").write_bytes(b"")
    found, failed = tables([records], manifest())
    assert [path.name for path in found] == ["2_i.csv", "2_V1.csv"]
    assert "1.hea cannot be read" in failed[0].message


def test_records_of_the_same_name_are_not_mixed_up(records):
    write_record(records.parent / "more", "1")
    found, failed = tables([records, records.parent / "more"], manifest())
    assert len(found) == 4
    assert "have the same name" in failed[0].message


@pytest.mark.parametrize("leads", [("i", "i"), ("a/b", "a:b")], ids=str)
def test_leads_of_the_same_name_are_refused(records, leads):
    write_record(records, "4", leads)
    found, failed = tables([records / "4.hea"], manifest())
    assert not found
    assert f"leads {', '.join(leads)}" in failed[0].message


def test_names_of_leads_cannot_leave_the_folder(records):
    write_record(records, "4", ("../../x", "a/b"))
    found, _ = tables([records / "4.hea"], manifest())
    assert [path.name for path in found] == ["4_.._.._x.csv", "4_a_b.csv"]


def test_other_inputs_stay_as_they_are(records, tmp_path):
    np.save(records / "s.npy", np.zeros(LENGTH))
    (tmp_path / "lone.dat").write_bytes(b"")
    inputs = (records, records / "s.npy", tmp_path / "lone.dat", tmp_path / "absent")
    assert tables_of(inputs, manifest(), (), tmp_path) == (inputs, ())


def test_without_the_package_the_remedy_is_told_once(records, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wfdb", None)
    with pytest.raises(DatasetError, match=r"pip install 'autoseg-unet\[signals\]'"):
        tables_of([records], manifest(), (), tmp_path)
