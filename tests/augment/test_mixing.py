import numpy as np
import pytest

from autoseg.augment.mixing import CopyPaste, CutMix, Donor, draw_mixes, nearest_object

SHAPES = [(40,), (20, 24), (12, 14, 16)]


def patch_and_donor(shape):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    labels = np.zeros(shape, np.int16)
    other = rng.normal(size=(2, *shape)).astype(np.float32)
    return image, labels, Donor(other, rng.integers(0, 3, shape).astype(np.int16))


@pytest.mark.parametrize("shape", SHAPES)
def test_cutmix_takes_image_and_labels_of_the_same_voxels(plan, shape):
    image, labels, donor = patch_and_donor(shape)
    before = image.copy()
    mixing = plan.revised(cutmix_probability=1.0, cutmix_fraction=(0.3, 0.3))
    (mix,) = draw_mixes(np.random.default_rng(1), mixing, shape, 3)

    mix.cut(donor).paste(image, labels)

    taken = (image != before).all(axis=0)
    assert taken.mean() == pytest.approx(0.3, abs=0.06)
    assert (image[:, taken] == donor.image[:, taken]).all()
    assert (labels[taken] == donor.labels[taken]).all()
    assert (labels[~taken] == 0).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_one_whole_object_is_pasted_with_its_labels(shape):
    image, labels, donor = patch_and_donor(shape)
    before = image.copy()
    donor.labels[:] = 1
    middle = tuple(slice(n // 2 - 2, n // 2 + 2) for n in shape)
    corner = tuple(slice(0, 2) for _ in shape)
    donor.labels[middle] = donor.labels[corner] = 2

    CopyPaste((2,)).cut(donor).paste(image, labels)

    expected = np.zeros(shape, bool)
    expected[middle] = True
    assert ((image != before).all(axis=0) == expected).all()
    assert (labels == np.where(expected, 2, 0)).all()


def test_no_object_changes_nothing():
    assert not nearest_object(np.ones((4, 5), np.int8), (2, 3)).any()


def test_pasted_classes_are_those_of_the_plan_or_all(plan):
    rng = np.random.default_rng(0)
    pasting = plan.revised(copy_paste_probability=1.0)
    drawn = [draw_mixes(rng, pasting, (8, 8), 4)[0].wanted for _ in range(300)]
    assert all(sorted(wanted or ()) == [1, 2, 3] for wanted in drawn)
    firsts = [wanted[0] for wanted in drawn if wanted]
    assert min(firsts.count(index) for index in (1, 2, 3)) > 70
    (chosen,) = draw_mixes(rng, pasting.revised(copy_paste_classes=(2,)), (8, 8), 4)
    assert chosen == CopyPaste((2,))


def test_boxes_lie_inside_the_patch(plan):
    rng = np.random.default_rng(0)
    mixing = plan.revised(cutmix_probability=1.0, cutmix_fraction=(0.1, 1.0))
    for _ in range(100):
        (mix,) = draw_mixes(rng, mixing, (7, 30), 2)
        assert isinstance(mix, CutMix)
        assert all(0 <= a < b <= n for (a, b), n in zip(mix.box, (7, 30), strict=True))


def test_nothing_is_drawn_where_the_plan_leaves_it_out(plan):
    rng = np.random.default_rng(3)
    assert draw_mixes(rng, plan, (8, 8), 3) == ()
    assert rng.random() == np.random.default_rng(3).random()
