"""Data sets with one fault each: what `autoseg check` says, and whether its remedy removes it."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image as Pillow

from autoseg.cli.main import main
from autoseg.runtime.images import Geometry, Image, read_image, read_labels, write_image
from autoseg.runtime.images import write_labels as write_mask
from autoseg.testing.synthetic import write_rings, write_spheres

SHAPE = (10, 12, 14)
EYE = tuple(float(value) for value in np.eye(3).ravel())
PIXELS = Geometry((1.0, 1.0), unit="pixel")
ROOM = 12
"""Cases of a data set: enough for one to be unlike the others."""
ODD = "case_003"


def place(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=EYE):
    return Geometry(spacing, origin, direction)


def image_of(root, case=ODD):
    if (root / "imagesTr").is_dir():
        return root / "imagesTr" / f"{case}_0000.nii.gz"
    return root / "images" / f"{case}.png"


def mask_of(root, case=ODD):
    if (root / "labelsTr").is_dir():
        return root / "labelsTr" / f"{case}.nii.gz"
    return root / "masks" / f"{case}.png"


def image(root, case=ODD):
    return read_image([image_of(root, case)]).array[0].copy()


def mask(root, case=ODD):
    return read_labels(mask_of(root, case)).array[0].copy()


def write(root, array, geometry=None, case=ODD):
    """Store (*S) as the image of a case."""
    geometry = geometry or (place() if array.ndim == 3 else PIXELS)
    write_image(image_of(root, case), Image(array[None], geometry))


def write_labels(root, array, geometry=None, case=ODD):
    """Store (*S) as the labels of a case, also those that are no whole numbers."""
    geometry = geometry or (place() if array.ndim == 3 else PIXELS)
    if array.dtype.kind == "f":
        write_image(mask_of(root, case), Image(array[None], geometry))
    else:
        write_mask(mask_of(root, case), array, geometry)


def describe(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def every_case():
    return [f"case_{index:03d}" for index in range(ROOM)]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault, what must be said about it, and what removes it."""

    make: Callable[[Path], object]
    says: str
    """Words of what is found."""
    file: str = ODD
    """Part of the name of the file that must be named."""
    severity: Literal["error", "warning", "note"] = "error"
    data: Literal["spheres", "rings"] = "spheres"
    spec: dict = field(default_factory=dict)
    """Given from the beginning."""
    remedy: Literal["--fix", "--skip-broken"] | Callable[[Path], object] | dict | None = None
    """An option, a change of the files, or a spec: what the remedy says, literally.

    None: a warning or a note, or an error whose remedy holds the fields of a spec.
    """


# Files


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-60])


def leave_out(root):
    for path in (image_of(root), mask_of(root)):
        path.unlink(missing_ok=True)


def in_the_way(root):
    mask_of(root).unlink()
    mask_of(root).mkdir()


def second_image(root):
    Pillow.fromarray(image(root)).save(image_of(root).with_suffix(".bmp"))


def two_label_folders(root):
    shutil.copytree(root / "masks", root / "labels")


def animated(root):
    frames = [Pillow.fromarray(image(root)), Pillow.fromarray(255 - image(root))]
    path = image_of(root).with_suffix(".gif")
    frames[0].save(path, save_all=True, append_images=frames[1:])
    image_of(root).unlink()


def unnamed(root):
    (root / "images").rename(root / "first")
    (root / "masks").rename(root / "second")


def named(root):
    (root / "first").rename(root / "images")
    (root / "second").rename(root / "masks")


def plainly_named(root):
    (root / "imagesTr").rename(root / "images")
    (root / "labelsTr").rename(root / "labels")


def break_and_keep(root):
    path = root / "dataset.json"
    path.write_text(path.read_text().rstrip()[:-1])


def complete(root):
    path = root / "dataset.json"
    path.write_text(path.read_text() + "}")


# Grids


