import pytest

from autoseg.check.findings import check_fingerprint
from autoseg.runtime.recipe import Labels


def found(made, *cases, **changes):
    return [finding.found for finding in made.findings(*cases, **changes)]


def test_nothing_is_odd_about_equal_cases(made):
    assert found(made, *made.usual()) == []


def test_few_cases_are_told(made):
    assert "2 cases" in found(made, made.stats(0), made.stats(1))
    assert "1 case" in found(made, made.stats(0))


def test_imported_fingerprints_without_counts_pass(made):
    bare = {
        "class_voxels": (),
        "class_components": (),
        "content_hash": None,
        "foreground_means": (),
        "class_centres": (),
        "border_foreground": None,
        "brightest": (),
        "thumbnail": None,
        "orientation": None,
    }
    assert found(made, *made.usual(12, **bare)) == []


def test_every_finding_says_what_was_expected_and_what_to_do(made):
    odd = made.stats(99, spacing=(30.0, 1.0, 1.0), class_voxels=(24000, 0, 0), orientation="RAS")
    findings = made.findings(*made.usual(), odd)
    assert len(findings) >= 3
    for finding in findings:
        assert finding.expected
        assert finding.remedy
        assert finding.files == ("images/case_99.nii",) or "labels/case_99.nii" in finding.files


@pytest.mark.parametrize("declared", [True, False])
def test_gaps_in_values_are_told_where_nobody_declared_them(made, declared):
    labels = Labels(names=("background", "a", "b"), values=(0, 1, 4))
    cases = made.usual()
    listed = check_fingerprint(
        made.fingerprint(*cases, labels=labels), made.known(*cases), labels_declared=declared
    )
    assert [item.found for item in listed] == (
        [] if declared else ["masks with the values 0, 1, 4 and gaps between"]
    )
