import pytest

from autoseg.plan.foreground import (
    OVERSAMPLED,
    SPARSE,
    TINY,
    TUBE_LENGTH,
    TUBE_WIDTH,
    affords_skeletons,
    foreground_share,
    loss_of,
    oversampling,
    tube_width,
)
from autoseg.plan.losses import loss_problems
from autoseg.plan.training import FOREGROUND_FRACTION
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of

THREE = Labels(names=("background", "vessel", "heart"), values=(0, 1, 2))


def measured(*voxels, widths=(), lengths=(), labels=THREE):
    made = fingerprint_of([(64, 64)] * len(voxels), (1.0, 1.0), labels=labels)
    changes = {"class_widths": widths, "class_lengths": lengths}
    cases = zip(made.cases, voxels, strict=True)
    return made.revised(
        cases=tuple(case.revised(class_voxels=counts, **changes) for case, counts in cases)
    )


def loss(share: float | None = 0.2, width=None, regions=(), can_afford_skeletons=True):
    return loss_of(share, width, regions, can_afford_skeletons=can_afford_skeletons)


def test_the_share_is_the_median_of_cases_that_have_any():
    cases = measured((900, 50, 50), (1000, 0, 0), (980, 20, 0)).cases
    assert foreground_share(cases) == pytest.approx(0.06)


def test_a_fingerprint_without_counts_has_no_share_and_gets_what_is_usual():
    cases = fingerprint_of([(64, 64)] * 3, (1.0, 1.0)).cases
    assert foreground_share(cases) is None
    assert oversampling(None).value == FOREGROUND_FRACTION
    assert loss(None).value.kind == "dice_ce"


def test_sparse_foreground_is_oversampled_and_keeps_dice():
    assert oversampling(0.99 * SPARSE).value == OVERSAMPLED > FOREGROUND_FRACTION
    assert oversampling(SPARSE).value == FOREGROUND_FRACTION
    assert loss(0.99 * SPARSE).value.kind == "dice_ce"


def test_tiny_foreground_gets_focal_loss_with_dice():
    assert loss(0.99 * TINY).value.kind == "dice_focal"
    assert loss(TINY).value.kind == "dice_ce"


def test_nested_regions_are_trained_as_they_are_judged():
    found = loss(0.0001, 4.0, [(1, 2), (2,)])
    assert (found.value.kind, found.value.regions) == ("regions", ((1, 2), (2,)))


@pytest.mark.parametrize("width", [1.0, 7.3, TUBE_WIDTH])
def test_thin_tubes_get_cldice_whose_skeletons_reach_their_middle(width):
    found = loss(width=width).value
    assert found.kind == "dice_ce_cldice"
    assert found.skeleton_iterations >= width / 2


def test_tubes_on_a_cpu_keep_the_usual_loss_and_say_how_to_change_it():
    assert not affords_skeletons("cpu")
    assert affords_skeletons("cuda")
    found = loss(width=3.0, can_afford_skeletons=False)
    assert found.value.kind == "dice_ce"
    assert "--set loss=dice_ce_cldice" in found.reason


@pytest.mark.parametrize("found", [loss(), loss(0.0001), loss(width=3.0), loss(regions=[(1, 2)])])
def test_every_loss_can_be_built_and_has_a_reason(found):
    assert not list(loss_problems(found.value, 3))
    assert found.reason.endswith(".")


COUNTS = ((900, 50, 50), (900, 60, 40))


def test_the_foreground_is_tubes_if_every_class_is_thin_and_long():
    long = (0.0, 2 * TUBE_LENGTH, 3 * TUBE_LENGTH)
    assert tube_width(measured(*COUNTS, widths=(0.0, 3.0, 4.0), lengths=long)) == 4.0
    assert tube_width(measured(*COUNTS, widths=(0.0, 3.0, 30.0), lengths=long)) is None
    short = (0.0, 2 * TUBE_LENGTH, 5.0)
    assert tube_width(measured(*COUNTS, widths=(0.0, 3.0, 4.0), lengths=short)) is None


def test_what_was_not_measured_or_is_absent_is_no_tube():
    assert tube_width(measured(*COUNTS)) is None
    absent = measured(*COUNTS, widths=(0.0, 3.0, 0.0), lengths=(0.0, 2 * TUBE_LENGTH, 0.0))
    assert tube_width(absent) is None
