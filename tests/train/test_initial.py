import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.network.build import build_network, initialise
from autoseg.testing.plans import small_network
from autoseg.train.initial import InitialWeights, transfer

CLASSES = ("background", "liver", "spleen")


def drawn(seed, *, num_classes=3, in_channels=1, stages=((4, 1), (6, 2))):
    plan = small_network(2, num_classes=num_classes, stages=stages)
    model = build_network(plan.revised(in_channels=in_channels))
    initialise(model, seed)
    return model.state_dict()


def source(weights=None, *, classes=CLASSES, channels=("CT",), **changes):
    weights = drawn(1) if weights is None else weights
    return InitialWeights(
        weights=weights, classes=classes, channels=channels, sha256="0" * 64, **changes
    )


def give(fresh, found, *, classes=CLASSES, channels=("CT",)):
    return transfer(fresh, found, classes=classes, channels=channels)


def row(result, layer):
    (found,) = [(row.state, row.reason) for row in result.rows if row.layer == layer]
    return found


def test_the_same_network_gets_every_weight():
    found = source()
    result = give(drawn(0), found)
    assert {row.state for row in result.rows} == {"loaded"}
    assert all(torch.equal(result.weights[name], found.weights[name]) for name in found.weights)


def test_what_is_given_is_not_changed():
    fresh, found = drawn(0), source(classes=("background", "liver", "kidney"))
    before = {name: tensor.clone() for name, tensor in fresh.items()}
    give(fresh, found)
    assert all(torch.equal(before[name], fresh[name]) for name in fresh)


def test_classes_of_the_same_name_keep_their_outputs_and_new_ones_are_drawn():
    fresh, found = drawn(0, num_classes=4), source()
    result = give(fresh, found, classes=("background", "kidney", "spleen", "tumour"))
    state, reason = row(result, "heads.0")
    assert state == "partly loaded"
    assert reason == "classes background, spleen; new kidney, tumour"
    for part in ("heads.0.weight", "heads.0.bias"):
        mine, theirs = result.weights[part], found.weights[part]
        assert torch.equal(mine[0], theirs[0])
        assert torch.equal(mine[2], theirs[2])
        assert torch.equal(mine[[1, 3]], fresh[part][[1, 3]])


def test_classes_in_another_order_are_matched_by_name():
    found = source()
    result = give(drawn(0), found, classes=("background", "spleen", "liver"))
    expected = found.weights["heads.0.weight"][[0, 2, 1]]
    assert row(result, "heads.0")[0] == "loaded"
    assert torch.equal(result.weights["heads.0.weight"], expected)


def test_heads_without_a_class_in_common_or_without_names_stay_as_drawn():
    fresh = drawn(0)
    for classes, reason in (
        (("a", "b", "c"), "its classes are a, b, c"),
        (None, "its outputs are no classes"),
    ):
        result = give(fresh, source(classes=classes))
        assert row(result, "heads.0") == ("skipped", reason)
        assert torch.equal(result.weights["heads.0.weight"], fresh["heads.0.weight"])


def test_channels_are_matched_by_name_and_new_ones_begin_with_zeros():
    found = source(drawn(1, in_channels=2), channels=("T1", "T2"))
    fresh = drawn(0, in_channels=3)
    result = give(fresh, found, channels=("T2", "FLAIR", "T1"))
    weight, theirs = (item["encoder.0.0.conv.weight"] for item in (result.weights, found.weights))
    assert torch.equal(weight[:, [0, 2]], theirs[:, [1, 0]])
    assert not weight[:, 1].any()
    assert row(result, "encoder.0.0.conv") == ("partly loaded", "channels T2, T1; zeros for FLAIR")


def test_a_network_with_a_new_channel_begins_as_the_other_model():
    plan = small_network(2, stages=((4, 1), (6, 2)))
    old, new = build_network(plan), build_network(plan.revised(in_channels=2))
    initialise(old, 1)
    initialise(new, 0)
    result = give(new.state_dict(), source(old.state_dict()), channels=("CT", "PET"))
    new.load_state_dict(result.weights)
    image = torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        assert torch.allclose(new.eval()(image), old.eval()(image[:, :1]), atol=1e-6)


def test_as_many_channels_of_other_names_are_taken_in_their_order():
    found = source()
    result = give(drawn(0), found, channels=("MRI",))
    assert row(result, "encoder.0.0.conv") == ("loaded", "channels in their order")


