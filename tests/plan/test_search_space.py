import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.errors import PlanError
from autoseg.plan.consistency import plan_problems
from autoseg.plan.overrides import apply_overrides, with_cost
from autoseg.plan.search_space import (
    LEARNING_RATE,
    assignments,
    describe,
    neighbours,
    search_space,
    varied,
)
from autoseg.plan.training import supervision_weights
from autoseg.plan.variation import (
    EQUAL_COST,
    equal_patches,
    further_stage,
    patch_word,
    with_augmentation,
    with_depth,
    with_loss,
    with_patch,
    with_variant,
    with_width,
)
from autoseg.record import LossPlan
from autoseg.runtime.recipe import Channel, Labels
from autoseg.testing.plans import STILL, TRAINING, small_configuration, small_network, small_plan

LABELS = Labels(names=("background", "organ", "tumour"), values=(0, 1, 2))
STAGES = ((16, 1), (32, 2), (64, 2), (128, 2))


def configuration(patch_size=(32, 48, 32), **changes):
    """Return a U-Net of four stages with deep supervision, as a planner would make it."""
    network = small_network(len(patch_size), stages=STAGES).revised(num_supervised=2)
    training = TRAINING.revised(
        supervision_weights=supervision_weights(2),
        augmentation=STILL.revised(
            scale_probability=0.2, noise_probability=0.7, mirror_probability=0.5
        ),
    )
    median = tuple(2 * size for size in patch_size)
    given = {"network": network, "training": training, "median_shape": median, **changes}
    return small_configuration(patch_size, image_axes=len(patch_size), **given)


ITEM = configuration()
PLAN = small_plan(LABELS, (ITEM,))
SPACE = search_space(ITEM)


def names(item):
    return {dimension.name for dimension in search_space(item)}


def points(space):
    """Return a strategy for points of a space."""
    return st.fixed_dictionaries(
        {
            item.name: st.sampled_from(item.options)
            if item.options
            else st.floats(item.low, item.high)
            for item in space
        }
    )


# The space


def test_everything_that_may_matter_is_in_the_space():
    assert names(ITEM) == {
        "learning_rate",
        "foreground",
        "augmentation",
        "loss",
        "width",
        "depth",
        "variant",
        "patch",
        "supervision",
        "normalisation",
    }


@pytest.mark.parametrize("patch_size", [(256,), (64, 64), (32, 48, 32)])
def test_the_default_point_is_the_plan_itself(patch_size):
    item = configuration(patch_size)
    usual = {dimension.name: dimension.default for dimension in search_space(item)}
    assert varied(item, usual) == item
    assert assignments(item, varied(item, usual)) == ()
    assert describe(search_space(item), usual) == "the plan as it is"


@settings(max_examples=20)
@given(values=points(SPACE))
def test_the_set_words_of_a_point_make_its_plan(values):
    new = varied(ITEM, values)
    words = assignments(ITEM, new)
    try:
        made = apply_overrides(PLAN, words)
    except PlanError:
        assert new.network.patch_problem(new.patch_size) is not None
        return
    assert plan_problems(made) == []
    assert made.configuration(ITEM.name) == with_cost(new, ITEM)


def test_ranges_are_narrow_and_around_the_plan():
    for item in SPACE:
        if item.options:
            assert item.default in item.options
        else:
            assert item.low < float(item.default) < item.high
    assert LEARNING_RATE == (0.3, 3.0)


def test_what_leaves_no_choice_is_not_in_the_space():
    network = small_network(2, stages=((4, 1),))
    item = configuration(
        (64, 64), network=network, training=TRAINING.revised(loss=LossPlan(kind="regions"))
    )
    assert not {"loss", "augmentation", "supervision"} & names(item)
    channels = (Channel(name="CT", scheme="ct", mean=0.0, std=1.0),)
    assert "normalisation" not in names(
        ITEM.revised(recipe=replace(ITEM.recipe, channels=channels))
    )


