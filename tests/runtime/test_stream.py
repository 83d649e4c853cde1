"""Images that are predicted row by row, from file to file: the same labels as at once."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from autoseg.runtime import loading, restore, row_window, stream_components, tiff_write
from autoseg.runtime.big_pictures import open_levels
from autoseg.runtime.images import read_extent, read_image, read_labels
from autoseg.runtime.model import Model
from autoseg.runtime.recipe import Channel, KeepLargest, SmallestObject
from autoseg.runtime.runner import PredictOptions, predict_files
from autoseg.runtime.stream_prepare import choose_level
from autoseg.testing.streamed import draw, make_model, make_recipe


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Small images go the way of large ones, in several pieces."""
    monkeypatch.setattr(row_window, "PIECE_VALUES", 5000)
    monkeypatch.setattr(restore, "SLAB_VOXELS", 700)
    monkeypatch.setattr(stream_components, "SLAB_VOXELS", 900)
    monkeypatch.setattr(tiff_write, "TILE", 32)


def write_picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True)
    photometric = "rgb" if array.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(path, array, photometric=photometric, tile=(32, 48))
    return path


def in_both_ways(model: Model, path: Path, monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of a picture that is read at once, and of one that is read row by row."""
    found = []
    for name, limit in (("once", 1 << 40), ("rows", 0)):
        monkeypatch.setattr(loading, "STREAM_VALUES", limit)
        seen = spy(monkeypatch)
        out = path.parent / name
        summary = predict_files(model, [path], out, PredictOptions())
        assert not summary.count("failed"), summary.to_dict()
        assert seen == (["rows"] if name == "rows" else [])
        found.append(read_labels(out / path.name).array[0])
    return found[0], found[1]


def spy(monkeypatch) -> list[str]:
    seen: list[str] = []
    opened = loading.open_parts

    def noted(*arguments):
        seen.append("rows")
        return opened(*arguments)

    monkeypatch.setattr(loading, "open_parts", noted)
    return seen


RESAMPLED = {"spacing": (1.7, 1.7)}
TURNED = {"transpose": (1, 0)}
RGB_CONSTANTS = tuple(Channel(name=name, scheme="rgb") for name in "abc")
TWO = ({}, {"patch_size": (64, 32)})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": RGB_CONSTANTS},
        {"recipe": {"order": "normalise-resample"}},
        {"recipe": RESAMPLED},
        {"recipe": RESAMPLED | {"order": "normalise-resample"}},
        {"recipe": {"spacing": (0.6, 0.8)}},
        {"recipe": TURNED | {"spacing": (1.5, 1.0)}},
        {"recipe": {"padding": "zero"}, "configurations": ({"patch_size": (48, 128)},)},
        {"configurations": ({"patch_size": (256, 16)},)},
        {"configurations": ({"output_margin": (4, 3)},)},
        {"recipe": {"mirror_axes": (0, 1), "test_time_mirroring": True}},
        {"configurations": TWO},
        {"offsets": (0.0, 0.3, 0.0)},
        {"postprocessing": (KeepLargest(classes=(1,)), KeepLargest(classes=(1, 2)))},
        {"smallest": (SmallestObject(class_index=2, size=60.0),)},
        {"recipe": TURNED, "postprocessing": (KeepLargest(classes=(1,)),)},
        {"configurations": TWO, "smallest": (SmallestObject(class_index=1, size=40.0),)},
    ],
    ids=str,
)
def test_labels_are_those_of_the_image_read_at_once(tmp_path, monkeypatch, changes):
    path = write_picture(tmp_path / "images" / "a.tif", draw())
    once, rows = in_both_ways(make_model(tmp_path / "model", **changes), path, monkeypatch)
    assert len(np.unique(once)) > 1
    # Where axes are resampled, sums are taken in another order, and logits nearly tie.
    least = 0.9999 if "spacing" in changes.get("recipe", {}) else 1.0
    assert (once == rows).mean() >= least


def test_a_stack_of_pages_is_predicted_to_a_stack(tmp_path, monkeypatch):
    array = draw((12, 40, 52))[..., 0]
    path = write_picture(tmp_path / "images" / "a.tif", array)
    grey = (Channel(name="grey", scheme="zscore"),)
    spacings = {"spacing": (1.0, 1.0, 1.3), "transpose": (1, 0, 2)}
    model = make_model(tmp_path / "model", channels=grey, recipe=spacings)
    once, rows = in_both_ways(model, path, monkeypatch)
    assert once.shape == rows.shape == array.shape
    assert len(np.unique(once)) > 1
    assert (once == rows).mean() >= 0.9999


def test_a_second_stage_sees_what_the_first_one_found_in_rows(tmp_path, monkeypatch):
    path = write_picture(tmp_path / "images" / "a.tif", draw())
    stages = (
        {"weight": 0.0, "recipe": make_recipe(spacing=(3.0, 3.0))},
        {"weight": 1.0, "previous": "net0", "region_margin": 4.0},
    )
    once, rows = in_both_ways(make_model(tmp_path / "m", configurations=stages), path, monkeypatch)
    assert len(np.unique(once)) > 1
    assert (once == rows).mean() >= 0.9999


def test_an_image_with_empty_edges_is_background_there(tmp_path, monkeypatch):
    array = draw()
    array[:60], array[130:] = 0, 0
    path = write_picture(tmp_path / "images" / "a.tif", array)
    once, rows = in_both_ways(make_model(tmp_path / "model"), path, monkeypatch)
    assert not rows[:60].any()
    np.testing.assert_array_equal(once, rows)


def test_constant_tiles_go_through_the_network_once(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "STREAM_VALUES", 0)
    array = np.full((256, 256, 3), 240, np.uint8)
    array[:32, :32] = draw((32, 32))
    path = write_picture(tmp_path / "images" / "glass.tif", array)
    model = make_model(tmp_path / "model", channels=RGB_CONSTANTS)
    (inner,), seen = model.networks, []

    def counted(tile: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        seen.append(len(tile))
        return inner(tile, mean, std)

    model.networks = (counted,)
    assert predict_files(model, [path], tmp_path / "out", PredictOptions()).count("done") == 1
    # Of 225 tiles four see something else than glass; tiles wait for each other in batches of 64.
    assert sum(seen) <= 4 + 64


@pytest.mark.parametrize("kind", ["subifds", "pages", "aperio"])
def test_a_coarse_recipe_reads_a_level_of_the_pyramid(tmp_path, kind):
    array = draw((200, 160))
    path = write_pyramid(tmp_path / ("a.svs" if kind == "aperio" else "a.tif"), array, kind)
    levels = open_levels(path)
    assert [level.shape for level in levels] == [(200, 160), (100, 80), (50, 40)]
    for level, step in zip(levels, (1, 2, 4), strict=True):
        assert level.geometry.spacing == (step, step)
        whole = level.read(tuple((0, size) for size in level.shape))
        np.testing.assert_array_equal(np.moveaxis(whole, 0, -1), array[::step, ::step])
    for spacing, chosen in ((1.0, 0), (1.9, 0), (2.0, 1), (3.9, 1), (4.0, 2), (9.0, 2)):
        recipe = make_recipe(spacing=(spacing, spacing))
        assert choose_level(levels, recipe) is levels[chosen], spacing


def test_labels_of_a_level_lie_where_they_lie_in_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "STREAM_VALUES", 0)
    array = np.full((203, 161, 3), 60, np.uint8)
    array[90:150, 40:120] = 200
    path = write_pyramid(tmp_path / "slide.svs", array, "aperio")
    model = make_model(tmp_path / "model", channels=RGB_CONSTANTS, recipe={"spacing": (4.0, 4.0)})

    def red(tile: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
        above = tile[:, 0] - 130
        return np.stack([-above, above, np.full_like(above, -500)], axis=1)

    model.networks = (red,)
    predict_files(model, [path], tmp_path / "out", PredictOptions())
    labels = read_labels(tmp_path / "out" / "slide.tif").array[0]
    expected = np.where(array[..., 0] == 200, 7, 0)
    assert labels.shape == (203, 161)
    assert (labels == expected).mean() > 0.98


def test_a_slide_without_further_levels_is_its_first_page(tmp_path):
    path = write_pyramid(tmp_path / "slide.svs", draw((200, 160)), "aperio")
    assert read_extent([path]).shape == (200, 160)
    np.testing.assert_array_equal(np.moveaxis(read_image([path]).array, 0, -1), draw((200, 160)))


def write_pyramid(path: Path, array: np.ndarray, kind: str) -> Path:
    """Write a picture with two smaller copies, and an Aperio slide's thumbnail and label."""
    options = {"tile": (32, 48), "photometric": "rgb", "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        text = "Aperio Image Library v1|MPP = 0.5" if kind == "aperio" else "made"
        subifds = 2 if kind == "subifds" else None
        file.write(array, subifds=subifds, description=text, **options)
        if kind == "aperio":
            file.write(array[::8, ::8], photometric="rgb", description="thumbnail", metadata=None)
        for step in (2, 4):
            is_marked = kind != "aperio"
            file.write(array[::step, ::step], subfiletype=int(is_marked), **options)
        if kind == "aperio":
            file.write(array[:30, :40], photometric="rgb", subfiletype=1, metadata=None)
    return path
