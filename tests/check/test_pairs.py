import time

import numpy as np
import pytest

from autoseg.check.pairs import MirrorPair, mirror_pairs
from autoseg.runtime.recipe import Labels, Region

LUNGS = ("background", "left lung", "right lung")


def lungs(made, first, second, names=("background", "one", "other"), voxels=(500, 500), **changes):
    """Return a data set of classes around two places."""
    rng = np.random.default_rng(0)
    cases = []
    for index in range(12):
        shift = rng.uniform(-0.02, 0.02, (2, 3))
        centres = tuple(tuple(float(n) for n in place) for place in np.add([first, second], shift))
        cases.append(
            made.stats(
                index, class_centres=((), *centres), class_voxels=(20000, *voxels), **changes
            )
        )
    return made.fingerprint(*cases, names=names)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("left lung", "right lung"),
        ("Right_Kidney", "Left_Kidney"),
        ("lung left", "lung right"),
        ("LeftLung", "RightLung"),
        ("femur_l", "femur_r"),
        ("lh-cortex", "rh-cortex"),
        ("Niere links", "Niere rechts"),
    ],
)
def test_names_tell_left_from_right(made, first, second):
    made_up = made.fingerprint(*made.usual(), names=("background", first, second))
    assert mirror_pairs(made_up) == (MirrorPair(first, second, 2, "name"),)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("left lung", "right kidney"),
        ("bright spot", "dark spot"),
        ("l", "r"),
        ("lesion", "resion"),
        ("liver_l", "kidney_r"),
        ("class_1", "class_2"),
    ],
)
def test_other_names_do_not(made, first, second):
    assert mirror_pairs(made.fingerprint(*made.usual(), names=("b", first, second))) == ()


def test_regions_are_told_by_their_names_too(made):
    labels = Labels(
        names=("background", "a", "b"),
        values=(0, 1, 2),
        regions=(Region(name="left eye", classes=(1,)), Region(name="right eye", classes=(2,))),
    )
    found = mirror_pairs(made.fingerprint(*made.usual(), labels=labels))
    assert found == (MirrorPair("left eye", "right eye", 2, "name"),)


def test_a_known_orientation_tells_the_axis(made):
    turned = made.usual(orientation="SLP")
    assert mirror_pairs(made.fingerprint(*turned, names=LUNGS))[0].axis == 1


def test_without_orientation_the_axis_is_that_along_which_they_are_apart(made):
    found = lungs(made, (0.5, 0.2, 0.5), (0.5, 0.8, 0.5), names=LUNGS, orientation=None)
    assert mirror_pairs(found)[0].axis == 1


def test_mirrored_places_tell_a_pair(made):
    found = lungs(made, (0.5, 0.5, 0.25), (0.5, 0.5, 0.75))
    assert mirror_pairs(found) == (MirrorPair("one", "other", 2, "position"),)


@pytest.mark.parametrize(
    ("second", "voxels"),
    [
        ((0.5, 0.5, 0.45), (500, 500)),  # not centred
        ((0.5, 0.7, 0.75), (500, 500)),  # not level
        ((0.5, 0.5, 0.75), (500, 900)),  # of other sizes
        ((0.5, 0.5, 0.25), (500, 500)),  # at the same place
    ],
)
def test_other_places_do_not(made, second, voxels):
    assert mirror_pairs(lungs(made, (0.5, 0.5, 0.25), second, voxels=voxels)) == ()


def test_front_and_back_are_no_pair_where_the_orientation_is_known(made):
    places = (0.5, 0.25, 0.5), (0.5, 0.75, 0.5)
    assert mirror_pairs(lungs(made, *places)) == ()
    assert mirror_pairs(lungs(made, *places, orientation=None))[0].axis == 1


def test_a_pair_is_told_with_its_axis(made):
    cases = made.usual()
    listed = made.findings(*cases, names=LUNGS)
    assert [item.found for item in listed] == [
        "left lung and right lung mirror each other along axis 2, by their name"
    ]


def test_many_classes_are_told_by_their_names_alone_and_at_once(made):
    names = ("background", *(f"class {index}" for index in range(500)), "rib_l", "rib_r")
    labels = Labels(names=names, values=tuple(range(len(names))))
    places = ((), *(((0.5, 0.5, 0.2 + 0.001 * index)) for index in range(len(names) - 1)))
    cases = made.usual(class_centres=places, class_voxels=(500,) * len(names))
    start = time.perf_counter()
    (found,) = mirror_pairs(made.fingerprint(*cases, labels=labels))
    assert (found.first, found.second) == ("rib_l", "rib_r")
    assert time.perf_counter() - start < 5  # 0.1 s; comparing all pairs of names took 7 s
