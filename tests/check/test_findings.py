import pytest

from autoseg.check.findings import check_fingerprint
from autoseg.dataset.dataset import Case
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.runtime.recipe import Labels

INTENSITIES = Intensities(
    mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2
)


def stats(index, **changes):
    facts = {
        "case_id": f"case_{index}",
        "shape": (20, 30, 40),
        "shape_after_crop": (20, 30, 40),
        "spacing": (3.0, 1.0, 1.0),
        "content_hash": f"{index}",
        "class_voxels": (1000, 10, 10),
        "class_components": (0, 1, 1),
        "foreground_means": (100.0 + index,),
    }
    return CaseStats(**facts | changes)


def fingerprint(*cases):
    return Fingerprint(
        autoseg_version="0",
        dataset_name="a",
        unit="mm",
        labels=Labels(names=("background", "liver", "cancer"), values=(0, 1, 2)),
        channels=("MRI",),
        cases=cases,
        intensities=(INTENSITIES,),
        median_relative_size_after_cropping=1.0,
    )


def found(*cases, known=()):
    return [finding.found for finding in check_fingerprint(fingerprint(*cases), known)]


def usual(count=20):
    return [stats(index) for index in range(count)]


def test_nothing_is_odd_about_equal_cases():
    assert found(*usual()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing": (30.0, 1.0, 1.0)}, "unusual spacing in 1 case: case_99"),
        ({"spacing": (3.0, 1.0, 0.1)}, "unusual spacing in 1 case: case_99"),
        ({"shape": (20, 30, 400)}, "unusual extent in 1 case: case_99"),
        ({"foreground_means": (1.0,)}, "MRI: unusual intensities in 1 cases"),
        ({"content_hash": "3"}, "the same image and labels under 2 names: case_3, case_99"),
        ({"class_voxels": (1000, 0, 0)}, "1 of 21 cases without foreground: case_99"),
    ],
)
def test_an_odd_case_is_named(changes, message):
    listed = found(*usual(), stats(99, **changes))
    assert any(line.startswith(message) for line in listed), listed


def test_copies_within_a_group_are_kept_together_anyway():
    cases = [*usual(), stats(99, content_hash="3")]
    known = [Case(id=c.case_id, images=("a",), labels=("b",), group="g") for c in cases]
    assert found(*cases, known=known) == []


def test_an_absent_and_a_rare_class_are_told():
    absent = [stats(index, class_voxels=(1000, 10, 0)) for index in range(20)]
    assert found(*absent) == ["class cancer (value 2) is in no case"]
    assert found(*absent, stats(99)) == ["class cancer (value 2) is in only 1 of 21 cases"]


def test_few_cases_are_told():
    assert found(stats(0), stats(1)) == ["2 cases"]


def test_imported_fingerprints_without_counts_pass():
    bare = [
        stats(i, class_voxels=(), class_components=(), content_hash=None, foreground_means=())
        for i in range(12)
    ]
    assert found(*bare) == []


def patients(*names, group=None):
    cases = [stats(index, case_id=name) for index, name in enumerate(names)]
    known = [Case(id=n, images=("a",), labels=("b",), group=group or n) for n in names]
    return [line for line in found(*cases, known=known) if "patients" in line]


def test_cases_that_seem_to_share_a_patient_are_told():
    names = [f"patient{n:03d}_frame{f:02d}" for n in range(10) for f in (1, 9)]
    assert patients(*names) == ["20 cases named after 10 patients or subjects"]


def test_declared_groups_and_numbered_cases_are_no_reason_to_warn():
    names = [f"patient{n:03d}_frame{f:02d}" for n in range(10) for f in (1, 9)]
    assert patients(*names, group="somebody") == []
    assert patients(*(f"hippocampus_{n:03d}" for n in range(20))) == []
    assert patients(*(f"sub-{n}_scan" for n in range(20))) == []
