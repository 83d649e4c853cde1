import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pillow

from autoseg.runtime import images, nifti, volumes
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.images import Geometry, Image

OBLIQUE = (0.0, -0.6, 0.8, 1.0, 0.0, 0.0, 0.0, 0.8, 0.6)
VOLUME = Geometry((3.0, 1.0, 0.7), (10.0, -20.5, 30.25), OBLIQUE)
PICTURE = Geometry((1.0, 1.0), unit="pixel")


def numbers(shape, high=256, kind: type[np.generic] = np.uint8):
    return np.random.default_rng(0).integers(0, high, shape).astype(kind)


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_rotated_anisotropic_volume_keeps_voxels_and_geometry(tmp_path, ending):
    labels = numbers((4, 5, 6), 300, np.int64)
    images.write_labels(tmp_path / f"a{ending}", labels, VOLUME)
    read = images.read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read.array[0], labels)
    assert read.array.dtype == np.uint16
    np.testing.assert_allclose(read.geometry.spacing, VOLUME.spacing, rtol=1e-6)
    np.testing.assert_allclose(read.geometry.origin, VOLUME.origin, rtol=1e-6)
    np.testing.assert_allclose(read.geometry.direction, VOLUME.direction, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_simpleitk_reads_our_nifti_and_we_read_its(tmp_path, seed):
    rng = np.random.default_rng(seed)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if seed % 2:  # half turns and mirrored axes
        direction = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], (1, 3))
    geometry = Geometry(
        tuple(rng.uniform(0.3, 5, 3)), tuple(rng.normal(size=3)), tuple(direction.ravel())
    )
    kind = ["u1", "i2", "f4", "f8"][seed % 4]
    array = rng.integers(0, 100, (3, 4, 5)).astype(kind)
    nifti.write(tmp_path / "ours.nii.gz", array, geometry)
    volumes.write(tmp_path / "theirs.nii.gz", array, geometry)
    for image in (volumes.read(tmp_path / "ours.nii.gz"), nifti.read(tmp_path / "theirs.nii.gz")):
        np.testing.assert_array_equal(image.array[0], array)
        assert image.array.dtype == np.dtype(kind)
        np.testing.assert_allclose(image.geometry.spacing, geometry.spacing, rtol=1e-5)
        np.testing.assert_allclose(image.geometry.origin, geometry.origin, atol=1e-4)
        np.testing.assert_allclose(image.geometry.direction, geometry.direction, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_quaternion_alone_gives_the_same_geometry_as_the_matrix(tmp_path, seed):
    rng = np.random.default_rng(seed)
    direction, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    geometry = Geometry((2.0, 1.0, 1.5), (1.0, 2.0, 3.0), tuple(direction.ravel()))
    nifti.write(tmp_path / "a.nii", numbers((3, 4, 5)), geometry)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2h", content, 252, 1, 0)  # only the quaternion counts
    (tmp_path / "a.nii").write_bytes(content)
    read = nifti.read(tmp_path / "a.nii").geometry
    np.testing.assert_allclose(read.direction, geometry.direction, atol=1e-5)


def test_orientation_names_where_the_axes_point():
    identity = Geometry((1.0,) * 3, (0.0,) * 3, tuple(np.eye(3).ravel()))
    mirrored = Geometry((1.0,) * 3, (0.0,) * 3, tuple(np.diag([-1.0, -1.0, 1.0]).ravel()))
    assert identity.orientation == "LPS"
    assert mirrored.orientation == "RAS"
    assert PICTURE.orientation is None


def test_nifti_scale_units_byte_order_and_single_slices_are_honoured(tmp_path):
    nifti.write(tmp_path / "a.nii", numbers((1, 4, 5), kind=np.int16), VOLUME)
    content = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into("<2f", content, 112, 2.0, 1.0)
    content[123] = 1  # metres
    (tmp_path / "a.nii").write_bytes(content)
    read = nifti.read(tmp_path / "a.nii")
    assert read.shape == (1, 4, 5)
    assert read.array.dtype == np.float32
    np.testing.assert_array_equal(read.array[0], 2.0 * numbers((1, 4, 5)) + 1)
    np.testing.assert_allclose(read.geometry.spacing, (3000, 1000, 700), rtol=1e-6)


@pytest.mark.parametrize(("kind", "slope", "taken"), [(">i2", 1, 2), (">i2", 3, 4), (">f8", 3, 8)])
def test_scaled_numbers_take_more_than_in_the_file(tmp_path, kind, slope, taken):
    head = bytearray(352)
    struct.pack_into(">i", head, 0, 348)
    struct.pack_into(">8h", head, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">h", head, 70, {">i2": 4, ">f8": 64}[kind])
    struct.pack_into(">8f", head, 76, *(1.0,) * 8)
    struct.pack_into(">3f", head, 108, 352, slope, 0)
    array = np.arange(24, dtype=kind).reshape(2, 3, 4)
    (tmp_path / "a.nii").write_bytes(bytes(head) + array.tobytes())
    read = nifti.read(tmp_path / "a.nii")
    np.testing.assert_array_equal(read.array[0], array * slope)
    assert nifti.read_extent(tmp_path / "a.nii").voxel_bytes == read.array.itemsize == taken


def test_big_endian_nifti_is_read(tmp_path):
    head = bytearray(352)
    struct.pack_into(">i", head, 0, 348)
    struct.pack_into(">8h", head, 40, 3, 4, 3, 2, 1, 1, 1, 1)
    struct.pack_into(">h", head, 70, 4)
    struct.pack_into(">8f", head, 76, *(1.0,) * 8)
    struct.pack_into(">f", head, 108, 352)
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    (tmp_path / "a.nii").write_bytes(bytes(head) + array.tobytes())
    read = nifti.read(tmp_path / "a.nii")
    np.testing.assert_array_equal(read.array[0], array)
    assert read.array.dtype.isnative


@pytest.mark.parametrize("ending", [".png", ".tif", ".tiff", ".bmp", ".gif"])
@pytest.mark.parametrize("values", [[0, 1], [0, 255], [0, 7, 200]])
def test_picture_labels_keep_their_values(tmp_path, ending, values):
    labels = np.array(values)[numbers((6, 7), len(values))]
    images.write_labels(tmp_path / f"a{ending}", labels, PICTURE)
    read = images.read_labels(tmp_path / f"a{ending}")
    np.testing.assert_array_equal(read.array[0], labels)
    assert read.geometry == PICTURE


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_picture_labels_above_255_are_kept(tmp_path, ending):
    labels = numbers((6, 7), 60000, np.int64)
    images.write_labels(tmp_path / f"a{ending}", labels, PICTURE)
    np.testing.assert_array_equal(images.read_labels(tmp_path / f"a{ending}").array[0], labels)


def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(AutosegError, match="bmp"):
        images.write_labels(tmp_path / "a.bmp", numbers((6, 7), 600, np.int64), PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_a_tiff_of_several_pages_is_a_volume(tmp_path):
    labels = numbers((3, 6, 7))
    images.write_labels(tmp_path / "a.tif", labels, Geometry((1.0,) * 3, unit="pixel"))
    read = images.read_image([tmp_path / "a.tif"])
    np.testing.assert_array_equal(read.array, labels[None])
    assert read.geometry.spacing == (1.0, 1.0, 1.0)


def test_colours_are_three_channels_and_alpha_is_dropped(tmp_path):
    colours = numbers((6, 7, 4))
    Pillow.fromarray(colours).save(tmp_path / "a.png")
    read = images.read_image([tmp_path / "a.png"])
    np.testing.assert_array_equal(read.array, np.moveaxis(colours[..., :3], -1, 0))


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_deep_colours_keep_their_16_bits(tmp_path, ending):
    colours = numbers((6, 7, 3), 60000, np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / f"a{ending}"))
    read = images.read_image([tmp_path / f"a{ending}"])
    np.testing.assert_array_equal(read.array, np.moveaxis(colours, -1, 0))


def test_palettes_are_colours_in_images_and_indices_in_labels(tmp_path):
    picture = Pillow.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png")
    assert images.read_image([tmp_path / "a.png"]).array[:, 0, 1].tolist() == [40, 50, 60]
    assert images.read_labels(tmp_path / "a.png").array.tolist() == [[[0, 1], [2, 1]]]


def test_one_bit_masks_are_zero_and_one(tmp_path):
    Pillow.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_labels(tmp_path / "a.png").array[0], np.eye(4))


