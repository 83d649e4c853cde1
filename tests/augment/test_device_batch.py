from dataclasses import replace

import numpy as np
import pytest
import torch

from autoseg.augment.augment import Sample, draw_augmentation
from autoseg.augment.device_batch import pack
from autoseg.augment.mixing import Donor
from autoseg.augment.padding import read_image, read_labels
from autoseg.plan.plan import SidePair
from autoseg.seeds import stream

SHAPES = {1: (2, 90), 2: (2, 24, 30), 3: (2, 12, 14, 16)}
ROTATIONS = {1: (), 2: ((-3.0, 3.0),), 3: ((-0.5, 0.5),) * 3}
SPATIAL = ("rotation", "scale", "elastic", "mirror", "side_mirror")
NUM_CLASSES = 4
BATCH = 6
WAITING = {"aten::_local_scalar_dense", "aten::nonzero"}
"""Operations whose result the processor needs before it can go on."""


def whole_case(shape, seed=0):
    """Return image (C, *S) and labels (*S): blobs of classes with values of their own."""
    rng = np.random.default_rng(seed)
    sizes = [2 * n for n in shape[1:]]
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in sizes], indexing="ij"))
    wave = sum(np.sin(axis / rng.uniform(3, 6) + rng.uniform(0, 6)) for axis in grid)
    labels = np.clip(np.floor((wave + 2) / 4 * NUM_CLASSES), 0, NUM_CLASSES - 1).astype(np.int8)
    image = labels + rng.normal(0, 0.3, (shape[0], *sizes))
    return image.astype(np.float16), labels


def only(plan, names, **changes):
    chances = [name for name, _ in plan if name.endswith("_probability")]
    wanted = {f"{name}_probability": 1.0 for name in names}
    return plan.revised(**{**dict.fromkeys(chances, 0.0), **wanted, **changes})


def every(plan, num_axes):
    """Return a plan in which every change happens to every patch, but no noise.

    Labels of a previous stage, which `staged` adds, are not changed.
    """
    chances = [name for name, _ in plan if name.endswith("_probability")]
    return plan.revised(
        **{
            **dict.fromkeys(chances, 1.0),
            "rotation": ROTATIONS[num_axes],
            "rotation_probability": float(num_axes > 1),
            "noise_probability": 0.0,
            "previous_change_probability": 0.0,
            "previous_removal_probability": 0.0,
            "mirror_probability": 0.5,
            "channel_dropout_probability": 0.3,
            "side_pairs": (SidePair(axis=0, first=1, second=3),),
            "side_mirror_probability": 0.5,
        }
    )


