import json

import pytest

from autoseg.check.findings import check_fingerprint
from autoseg.dataset.dataset import DatasetSpec, Reading
from autoseg.runtime.recipe import Labels, Region


def about(made, *cases, **changes):
    words = ("a slip, most likely", "scattered over single voxels")
    return [f for f in made.findings(*cases, **changes) if any(word in f.found for word in words)]


def with_cancer(made, voxels, components=1, index=99):
    return made.stats(
        index, class_voxels=(20_000, 900, voxels), class_components=(0, 1, components)
    )


def healthy(made, count=19):
    return made.usual(count, class_voxels=(20_000, 900, 0), class_centres=((), (0.5, 0.5, 0.4), ()))


def test_a_value_in_few_voxels_of_one_case_is_told_with_its_place(made):
    (warning,) = about(made, *healthy(made), with_cancer(made, 2))
    assert "value 2 (cancer) in only 2 voxels of 1 case, around 10, 6, 28 (ZYX)" in warning.found
    assert warning.files == ("labels/case_99.nii",)
    assert '{"label_map": {"2": 0}, "labels": {"background": 0, "liver": 1}}' in warning.remedy


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_stray_255_is_to_be_ignored_and_not_read_as_background(made, is_declared):
    labels = Labels(names=("background", "liver", "class_255"), values=(0, 1, 255))
    cases = [*healthy(made), with_cancer(made, 2)]
    fingerprint = made.fingerprint(*cases, labels=labels)
    known = made.known(*cases)
    (warning,) = [
        item
        for item in check_fingerprint(fingerprint, known, labels_declared=is_declared)
        if "a slip" in item.found
    ]
    spec = json.loads(warning.remedy.partition("declare ")[2].partition(" in the spec")[0])
    declared = {"labels": {"background": 0, "liver": 1}} if is_declared else {}
    assert spec == {**declared, "ignore": 255}
    assert DatasetSpec(**spec).ignore == 255


@pytest.mark.parametrize(("voxels", "holders"), [(50, 1), (2, 4)])
def test_small_or_rare_classes_are_no_strays(made, voxels, holders):
    cases = [with_cancer(made, voxels, index=90 + i) for i in range(holders)]
    assert about(made, *healthy(made), *cases) == []


def test_the_only_class_is_never_stray(made):
    cases = [made.stats(i, class_voxels=(20_000, 0)) for i in range(19)]
    cases.append(made.stats(99, class_voxels=(20_000, 2)))
    names = ("background", "liver")
    assert about(made, *cases, names=names) == []


def test_a_small_structure_beside_a_huge_one_is_no_stray(made):
    facts = {"class_components": (0, 1, 1)}
    cases = [made.stats(i, class_voxels=(900_000, 90_000, 0), **facts) for i in range(19)]
    lesion = made.stats(99, class_voxels=(900_000, 90_000, 150), **facts)
    assert about(made, *cases, lesion) == []
    dot = made.stats(99, class_voxels=(900_000, 90_000, 20), **facts)
    assert "in only 20 voxels" in about(made, *cases, dot)[0].found


def with_dots(made, components, *, voxels):
    return [
        made.stats(i, class_voxels=(20_000, *voxels), class_components=(0, *components))
        for i in range(12)
    ]


@pytest.mark.parametrize(("components", "is_told"), [(9, True), (3, False)])
def test_a_class_of_single_voxels_is_a_trace_of_interpolation(made, components, is_told):
    cases = with_dots(made, (components, 1), voxels=(10, 900))
    assert bool(about(made, *cases)) == is_told


def test_dots_of_the_highest_value_are_no_trace_of_interpolation(made):
    assert about(made, *with_dots(made, (1, 9), voxels=(900, 10))) == []


def remedy(made, reading, **changes):
    cases = [*healthy(made), with_cancer(made, 2)]
    found = check_fingerprint(
        made.fingerprint(*cases, **changes), made.known(*cases), reading=reading
    )
    return next(item.remedy for item in found if "a slip" in item.found)


def test_the_remedy_keeps_what_else_is_declared(made):
    labels = Labels(
        names=("background", "liver", "cancer"),
        values=(0, 1, 2),
        ignore=9,
        regions=(Region(name="whole", classes=(1, 2)), Region(name="core", classes=(2,))),
    )
    told = remedy(made, Reading(label_map=((5, 2), (7, 1))), labels=labels)
    assert '"label_map": {"5": 0, "7": 1, "2": 0}' in told
    assert '"labels": {"background": 0, "whole": [1]}, "ignore": 9' in told


@pytest.mark.parametrize("masks", ["binaries", "colours", "channels"])
def test_masks_without_values_are_to_be_corrected(made, masks):
    assert remedy(made, Reading(masks=masks)) == "if it is no class, correct the masks"