def test_grey_masks_stored_as_colours_are_accepted_and_coloured_ones_refused(tmp_path):
    grey = np.repeat(numbers((4, 5, 1)), 3, axis=-1)
    Pillow.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(images.read_labels(tmp_path / "grey.png").array[0], grey[..., 0])
    Pillow.fromarray(numbers((4, 5, 3))).save(tmp_path / "colour.png")
    with pytest.raises(AutosegError, match="3 different channels"):
        images.read_labels(tmp_path / "colour.png")


def test_jpeg_labels_are_refused_with_the_remedy(tmp_path):
    Pillow.fromarray(numbers((8, 8))).save(tmp_path / "a.jpg")
    with pytest.raises(AutosegError, match="lossless"):
        images.read_labels(tmp_path / "a.jpg")
    assert images.read_image([tmp_path / "a.jpg"]).array.shape == (1, 8, 8)
    assert images.output_ending(tmp_path / "a.jpg") == ".png"


def test_the_preview_in_a_phones_picture_is_left_aside(tmp_path):
    picture, preview = (Pillow.fromarray(numbers((8, 8, 3)) + i) for i in (0, 90))
    picture.save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[preview])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    picture.save(tmp_path / "b.jpg")
    (found, plain) = (images.read_image([tmp_path / name]).array for name in ("a.jpg", "b.jpg"))
    np.testing.assert_array_equal(found, plain)
    assert images.read_extent([tmp_path / "a.jpg"]).shape == (8, 8)