def cropped_labels(root):
    write(root, image(root), place())
    write_labels(root, mask(root)[2:9], place(origin=(0.0, 0.0, 2.0)))


def labels_elsewhere(root):
    write(root, image(root), place())
    write_labels(root, mask(root)[2:9], place(origin=(0.0, 0.0, 200.0)))


def other_origin(distance):
    def make(root):
        write(root, image(root), place())
        write_labels(root, mask(root), place(origin=(distance, 0.0, 0.0)))

    return make


def reoriented(root):
    for case in every_case():
        turned = (-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0) if case == ODD else EYE
        write(root, image(root, case), place(direction=turned), case)
        write_labels(root, mask(root, case), place(direction=turned), case)


def coarse(root):
    for store, array in ((write, image(root)), (write_labels, mask(root))):
        store(root, array, place((1.0, 1.0, 12.0)))


def flat(root):
    """Store a case as a single slice without a third axis."""
    plane = Geometry((1.0, 1.0), (0.0, 0.0), (1.0, 0.0, 0.0, 1.0))
    write(root, image(root)[5], plane)
    write_labels(root, mask(root)[5], plane)


# Intensities


def holes(value):
    def make(root):
        array = image(root)
        array[3, 4, :5] = value
        write(root, array)

    return make


def everywhere(root):
    write(root, np.full(SHAPE, np.nan, np.float32))


def bright(root):
    write(root, 1000 * image(root))


def saturated(root):
    for case in every_case():
        write(root, np.minimum(image(root, case), 45), case=case)


def with_margin(root):
    for case in every_case():
        array = np.full(SHAPE, -1024, np.float32)
        array[2:-2, 2:-2, 2:-2] = image(root, case)[2:-2, 2:-2, 2:-2]
        write(root, array, case=case)


def twin(root):
    shutil.copy(image_of(root, "case_007"), image_of(root))
    shutil.copy(mask_of(root, "case_007"), mask_of(root))


def near_twin(root):
    noise = np.random.default_rng(0).normal(0, 0.3, SHAPE).astype(np.float32)
    write(root, image(root, "case_007") * 1.1 + noise)
    shutil.copy(mask_of(root, "case_007"), mask_of(root))


# Labels


def undeclared(root):
    array = mask(root)
    array[0, 0, 0] = 7
    write_labels(root, array)


def times_255(root):
    for case in every_case():
        write_labels(root, mask(root, case).astype(np.uint8) * 255, case=case)


def broken_numbers(root):
    write_labels(root, mask(root).astype(np.float32) * 0.9)


def nan_in_labels(root):
    array = mask(root).astype(np.float32)
    array[0, 0, 0] = np.nan
    write_labels(root, array)


def smooth(root):
    for case in every_case():
        array = Pillow.fromarray(mask(root, case).astype(np.uint8) * 255)
        small = array.resize((30, 30), Pillow.Resampling.BILINEAR)
        small.resize(array.size, Pillow.Resampling.BILINEAR).save(mask_of(root, case))


def jpeg_masks(root):
    for case in every_case():
        Pillow.fromarray(mask(root, case).astype(np.uint8) * 255).save(
            mask_of(root, case).with_suffix(".jpg"), quality=90
        )
        mask_of(root, case).unlink()


def three_colours(root):
    array = np.zeros((*mask(root).shape, 3), np.uint8)
    array[mask(root) == 1] = (200, 30, 90)
    array[:4] = (10, 250, 0)
    Pillow.fromarray(array).save(mask_of(root))


def noise_for_labels(root):
    values = np.random.default_rng(0).integers(0, 250, mask(root).shape)
    write_labels(root, values.astype(np.uint8))


def with_gaps(root):
    for case in every_case():
        array = mask(root, case)
        array[:2] = 3
        write_labels(root, array * 4, case=case)


def grey_and_white(root):
    for case in every_case():
        write_labels(root, mask(root, case).astype(np.uint8) * 255, case=case)