def samples(plan, shape, count=BATCH, case=None):
    """Return samples of the middle of a case, as workers read them."""
    image, labels = case or whole_case(shape)
    start = [n // 2 for n in shape[1:]]
    found = []
    for index in range(count):
        drawn = draw_augmentation(
            stream(index, "test"),
            plan,
            shape,
            mirror_axes=range(1, len(shape) - 1),
            num_classes=NUM_CLASSES,
        )
        box = drawn.source_box(start, shape[1:])
        plain = tuple(slice(s, s + n) for s, n in zip(start, shape[1:], strict=True))
        other, known = whole_case(shape, seed=1)
        donor = Donor(other[(slice(None), *plain)].astype(np.float32), known[plain])
        cut = read_image(image, box, padding="mirror"), read_labels(labels, box)
        found.append(Sample(drawn, *cut, donors=(donor,) * len(drawn.mixes)))
    return found


def staged(items):
    """Return samples whose labels come with what a previous stage found: other ones."""
    return [
        replace(
            item,
            labels=np.stack([item.labels, np.roll(item.labels, 3, axis=-1)]),
            donors=tuple(
                replace(donor, labels=np.stack([donor.labels, np.flip(donor.labels, 0)]))
                for donor in item.donors
                if donor is not None
            ),
        )
        for item in items
    ]


def unchanged(items):
    """Return samples in which labels of a previous stage stay."""
    return [replace(item, augmentation=replace(item.augmentation, previous=())) for item in items]


def on_device(items, shape, masked=(), send=lambda tensor: tensor):
    packed = pack(items, shape[1:], masked_channels=masked, kind="cpu")
    images, labels = packed.apply(send)
    return images.numpy(), labels.numpy()


def on_workers(items, shape, masked=()):
    made = [
        item.augmentation.apply(
            item.image.copy(),
            item.labels.copy(),
            shape[1:],
            masked_channels=masked,
            donors=item.donors,
        )
        for item in items
    ]
    return np.stack([image for image, _ in made]), np.stack([labels for _, labels in made])


def assert_same_patches(plan, shape, masked=(), case=None):
    items = samples(plan, shape, case=case)
    images, labels = on_device(items, shape, masked)
    expected, expected_labels = on_workers(items, shape, masked)
    assert images.dtype == np.float32
    assert labels.dtype == np.int16
    assert (labels == expected_labels).all()
    np.testing.assert_allclose(images, expected, atol=2e-4)


@pytest.mark.parametrize("num_axes", SHAPES)
def test_all_changes_together_are_those_of_the_workers(plan, num_axes):
    assert_same_patches(every(plan, num_axes), SHAPES[num_axes])


@pytest.mark.parametrize(
    "effect",
    [
        "rotation",
        "scale",
        "elastic",
        "blur",
        "brightness",
        "contrast",
        "low_resolution",
        "gamma",
        "inverted_gamma",
        "mirror",
        "side_mirror",
        "cutmix",
        "copy_paste",
    ],
)
@pytest.mark.parametrize("num_axes", [2, 3])
def test_each_change_is_that_of_the_workers(plan, effect, num_axes):
    pairs = (SidePair(axis=0, first=1, second=3),)
    alone = only(plan, [effect], rotation=ROTATIONS[num_axes], side_pairs=pairs)
    items = samples(alone, SHAPES[num_axes])
    plain = samples(only(plan, []), SHAPES[num_axes])
    assert (on_device(items, SHAPES[num_axes])[0] != on_device(plain, SHAPES[num_axes])[0]).any()
    assert_same_patches(alone, SHAPES[num_axes])


def test_missing_channels_are_those_of_the_workers(plan):
    dropping = only(plan, [], channel_dropout_probability=0.5)
    images, _ = on_device(samples(dropping, SHAPES[2]), SHAPES[2])
    missing = np.isnan(images).all(axis=(2, 3))
    assert 0 < missing.sum() < missing.size
    assert_same_patches(dropping, SHAPES[2])


def test_planar_changes_are_those_of_the_workers(plan):
    planar = every(plan, 3).revised(planar=True, rotation=((-3.0, 3.0),))
    assert_same_patches(planar, (2, 5, 20, 24))


def test_zero_outside_the_mask_stays_zero(plan):
    image, labels = whole_case(SHAPES[3])
    image[:, :12] = 0
    bright = only(plan, ["contrast", "gamma", "blur"])
    items = samples(bright, SHAPES[3], case=(image, labels))
    images, _ = on_device(items, SHAPES[3], masked=(1,))
    assert (images[:, 1, :6] == 0).all()
    assert (images[:, 0, :6] != 0).mean() > 0.1
    assert_same_patches(bright, SHAPES[3], masked=(1,), case=(image, labels))


def test_usual_chances_give_the_patches_of_the_workers(plan):
    rare = plan.revised(noise_probability=0.0)
    assert_same_patches(rare, SHAPES[3])


@pytest.mark.parametrize("num_axes", SHAPES)
def test_masks_stay_on_their_voxels(plan, num_axes):
    shape = SHAPES[num_axes]
    _, labels = whole_case(shape)
    image = np.stack([labels.astype(np.float32)] * shape[0])  # a voxel's value is its class
    moving = only(plan, SPATIAL, rotation=ROTATIONS[num_axes])
    moving = moving.revised(rotation_probability=float(num_axes > 1), side_mirror_probability=0.0)
    images, found = on_device(samples(moving, shape, case=(image, labels)), shape)
    inner = np.isclose(images[:, 0], np.round(images[:, 0]), atol=1e-5)  # all neighbours alike
    assert inner.mean() > 0.2
    assert (found[inner] == np.round(images[:, 0])[inner]).mean() > 0.999
    assert np.abs(found - images[:, 0]).max() < NUM_CLASSES - 1


@pytest.mark.parametrize("is_changed", [False, True])
@pytest.mark.parametrize("num_axes", SHAPES)
def test_labels_of_a_previous_stage_are_those_of_the_workers(plan, num_axes, is_changed):
    chance, shape = float(is_changed), SHAPES[num_axes]
    names = ("previous_change_probability", "previous_removal_probability")
    lively = every(plan, num_axes).revised(**dict.fromkeys(names, chance), previous_radius=(1, 2))
    items = samples(lively, shape)
    expected_images, expected = on_workers(staged(items), shape)
    images, labels = on_device(staged(items), shape)
    assert labels.shape == (BATCH, 2, *shape[1:])
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_allclose(images, expected_images, atol=2e-4)
    alone = on_device(unchanged(items), shape)
    np.testing.assert_array_equal(labels[:, 0], alone[1])
    np.testing.assert_array_equal(images, alone[0])
    unlike = on_device(staged(unchanged(items)), shape)[1] != labels
    assert unlike[:, 1].any() == is_changed
    assert not unlike[:, 0].any()


def test_planar_changes_of_a_previous_stage_are_those_of_the_workers(plan):
    planar, shape = every(plan, 3).revised(planar=True, rotation=((-3.0, 3.0),)), (2, 5, 20, 24)
    items = samples(planar, shape)
    _, expected = on_workers(staged(items), shape)
    np.testing.assert_array_equal(on_device(staged(items), shape)[1], expected)


def test_a_batch_can_be_applied_again(plan):
    items = samples(plan.revised(noise_probability=1.0), SHAPES[3])
    packed = pack(items, SHAPES[3][1:], masked_channels=(0,), kind="cpu")
    first, second = packed.apply(lambda tensor: tensor), packed.apply(lambda tensor: tensor)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def operations(run):
    """Return the names of the operations that torch does while something runs."""
    with torch.autograd.profiler.profile() as profile:
        run()
    assert profile is not None
    return {event.name for event in profile.function_events or ()}


@pytest.mark.parametrize("num_axes", SHAPES)
def test_no_operation_waits_for_the_device(plan, num_axes):
    noisy = every(plan, num_axes).revised(noise_probability=1.0)
    items = samples(noisy, SHAPES[num_axes])
    packed = pack(items, SHAPES[num_axes][1:], masked_channels=(0,), kind="cpu")
    seen = operations(lambda: packed.apply(lambda tensor: tensor))
    assert "aten::index_select" in seen
    assert not WAITING & seen
    assert WAITING & operations(lambda: packed.voxels.max().item())
    assert WAITING & operations(lambda: packed.voxels[packed.voxels > 0])


@pytest.mark.slow  # torch loads for seconds what stands in for a device
@pytest.mark.parametrize("num_axes", SHAPES)
def test_nothing_is_left_behind_on_the_processor(plan, num_axes):
    packed = pack(
        samples(every(plan, num_axes), SHAPES[num_axes]),
        SHAPES[num_axes][1:],
        masked_channels=(0,),
        kind="cpu",
    )
    images, labels = packed.apply(lambda tensor: tensor.to("meta"))
    assert images.is_meta
    assert labels.is_meta
    assert images.shape == (BATCH, *SHAPES[num_axes])