def test_an_animation_is_refused(tmp_path):
    pages = [Pillow.fromarray(numbers((8, 8)) + i) for i in range(3)]
    pages[0].save(tmp_path / "a.gif", save_all=True, append_images=pages[1:])
    with pytest.raises(AutosegError, match="3 pictures"):
        images.read_image([tmp_path / "a.gif"])


def test_float_labels_must_be_whole_and_finite(tmp_path):
    whole = numbers((4, 5, 6), 4, np.float32)
    nifti.write(tmp_path / "whole.nii.gz", whole, VOLUME)
    read = images.read_labels(tmp_path / "whole.nii.gz").array
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read[0], whole)
    whole[0, 0, 0] = 1.5
    nifti.write(tmp_path / "broken.nii.gz", whole, VOLUME)
    with pytest.raises(AutosegError, match=r"broken\.nii\.gz: broken numbers in 1 .* 1\.5"):
        images.read_labels(tmp_path / "broken.nii.gz")
    whole[0, 0, 0] = np.nan
    nifti.write(tmp_path / "nan.nii.gz", whole, VOLUME)
    with pytest.raises(AutosegError, match="NaN"):
        images.read_labels(tmp_path / "nan.nii.gz")


@pytest.mark.parametrize(
    "ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".png", ".bmp", ".gif"]
)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_a_truncated_file_is_named(tmp_path, ending, part):
    is_volume = ending in images.VOLUME_FORMATS
    labels = numbers((16, 16, 16) if is_volume else (64, 64))
    images.write_labels(tmp_path / f"a{ending}", labels, VOLUME if is_volume else PICTURE)
    content = (tmp_path / f"a{ending}").read_bytes()
    (tmp_path / f"a{ending}").write_bytes(content[: int(part * len(content))])
    with pytest.raises(AutosegError, match=f"a{ending}.*cannot be read"):
        images.read_image([tmp_path / f"a{ending}"])


