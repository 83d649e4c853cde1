import math

import pytest

from autoseg.errors import PlanError
from autoseg.plan.augmentation import (
    augmentation_problems,
    light_augmentation,
    nnunet_augmentation,
)
from autoseg.plan.overrides import apply_overrides
from autoseg.plan.plan import SidePair
from autoseg.plan.rules import image_grid, side_pairs
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of
from autoseg.testing.plans import STILL, small_configuration, small_plan

LABELS = Labels(names=("background", "left", "right"), values=(0, 1, 2))

FREE = math.pi
LITTLE = math.pi / 6


@pytest.mark.parametrize(
    ("patch", "planar", "angles"),
    [
        ((128, 128, 128), False, (LITTLE, LITTLE, LITTLE)),
        ((40, 120, 120), False, (LITTLE, LITTLE, LITTLE)),
        ((20, 320, 256), True, (FREE,)),
        ((192, 160), False, (FREE,)),
        ((4096,), False, ()),
        ((256, 160), False, (math.pi / 12,)),
    ],
)
def test_rotation_follows_the_shape_of_the_patch(patch, planar, angles):
    found = nnunet_augmentation(patch)
    assert found.planar == planar
    assert [high for _, high in found.rotation] == pytest.approx(list(angles))
    assert [low for low, _ in found.rotation] == pytest.approx([-angle for angle in angles])


def test_the_light_form_turns_little_and_leaves_out_what_costs_time():
    found = light_augmentation((20, 320, 256))
    assert found.rotation == ((-LITTLE, LITTLE),)
    assert found.blur_probability == found.low_resolution_probability == 0


@pytest.mark.parametrize("make", [nnunet_augmentation, light_augmentation])
def test_signals_are_stretched_but_never_turned(make):
    found = make((4096,))
    assert found.rotation_probability == 0.0
    assert found.scale_probability > 0


@pytest.mark.parametrize("patch", [(256,), (192, 160), (128, 128, 128), (20, 320, 256)])
def test_planned_augmentation_has_no_problem(patch):
    item = small_configuration(patch, image_axes=len(patch))
    for plan in (nnunet_augmentation(patch), light_augmentation(patch)):
        changed = item.revised(training=item.training.revised(augmentation=plan))
        assert list(augmentation_problems(changed)) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"blur_probability": 1.5}, "blur_probability is 1.5, not from 0 to 1"),
        ({"elastic_sigma": (20.0, 10.0)}, "elastic_sigma is (20.0, 10.0), not a range above 0"),
        ({"noise_std": (0.1, 0.0)}, "noise_std is (0.1, 0.0), not a range from 0"),
        ({"gamma": (1.5, 0.7)}, "gamma is (1.5, 0.7), not a range above 0"),
        ({"low_resolution": (0.0, 1.0)}, "low_resolution is (0.0, 1.0), not a range above 0"),
        ({"low_resolution": (0.5, 1.5)}, "more than 1 is no lower resolution"),
        ({"cutmix_fraction": (0.5, 1.5)}, "a box takes no more than the patch"),
        ({"rotation": (), "rotation_probability": 0.1}, "rotation has 0 ranges, not 3"),
        ({"copy_paste_classes": (3,)}, "not a class from 1 to 2"),
        ({"side_mirror_probability": 0.5}, "side_pairs names no classes to swap"),
        ({"side_pairs": (SidePair(axis=3, first=1, second=2),)}, "the network has 3 axes"),
        ({"side_pairs": (SidePair(axis=0, first=1, second=1),)}, "not two classes"),
        (
            {
                "side_pairs": (SidePair(axis=0, first=1, second=2),),
                "side_mirror_probability": 0.5,
            },
            "recipe.mirror_axes mirrors without swapping",
        ),
    ],
)
def test_contradictions_are_told(changes, told):
    item = small_configuration()
    training = item.training.revised(augmentation=STILL.revised(**changes))
    (line,) = augmentation_problems(item.revised(training=training))
    assert told in line


def test_augmentation_is_set_for_one_configuration_or_for_all():
    both = (small_configuration((16, 16)), small_configuration())
    still = both[0].training.augmentation.revised(rotation=((-0.3, 0.3),))
    flat = both[0].revised(training=both[0].training.revised(augmentation=still))
    plan = small_plan(LABELS, (flat, both[1]))

    changed = apply_overrides(
        plan,
        ["augmentation.elastic_probability=0.2", "2d.augmentation.elastic_sigma=12,14"],
    )

    plans = [item.training.augmentation for item in changed.configurations]
    assert [item.elastic_probability for item in plans] == [0.2, 0.2]
    assert [item.elastic_sigma for item in plans] == [(12.0, 14.0), (10.0, 20.0)]


def test_a_misspelt_change_is_named_with_the_nearest():
    plan = small_plan(LABELS, (small_configuration(),))
    with pytest.raises(PlanError, match=r"fix: write augmentation\.cutmix_probability="):
        apply_overrides(plan, ["augmentation.cutmix_probabilty=1"])


def sided(names):
    labels = Labels(names=names, values=tuple(range(len(names))))
    volumes = fingerprint_of([(60, 90, 100)] * 4, (1.0, 1.0, 1.0), labels=labels)
    cases = tuple(case.revised(orientation="LPS") for case in volumes.cases)
    return volumes.revised(cases=cases)


def test_paired_classes_are_swapped_along_the_axis_of_the_network():
    volumes = sided(("background", "left lung", "heart", "right lung"))
    grid = image_grid(volumes)
    assert side_pairs(volumes, grid, 3) == (SidePair(axis=2, first=1, second=3),)
    assert side_pairs(volumes, grid, 2) == (SidePair(axis=1, first=1, second=3),)


def test_a_class_with_two_partners_is_never_swapped():
    volumes = sided(("background", "left lung", "right lung", "Right Lung"))
    assert side_pairs(volumes, image_grid(volumes), 3) == ()
