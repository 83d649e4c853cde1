import numpy as np

from autoseg.augment.augment import draw_augmentation
from autoseg.augment.channels import draw_missing
from autoseg.augment.sides import SideMirror
from autoseg.plan.plan import SidePair

PAIRS = (SidePair(axis=1, first=1, second=3), SidePair(axis=1, first=2, second=4))


def still(plan, **changes):
    names = [name for name, _ in plan if name.endswith("_probability")]
    return plan.revised(**dict.fromkeys(names, 0.0)).revised(**changes)


def test_mirrored_left_becomes_right_where_the_image_has_it(plan):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 6, 8)).astype(np.float32)
    labels = rng.integers(-1, 6, (6, 8)).astype(np.int8)
    mirroring = still(plan, planar=True, side_pairs=PAIRS, side_mirror_probability=1.0)
    augmentation = draw_augmentation(rng, mirroring, (1, 6, 8), mirror_axes=())

    new_image, new_labels = augmentation.apply(image.copy(), labels.copy(), (6, 8))

    swapped = np.array([0, 3, 4, 1, 2, 5, -1])  # the last is what -1 points to
    assert (new_image == image[:, :, ::-1]).all()
    assert (new_labels == swapped[labels][:, ::-1]).all()


def test_swapping_twice_gives_the_labels_back():
    labels = np.random.default_rng(0).integers(-1, 6, (30,)).astype(np.int16)
    found = labels.copy()
    mirror = SideMirror(0, ((1, 3), (2, 4)))
    mirror.swap(found)
    assert (found != labels).any()
    mirror.swap(found)
    assert (found == labels).all()


def test_sides_are_left_alone_by_default(plan):
    rng = np.random.default_rng(0)
    drawn = [
        draw_augmentation(rng, still(plan, side_pairs=PAIRS), (1, 6, 8), mirror_axes=(0,))
        for _ in range(30)
    ]
    assert all(item.sides == () for item in drawn)


def test_missing_channels_are_nan_and_named(plan):
    image = np.ones((4, 6, 8), np.float32)
    dropping = still(plan, planar=True, channel_dropout_probability=0.5)
    augmentation = draw_augmentation(
        np.random.default_rng(2), dropping, image.shape, mirror_axes=()
    )

    found, _ = augmentation.apply(image, np.zeros((6, 8), np.int8), (6, 8))

    assert 0 < len(augmentation.missing) < 4
    for channel in range(4):
        assert np.isnan(found[channel]).all() == (channel in augmentation.missing)
        assert (np.nan_to_num(found[channel], nan=1) == 1).all()


def test_one_channel_is_always_kept(plan):
    rng = np.random.default_rng(0)
    dropping = plan.revised(channel_dropout_probability=1.0)
    kept = {({0, 1, 2} - set(draw_missing(rng, dropping, 3))).pop() for _ in range(60)}
    assert kept == {0, 1, 2}
    assert draw_missing(rng, dropping, 1) == ()