def test_a_damaged_file_fails_its_checksum(tmp_path):
    nifti.write(tmp_path / "a.nii.gz", numbers((16, 16, 16)), VOLUME)
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[-6] ^= 0xFF
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(AutosegError, match="cannot be read"):
        images.read_image([tmp_path / "a.nii.gz"])


def test_nifti_in_several_gzip_members_is_read(tmp_path):
    labels = numbers((16, 16, 16))
    nifti.write(tmp_path / "a.nii", labels, VOLUME)
    content = (tmp_path / "a.nii").read_bytes()
    members = [zlib.compress(content[i : i + 1000], wbits=31) for i in range(0, len(content), 1000)]
    (tmp_path / "a.nii.gz").write_bytes(b"".join(members))
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.nii.gz"]).array[0], labels)


def test_a_missing_file_and_an_unknown_ending_are_named(tmp_path):
    with pytest.raises(AutosegError, match=r"no file .*a\.png"):
        images.read_image([tmp_path / "a.png"])
    with pytest.raises(AutosegError, match=r"a\.dcm"):
        images.read_image([tmp_path / "a.dcm"])


def test_channels_are_stacked_in_order_and_must_fit(tmp_path):
    for index in range(2):
        array = np.full((4, 5, 6), index, np.uint8)
        nifti.write(tmp_path / f"a_{index}.nii.gz", array, VOLUME)
    nifti.write(tmp_path / "other.nii.gz", numbers((4, 5, 7)), VOLUME)
    coarse = Geometry((3.1, 1.0, 0.7), VOLUME.origin, VOLUME.direction)
    nifti.write(tmp_path / "coarse.nii.gz", numbers((4, 5, 6)), coarse)
    paths = [tmp_path / "a_0.nii.gz", tmp_path / "a_1.nii.gz"]
    assert images.read_image(paths).array[:, 0, 0, 0].tolist() == [0, 1]
    with pytest.raises(AutosegError, match="shape"):
        images.read_image([*paths, tmp_path / "other.nii.gz"])
    with pytest.raises(AutosegError, match="spacing"):
        images.read_image([*paths, tmp_path / "coarse.nii.gz"])


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path, largest_file):
    content = numbers((40, 40, 40))
    with largest_file(1000):
        for ending in (".nii.gz", ".nii", ".nrrd"):
            with pytest.raises(AutosegError, match="cannot be written"):
                images.write_labels(tmp_path / f"a{ending}", content, VOLUME)
        for ending in (".png", ".bmp", ".tif", ".gif"):
            with pytest.raises(AutosegError, match="cannot be written"):
                images.write_labels(tmp_path / f"a{ending}", content[0], PICTURE)
    assert list(tmp_path.iterdir()) == []


def test_names_are_split_at_the_known_ending():
    assert images.case_stem(Path("a/patient.1.NII.GZ")) == "patient.1"
    assert images.file_ending(Path("x.nii.gz")) == ".nii.gz"
    assert not images.is_image(Path("._x.nii.gz"))
    assert images.output_ending(Path("x.mhd")) == ".mha"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("a.nii.gz", (1, 4, 5, 6)),
        ("a.nii.gz", (2, 4, 5, 6)),
        ("a.nii", (1, 5, 6)),
        ("a.mha", (1, 5, 6)),
        ("a.nrrd", (3, 4, 5, 6)),
        ("a.png", (1, 5, 6)),
        ("a.png", (3, 5, 6)),
        ("a.tif", (1, 4, 5, 6)),
    ],
)
def test_headers_tell_how_large_an_image_is(tmp_path, name, shape):
    spacing = (
        (1.0,) * (len(shape) - 1)
        if name[-3:] in ("png", "tif")
        else (2.0, 1.5, 1.0)[-len(shape) + 1 :]
    )
    images.write_image(tmp_path / name, Image(numbers(shape), Geometry(spacing)))
    extent = images.read_extent([tmp_path / name] * 2)
    read = images.read_image([tmp_path / name])
    assert (extent.num_channels, extent.shape) == (2 * len(read.array), read.shape)
    assert extent.spacing == pytest.approx(read.geometry.spacing)


