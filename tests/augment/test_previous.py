"""What a second stage is told of the first one is changed at random, and moved with the labels."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from scipy import ndimage

from autoseg.augment.augment import draw_augmentation
from autoseg.augment.mixing import CopyPaste, CutMix, Donor
from autoseg.augment.previous import (
    OPERATIONS,
    BallChange,
    PartRemoval,
    draw_label_changes,
)
from autoseg.plan.plan import SidePair
from autoseg.runtime.resample import IGNORE

SHAPES = [(60,), (26, 30), (14, 16, 18)]
PATCH = (12, 14, 16)
SCIPY = {
    "dilation": ndimage.binary_dilation,
    "erosion": ndimage.binary_erosion,
    "opening": ndimage.binary_opening,
    "closing": ndimage.binary_closing,
}


def ball(num_axes, radius):
    grid = np.meshgrid(*[np.arange(-radius, radius + 1)] * num_axes, indexing="ij")
    return sum(axis**2 for axis in grid) <= radius**2


def blobs(shape, seed=0, num_classes=3):
    """Return class indices (*S): smooth regions that touch each other and the borders."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, 2.0, mode="wrap")
    edges = np.quantile(smooth, np.linspace(0, 1, num_classes + 1)[1:-1])
    return np.digitize(smooth, edges).astype(np.int8)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2, 3])
def test_a_class_is_changed_by_the_morphological_operation_of_that_name(name, shape, radius):
    margin = (slice(2 * radius + 1, -2 * radius - 1),) * len(shape)
    labels = np.zeros([n + 4 * radius + 2 for n in shape], np.int8)
    specks = np.random.default_rng(1).random(shape) < 0.05
    labels[margin] = (blobs(shape) == 2) ^ specks
    expected = SCIPY[name](labels == 1, ball(len(shape), radius))
    assert (expected != (labels == 1)).any()

    BallChange(1, name, radius).apply(labels)

    np.testing.assert_array_equal(labels, expected)


def test_a_class_that_grows_takes_voxels_of_others_and_one_that_shrinks_leaves_background():
    labels = np.zeros(12, np.int8)
    labels[2:6], labels[6:10] = 1, 2
    BallChange(1, "dilation", 2).apply(labels)
    np.testing.assert_array_equal(labels, [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 0, 0])
    BallChange(1, "erosion", 3).apply(labels)
    np.testing.assert_array_equal(labels, [1, 1, 1, 1, 1, 0, 0, 0, 2, 2, 0, 0])


def test_a_class_is_not_eroded_at_the_border_of_the_image_where_it_may_go_on():
    labels = np.ones((6, 6), np.int8)
    BallChange(1, "erosion", 3).apply(labels)
    assert (labels == 1).all()


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_class_that_is_not_there_changes_nothing(name):
    labels = blobs((14, 16, 18))
    before = labels.copy()
    BallChange(7, name, 4).apply(labels)
    PartRemoval(7, 1.0, 0.5).apply(labels)
    np.testing.assert_array_equal(labels, before)


def test_a_class_that_no_ball_fits_into_is_lost_by_opening():
    labels = np.zeros((9, 9), np.int8)
    labels[4, 2:7] = 1
    BallChange(1, "opening", 2).apply(labels)
    assert not labels.any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_class_is_found_outside_the_image(name):
    labels = np.full((20, 20), IGNORE, np.int8)
    labels[5:, :15] = blobs((15, 15))
    BallChange(2, name, 4).apply(labels)
    assert (labels[:5] == IGNORE).all()
    assert (labels[:, 15:] == IGNORE).all()
    assert (labels[5:, :15] >= 0).all()


def test_one_part_under_the_limit_is_removed_and_nothing_else():
    labels = np.zeros((10, 20), np.int8)
    labels[1:3, 1:3], labels[1:3, 8:11], labels[5:9, 2:18] = 1, 1, 1  # of 4, 6 and 64 voxels
    labels[4, 4] = 2
    first, second = labels.copy(), labels.copy()
    first[1:3, 1:3], second[1:3, 8:11] = 0, 0
    for place, expected in ((0.0, first), (0.49, first), (0.5, second), (0.999, second)):
        found = labels.copy()
        PartRemoval(1, 0.15, place).apply(found)
        np.testing.assert_array_equal(found, expected)


