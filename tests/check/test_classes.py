import pytest

from autoseg.check.findings import check_fingerprint
from autoseg.runtime.recipe import Labels


def found(made, *cases, **changes):
    return [f.found for f in made.findings(*cases, **changes)]


def test_an_absent_class_is_told(made):
    absent = made.usual(class_voxels=(23990, 10, 0), class_centres=())
    assert found(made, *absent) == ["class cancer (value 2) is in no case"]


@pytest.mark.parametrize(
    ("holders", "count", "severity"), [(1, 20, "warning"), (2, 250, "warning"), (3, 250, "note")]
)
def test_a_rare_class_is_a_warning_where_it_cannot_be_learnt(made, holders, count, severity):
    absent = made.usual(count, class_voxels=(23990, 10, 0), class_centres=(), thumbnail=None)
    present = [made.stats(1000 + i, thumbnail=None) for i in range(holders)]
    (finding,) = made.findings(*absent, *present)
    assert f"is in only {holders} of {count + holders} cases" in finding.found
    assert finding.severity == severity
    assert finding.files[0] == "labels/case_1000.nii"


def test_cases_without_foreground_are_a_note(made):
    empty = made.stats(99, class_voxels=(24000, 0, 0), class_centres=())
    (finding,) = made.findings(*made.usual(), empty)
    assert finding.severity == "note"
    assert finding.found == "1 of 21 cases without foreground"
    assert finding.files == ("labels/case_99.nii",)


@pytest.mark.parametrize(
    ("part", "border", "is_told"), [(0.9, 0.9, True), (0.9, 0.1, False), (0.3, 0.9, False)]
)
def test_foreground_around_the_object_may_be_inverted(made, part, border, is_told):
    voxels = (24000 - int(24000 * part), int(24000 * part))
    cases = made.usual(class_voxels=voxels, border_foreground=border, class_centres=())
    listed = made.findings(*cases, names=("background", "cell"))
    assert ["inverted" in item.found for item in listed] == [True] * is_told
    if is_told:
        assert '"labels": {"background": 1, "cell": 0}' in listed[0].remedy


def test_an_inverted_class_that_nobody_named_does_not_keep_the_name_of_its_value(made):
    cases = made.usual(class_voxels=(2400, 21600), border_foreground=0.9, class_centres=())
    labels = Labels(names=("background", "class_255"), values=(0, 255))
    known = made.fingerprint(*cases, names=labels.names, labels=labels)
    listed = check_fingerprint(known, made.known(*cases), labels_declared=False)
    (inverted,) = [item for item in listed if "inverted" in item.found]
    assert '"labels": {"background": 255, "object": 0}' in inverted.remedy
    assert "class_255" not in inverted.remedy


@pytest.mark.parametrize(
    ("values", "is_told"), [((0, 1, 255), True), ((0, 128, 255), True), ((0, 1, 4), False)]
)
def test_255_beside_other_undeclared_values_is_likely_what_is_not_annotated(made, values, is_told):
    labels = Labels(names=("background", "a", "b"), values=values)
    cases = made.usual()
    known = made.fingerprint(*cases, labels=labels)
    listed = check_fingerprint(known, made.known(*cases), labels_declared=False)
    (note,) = [item for item in listed if item.expected.startswith("the numbers 0, 1, 2")]
    assert ('"ignore": 255' in note.remedy) == is_told


def test_255_is_a_class_where_it_is_the_only_one(made):
    labels = Labels(names=("background", "class_255"), values=(0, 255))
    cases = made.usual(class_voxels=(24000 - 20, 20))
    known = made.fingerprint(*cases, names=labels.names, labels=labels)
    listed = check_fingerprint(known, made.known(*cases), labels_declared=False)
    assert not any("ignore" in item.remedy for item in listed)


def test_several_classes_that_fill_the_image_are_not_inverted(made):
    cases = made.usual(class_voxels=(0, 12000, 12000), border_foreground=1.0)
    assert found(made, *cases) == []


def test_a_class_far_from_its_usual_volume_is_told(made):
    large = made.stats(99, class_voxels=(22000, 1990, 10))
    (finding,) = made.findings(*made.usual(), large)
    assert finding.found.startswith("class liver: unusual size in 1 case, 2e+02")
    assert finding.files == ("labels/case_99.nii",)


def test_volumes_that_vary_in_every_case_are_not_told(made):
    voxels = [10 * 2**power for power in range(12)]
    cases = [made.stats(i, class_voxels=(20000, n, 10)) for i, n in enumerate(voxels)]
    assert found(made, *cases) == []


def test_volume_is_counted_in_space_and_not_in_voxels(made):
    fine = made.stats(99, class_voxels=(20000, 270, 270), spacing=(1.0, 1 / 3, 1 / 3))
    assert found(made, *made.usual(), fine) == []