def test_a_broken_header_is_named(tmp_path):
    for name in ("a.nii.gz", "a.mha", "a.png"):
        (tmp_path / name).write_bytes(b"broken")
        with pytest.raises(AutosegError, match=name):
            images.read_extent([tmp_path / name])


def test_an_image_is_written_with_all_its_channels(tmp_path):
    colours = numbers((3, 6, 7))
    images.write_image(tmp_path / "a.png", Image(colours, PICTURE))
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.png"]).array, colours)
    volume = numbers((2, 4, 5, 6))
    images.write_image(tmp_path / "a.nii.gz", Image(volume, VOLUME))
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.nii.gz"]).array, volume)


def test_the_fourth_axis_of_other_programs_is_channels(tmp_path):
    array = numbers((2, 4, 5, 6))
    for ending in (".nii.gz", ".nrrd"):
        image = sitk.GetImageFromArray(array, isVector=False)
        sitk.WriteImage(image, str(tmp_path / f"a{ending}"))
        read = images.read_image([tmp_path / f"a{ending}"])
        np.testing.assert_array_equal(read.array, array)
        assert images.read_extent([tmp_path / f"a{ending}"]).num_channels == 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_pictures_and_masks_lie_as_a_viewer_shows_them(tmp_path, ending, orientation):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(numbers((6, 8))).save(tmp_path / f"a{ending}", exif=exif)
    stored = numbers((6, 8))
    if ending == ".jpg":  # with losses, and left by Pillow as it is stored
        stored = np.asarray(Pillow.open(tmp_path / "a.jpg"))
    shown = [stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1]]
    shown += [stored.T, np.rot90(stored, -1), np.rot90(stored.T, 2), np.rot90(stored)]
    image = images.read_image([tmp_path / f"a{ending}"])
    np.testing.assert_array_equal(image.array[0], shown[orientation - 1])
    assert image.shape == ((8, 6) if orientation > 4 else (6, 8))
    assert images.read_extent([tmp_path / f"a{ending}"]).shape == image.shape
    np.testing.assert_array_equal(images.read_mask(tmp_path / f"a{ending}").array, image.array)


def test_turned_deep_colours_are_upright_or_refused(tmp_path):
    colours = numbers((6, 8, 3), 60000, np.uint16)
    tag = (274, 3, 1, 6, True)  # rows are shown as columns
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", extratags=[tag])
    with pytest.raises(AutosegError, match="turned TIFF"):
        images.read_image([tmp_path / "a.tif"])
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "a.png"))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    content, body = (tmp_path / "a.png").read_bytes(), exif.tobytes()[6:]  # without "Exif"
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])  # behind IHDR
    read = images.read_image([tmp_path / "a.png"])
    np.testing.assert_array_equal(read.array, np.moveaxis(np.rot90(colours, -1), -1, 0))


def test_broken_exif_data_are_passed_over(tmp_path):
    Pillow.fromarray(numbers((6, 8))).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    assert images.read_image([tmp_path / "a.png"]).shape == (6, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib"},
        {"byteorder": ">"},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
    ],
    ids=str,
)
def test_stacks_of_other_programs_are_volumes(tmp_path, options):
    stack = numbers((3, 20, 24), 60000, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    read = images.read_image([tmp_path / "a.tif"])
    np.testing.assert_array_equal(read.array, stack[None])
    assert images.read_extent([tmp_path / "a.tif"]).shape == stack.shape


@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f4"])
def test_tiffs_keep_their_numbers(tmp_path, kind):
    high = np.finfo(kind).max if kind[0] == "f" else np.iinfo(kind).max
    low = 0 if kind[0] == "u" else -high
    for shape in ((2, 2), (3, 2, 2)):
        pages = np.resize(np.array([0, 1, low, high]), shape).astype(kind)
        tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")
        np.testing.assert_array_equal(images.read_image([tmp_path / "a.tif"]).array[0], pages)


def test_tiffs_of_rare_numbers_are_refused_with_the_remedy(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5)))
    with pytest.raises(AutosegError, match=r"a\.tif cannot be read: .*\n.*8, 16 or 32 bits"):
        images.read_image([tmp_path / "a.tif"])