def test_a_part_as_large_as_the_limit_stays():
    labels = np.zeros((10, 10), np.int8)
    labels[:3, :5] = 1  # 15 of 100 voxels
    for limit, is_kept in ((0.15, True), (0.1501, False)):
        found = labels.copy()
        PartRemoval(1, limit, 0.0).apply(found)
        assert found.any() == is_kept


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_removed_is_one_connected_part(shape):
    labels = blobs(shape, seed=3, num_classes=4)
    before = labels.copy()
    PartRemoval(3, 0.5, 0.7).apply(labels)
    changed = labels != before
    structure = np.ones((3,) * len(shape))
    parts, _ = ndimage.label(before == 3, structure)  # pyright: ignore[reportGeneralTypeIssues]
    (removed,) = np.unique(parts[changed])
    np.testing.assert_array_equal(changed, parts == removed)
    assert (labels[changed] == 0).all()


def changing(plan, **changes):
    wanted = {"previous_change_probability": 1.0, "previous_removal_probability": 1.0}
    return plan.revised(**{**wanted, **changes})


def test_probabilities_of_zero_draw_nothing(plan):
    rng, other = np.random.default_rng(0), np.random.default_rng(0)
    assert draw_label_changes(rng, plan, 5) == ()
    assert rng.random() == other.random()


def test_changes_are_drawn_last_so_that_other_draws_stay(plan):
    without, with_changes = (
        draw_augmentation(
            np.random.default_rng(3), item, (1, *PATCH), mirror_axes=(0, 1), num_classes=4
        )
        for item in (plan, changing(plan))
    )
    assert without.previous == ()
    assert with_changes.previous
    assert replace(with_changes, previous=()) == without


def test_the_same_generator_draws_the_same_changes_and_they_are_frozen(plan):
    first, second = (
        draw_label_changes(np.random.default_rng(4), changing(plan), 9) for _ in range(2)
    )
    assert first == second
    assert first != draw_label_changes(np.random.default_rng(5), changing(plan), 9)
    with pytest.raises(FrozenInstanceError):
        first[0].class_index = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_applying_a_change_draws_nothing(plan):
    changes = draw_label_changes(np.random.default_rng(4), changing(plan), 4)
    assert changes
    first, second = (blobs((14, 16, 18), num_classes=4) for _ in range(2))
    for change in changes:
        change.apply(first)
        change.apply(second)
    np.testing.assert_array_equal(first, second)
    assert (first != blobs((14, 16, 18), num_classes=4)).any()


def test_operations_radii_and_foreground_classes_are_drawn_evenly(plan):
    rng = np.random.default_rng(0)
    drawn = [draw_label_changes(rng, changing(plan, previous_radius=(2, 4)), 4) for _ in range(600)]
    balls = [item for changes in drawn for item in changes if isinstance(item, BallChange)]
    removals = [item for changes in drawn for item in changes if isinstance(item, PartRemoval)]
    for values, expected in (
        ([item.operation for item in balls], set(OPERATIONS)),
        ([item.radius for item in balls], {2, 3, 4}),
        ([item.class_index for item in balls], {1, 2, 3}),
        ([item.class_index for item in removals], {1, 2, 3}),
        ([int(4 * item.place) for item in removals], {0, 1, 2, 3}),
    ):
        names, counts = np.unique(values, return_counts=True)
        assert set(names.tolist()) == expected
        np.testing.assert_allclose(counts / len(values), 1 / len(expected), atol=0.06)
    for items in (balls, removals):  # each class in half of the patches
        assert len(items) / (3 * 600) == pytest.approx(0.5, abs=0.04)
    assert {item.limit for item in removals} == {plan.previous_removal_limit}


def test_changes_are_drawn_as_often_as_planned(plan):
    rng = np.random.default_rng(0)
    item = changing(plan, previous_change_probability=0.4, previous_removal_probability=0.2)
    kinds = [{type(change) for change in draw_label_changes(rng, item, 30)} for _ in range(1000)]
    assert np.mean([BallChange in kind for kind in kinds]) == pytest.approx(0.4, abs=0.05)
    assert np.mean([PartRemoval in kind for kind in kinds]) == pytest.approx(0.2, abs=0.05)


def test_the_order_of_classes_changes_so_that_none_always_wins(plan):
    rng = np.random.default_rng(0)
    orders = [
        [c.class_index for c in draw_label_changes(rng, changing(plan), 3) if type(c) is BallChange]
        for _ in range(100)
    ]
    assert [1, 2] in orders
    assert [2, 1] in orders


def everywhere(plan, **changes):
    """Return a plan whose every spatial change happens, and no other."""
    chances = [name for name, _ in plan if name.endswith("_probability")]
    spatial = ("rotation", "scale", "elastic", "side_mirror")
    return plan.revised(
        **{
            **dict.fromkeys(chances, 0.0),
            **{f"{name}_probability": 1.0 for name in spatial},
            "mirror_probability": 0.5,
            "side_pairs": (SidePair(axis=0, first=1, second=2),),
            **changes,
        }
    )


