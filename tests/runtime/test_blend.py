import itertools
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.runtime import batches
from autoseg.runtime import blend as blend_module
from autoseg.runtime.blend import Tiling, blend, blend_rows

TILING = Tiling(overlap=0.5, padding="mirror", pad_values=(0.0,), mirror_axes=(), batch_size=2)


def tiling(**changes):
    fields = ("overlap", "padding", "pad_values", "mirror_axes", "batch_size")
    return Tiling(**{**{name: getattr(TILING, name) for name in fields}, **changes})


def noise(shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@given(st.data())
def test_network_that_changes_nothing_gives_the_image_back(data):
    dims = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 14)) for _ in range(dims))
    net = data.draw(st.integers(1, dims))
    patch = tuple(data.draw(st.integers(1, 9)) for _ in range(net))
    plan = Tiling(
        overlap=data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.75])),
        padding=data.draw(st.sampled_from(["mirror", "zero"])),
        pad_values=(1.0, -1.0),
        mirror_axes=data.draw(st.sampled_from([(), (0,), tuple(range(net))])),
        batch_size=data.draw(st.integers(1, 5)),
    )
    image = noise((2, *shape))
    np.testing.assert_allclose(
        blend(image, lambda tiles: tiles, patch, tiling=plan), image, atol=1e-5
    )


@given(st.data())
def test_network_that_only_drops_a_margin_gives_the_image_back(data):
    net = data.draw(st.integers(1, 2))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(data.draw(st.integers(net, 3))))
    margins = tuple(data.draw(st.integers(0, 4)) for _ in range(net))
    patch = tuple(data.draw(st.integers(1, 6)) + 2 * margin for margin in margins)
    plan = tiling(
        overlap=data.draw(st.sampled_from([0.0, 0.5])),
        padding=data.draw(st.sampled_from(["mirror", "zero"])),
        pad_values=(1.0, -1.0),
        mirror_axes=data.draw(st.sampled_from([(), (0,)])),
        margins=margins,
    )
    inner = tuple(slice(m, n - m) for m, n in zip(margins, patch, strict=True))
    image = noise((2, *shape))
    found = blend(image, lambda tiles: tiles[(..., *inner)], patch, tiling=plan)
    np.testing.assert_allclose(found, image, atol=1e-5)


def test_a_margin_shows_the_mirrored_image():
    seen = []

    def network(tiles):
        seen.append(tiles[0, 0])
        return tiles[..., 2:-2]

    blend(np.arange(4.0)[None], network, (8,), tiling=tiling(margins=(2,)))
    np.testing.assert_array_equal(seen, [[2, 1, 0, 1, 2, 3, 2, 1]])


def test_network_gets_full_batches_of_patches():
    seen = []

    def network(tiles):
        seen.append(tiles.shape)
        return tiles

    blend(noise((1, 4, 10, 10)), network, (10, 10), tiling=tiling(batch_size=3))
    assert seen == [(3, 1, 10, 10), (1, 1, 10, 10)]


def test_network_may_have_any_number_of_classes():
    out = blend(noise((1, 9, 9)), lambda tiles: np.repeat(tiles, 4, axis=1), (6, 6), tiling=TILING)
    assert out.shape == (4, 9, 9)


def test_mirrored_predictions_are_averaged():
    ramp = np.arange(8, dtype=np.float32)

    def network(tiles):
        return np.broadcast_to(ramp, tiles.shape)

    image = noise((1, 8, 8))
    plain = blend(image, network, (8, 8), tiling=TILING)
    mirrored = blend(image, network, (8, 8), tiling=tiling(mirror_axes=(1,)))
    np.testing.assert_allclose(plain[0, 0], ramp)
    np.testing.assert_allclose(mirrored, 3.5)


def test_middle_of_a_tile_counts_more_than_its_border():
    def network(tiles):
        value = 1.0 if tiles[0, 0, 0] == 0 else 0.0
        return np.full(tiles.shape, value, dtype=np.float32)

    image = np.arange(12, dtype=np.float32)[None]
    out = blend(image, network, (8,), tiling=tiling(batch_size=1))[0]
    assert out[0] == 1
    assert out[-1] == 0
    assert (np.diff(out[4:8]) < 0).all()
    assert out[4] > 0.9


def test_input_and_read_only_output_are_left_alone():
    image = noise((1, 9, 9))
    before = image.copy()

    def network(tiles):
        out = tiles * 2
        out.flags.writeable = False
        return out

    np.testing.assert_allclose(blend(image, network, (9, 9), tiling=TILING), before * 2)
    blend(image, network, (5, 5), tiling=tiling(mirror_axes=(0, 1)))
    np.testing.assert_array_equal(image, before)


def test_half_precision_input_is_accepted():
    image = noise((1, 9, 9)).astype(np.float16)
    out = blend(image, lambda tiles: tiles, (4, 4), tiling=TILING)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, image, atol=1e-5)


def test_threads_do_not_disturb_each_other():
    images = [noise((1, 20, 20)) + shift for shift in range(8)]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda image: blend(image, lambda t: t, (8, 8), tiling=TILING), images)
    for image, result in zip(images, results, strict=True):
        np.testing.assert_allclose(result, image, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 40, 40), (40, 40)])
def test_padding_with_raw_values_reaches_the_network(shape):
    seen = []

    def network(tiles):
        seen.append(tiles.min())
        return tiles

    plan = tiling(padding="zero", pad_values=(-7.0,))
    blend(np.ones((1, *shape), dtype=np.float32), network, (64, 64), tiling=plan)
    assert min(seen) == -7


