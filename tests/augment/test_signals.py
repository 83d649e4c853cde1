"""Augmentation of signals, whose patches have one axis."""

import numpy as np

from autoseg.augment.augment import draw_augmentation
from autoseg.augment.spatial import Warp
from autoseg.plan.augmentation import light_augmentation, nnunet_augmentation


def test_a_signal_is_stretched_about_its_middle_with_its_labels():
    warp = Warp(((0.5,),))
    box = warp.source_box((100,), (101,))
    assert box[0][0] >= 100 + 24
    assert box[0][1] <= 100 + 78
    source = np.arange(*box[0], dtype=np.float32)
    labels = (source >= 150).astype(np.int8)
    image, classes = warp.apply(source[None], labels, (101,))
    np.testing.assert_allclose(image[0], 150 + 0.5 * (np.arange(101) - 50), atol=1e-3)
    (edge,) = np.flatnonzero(np.diff(classes))
    assert edge in (48, 49)


def test_every_change_that_is_planned_can_be_made_to_a_signal():
    for plan in (light_augmentation((256,)), nnunet_augmentation((256,))):
        chances = [key for key in type(plan).model_fields if key.endswith("_probability")]
        own = {key: 1.0 for key in chances if getattr(plan, key) > 0}
        certain = plan.revised(**own)
        rng = np.random.default_rng(0)
        drawn = draw_augmentation(rng, certain, (2, 256), mirror_axes=())
        ((low, high),) = drawn.source_box((0,), (256,))
        source = rng.normal(size=(2, high - low)).astype(np.float32)
        image, labels = drawn.apply(source, np.zeros(high - low, np.int8), (256,))
        assert image.shape == (2, 256)
        assert labels.shape == (256,)
        assert np.isfinite(image).all()