def stored(mode):
    def make(root):
        picture = Pillow.fromarray(mask(root).astype(np.uint8))
        if mode == "P":
            picture.putpalette([0, 0, 0, 250, 10, 10])
        elif mode == "1":
            picture = picture.point(lambda value: 255 * value).convert("1")
        else:
            picture = picture.convert(mode)
        picture.save(mask_of(root))

    return make


def inverted(root):
    for case in every_case():
        write_labels(root, 1 - mask(root, case).astype(np.uint8), case=case)


def nothing_there(root):
    for case in every_case():
        write_labels(root, np.zeros(SHAPE, np.uint8), case=case)


def empty(root):
    write_labels(root, np.zeros(SHAPE, np.uint8))


def huge(root):
    array = np.zeros(SHAPE, np.uint8)
    array[1:-1, 1:-1, 1:-1] = 1
    for case in every_case():
        small = np.zeros(SHAPE, np.uint8)
        small[4:6, 5:7, 6:8] = 1
        write_labels(root, array if case == ODD else small, case=case)


def one_holder(root):
    describe(root, labels={"background": 0, "class_1": 1, "stone": 2})
    array = mask(root)
    array[0, 0, 0] = 2
    write_labels(root, array)


def sides(root):
    describe(root, labels={"background": 0, "left eye": 1, "right eye": 2})
    for case in every_case():
        array = np.zeros(SHAPE, np.uint8)
        array[4:6, 5:7, 2:5], array[4:6, 5:7, 9:12] = 1, 2
        write_labels(root, array, case=case)


def exchanged(root):
    """Exchange images and masks, keeping the names of files."""
    for case in every_case():
        pixels, classes = image(root, case), mask(root, case)
        write(root, classes, case=case)
        write_labels(root, pixels, case=case)


def folders_exchanged(root):
    (root / "images").rename(root / "x")
    (root / "masks").rename(root / "images")
    (root / "x").rename(root / "masks")


def stray(root):
    array = mask(root)
    array[0, 1] = 7
    write_labels(root, array)


def specks(root):
    for case in every_case():
        array = mask(root, case) * 2
        array[0, ::8] = 1
        write_labels(root, array, case=case)


def jpeg_of(colours):
    """Return what stores all masks as JPEG: background, left half and right half of the rings."""

    def make(root):
        for case in every_case():
            array = mask(root, case).astype(np.uint8)
            array[:, 22:] *= 2
            path = mask_of(root, case)
            Pillow.fromarray(np.array(colours, np.uint8)[array]).save(
                path.with_suffix(".jpg"), quality=90
            )
            path.unlink()

    return make


def a_slice_less(root):
    write(root, image(root), place())
    write_labels(root, mask(root)[:-1], place())


def a_slice_more(root):
    write(root, image(root), place())
    write_labels(root, np.concatenate([mask(root), mask(root)[-1:]]), place())


def one_mask_for_all(root):
    for case in every_case()[1:]:
        shutil.copy(mask_of(root, "case_000"), mask_of(root, case))


def own_masks(root):
    for index, case in enumerate(every_case()):
        write_labels(root, np.roll(mask(root, case), index, axis=2), case=case)


def second_channels(root):
    describe(root, channel_names={"0": "T1", "1": "T2"})
    for case in every_case():
        path = image_of(root, case)
        write_image(
            path.with_name(f"{case}_0001.nii.gz"), Image(image(root, case)[None] + 500, place())
        )


def channels_exchanged(root):
    first = image_of(root)
    second = first.with_name(f"{ODD}_0001.nii.gz")
    first.rename(root / "x.nii.gz")
    second.rename(first)
    (root / "x.nii.gz").rename(second)


def other_order(root):
    second_channels(root)
    channels_exchanged(root)


