import pytest
import torch

from autoseg.network.weight_files import matched, read_tensors, weights_digest

WANTED = {
    "conv.weight": torch.zeros(4, 3),
    "norm.weight": torch.zeros(4),
    "norm.num_batches_tracked": torch.tensor(0),
}


def numbered(names):
    return {
        name: torch.full_like(like, index + 1)
        for index, (name, like) in enumerate(zip(names, WANTED.values(), strict=True))
    }


def test_weights_are_found_by_their_names_in_any_order():
    stored = dict(reversed(numbered(WANTED).items()))
    assert {name: int(item.max()) for name, item in matched(stored, WANTED).items()} == {
        "conv.weight": 1,
        "norm.weight": 2,
        "norm.num_batches_tracked": 3,
    }


def test_weights_with_other_names_are_found_by_their_order():
    found = matched(numbered(["_conv.w", "_bn.w", "_bn.n"]), WANTED)
    assert [int(item.max()) for item in found.values()] == [1, 2, 3]


def test_what_is_missing_is_no_number():
    stored = {"conv.weight": torch.ones(4, 3), "norm.weight": torch.ones(5)}
    found = matched(stored, WANTED)
    assert found["conv.weight"].sum() == 12
    assert found["norm.weight"].isnan().all()
    assert found["norm.num_batches_tracked"] == 0


def test_other_shapes_in_the_same_order_are_not_taken():
    stored = {"a": torch.ones(4, 2), "b": torch.ones(4), "c": torch.tensor(1)}
    assert matched(stored, WANTED)["conv.weight"].isnan().all()


def test_a_digest_is_of_content_and_not_of_order():
    weights = numbered(WANTED)
    assert weights_digest(weights) == weights_digest(dict(reversed(weights.items())))
    other = {**weights, "norm.weight": weights["norm.weight"] + 1e-6}
    assert weights_digest(weights) != weights_digest(other)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_weights_are_found_where_training_programs_store_them(tmp_path, wrapper):
    weights = numbered(WANTED)
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3}, tmp_path / "x.pth")
    assert list(read_tensors(tmp_path / "x.pth")) == list(WANTED)


class Payload:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("content", [Payload(), {}, {"a": 3}, [torch.zeros(1)]], ids=str)
def test_what_is_no_file_of_weights_is_refused(tmp_path, capsys, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth"):
        read_tensors(tmp_path / "x.pth")
    assert capsys.readouterr().out == ""


def test_what_is_no_file_of_torch_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="no file of weights"):
        read_tensors(tmp_path / "x.pth")