def test_valid_convolutions_keep_their_network_and_patch():
    network = ITEM.network.revised(padding="valid", downsampling="max", num_supervised=1)
    found = names(configuration(network=network))
    assert not {"width", "depth", "variant", "patch", "supervision"} & found


def test_neighbours_differ_from_the_plan_in_one_or_two_things():
    usual = {item.name: item.default for item in SPACE}
    for values in neighbours(SPACE):
        changed = [name for name in usual if values[name] != usual[name]]
        assert 1 <= len(changed) <= 2


def test_a_value_of_another_space_is_clipped_or_refused():
    rate = next(item for item in SPACE if item.name == "learning_rate")
    loss = next(item for item in SPACE if item.name == "loss")
    assert rate.clipped(100.0) == rate.high
    assert rate.clipped("fast") is None
    assert loss.clipped("tversky") is None


# The changes


def test_width_is_rounded_to_what_processors_like():
    assert [stage.features for stage in with_width(ITEM, 0.75).network.stages] == [12, 24, 48, 96]
    narrow = configuration(network=small_network(3, stages=((4, 1), (6, 2))))
    assert [stage.features for stage in with_width(narrow, 0.75).network.stages] == [4, 4]


def test_a_stage_less_takes_heads_and_their_weights_along():
    item = with_depth(ITEM, -1)
    assert len(item.network.stages) == 3
    assert item.network.num_supervised == len(item.training.supervision_weights) == 1
    with pytest.raises(ValueError, match="cannot be fewer"):
        with_depth(item, -1)


def test_a_stage_more_halves_only_axes_that_can_be_halved():
    stage = further_stage(ITEM)
    assert stage is not None
    assert stage.strides == (2, 2, 2)
    odd = configuration((24, 48, 40))
    deeper = further_stage(odd)
    assert deeper is not None
    assert deeper.strides == (1, 2, 1)
    assert further_stage(configuration((24, 40, 40))) is None
    with pytest.raises(ValueError, match="cannot be halved"):
        with_depth(configuration((24, 40, 40)), 1)


def test_residual_blocks_cost_no_more_at_full_resolution():
    assert [s.num_blocks for s in with_variant(ITEM, "residual").network.stages] == [1, 2, 2, 2]
    back = with_variant(with_variant(ITEM, "residual"), "attention").network
    assert (back.encoder, back.decoder) == ("plain", "attention")
    assert {stage.num_blocks for stage in back.stages} == {2}


@pytest.mark.parametrize("patch_size", [(256,), (64, 64), (32, 48, 32), (8, 64, 64)])
def test_other_patches_cost_about_the_same_and_fit_the_network(patch_size):
    item = configuration(patch_size)
    planned = item.batch_size * math.prod(patch_size)
    shapes = equal_patches(item)
    assert shapes or len(patch_size) == 1
    for shape in shapes:
        new = with_patch(item, shape)
        voxels = new.batch_size * math.prod(new.patch_size)
        assert EQUAL_COST[0] <= voxels / planned <= EQUAL_COST[1]
        assert new.network.patch_problem(new.patch_size) is None
        assert patch_word(new.patch_size, new.batch_size) == shape


def test_patches_do_not_grow_beyond_the_image():
    item = configuration(median_shape=(32, 48, 32))
    for shape in equal_patches(item):
        sizes = with_patch(item, shape).patch_size
        assert all(n <= most for n, most in zip(sizes, (32, 48, 32), strict=True))


def test_stronger_augmentation_leaves_anatomy_alone():
    plan = with_augmentation(ITEM, 2.0).training.augmentation
    assert plan.scale_probability == 0.4
    assert plan.noise_probability == 1.0
    assert plan.mirror_probability == 0.5


def test_another_loss_keeps_no_parameter_that_has_no_part_in_it():
    loss = LossPlan(kind="cldice", dice_power=2, cldice_weight=0.3)
    item = with_loss(configuration(training=ITEM.training.revised(loss=loss)), "dice_ce")
    assert item.training.loss == LossPlan(kind="dice_ce", dice_power=2)
