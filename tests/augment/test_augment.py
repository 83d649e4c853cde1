from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from autoseg.augment.augment import draw_augmentation
from autoseg.augment.padding import read_image, read_labels

SHAPE = (2, 12, 14, 16)


def stored_case(rng):
    image = rng.normal(size=(2, 30, 28, 32)).astype(np.float16)
    labels = rng.integers(0, 3, (30, 28, 32)).astype(np.int8)
    return image, labels


def apply(augmentation, image, labels, start=(8, 7, 9), **options):
    box = augmentation.source_box(start, SHAPE[1:])
    return augmentation.apply(
        read_image(image, box, padding="mirror"), read_labels(labels, box), SHAPE[1:], **options
    )


def test_replay_gives_the_same_patch(always):
    rng = np.random.default_rng(0)
    image, labels = stored_case(rng)
    augmentation = draw_augmentation(rng, always, SHAPE, mirror_axes=(0, 1, 2))

    first, second = (apply(augmentation, image, labels) for _ in range(2))

    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert first[0].shape == SHAPE
    assert first[1].shape == SHAPE[1:]


def test_stored_case_is_not_changed(always):
    rng = np.random.default_rng(0)
    image, labels = stored_case(rng)
    image = image.astype(np.float32)
    before = image.copy(), labels.copy()
    plain = always.revised(rotation_probability=0.0, scale_probability=0.0)
    apply(draw_augmentation(rng, plain, SHAPE, mirror_axes=()), image, labels)

    assert (image == before[0]).all()
    assert (labels == before[1]).all()


def test_drawn_augmentation_is_frozen(plan):
    augmentation = draw_augmentation(np.random.default_rng(0), plan, SHAPE, mirror_axes=())
    with pytest.raises(FrozenInstanceError):
        augmentation.mirrored = (0,)  # pyright: ignore[reportAttributeAccessIssue]


def test_same_generator_draws_the_same(plan):
    drawn = [
        draw_augmentation(np.random.default_rng(5), plan, SHAPE, mirror_axes=(0, 1))
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_only_allowed_axes_are_mirrored_each_half_of_the_time(plan):
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(rng, plan, SHAPE, mirror_axes=(0, 2)).mirrored for _ in range(2000)]
    counts = np.bincount(np.concatenate([np.array(axes, int) for axes in drawn]), minlength=3)

    np.testing.assert_allclose(counts / 2000, [0.5, 0, 0.5], atol=0.04)


def test_mirrored_patch_is_the_reversed_cut(plan):
    rng = np.random.default_rng(0)
    image, labels = stored_case(rng)
    names = [name for name in type(plan).model_fields if name.endswith("_probability")]
    only_mirror = plan.revised(**dict.fromkeys(names, 0.0)).revised(mirror_probability=1.0)
    augmentation = draw_augmentation(rng, only_mirror, SHAPE, mirror_axes=(0, 2))

    patch, patch_labels = apply(augmentation, image, labels)

    cut = (slice(8, 20), slice(7, 21), slice(9, 25))
    assert (patch == image[(slice(None), *cut)][:, ::-1, :, ::-1]).all()
    assert (patch_labels == labels[cut][::-1, :, ::-1]).all()


def test_values_keep_the_scale_of_the_image(plan):
    rng = np.random.default_rng(0)
    image, labels = stored_case(rng)
    patches = [
        apply(draw_augmentation(rng, plan, SHAPE, mirror_axes=(0,)), image, labels)[0]
        for _ in range(60)
    ]
    assert all(np.isfinite(patch).all() for patch in patches)
    assert abs(np.mean(patches)) < 0.1
    assert 0.7 < np.std(patches) < 1.1


def test_zero_outside_the_mask_stays_zero(always):
    rng = np.random.default_rng(0)
    image, labels = stored_case(rng)
    image[:, :15] = 0
    plain = always.revised(rotation_probability=0.0, scale_probability=0.0)
    augmentation = draw_augmentation(rng, plain, SHAPE, mirror_axes=())

    patch, _ = apply(augmentation, image, labels, masked_channels=(1,))

    assert (patch[1, :7] == 0).all()
    assert (patch[1, 7:] != 0).mean() > 0.99
    assert (patch[0, :6] != 0).mean() > 0.99