@pytest.mark.parametrize("program", ["imagej", "ome"])
@pytest.mark.parametrize(("axes", "shape"), [("ZCYX", (3, 2, 8, 9)), ("CYX", (2, 8, 9))])
def test_channels_of_hyperstacks_are_channels(tmp_path, program, axes, shape):
    stack = numbers(shape, 60000, np.uint16)
    options = {program: True, "metadata": {"axes": axes}, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    expected = np.moveaxis(stack, axes.index("C"), 0)
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.tif"]).array, expected)
    extent = images.read_extent([tmp_path / "a.tif"])
    assert (extent.num_channels, extent.shape) == (2, expected.shape[1:])


def test_channels_may_come_one_after_the_other(tmp_path):
    stack = numbers((2, 3, 8, 9), 60000, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "CZYX"})
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.tif"]).array, stack)


def test_more_channels_than_imagej_shows_are_slices(tmp_path):
    stack = numbers((9, 8, 9), 60000, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(images.read_image([tmp_path / "a.tif"]).array, stack[None])


def test_several_time_points_of_a_hyperstack_are_refused(tmp_path):
    stack = numbers((4, 3, 8, 9), 60000, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(AutosegError, match="4 time points of 3 slices and 1 channels"):
        images.read_image([tmp_path / "a.tif"])


@pytest.mark.parametrize("ending", [".npy", ".csv"])
@pytest.mark.parametrize("channels", [1, 3])
def test_signals_keep_samples_and_channels(tmp_path, ending, channels):
    signal = np.random.default_rng(0).random((channels, 20)).astype(np.float32)
    geometry = Geometry((1.0,), unit="pixel")
    images.write_image(tmp_path / f"a{ending}", Image(signal, geometry))
    read = images.read_image([tmp_path / f"a{ending}"])
    np.testing.assert_allclose(read.array, signal, rtol=1e-7)
    assert read.geometry == geometry
    extent = images.read_extent([tmp_path / f"a{ending}"])
    assert (extent.num_channels, extent.shape, extent.spacing) == (channels, (20,), (1.0,))


@pytest.mark.parametrize("ending", [".npy", ".csv"])
def test_labels_of_signals_keep_their_values(tmp_path, ending):
    labels = numbers((20,), 300, np.int64)
    images.write_labels(tmp_path / f"a{ending}", labels, Geometry((0.01,), unit="s"))
    read = images.read_labels(tmp_path / f"a{ending}")
    assert read.array.dtype == np.uint16
    np.testing.assert_array_equal(read.array, labels[None])
    assert images.output_ending(tmp_path / f"a{ending}") == ending


def test_tables_keep_the_times_of_their_samples(tmp_path):
    geometry = Geometry((0.002,), unit="s")
    signal = np.random.default_rng(0).random((2, 40)).astype(np.float32)
    images.write_image(tmp_path / "a.csv", Image(signal, geometry))
    read = images.read_image([tmp_path / "a.csv"])
    np.testing.assert_allclose(read.array, signal, rtol=1e-7)
    assert read.geometry.spacing == pytest.approx((0.002,))
    assert read.geometry.unit == "s"


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (Geometry((0.002,), unit="s"), "t,label\n0,0\n0.002,2\n0.004,2\n"),
        (Geometry((1.0,), unit="pixel"), "label\n0\n2\n2\n"),
    ],
    ids=["with times", "without"],
)
def test_tables_name_their_labels(tmp_path, geometry, text):
    path = tmp_path / "b.csv"
    images.write_labels(path, np.array([0, 2, 2], np.uint8), geometry)
    assert path.read_text() == text
    read = images.read_labels(path)
    assert read.array.tolist() == [[0, 2, 2]]
    assert read.geometry.unit == geometry.unit


