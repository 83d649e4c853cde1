import math

import pytest

from autoseg.plan.augmentation import light_augmentation, nnunet_augmentation

FREE = math.pi
LITTLE = math.pi / 6


@pytest.mark.parametrize(
    ("patch", "planar", "angles"),
    [
        ((128, 128, 128), False, (LITTLE, LITTLE, LITTLE)),
        ((40, 120, 120), False, (LITTLE, LITTLE, LITTLE)),
        ((20, 320, 256), True, (FREE,)),
        ((192, 160), False, (FREE,)),
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
