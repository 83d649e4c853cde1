"""Memory of prediction: what is expected, what is refused, and what goes to files."""

from dataclasses import replace

import numpy as np
import pytest

from autoseg.runtime import governor as governor_module
from autoseg.runtime.errors import AutosegError
from autoseg.runtime.governor import Governor, Memory, Room, refuse_too_large
from autoseg.runtime.images import Geometry, write_labels
from autoseg.runtime.manifest import Configuration, Manifest
from autoseg.runtime.memory import expected_memory
from autoseg.runtime.model import BALANCED
from autoseg.runtime.recipe import Channel, KeepLargest, Labels, Recipe

GIB = 2**30
SHAPE = (300, 512, 512)
VOXELS = 300 * 512 * 512


def manifest(classes=3, names=("3d_fullres",), spacing=(1.0, 1.0, 1.0), patch=(48, 160, 160)):
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=spacing,
        channels=(Channel(name="CT", scheme="none"),),
        order="resample-normalise",
        spline_order=3,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    configurations = tuple(
        Configuration(
            name=name,
            weight=1 / len(names),
            folds=("0",),
            recipe=recipe,
            patch_size=patch,
            tiles_per_case=1.0,
            input="raw",
            spatial="dynamic",
            spatial_multiple=(1, 1, 1),
            onnx=f"{name}.onnx",
            torchscript=f"{name}.pt",
            parity=(),
            timings=(),
        )
        for name in names
    )
    return Manifest(
        autoseg_version="0",
        name="made up",
        planner="none",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("CT",),
        channel_files="single",
        file_ending=".nii.gz",
        labels=Labels(names=tuple(map(str, range(classes))), values=tuple(range(classes))),
        configurations=configurations,
        postprocessing=(),
        verification=None,
    )


def expect(item, shape=SHAPE, **options):
    return expected_memory(item, shape, (1.0, 1.0, 1.0), **options)


def test_sums_are_as_deep_as_a_tile():
    assert expect(manifest(20)).sums == 20 * 48 * 512 * 512 * 4


def test_what_is_expected_hardly_grows_with_the_length_but_for_image_and_labels():
    short, long = (expect(manifest(100), (length, 512, 512)) for length in (300, 600))
    grown = long.prepared + long.labels - short.prepared - short.labels
    assert long.peak - short.peak == grown


def test_probabilities_and_several_configurations_take_room_for_all_classes():
    one, more = manifest(3), manifest(3, names=("2d", "3d_fullres"))
    assert expect(one).chances == 0
    assert expect(one, probabilities=True).chances == 3 * VOXELS * 2
    assert expect(more).chances == 3 * VOXELS * 4
    assert expect(more).prepared == 2 * expect(one).prepared


def test_probabilities_of_several_are_made_when_nothing_else_is_left():
    more = manifest(3, names=("2d", "3d_fullres"))
    without, given = expect(more), expect(more, probabilities=True)
    assert given.halves == 3 * VOXELS * 2
    assert given.chances == without.chances
    assert without.peak <= given.peak < without.peak + given.halves


def test_writing_without_pieces_is_expected_and_never_in_files(tmp_path):
    item = manifest(5)
    room = Room(limit=GIB, most=GIB)
    demands = {}
    for ending in (".nii", ".nrrd"):
        path = tmp_path / f"a{ending}"
        write_labels(path, np.zeros((40, 100, 100), np.uint8), Geometry((1.0, 1.0, 1.0)))
        for asked in (False, True):
            memory = Memory(item, room, BALANCED, probabilities=asked)
            demands[ending, asked] = memory.demand([path])
    assert demands[".nrrd", False] == demands[".nii", False]
    assert demands[".nrrd", True].writing == 5 * 40 * 100 * 100 * 4 * 2
    assert demands[".nii", True].writing == 0
    large = replace(demands[".nrrd", True], writing=GIB)
    assert large.peak > large.least > GIB
    with pytest.raises(AutosegError, match=r"writing probabilities 1\.07"):
        refuse_too_large(large, room, 0)


def test_post_processing_and_another_grid_are_counted():
    item = manifest(3)
    steps = replace(item, postprocessing=(KeepLargest(classes=(1,)),))
    assert expect(steps).components > expect(item).components == 0
    assert expect(item).preparing == 0
    finer = manifest(3, spacing=(1.0, 0.5, 0.5))
    assert 0 < expect(finer).preparing < 4 * VOXELS


def test_a_first_stage_takes_its_labels_on_both_grids_and_tiles_with_more_channels():
    first, second = manifest(20, names=("3d_lowres", "3d_fullres")).configurations
    alone = replace(manifest(20), configurations=(replace(second, weight=1.0),))
    first, second = replace(first, weight=0.0), replace(second, weight=1.0, previous=first.name)
    cascade = replace(alone, configurations=(first, second))
    one, both = expect(alone), expect(cascade)
    assert both.chances == one.chances == 0
    assert both.labels == VOXELS  # those of the first are gone before the second's are made
    assert both.prepared == 2 * one.prepared + VOXELS
    patch = 48 * 160 * 160
    assert both.tiles - one.tiles == (2 * 2 + 19) * patch * 4
    assert both.around > one.around


