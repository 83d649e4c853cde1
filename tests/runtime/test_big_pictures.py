import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from autoseg.errors import AutosegError
from autoseg.runtime import big_pictures, pictures, tiff
from autoseg.runtime.big_pictures import open_colours, open_indices
from autoseg.runtime.crop import box_slices

SIZE = (90, 130)
BOXES = [((0, 90), (0, 130)), ((5, 6), (0, 130)), ((31, 70), (30, 97)), ((88, 90), (129, 130))]


def numbers(shape, kind="u1"):
    """Return a smooth picture with some noise, over the range of its type."""
    rng = np.random.default_rng(0)
    rows = np.linspace(0, 0.9, shape[-1 if shape[-1] > 4 else -2])
    base = rows if shape[-1] > 4 else rows[:, None]
    values = base + rng.uniform(0, 0.1, shape)
    if np.dtype(kind).kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return (values * (limits.max - limits.min) + limits.min).astype(kind)


def check(path, *, opened=open_colours, read=pictures.read_colours):
    voxels, whole = opened(path), read(path)
    assert voxels is not None
    assert (voxels.num_channels, *voxels.shape) == whole.shape
    assert voxels.dtype == whole.dtype
    for box in BOXES:
        box = (*((0, n) for n in voxels.shape[:-2]), *box)
        np.testing.assert_array_equal(voxels.read(box), whole[(slice(None), *box_slices(box))])
    return voxels


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]
)
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F"])
def test_boxes_of_strips_are_those_of_the_whole_picture(tmp_path, mode, compression):
    if compression == "jpeg" and mode not in ("L", "RGB", "CMYK"):
        pytest.skip("JPEG has no such pictures")
    kind = {"I;16": "u2", "F": "f4"}.get(mode, "u1")
    samples = {"RGB": 3, "RGBA": 4, "LA": 2, "CMYK": 4}.get(mode)
    array = numbers((*SIZE, samples) if samples else SIZE, kind)
    picture = Pillow.fromarray(array > 128 if mode == "1" else array)
    if mode in ("P", "CMYK", "LA", "RGBA"):
        picture = Pillow.frombytes(mode, (SIZE[1], SIZE[0]), array.tobytes())
    if mode == "P":
        picture.putpalette(np.random.default_rng(1).integers(0, 255, 768, np.uint8).tobytes())
    picture.save(tmp_path / "a.tif", compression=compression, strip_size=1000)
    check(tmp_path / "a.tif")
    check(tmp_path / "a.tif", opened=open_indices, read=pictures.read_indices)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"rowsperstrip": 7}], ids=str)
@pytest.mark.parametrize(
    "coding",
    [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": 2}, {"bigtiff": True}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f4"])
def test_boxes_of_every_kind_of_numbers(tmp_path, kind, coding, options, order):
    if coding.get("predictor") and kind in ("f4", "i1"):
        pytest.skip("tifffile does not write it")
    if order == ">" and ("bigtiff" in coding or kind == "u4"):
        pytest.skip("Pillow does not open it, or warns of EXIF data that it looks for in vain")
    array = numbers(SIZE, kind)
    tifffile.imwrite(
        tmp_path / "a.tif", array, byteorder=order, photometric="minisblack", **coding, **options
    )
    voxels = check(tmp_path / "a.tif")
    np.testing.assert_array_equal(voxels.read(BOXES[0])[0], array)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
@pytest.mark.parametrize("predictor", [None, 2])
def test_colours_keep_all_their_bits(tmp_path, planar, samples, kind, tile, predictor):
    array = numbers((*SIZE, samples), kind)
    options = {} if predictor is None else {"compression": "zlib", "predictor": predictor}
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(array, -1, 0) if planar == "separate" else array,
        tile=tile,
        planarconfig=planar,
        photometric="rgb",
        extrasamples=["unassalpha"] if samples == 4 else None,
        **options,
    )
    voxels = check(tmp_path / "a.tif")
    np.testing.assert_array_equal(voxels.read(BOXES[0]), np.moveaxis(array[..., :3], -1, 0))


