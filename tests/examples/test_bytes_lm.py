import numpy as np
import pytest
import torch

from examples import bytes_lm


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = bytes_lm.ByteUNet()
    bytes_lm.initialise(model, 0)
    return model.eval()


def text_of(seed, count, values=256):
    return np.random.default_rng(seed).integers(values, size=count).astype(np.uint8)


@pytest.mark.parametrize("place", [0, 1, 15, 16, 17, 63, 100, 127])
def test_a_byte_has_no_effect_on_what_is_predicted_before_it(model, place):
    text = torch.from_numpy(text_of(0, 128).astype(np.int64))[None]
    other = text.clone()
    other[0, place] = (other[0, place] + 100) % 256
    with torch.no_grad():
        before, after = model(text), model(other)
    assert torch.equal(before[..., :place], after[..., :place])
    assert not torch.equal(before[..., place], after[..., place])


def test_bytes_far_back_have_an_effect(model):
    text = torch.from_numpy(text_of(0, 256).astype(np.int64))[None]
    other = text.clone()
    other[0, 100] = 7
    with torch.no_grad():
        assert not torch.equal(model(text)[..., 200], model(other)[..., 200])


def test_the_bits_fall():
    torch.manual_seed(0)
    text = np.frombuffer(b"to be or not to be, that is the question: " * 40, np.uint8)
    bits = list(bytes_lm.train(bytes_lm.ByteUNet(), text, 8, seed=0))
    assert bits[0] > 7
    assert bits[-1] < 0.8 * bits[0]


def test_the_bits_of_a_text_do_not_depend_on_how_it_is_cut(model):
    text = text_of(1, 200)
    logits = model(torch.from_numpy(np.pad(text, (0, 56)).astype(np.int64))[None])
    chances = logits[0].log_softmax(0).detach().numpy()
    by_hand = -np.mean([chances[text[t + 1], t] for t in range(1, 199)]) / np.log(2)
    assert bytes_lm.unet_bits(model, text, 2) == pytest.approx(by_hand, rel=1e-5)


def test_every_byte_of_a_longer_text_counts_once(model, monkeypatch):
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda _, asked, **__: 0 * asked + 1.0
    )
    for length in (300, 512, 513, 777):
        assert bytes_lm.unet_bits(model, text_of(2, length), 2) == pytest.approx(1 / np.log(2))


def test_ngrams_of_equal_chances_take_eight_bits():
    found = bytes_lm.ngram_bits(text_of(0, 300_000), text_of(1, 5000), 0)
    assert found == pytest.approx(8, abs=0.02)


def test_ngrams_learn_what_follows_two_bytes():
    text = np.frombuffer(b"abac" * 500, np.uint8)
    assert bytes_lm.ngram_bits(text, text[:100], 1) > 0.4
    assert bytes_lm.ngram_bits(text, text[:100], 2) < 0.02


def test_ngrams_share_chances_as_witten_and_bell_did():
    learnt, asked = (np.frombuffer(text, np.uint8) for text in (b"aab", b"ab"))
    # P(b) = (1 + 2 / 256) / (3 + 2); after a: a and b once each.
    alone = (1 + 2 / 256) / 5
    assert bytes_lm.ngram_bits(learnt, asked, 1) == pytest.approx(-np.log2((1 + 2 * alone) / 4))


def test_a_file_is_parted_in_order(tmp_path):
    (tmp_path / "text").write_bytes(bytes(range(100)))
    learnt, asked = bytes_lm.read_text(tmp_path / "text", 50)
    assert (list(learnt), list(asked)) == (list(range(45)), list(range(45, 50)))


def test_the_standard_library_is_read_without_overlap():
    learnt, asked = bytes_lm.read_text(None, 100_000)
    assert (len(learnt), len(asked)) == (90_000, 10_000)
    assert asked[:200].tobytes() not in learnt.tobytes()


def test_both_are_told(tmp_path, capsys):
    (tmp_path / "text").write_bytes(b"A few words, again and again. " * 120)
    bytes_lm.main(["--text", str(tmp_path / "text"), "--steps", "2"])
    told = capsys.readouterr().out
    assert "order-2 n-gram:" in told
    assert "U-Net:" in told


def test_a_short_text_is_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"short")
    with pytest.raises(SystemExit, match="too short"):
        bytes_lm.main(["--text", str(tmp_path / "text")])
