import pytest

from autoseg.check.findings import check_fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spacing": (30.0, 1.0, 1.0)}, "unusual spacing in 1 case"),
        ({"spacing": (3.0, 1.0, 0.1)}, "unusual spacing in 1 case"),
        ({"shape": (20, 30, 400)}, "unusual extent in 1 case"),
        ({"foreground_means": (1.0,)}, "MRI: unusual intensities in 1 case,"),
        ({"orientation": "RAS"}, "orientation RAS in 1 of 21 cases"),
        ({"padding": (-1024.0,)}, "a margin of -1024 in 1 of 21 cases"),
        ({"brightest": (0.3,)}, "up to 30% of the voxels have the highest value"),
    ],
)
def test_an_odd_case_is_named_once(made, changes, message):
    listed = made.findings(*made.usual(), made.stats(99, **changes))
    (finding,) = [item for item in listed if item.found.startswith(message)]
    assert finding.files == ("images/case_99.nii",)
    assert "case_99" not in finding.found


def test_two_usual_orientations_are_no_outliers(made):
    cases = [*made.usual(10), *(made.stats(i, orientation="RAS") for i in range(10, 20))]
    assert made.findings(*cases) == []


def test_the_declared_orientation_goes_before_the_usual_one(made):
    cases = [*made.usual(), made.stats(99, orientation="RAS")]
    (finding,) = check_fingerprint(made.fingerprint(*cases), made.known(*cases), orientation="RAS")
    assert finding.found == "orientation LPS in 20 of 21 cases"
    assert finding.expected == "RAS, as declared"


def test_a_bright_margin_is_not_called_saturated(made):
    white = made.usual(padding=(255.0,), brightest=(0.6,))
    assert [item.found for item in made.findings(*white)] == ["a margin of 255 in 20 of 20 cases"]