def test_colours_from_grey_give_the_same_for_grey_pictures():
    found = source()
    result = give(drawn(0, in_channels=3), found, channels=("red", "green", "blue"))
    weight = result.weights["encoder.0.0.conv.weight"]
    assert torch.allclose(weight.sum(dim=1, keepdim=True), found.weights["encoder.0.0.conv.weight"])
    assert row(result, "encoder.0.0.conv")[1] == "3 channels from the mean of 1"


def seeing_presence(seed, in_channels):
    plan = small_network(2, stages=((4, 1), (6, 2)))
    model = build_network(plan.revised(in_channels=in_channels, missing_channels=True))
    initialise(model, seed)
    return model.state_dict()


def test_inputs_that_say_which_channels_are_there_go_with_their_channels():
    found = source(seeing_presence(1, 2), channels=("T1", "T2"))
    same = give(seeing_presence(0, 2), found, channels=("T1", "T2"))
    assert {row.state for row in same.rows} == {"loaded"}
    swapped = give(seeing_presence(0, 2), found, channels=("T2", "T1"))
    weight, theirs = (item["encoder.0.0.conv.weight"] for item in (swapped.weights, found.weights))
    assert torch.equal(weight, theirs[:, [1, 0, 3, 2]])


def test_presences_that_the_other_model_lacks_begin_with_zeros_and_are_no_channels_of_it():
    for channels, scale in ((("T1", "T2"), 1), (("A", "B"), 1), (("A",), 0.5)):
        found = source(drawn(1, in_channels=len(channels)), channels=channels)
        result = give(seeing_presence(0, 2), found, channels=("T1", "T2"))
        weight, theirs = (
            item["encoder.0.0.conv.weight"] for item in (result.weights, found.weights)
        )
        assert torch.allclose(weight[:, :2], scale * theirs)
        assert not weight[:, 2:].any()
        assert row(result, "encoder.0.0.conv")[0] == "partly loaded"
    # As many inputs, but the second is a channel there and a presence here.
    found = source(drawn(1, in_channels=2), channels=("A", "B"))
    result = give(seeing_presence(0, 1), found, channels=("T1",))
    assert row(result, "encoder.0.0.conv") == ("partly loaded", "1 channel from the mean of 2")
    assert not result.weights["encoder.0.0.conv.weight"][:, 1:].any()


def test_channels_of_a_pretrained_encoder_are_matched_by_name_too():
    encoder = {
        "backbone.extractor.conv1.weight": torch.randn(4, 2, 3, 3),
        "backbone.extractor.conv2.weight": torch.randn(4, 4, 3, 3),
    }
    found = source(drawn(1, in_channels=2) | encoder, channels=("T1", "T2"))
    result = give(found.weights, found, channels=("T2", "T1"))
    for name in ("encoder.0.0.conv.weight", "backbone.extractor.conv1.weight"):
        assert torch.equal(result.weights[name], found.weights[name].flip(1))
    name = "backbone.extractor.conv2.weight"
    assert torch.equal(result.weights[name], found.weights[name])


def test_layers_of_another_shape_are_skipped_with_both_shapes():
    result = give(drawn(0), source(drawn(1, stages=((4, 1), (8, 2)))))
    state, reason = row(result, "encoder.1.0.conv")
    assert (state, reason) == ("skipped", "shape (8, 4, 3, 3), here (6, 4, 3, 3)")
    assert row(result, "encoder.0.0.conv")[0] == "loaded"


def test_layers_on_one_side_alone_are_told():
    deep = drawn(1, stages=((4, 1), (6, 2), (6, 2)))
    assert row(give(drawn(0), source(deep)), "encoder.2.0.conv") == (
        "skipped",
        "no such layer here",
    )
    assert row(give(deep, source()), "encoder.2.0.conv") == ("new", "not in the source")


def test_what_served_the_pretraining_is_told_as_that():
    weights = {**drawn(1), "time.embed.weight": torch.zeros(4, 4)}
    weights = {name: item for name, item in weights.items() if not name.startswith("heads")}
    result = give(drawn(0), source(weights, classes=None, is_pretraining=True))
    assert row(result, "time.embed") == ("skipped", "only for pretraining")
    assert row(result, "heads.0") == ("new", "not in the source")


def test_nothing_in_common_is_an_error():
    other = small_network(3, stages=((4, 1), (6, 2)))
    model = build_network(other)
    with pytest.raises(TrainingError, match="no layer in common") as refused:
        give(drawn(0), source(model.state_dict()))
    assert "shape" in refused.value.found