def drawn_patch(plan, index, make, shape=PATCH, num_classes=4):
    """Return a drawn augmentation, with image and labels that `make` gives for its source box."""
    rng = np.random.default_rng(index)
    mirrored = range(1, len(shape))
    drawn = draw_augmentation(rng, plan, (1, *shape), mirror_axes=mirrored, num_classes=num_classes)
    sizes = tuple(high - low for low, high in drawn.source_box((0,) * len(shape), shape))
    image = rng.normal(size=(1, *sizes)).astype(np.float32)
    return drawn, image, make(sizes)


@pytest.mark.parametrize("is_planar", [False, True])
def test_labels_of_the_previous_stage_are_moved_as_the_targets_are(plan, is_planar):
    turning = everywhere(plan)
    if is_planar:
        turning = turning.revised(planar=True, rotation=((-3.0, 3.0),))
    for index in range(4):
        drawn, image, labels = drawn_patch(turning, index, lambda sizes: blobs(sizes, 1, 4))
        alone_image, alone = drawn.apply(image.copy(), labels.copy(), PATCH)
        found_image, found = drawn.apply(image, np.stack([labels, labels]), PATCH)
        np.testing.assert_array_equal(found, [alone, alone])
        np.testing.assert_array_equal(found_image, alone_image)


def test_each_of_two_label_maps_is_moved_by_itself(plan):
    turning = everywhere(plan)
    drawn, image, labels = drawn_patch(turning, 0, lambda sizes: blobs(sizes, 1, 4))
    other = blobs(labels.shape, 2, 4)
    expected = [drawn.apply(image.copy(), one.copy(), PATCH)[1] for one in (labels, other)]
    assert (expected[0] != expected[1]).any()
    _, found = drawn.apply(image, np.stack([labels, other]), PATCH)
    np.testing.assert_array_equal(found, expected)


def test_targets_and_images_do_not_change_with_what_the_previous_stage_found(plan):
    lively = changing(plan)
    is_changed = []
    for index in range(6):
        drawn, image, labels = drawn_patch(lively, index, lambda sizes: blobs(sizes, 1, 4))
        plain = replace(drawn, previous=())
        stacked = np.stack([labels, labels])
        expected_image, expected = plain.apply(image.copy(), stacked.copy(), PATCH)
        found_image, found = drawn.apply(image, stacked, PATCH)
        np.testing.assert_array_equal(found_image, expected_image)
        np.testing.assert_array_equal(found[0], expected[0])
        is_changed.append((found[1] != expected[1]).any())
    assert any(is_changed)


def staged_donor(shape=PATCH):
    rng = np.random.default_rng(7)
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    return Donor(image, np.stack([blobs(shape, 5), blobs(shape, 6)]))


@pytest.mark.parametrize(
    "mix", [CutMix(((2, 7), (3, 9), (0, 16))), CopyPaste((2,))], ids=["cutmix", "copy-paste"]
)
def test_what_a_patch_takes_of_another_case_comes_with_its_previous_labels(mix):
    donor = staged_donor()
    image, labels = np.zeros((1, *PATCH), np.float32), np.full((2, *PATCH), 9, np.int8)
    mix.cut(donor).paste(image, labels)
    taken = labels[0] != 9
    assert 0 < taken.sum() < taken.size
    np.testing.assert_array_equal(labels[:, taken], donor.labels[:, taken])
    np.testing.assert_array_equal(image[:, taken], donor.image[:, taken])
    assert (labels[1][~taken] == 9).all()
    assert (image[:, ~taken] == 0).all()


def test_a_pasted_object_is_one_of_the_targets_not_of_what_was_found():
    donor = staged_donor()
    donor.labels[0], donor.labels[1] = 0, 2
    donor.labels[0, 4:6, 4:6, 4:6] = 2
    piece = CopyPaste((2,)).cut(donor)
    assert piece.mask is not None
    np.testing.assert_array_equal(piece.mask, donor.labels[0] == 2)


def test_sides_are_swapped_in_both_label_maps(plan):
    still = dict.fromkeys(("rotation", "scale", "elastic", "mirror"), 0.0)
    alone = everywhere(plan, **{f"{name}_probability": value for name, value in still.items()})
    drawn, image, labels = drawn_patch(alone, 0, lambda sizes: np.zeros((2, *sizes), np.int8))
    labels[0, 0], labels[1, -1] = 1, 2
    _, found = drawn.apply(image, labels, PATCH)
    assert (found[0, -1] == 2).all()
    assert (found[1, 0] == 1).all()
    assert (found == 0).mean() == pytest.approx(1 - 1 / len(found[0]))