@pytest.mark.parametrize("kind", ["u1", "u2", "i1"])
@pytest.mark.parametrize(
    "options",
    [{}, {"imagej": True, "metadata": {"axes": "ZYX"}}, {"ome": True, "metadata": {"axes": "ZYX"}}],
    ids=str,
)
def test_boxes_of_stacks(tmp_path, kind, options):
    if "imagej" in options and kind == "i1":
        pytest.skip("ImageJ has no such numbers")
    stack = numbers((4, *SIZE), kind)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", rowsperstrip=9, **options)
    voxels = check(tmp_path / "a.tif")
    np.testing.assert_array_equal(voxels.read(((1, 3), *BOXES[2]))[0], stack[1:3, 31:70, 30:97])


@pytest.mark.parametrize("program", ["imagej", "ome"])
@pytest.mark.parametrize(("axes", "shape"), [("ZCYX", (3, 2)), ("CZYX", (2, 3)), ("CYX", (2,))])
def test_boxes_of_channels_that_are_pages(tmp_path, program, axes, shape):
    if program == "imagej" and axes == "CZYX":
        pytest.skip("ImageJ's channels are interleaved")
    stack = numbers((*shape, *SIZE), "u2")
    options = {program: True, "metadata": {"axes": axes}, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    check(tmp_path / "a.tif")


@pytest.mark.parametrize("where", ["pages", "below"])
def test_smaller_copies_in_a_file_are_left_aside(tmp_path, where):
    array = numbers((*SIZE, 3))
    options = {"photometric": "rgb", "tile": (32, 48), "compression": "zlib"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(array, subifds=1 if where == "below" else None, **options)
        file.write(array[::2, ::2], subfiletype=1, **options)
    voxels = check(tmp_path / "a.tif")
    assert voxels.shape == SIZE
    np.testing.assert_array_equal(voxels.read(BOXES[0]), np.moveaxis(array, -1, 0))
    assert pictures.read_extent(tmp_path / "a.tif").shape == SIZE


def test_a_strip_without_compression_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff, "RAW_STRIP_BYTES", 1000)
    tifffile.imwrite(tmp_path / "a.tif", numbers((*SIZE, 3)), photometric="rgb")
    assert check(tmp_path / "a.tif").part_shape == (2, SIZE[1])


def test_what_has_no_parts_is_not_opened(tmp_path, monkeypatch):
    array = numbers(SIZE)
    Pillow.fromarray(array).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "turned.tif", array, extratags=[(274, 3, 1, 6, True)])
    tifffile.imwrite(tmp_path / "double.tif", array.astype(float))
    (tmp_path / "broken.tif").write_bytes(b"II*\0nonsense")
    monkeypatch.setattr(big_pictures, "MAX_PART_BYTES", 5000)
    tifffile.imwrite(tmp_path / "strip.tif", array, compression="zlib")
    names = ("a.png", "turned.tif", "double.tif", "broken.tif", "strip.tif", "missing.tif")
    assert not any(open_colours(tmp_path / name) for name in names)


def test_a_truncated_file_is_told_where_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numbers((*SIZE, 3)), tile=(32, 48), compression="zlib")
    voxels = open_colours(path)
    assert voxels is not None
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(AutosegError, match=r"a\.tif \(\d+ bytes\) cannot be read"):
        voxels.read(BOXES[0])


def test_large_pictures_are_read_with_their_palette(tmp_path, monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(pictures, "MAX_WHOLE", 1000)
    monkeypatch.setattr(big_pictures, "CUT_BYTES", 1000)
    picture = Pillow.frombytes("P", (SIZE[1], SIZE[0]), numbers(SIZE).tobytes())
    picture.putpalette(list(range(256)) * 3)
    picture.save(tmp_path / "a.tif", compression="tiff_lzw", strip_size=1000)
    np.testing.assert_array_equal(pictures.read_indices(tmp_path / "a.tif")[0], numbers(SIZE))
    assert pictures.read_colours(tmp_path / "a.tif").shape == (3, *SIZE)
    assert pictures.read_extent(tmp_path / "a.tif").shape == SIZE


def test_a_large_strip_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(big_pictures, "MAX_PART_BYTES", 1000)
    array = numbers((*SIZE, 3))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", compression="zlib")
    assert open_colours(tmp_path / "a.tif") is None
    whole = pictures.read_colours(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole, np.moveaxis(array, -1, 0))