def test_what_is_not_prepared_yet_or_predicted_already_takes_nothing():
    low, full = (
        replace(manifest(20, spacing=spacing).configurations[0], name=name, weight=weight)
        for name, spacing, weight in (("low", (2.0, 2.0, 2.0), 0.0), ("full", (1.0, 1.0, 1.0), 1.0))
    )
    full = replace(full, previous="low")
    alone, cascade = (
        expect(replace(manifest(20), configurations=items)) for items in ((low,), (low, full))
    )
    assert cascade.prepared > 5 * alone.prepared
    assert cascade.reading < alone.reading + cascade.prepared
    assert cascade.reading == max(alone.reading, cascade.image + cascade.prepared)
    assert cascade.apart >= alone.prepared  # gone when the second stage runs
    assert cascade.least <= cascade.peak


def test_a_coarse_grid_takes_the_rows_that_are_read_and_the_narrower_ones_made_of_them():
    coarse = expect(manifest(3, spacing=(2.0, 2.5, 2.5)))
    read = coarse.preparing / (VOXELS * 4)
    assert 1 < read < 1.5  # all rows at once, and these with one axis resampled


def test_an_image_that_cannot_fit_is_refused_with_numbers():
    demand = expect(manifest(3))
    refuse_too_large(demand, Room(limit=0, most=4 * GIB), 0)
    with pytest.raises(AutosegError, match="GB with large arrays in files") as caught:
        refuse_too_large(demand, Room(limit=GIB // 4, most=GIB // 4), 10**8)
    assert "the program 0.10" in caught.value.found
    wanted = float(caught.value.fix.split("--ram ")[1].split("GB")[0])
    most = int(wanted * 1e9)
    refuse_too_large(demand, Room(limit=most, most=most), 10**8)


def test_arrays_go_to_files_where_memory_does_not_suffice(tmp_path, monkeypatch):
    monkeypatch.setattr(governor_module, "resident_bytes", lambda: (1000, 1500))
    room = Room(limit=4000, most=4000, folder=tmp_path)
    made = []
    on_disk = governor_module.OnDisk.zeros
    monkeypatch.setattr(
        governor_module.OnDisk,
        "zeros",
        lambda self, shape, dtype: made.append(shape) or on_disk(self, shape, dtype),
    )
    governor = Governor(room, 500, None)
    assert governor.zeros((100,), np.float32).nbytes == 400
    assert governor.working == 500
    assert made == []
    array = governor.zeros((900,), np.float32)  # 1000 + 500 + 500 + 400 + 3600
    assert made == [(900,)]
    array[:] = 1
    governor.forget()
    assert array.sum() == 900


def test_memory_that_was_given_back_is_given_again(tmp_path, monkeypatch):
    monkeypatch.setattr(governor_module, "resident_bytes", lambda: (0, 0))
    governor = Governor(Room(limit=1000, most=1000, folder=tmp_path), 0, None)
    for _ in range(3):
        array = governor.zeros((900,), np.uint8)
        assert governor.file_bytes == 0
        del array
    first, second = (governor.zeros((900,), np.uint8) for _ in range(2))
    assert governor.file_bytes == second.nbytes == first.nbytes
    assert governor.measures == "with 0.00 GB in files"


def test_bands_come_before_files(monkeypatch):
    monkeypatch.setattr(governor_module, "resident_bytes", lambda: (0, 0))
    governor = Governor(Room(limit=1000, most=1000), 0, None)
    assert governor.choose(iter([900, 450])) == 0
    assert governor.measures == ""
    assert governor.choose(iter([2000, 1100, 700])) == 2
    assert governor.measures == "in 3 bands"
    assert governor.choose(iter([2000, 1100])) == 0


def test_what_a_network_needs_is_the_least_that_was_seen(monkeypatch):
    peaks = iter([(100, 900), (100, 900), (300, 900), (300, 900)])
    monkeypatch.setattr(governor_module, "resident_bytes", lambda: next(peaks))
    room = Room(limit=10**9, most=10**9)
    first = Governor(room, 0, None)
    first.zeros((1,), np.uint8)
    assert first.working == 800
    second = Governor(room, 0, first.working)
    second.zeros((1,), np.uint8)
    assert second.working == 600


def test_reading_ahead_needs_room_for_both(monkeypatch):
    monkeypatch.setattr(governor_module, "resident_bytes", lambda: (0, 0))
    item = manifest(3)
    demand = expect(item)
    for limit, fits in ((demand.peak + demand.reading, True), (demand.peak, False)):
        memory = Memory(item, Room(limit=limit, most=limit), BALANCED, probabilities=False)
        assert memory.holds_both(demand, demand) is fits
        assert memory.holds_both(demand, None)


def test_without_a_limit_most_of_the_machine_is_used(monkeypatch):
    monkeypatch.setattr(governor_module, "usable_memory", lambda: 1000)
    assert Room.of(None) == Room(limit=700, most=1000)
    assert Room.of(300) == Room(limit=300, most=300)