@settings(max_examples=30)
@given(st.data())
def test_rows_given_out_early_are_those_of_the_whole_to_the_last_bit(data):
    shape = tuple(data.draw(st.integers(1, 20)) for _ in range(data.draw(st.integers(1, 3))))
    patch = tuple(data.draw(st.integers(1, 7)) for _ in shape)
    plan = tiling(
        overlap=data.draw(st.sampled_from([0.0, 0.5, 0.7])),
        pad_values=(1.0, -1.0),
        mirror_axes=data.draw(st.sampled_from([(), (0,)])),
        batch_size=data.draw(st.integers(1, 4)),
    )
    image = noise((2, *shape))
    whole = blend(image, np.sin, patch, tiling=plan)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(blend_module, "MIN_VOXELS", 1)
        next_row = 0
        for rows in blend_rows(image, np.sin, patch, tiling=plan):
            assert rows.start == next_row or rows.start == rows.stop
            np.testing.assert_array_equal(rows.values, whole[:, rows.start : rows.stop])
            next_row = rows.stop
    assert next_row == shape[0]


def test_memory_does_not_grow_with_the_length_of_the_image(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(blend_module, "MIN_VOXELS", 1)

    def network(tiles):
        return np.repeat(tiles, 5, axis=1)

    peaks = []
    for length in (40, 160):
        image = noise((1, length, 20, 20))
        tracemalloc.start()
        for rows in blend_rows(image, network, (16, 16, 16), tiling=TILING):
            assert rows.values.shape[1] <= 16
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]


def test_the_network_sees_only_one_tile_without_content(monkeypatch):
    seen = []

    def network(tiles):
        seen.extend(tiles)
        return np.cumsum(tiles, axis=-1) + np.float32(0.5)

    image = np.full((2, 40, 12), 3, np.float32)
    image[1] = -1
    image[:, 30:] = noise((2, 10, 12))
    plan = tiling(mirror_axes=(1,), pad_values=(0.0, 0.0), batch_size=1)
    found = blend(image, network, (8, 8), tiling=plan)
    empty = [tile for tile in seen if (tile == tile[:, :1, :1]).all()]
    assert len(empty) == 1
    assert len(seen) > 1
    monkeypatch.setattr(batches, "MAX_KEPT_BYTES", 0)
    np.testing.assert_array_equal(found, blend(image, network, (8, 8), tiling=plan))
    assert len([tile for tile in seen if (tile == tile[:, :1, :1]).all()]) > 2


def test_missing_channels_are_never_taken_for_empty_tiles():
    seen = []

    def network(tiles):
        seen.extend(tiles)
        return np.zeros(tiles.shape, np.float32)

    blend(np.full((1, 20), np.nan, np.float32), network, (5,), tiling=tiling(batch_size=1))
    assert len(seen) > 1


class Tight:
    """Room that holds the sums of so many bands."""

    def __init__(self, number):
        self._number = number
        self.sizes = []

    def zeros(self, shape, dtype):
        self.shape = shape
        return np.zeros(shape, dtype)

    def choose(self, sizes):
        self.sizes = list(sizes)
        return min(self._number, len(self.sizes)) - 1

    def forget(self):
        pass


def halves(size, overlap):
    def split(number):
        edges = [size * index // number for index in range(number + 1)]
        return [(max(0, low - overlap), high) for low, high in itertools.pairwise(edges)]

    return split


@pytest.mark.parametrize("margins", [(), (1, 1, 1)])
@pytest.mark.parametrize("shape", [(9, 70, 12), (20, 64, 5)])
def test_bands_are_what_the_whole_is_to_the_last_bit(shape, margins, monkeypatch):
    monkeypatch.setattr(blend_module, "MIN_VOXELS", 1)
    plan = tiling(mirror_axes=(1,), margins=margins)
    inner = (slice(None), slice(None), *(slice(m, -m or None) for m in margins))

    def network(tiles):
        return np.concatenate([np.sin(tiles), tiles], axis=1)[inner]

    image, scratch = noise((1, *shape)), Tight(3)
    whole = blend(image, network, (8, 9, 8), tiling=plan)
    found = np.full_like(whole, np.nan)
    lefts = []
    for rows in blend_rows(
        image, network, (8, 9, 8), tiling=plan, scratch=scratch, split=halves(shape[1], 1)
    ):
        low, high = rows.band
        found[:, rows.start : rows.stop, low:high] = rows.values
        lefts.append(low)
    np.testing.assert_array_equal(found, whole)
    assert len(set(lefts)) == 3
    assert sorted(lefts) == lefts
    assert scratch.sizes[2] < scratch.sizes[0] / 2
    assert np.prod(scratch.shape) * 4 == scratch.sizes[2]


def test_bands_that_are_too_much_work_are_not_considered():
    calls = []

    def network(tiles):
        calls.append(len(tiles))
        return tiles

    image, scratch = noise((1, 8, 24, 8)), Tight(1)
    plan = tiling(batch_size=1)
    for _ in blend_rows(
        image, network, (8, 8, 8), tiling=plan, scratch=scratch, split=halves(24, 0)
    ):
        pass
    assert len(calls) == 5
    assert len(scratch.sizes) == 3  # three bands are 7 tiles, four would be 10


def test_a_batch_is_gone_before_the_next_is_computed():
    alive = []

    def network(tiles):
        assert not any(ref() is not None for ref in alive)
        out = tiles * 2
        alive.append(weakref.ref(out))
        return out

    for _ in blend_rows(noise((1, 40, 9)), network, (8, 8), tiling=tiling(batch_size=2)):
        pass
    assert len(alive) > 5
