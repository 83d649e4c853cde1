import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from autoseg.dataset.dataset import Case, DatasetSpec, Finding
from autoseg.errors import AutosegError
from autoseg.evaluate.scores import ClassScore
from autoseg.record import NetworkPlan, StagePlan


def stages(strides):
    return tuple(
        StagePlan(features=8 * 2**i, kernel_size=(3,) * len(s), strides=s, num_blocks=2)
        for i, s in enumerate(strides)
    )


def network(*strides):
    return NetworkPlan(
        encoder="plain",
        in_channels=1,
        num_classes=2,
        stages=stages(strides),
        decoder_convs=2,
        num_supervised=2,
    )


NETWORK = network((1, 1, 1), (1, 2, 2), (2, 2, 2))


def test_assigning_to_a_record_raises():
    with pytest.raises(ValidationError):
        NETWORK.in_channels = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_misspelt_key_is_refused_with_its_path():
    text = NETWORK.to_json().replace('"num_blocks"', '"num_block"', 1)
    with pytest.raises(AutosegError) as error:
        NetworkPlan.from_json(text, "plan.json")
    assert "plan.json: stages[0].num_block: " in error.value.found
    assert "plan.json: stages[0].num_blocks: " in error.value.found  # which is now missing


def test_a_wrong_type_is_named_with_what_was_found():
    text = json.dumps({**json.loads(NETWORK.to_json()), "in_channels": "one"})
    with pytest.raises(AutosegError, match=r"plan\.json: in_channels: .*'one'"):
        NetworkPlan.from_json(text, "plan.json")


@pytest.mark.parametrize("value", [True, 1.5, "1", None])
def test_nothing_is_quietly_turned_into_an_integer(value):
    text = json.dumps({**json.loads(NETWORK.to_json()), "in_channels": value})
    with pytest.raises(AutosegError):
        NetworkPlan.from_json(text, "plan.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "{}"])
def test_nonsense_is_refused_in_our_words(text):
    with pytest.raises(AutosegError) as error:
        NetworkPlan.from_json(text, "plan.json")
    assert "plan.json: " in error.value.found
    assert "pydantic" not in str(error.value)
    assert "http" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AutosegError, match=r"plan\.json"):
        NetworkPlan.load(tmp_path / "plan.json")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(AutosegError, match=r"plan\.json"):
        NetworkPlan.load(tmp_path / "plan.json")


def test_infinite_numbers_are_not_written():
    with pytest.raises(ValueError, match="JSON"):
        ClassScore(
            dice=float("nan"), iou=1.0, hd95=0.0, nsd=1.0, predicted_voxels=1, reference_voxels=1
        ).to_json()


def test_a_long_input_does_not_flood_the_message():
    text = json.dumps({**json.loads(NETWORK.to_json()), "encoder": "x" * 5000})
    with pytest.raises(AutosegError) as error:
        NetworkPlan.from_json(text, "plan.json")
    assert len(error.value.found) < 300


@given(
    name=st.text(min_size=1),
    files=st.lists(st.text(min_size=1), max_size=3).map(tuple),
    labels=st.lists(st.text(), max_size=2).map(tuple),
)
def test_a_record_survives_json(name, files, labels):
    case = Case(id=name, images=files, labels=labels, group=name)
    assert Case.from_json(case.to_json(), "dataset.json") == case


def test_nested_records_survive_json():
    assert NetworkPlan.from_json(NETWORK.to_json(), "plan.json") == NETWORK


def test_json_has_sorted_keys_and_ends_with_a_newline():
    keys = list(json.loads(NETWORK.to_json()))
    assert keys == sorted(keys)
    assert NETWORK.to_json().endswith("}\n")


def test_equal_records_have_equal_digests_and_others_do_not():
    assert NETWORK.digest() == NETWORK.revised().digest()
    assert NETWORK.digest() != NETWORK.revised(in_channels=2).digest()


def test_a_revision_is_checked():
    assert NETWORK.revised(in_channels=3).in_channels == 3
    with pytest.raises(ValidationError):
        NETWORK.revised(in_channels="3")
    with pytest.raises(ValidationError):
        NETWORK.revised(in_chanels=3)


def test_a_literal_is_kept_to():
    with pytest.raises(ValidationError):
        Finding(severity="fatal", found="", expected="", remedy="")  # pyright: ignore[reportArgumentType]


def test_what_a_spec_leaves_out_is_inferred():
    assert set(dict(DatasetSpec()).values()) == {None, ()}


def test_variants_are_the_fields_that_are_not_as_usual():
    assert NETWORK.variants == {}
    changed = NETWORK.revised(encoder="residual", norm="batch", dropout=0.1)
    assert changed.variants == {"norm": "batch", "dropout": 0.1}


def test_total_strides_multiply_over_stages():
    assert NETWORK.total_strides == (2, 4, 4)
    assert network((1, 1), (2, 2)).total_strides == (2, 2)
    assert NETWORK.dimensions == 3
