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


def about_spacing(made, *odd):
    cases = [*made.usual(), *(made.stats(90 + i, spacing=s) for i, s in enumerate(odd))]
    return [f.found for f in made.findings(*cases) if "spacing" in f.found]


@pytest.mark.parametrize(
    ("spacing", "text"),
    [
        ((0.003, 0.001, 0.001), "in 1 case is about 1000 times smaller than usual"),
        ((2500.0, 900.0, 900.0), "in 1 case is about 1000 times larger than usual"),
        ((1.0, 1.0, 1.0), "in 1 case is 1 x 1 x 1: lost"),
        ((30.0, 1.0, 1.0), "unusual spacing in 1 case"),
    ],
)
def test_wrong_spacings_are_told_by_what_went_wrong(spacing, text, made):
    (found,) = about_spacing(made, spacing)
    assert text in found


def test_a_spacing_of_one_is_lost_only_where_the_others_are_uneven(made):
    cubes = [made.stats(i, spacing=(1.1, 1.0, 1.0)) for i in range(20)]
    assert made.findings(*cubes, made.stats(99, spacing=(1.0, 1.0, 1.0))) == []
    assert about_spacing(made, *[(1.0, 1.0, 1.0)] * 30) == []


def test_cubes_of_one_millimetre_that_show_as_much_as_the_others_are_no_fault(made):
    """Another scanner's spacing: more slices, the same extent."""
    assert about_spacing(made, (1.0, 1.0, 1.0)) != []
    cubes = [made.stats(90 + i, spacing=(1.0, 1.0, 1.0), shape=(60, 30, 40)) for i in range(9)]
    assert [f.found for f in made.findings(*made.usual(), *cubes) if "spacing" in f.found] == []