def test_a_folder_gives_its_tables_only_where_it_has_no_images(tmp_path):
    for name in ("b.csv", "a.csv", ".hidden.csv", "notes.txt"):
        (tmp_path / name).write_text("0\n")
    assert [path.name for path in images.list_images(tmp_path)] == ["a.csv", "b.csv"]
    np.save(tmp_path / "c.npy", np.zeros(4))
    assert [path.name for path in images.list_images(tmp_path)] == ["c.npy"]


@pytest.mark.parametrize("name", ["1.hea", "1.dat", "sleep.EDF"])
def test_a_recording_is_refused_with_the_way_to_convert_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"1 12 500 5000")
    with pytest.raises(AutosegError, match="a package of its own") as caught:
        images.read_image([tmp_path / name])
    assert "savetxt" in caught.value.fix


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((20, 3)), "20 channels of 3 samples"),
        (np.zeros((2, 3, 4)), "3 axes"),
        (np.zeros(4, complex), "complex"),
        (np.array(["a"]), "type <U1"),
        (np.zeros(0), "without voxels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_signals_are_refused(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(AutosegError, match=message):
        images.read_image([tmp_path / "a.npy"])


def test_arrays_that_would_run_code_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([print], object), allow_pickle=True)
    with pytest.raises(AutosegError, match="cannot be read"):
        images.read_image([tmp_path / "a.npy"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "without numbers"),
        ("a,b\n", "without numbers"),
        ("1,2\n3\n", "cannot be read"),
        ("time,a\n0,1\n1,2\n2,2\n4,4\n", "uneven"),
        ("time,a\n1,1\n0,2\n", "uneven"),
    ],
)
def test_tables_that_make_no_sense_are_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(AutosegError, match=message):
        images.read_image([tmp_path / "a.csv"])


def test_tables_may_have_names_times_and_other_marks(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffTime;I;II\n0.1;1;2\n0.3;3;4\n0.5;5;6\n", "utf-8")
    read = images.read_image([tmp_path / "a.csv"])
    np.testing.assert_array_equal(read.array, [[1, 3, 5], [2, 4, 6]])
    assert read.geometry.unit == "s"
    assert read.geometry.spacing == pytest.approx((0.2,))


def test_a_table_is_an_image_only_where_it_is_named(tmp_path):
    assert images.file_ending(tmp_path / "a.csv") == ".csv"
    assert not images.is_image(tmp_path / "a.csv")
    assert images.is_image(tmp_path / "a.npy")


def test_pictures_are_not_written_as_signals(tmp_path):
    with pytest.raises(AutosegError, match="one axis"):
        images.write_labels(tmp_path / "a.npy", numbers((4, 5)), PICTURE)


def test_real_files_are_read_as_simpleitk_reads_them(data):
    folders = [
        data / "hippocampus" / "imagesTr",
        data / "acdc" / "images",
        data / "acdc" / "labels",
    ]
    for path in [path for folder in folders for path in sorted(folder.glob("*.nii.gz"))[:4]]:
        ours, theirs = nifti.read(path), volumes.read(path)
        np.testing.assert_array_equal(ours.array, theirs.array)
        np.testing.assert_allclose(ours.geometry.spacing, theirs.geometry.spacing, rtol=1e-6)
        np.testing.assert_allclose(ours.geometry.origin, theirs.geometry.origin, atol=1e-4)
        np.testing.assert_allclose(ours.geometry.direction, theirs.geometry.direction, atol=1e-5)
