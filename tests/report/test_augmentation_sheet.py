import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from autoseg.report.augmentation_sheet import NUM_COLUMNS, PANEL, draw_sheet, only, planned_changes
from autoseg.testing.plans import STILL, small_configuration

PATCHES = {1: (64,), 2: (32, 24), 3: (8, 32, 24)}


def item_of(num_axes, **changes):
    patch = PATCHES[num_axes]
    item = small_configuration(patch, image_axes=num_axes)
    plan = STILL.revised(**changes)
    return item.revised(training=item.training.revised(augmentation=plan))


def recorded(asked):
    def patches(item, step):
        plan = item.training.augmentation
        asked.append((step, planned_changes(item)))
        rng = np.random.default_rng(step)
        size = item.patch_size
        labels = np.zeros(size, np.int16)
        labels[(..., *(slice(n // 4, n // 2) for n in size[-2:]))] = 1
        return rng.normal(size=(1, *size)).astype(np.float32) + plan.noise_std[1], labels

    return patches


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_each_planned_change_is_shown_alone_and_all_together(num_axes):
    asked = []
    item = item_of(num_axes, noise_probability=0.1, gamma_probability=0.3)

    content = draw_sheet(item, recorded(asked))

    first = [names for step, names in asked if step == 0]
    assert first == [[], ["noise_probability"], ["gamma_probability"]]
    together = [names for step, names in asked if step >= 3]
    assert together == [["noise_probability", "gamma_probability"]] * 9
    with Image.open(io.BytesIO(content)) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width >= NUM_COLUMNS * PANEL
        pixels = np.asarray(sheet).astype(int)
    assert (np.ptp(pixels, axis=-1) > 60).any()  # outlines of the class


def test_what_cannot_happen_is_not_shown():
    item = item_of(1, mirror_probability=0.5, channel_dropout_probability=0.5)
    assert planned_changes(item) == ["mirror_probability"]
    still = item.revised(recipe=replace(item.recipe, mirror_axes=()))
    assert planned_changes(still) == []


def test_a_change_alone_always_happens():
    item = item_of(2, noise_probability=0.1, gamma_probability=0.3)
    plan = only(item, ("gamma_probability",)).training.augmentation
    assert (plan.gamma_probability, plan.noise_probability) == (1.0, 0.0)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
def test_a_channel_that_is_left_out_is_shown_dark(num_axes):
    made = recorded([])

    def patches(item, step):
        image, labels = made(item, step)
        if item.training.augmentation.channel_dropout_probability:
            image[:] = np.nan
        return image, labels

    item = item_of(num_axes)
    channels = item.recipe.channels * 2
    item = item.revised(recipe=replace(item.recipe, channels=channels))
    training = item.training.revised(augmentation=STILL.revised(channel_dropout_probability=0.5))

    content = draw_sheet(item.revised(training=training), patches)

    with Image.open(io.BytesIO(content)) as sheet:
        assert sheet.format == "PNG"