def spaced(usual, odd=None):
    """Return what stores all cases with a spacing, and one with another."""

    def make(root):
        for case in every_case():
            spacing = odd if odd is not None and case == ODD else usual
            write(root, image(root, case), place(spacing), case)
            write_labels(root, mask(root, case), place(spacing), case)

    return make


FAULTS = {
    # files
    "image missing": Fault(
        make=lambda root: image_of(root).unlink(), says="no image", remedy=leave_out
    ),
    "labels missing": Fault(
        make=lambda root: mask_of(root).unlink(), says="no labels", remedy="--skip-broken"
    ),
    "extra mask": Fault(
        make=lambda root: shutil.copy(mask_of(root), mask_of(root, "old")),
        says="no image",
        file="masks/old.png",
        data="rings",
        remedy=lambda root: mask_of(root, "old").unlink(),
    ),
    "image cut short": Fault(
        make=lambda root: cut_short(image_of(root)), says="truncated", remedy="--skip-broken"
    ),
    "labels cut short": Fault(
        make=lambda root: cut_short(mask_of(root)), says="truncated", remedy="--skip-broken"
    ),
    "picture cut short": Fault(
        make=lambda root: cut_short(image_of(root)),
        says="cannot be read",
        data="rings",
        remedy="--skip-broken",
    ),
    "empty file": Fault(
        make=lambda root: image_of(root).write_bytes(b""),
        says="0 bytes",
        remedy="--skip-broken",
    ),
    "no image at all": Fault(
        make=lambda root: mask_of(root).write_bytes(b"<html>not found</html>"),
        says="cannot be read",
        remedy="--skip-broken",
    ),
    "a folder instead of a file": Fault(make=in_the_way, says="no file", remedy="--skip-broken"),
    "two images of one name": Fault(
        make=second_image,
        says="an image of the same name",
        data="rings",
        remedy=lambda root: image_of(root).with_suffix(".bmp").unlink(),
    ),
    "two folders of labels": Fault(
        make=two_label_folders,
        says="labels/ and masks/",
        file="",
        data="rings",
        remedy=lambda root: shutil.rmtree(root / "labels"),
    ),
    "an animation": Fault(
        make=animated, says="an animation of 2", data="rings", remedy="--skip-broken"
    ),
    "an unknown layout": Fault(
        make=unnamed, says="holds first/, second/", file="", data="rings", remedy=named
    ),
    # what is declared
    "no dataset.json": Fault(
        make=lambda root: (root / "dataset.json").unlink(),
        says="no dataset.json",
        file="",
        remedy=plainly_named,
    ),
    "dataset.json is no JSON": Fault(make=break_and_keep, says="no JSON", file="", remedy=complete),
    "labels are not declared": Fault(
        make=lambda root: describe(root, labels={}),
        says="labels: {}",
        file="",
        remedy=lambda root: describe(root, labels={"background": 0, "class_1": 1}),
    ),
    "two classes of one value": Fault(
        make=lambda root: describe(root, labels={"background": 0, "a": 1, "b": 1}),
        says="[1] twice",
        file="",
        remedy=lambda root: describe(root, labels={"background": 0, "a": 1}),
    ),
    "channels with a gap": Fault(
        make=lambda root: describe(root, channel_names={"0": "a", "2": "b"}),
        says="channel_names",
        file="",
        remedy=lambda root: describe(root, channel_names={"0": "a"}),
    ),
    "another ending": Fault(
        make=lambda root: describe(root, file_ending=".nrrd"),
        says="no files ending in .nrrd",
        file="",
        remedy=lambda root: describe(root, file_ending=".nii.gz"),
    ),
    "a channel missing": Fault(
        make=lambda root: describe(root, channel_names={"0": "a", "1": "b"}),
        says="channel",
        remedy=lambda root: describe(root, channel_names={"0": "a"}),
    ),
    "excluding an unknown case": Fault(
        make=lambda root: None,
        says="exclude: case_77",
        file="",
        spec={"exclude": {"case_77": ""}},
        remedy={"exclude": {ODD: ""}},
    ),
    "a pattern without match": Fault(
        make=lambda root: None,
        says="do not match",
        spec={"group_by": "patient(.)"},
        remedy={"group_by": r"case_(\d+)"},
    ),
    # grids
    "labels of another shape": Fault(
        make=cropped_labels, says="the labels 7 x 12 x 14", remedy="--fix"
    ),
    "labels elsewhere": Fault(
        make=labels_elsewhere, says="the labels 7 x 12 x 14", remedy="--skip-broken"
    ),
    "pictures of other sizes": Fault(
        make=lambda root: write_labels(root, mask(root)[:20]),
        says="the labels 20 x",
        data="rings",
        remedy="--skip-broken",
    ),
    "another spacing": Fault(
        make=lambda root: write_labels(root, mask(root), place((2.0, 1.0, 1.0))),
        says="the labels 2 x 1 x 1 mm",
        remedy="--fix",
    ),
    "far origins": Fault(make=other_origin(30.0), says="origin", severity="warning"),
    "near origins": Fault(make=other_origin(0.1), says="0.1 voxels", severity="note"),
    "another orientation": Fault(make=reoriented, says="orientation RAS", severity="warning"),
    "an outlier of spacing": Fault(make=coarse, says="unusual spacing", severity="warning"),
    "other axes": Fault(make=flat, says="number of axes 2", remedy="--skip-broken"),
    "a slice less": Fault(make=a_slice_less, says="1 slice fewer along axis 0", remedy="--fix"),
    "a slice more": Fault(make=a_slice_more, says="1 slice more along axis 0", remedy="--fix"),
    "another unit": Fault(
        make=spaced((1.0, 1.0, 1.0), (0.001, 0.001, 0.001)),
        says="1000 times smaller than usual",
        severity="warning",
        remedy=spaced((1.0, 1.0, 1.0)),
    ),
    "a lost spacing": Fault(
        make=spaced((3.0, 1.0, 1.0), (1.0, 1.0, 1.0)),
        says="1 x 1 x 1: lost",
        severity="warning",
        remedy=spaced((3.0, 1.0, 1.0)),
    ),
    # intensities
    "NaN": Fault(make=holes(np.nan), says="NaN or infinite values in 5", remedy="--fix"),
    "infinite": Fault(make=holes(-np.inf), says="NaN or infinite values in 5", remedy="--fix"),
    "NaN alone": Fault(make=everywhere, says="a channel has no other", remedy="--skip-broken"),
    "constant": Fault(
        make=lambda root: write(root, np.full(SHAPE, 5, np.float32)),
        says="is 5 in every voxel",
        severity="warning",
        remedy={"exclude": {ODD: "constant"}},
    ),
    "bright": Fault(make=bright, says="unusual intensities in 1 case,", severity="note"),
    "saturated": Fault(make=saturated, says="saturated", severity="note"),
    "a margin": Fault(make=with_margin, says="a margin of -1024", severity="note"),
    "copies": Fault(
        make=twin,
        says="under 2 names",
        severity="warning",
        remedy={"exclude": {ODD: "a copy"}},
    ),
    "near copies": Fault(
        make=near_twin,
        says="nearly the same image",
        severity="warning",
        remedy={"exclude": {ODD: "a copy"}},
    ),
    "channels in another order": Fault(
        make=other_order,
        says="by their intensities T2, T1",
        severity="warning",
        remedy=channels_exchanged,
    ),
    "a mask for an image": Fault(
        make=lambda root: write(root, mask(root).astype(np.float32)),
        says="one is a copy of the other",
        severity="warning",
        remedy={"exclude": {ODD: "a mask"}},
    ),
    # labels
    "images and masks exchanged": Fault(
        make=exchanged, says="seem to be exchanged", file="case_000"
    ),
    "folders exchanged": Fault(
        make=folders_exchanged,
        says="seem to be exchanged",
        file="case_000",
        data="rings",
        remedy=folders_exchanged,
    ),
    "one mask for all": Fault(
        make=one_mask_for_all,
        says="all 12 masks show the same",
        severity="warning",
        remedy=own_masks,
    ),
    "a stray value": Fault(
        make=stray,
        says="in only 1 voxel of 1 case, around 0, 1 (YX)",
        severity="warning",
        data="rings",
        remedy={"label_map": {"7": 0}},
    ),
    "traces of an interpolation": Fault(
        make=specks,
        says="value 1 (class_1) is scattered",
        file="case_000",
        severity="warning",
        data="rings",
        remedy={"label_map": {"1": 0}},
    ),
    "colours as JPEG": Fault(
        make=jpeg_of([(0, 0, 0), (255, 0, 0), (0, 200, 255)]),
        says="stored as JPEG",
        file="",
        data="rings",
    ),
    "shades as JPEG": Fault(
        make=jpeg_of([0, 110, 220]), says="stored as JPEG", file="", data="rings"
    ),
    "declared shades as JPEG": Fault(
        make=jpeg_of([0, 110, 220]),
        says="in a JPEG file",
        data="rings",
        spec={"labels": {"background": 0, "a": 110, "b": 220}},
    ),
    "no foreground in undeclared masks": Fault(
        make=lambda root: [
            write_labels(root, 0 * mask(root, case), case=case) for case in every_case()
        ],
        says="only the value 0 in all masks",
        file="",
        data="rings",
        remedy=lambda root: write_labels(root, 1 - mask(root)),
    ),
    "an undeclared value": Fault(
        make=undeclared, says="1 voxel of 1680, the first at 0, 0, 0 (ZYX)", remedy="--skip-broken"
    ),
    "255 for 1": Fault(make=times_255, says="values 255", remedy="--fix"),
    "broken numbers": Fault(make=broken_numbers, says="broken numbers", remedy="--fix"),
    "NaN in labels": Fault(make=nan_in_labels, says="NaN", remedy="--skip-broken"),
    "smooth edges": Fault(
        make=smooth, says="near either end", file="masks/", data="rings", remedy="--fix"
    ),
    "masks as JPEG": Fault(make=jpeg_masks, says="JPEG", data="rings", remedy="--fix"),
    "too many values": Fault(
        make=noise_for_labels,
        says="different values in the masks",
        data="rings",
        remedy={"exclude": {ODD: "noise"}},
    ),
    "one coloured mask": Fault(
        make=three_colours, says="3 different channels", data="rings", remedy="--skip-broken"
    ),
    "gaps": Fault(make=with_gaps, says="0, 4, 12", file="", severity="note", data="rings"),
    "0 and 255": Fault(make=grey_and_white, says="0, 255", file="", severity="note", data="rings"),
    "a palette": Fault(make=stored("P"), says="palette", severity="note", data="rings"),
    "one bit": Fault(make=stored("1"), says="1-bit", severity="note", data="rings"),
    "transparency": Fault(make=stored("RGBA"), says="alpha", severity="note", data="rings"),
    "inverted": Fault(
        make=inverted,
        says="may be inverted",
        file="",
        severity="warning",
        data="rings",
        remedy={"labels": {"background": 1, "class_1": 0}},
    ),
    "no foreground anywhere": Fault(
        make=nothing_there,
        says="no foreground in any of 12",
        remedy=lambda root: write_labels(root, np.ones(SHAPE, np.uint8)),
    ),
    "no foreground in one": Fault(make=empty, says="without foreground", severity="note"),
    "a huge structure": Fault(make=huge, says="unusual size in 1 case", severity="warning"),
    "an absent class": Fault(
        make=lambda root: describe(root, labels={"background": 0, "class_1": 1, "stone": 2}),
        says="class stone (value 2) is in no case",
        file="",
        severity="warning",
        remedy=lambda root: describe(root, labels={"background": 0, "class_1": 1}),
    ),
    "a rare class": Fault(make=one_holder, says="in only 1 of 12 cases", severity="warning"),
    "left and right": Fault(make=sides, says="mirror each other", file="", severity="note"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return sound data sets, to be copied and broken."""
    folder = tmp_path_factory.mktemp("sound")
    return {
        "spheres": write_spheres(folder / "spheres", num_cases=ROOM, seed=0, shape=SHAPE),
        "rings": write_rings(folder / "rings", num_cases=ROOM, seed=0, shape=(40, 44)),
    }


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclass(frozen=True)
class Checked:
    code: int
    findings: list

    def about(self, fault):
        """Return the findings that tell of a fault."""
        return [
            item
            for item in self.findings
            if fault.says in item["found"] and item["severity"] == fault.severity
        ]


@pytest.fixture
def check(capsys):
    """Return a function that runs `autoseg check` and reads what it says."""

    def run(root, *options, spec=None):
        if spec:
            path = root.with_name("spec.json")
            path.write_text(json.dumps(spec))
            options = (*options, "--spec", str(path))
        code = main(["check", str(root), "--json", *options])
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        return Checked(code, json.loads(output.out)["findings"])

    return run


@pytest.mark.parametrize("kind", ["spheres", "rings"])
def test_a_sound_data_set_passes(kind, sound, check, tmp_path):
    assert check(sound[kind]) == Checked(0, [])


def test_there_are_enough_faults():
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_diagnosed(name, sound, check, tmp_path, monkeypatch):
    fault = FAULTS[name]
    monkeypatch.chdir(tmp_path)
    root = shutil.copytree(sound[fault.data], tmp_path / fault.data)
    fault.make(root)
    before = contents(tmp_path)
    checked = check(root, spec=fault.spec)
    (tmp_path / "spec.json").unlink(missing_ok=True)
    assert contents(tmp_path) == before, "nothing is written"
    assert checked.code == (2 if fault.severity == "error" else 0)
    told = checked.about(fault)
    assert told, checked.findings
    assert any(fault.file in " ".join([*item["files"], item["found"]]) for item in told)
    assert all(item["expected"] and item["remedy"] for item in told)
    fields = printed(told[0]["remedy"])
    assert fault.severity != "error" or fault.remedy is not None or fields, "nothing helps"
    if fields is not None and fault.severity == "error":
        assert_helped(fault, check(root, spec=fault.spec | fields))
    if fault.remedy is not None:
        assert_removed(fault, root, check)


def printed(remedy):
    """Return the fields of a spec that a remedy holds, None if it holds none."""
    start = remedy.find('{"')
    return None if start < 0 else json.JSONDecoder().raw_decode(remedy[start:])[0]


def assert_helped(fault, checked):
    assert checked.code == 0, checked.findings
    assert not checked.about(fault)


def assert_removed(fault, root, check):
    """Apply the remedy, and only that, and check again."""
    options, spec = (), fault.spec
    before = contents(root)
    place = ("-w", str(root.with_name("w")), "--fix")
    if fault.remedy == "--fix":
        options = place
    elif fault.remedy == "--skip-broken":
        options = (*place, "--skip-broken")
    elif isinstance(fault.remedy, dict):
        spec = fault.remedy
    else:
        fault.remedy(root)
        before = contents(root)
    assert_helped(fault, check(root, *options, spec=spec))
    assert contents(root) == before


def test_a_plan_lists_every_fault_with_its_own_remedy(sound, tmp_path, capsys):
    root = shutil.copytree(sound["spheres"], tmp_path / "spheres")
    holes(np.nan)(root)
    cut_short(image_of(root, "case_005"))
    assert main(["plan", str(root), "-w", str(tmp_path / "w")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "found: 2 problems:" in lines
    assert sum(line.startswith("    fix: ") for line in lines) == 2
    assert "`autoseg check --fix` applies what is safe" in lines[-1]
