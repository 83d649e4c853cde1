"""What is chosen from stored probabilities is what the artifact does."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from autoseg.dataset.dataset import Case
from autoseg.ensemble.choose import Member
from autoseg.ensemble.stored import Loaded, Place, find_places, load_places
from autoseg.runtime.images import Geometry, Image
from autoseg.runtime.manifest import Configuration, Manifest, StoredFile
from autoseg.runtime.model import BALANCED, Model, predict_logits
from autoseg.runtime.postprocess import apply_steps, remove_small
from autoseg.runtime.recipe import Channel, KeepLargest, Labels, Recipe, SmallestObject
from autoseg.runtime.restore import restore_labels
from autoseg.train.job import Interrupted
from autoseg.train.out_of_fold import StoredCase, to_steps

SHAPE, SPACING = (14, 22, 18), (2.0, 1.0, 1.0)
OFFSETS = (0.0, 0.75, -0.5)
STEPS = (KeepLargest(classes=(2,)),)
SMALLEST = (SmallestObject(class_index=1, size=60.0),)


def configuration(name, weight, spacing):
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=spacing,
        channels=(Channel(name="MR", scheme="zscore"),),
        order="resample-normalise",
        spline_order=1,
        coarse_ratio=3.0,
        padding="mirror",
        overlap=0.5,
        mirror_axes=(),
        test_time_mirroring=False,
    )
    return Configuration(
        name=name,
        weight=weight,
        folds=("0",),
        recipe=recipe,
        patch_size=(8, 12, 12),
        tiles_per_case=1.0,
        input="raw",
        spatial="dynamic",
        spatial_multiple=(1, 1, 1),
        onnx=f"{name}.onnx",
        torchscript=f"{name}.pt",
        parity=(),
        timings=(),
    )


def open_network(_folder, _manifest, item):
    """Return a network that is unsure: classes by brightness, another one each configuration."""
    slope = 2.0 if item.name == "fine" else 1.2

    def run(tile, mean, std):
        values = (tile - mean[..., None, None, None]) / std[..., None, None, None]
        return np.concatenate([0 * values, slope * values - 0.5, 4 * values - 2], axis=1)

    return run


def write_artifact(folder, weights):
    spacings = {"fine": (2.0, 1.0, 1.0), "coarse": (3.0, 1.5, 1.5)}
    items = tuple(configuration(name, by, spacings[name]) for name, by in weights.items())
    names = [name for item in items for name in (item.onnx, item.torchscript)]
    manifest = Manifest(
        autoseg_version="0",
        name="made up",
        planner="auto",
        plan_digest="0",
        fingerprint_digest="0",
        seed=0,
        unit="mm",
        channels=("MR",),
        channel_files="single",
        file_ending=".nii.gz",
        labels=Labels(names=("background", "large", "small"), values=(0, 1, 2)),
        configurations=items,
        postprocessing=STEPS,
        verification=None,
        offsets=OFFSETS,
        smallest=SMALLEST,
        files=tuple(StoredFile(name=name, num_bytes=0, sha256="0" * 64) for name in names),
    )
    folder.mkdir()
    (folder / "manifest.json").write_text(manifest.to_json())
    return Model(folder, open_network)


@pytest.mark.parametrize("weights", [{"fine": 1.0}, {"fine": 0.75, "coarse": 0.25}])
def test_the_artifact_gives_the_labels_that_the_choice_was_made_on(weights, tmp_path):
    model = write_artifact(tmp_path / "model", weights)
    noise = np.random.default_rng(0).normal(size=(1, *SHAPE))
    array = ndimage.gaussian_filter(noise, (0, 1, 2, 2)).astype(np.float32) * 100
    image = Image(array, Geometry(SPACING))
    stored, size = {}, float(np.prod(SPACING))
    items = zip(model.manifest.configurations, model.prepare(image), model.networks, strict=True)
    for item, part, network in items:
        steps = to_steps(predict_logits(part, item, network, BALANCED))
        stored[item.name] = StoredCase("a", steps, part.placement, size)
    place = Place(Case(id="a", images=(), labels=(), group="a"), "0", {})
    loaded = Loaded(place, stored, np.zeros(SHAPE, np.int8), {})
    members = [Member(configuration=name, folds=("0",), weight=by) for name, by in weights.items()]
    labels = loaded.labels(members, OFFSETS)
    found = remove_small(apply_steps(labels, STEPS), SMALLEST, loaded.voxel_size)
    expected = model.predict_image(image).labels
    assert set(np.unique(expected)) == {0, 1, 2}
    assert (found == expected).mean() > 0.995
    plain = Model(model.folder, open_network)
    plain.manifest = replace(plain.manifest, offsets=())
    assert (plain.predict_image(image).labels != expected).mean() > 0.02


def draw(seed, sure=6.0):
    """Return class indices, and logits (3, *S) that mostly say so."""
    labels = np.zeros((10, 12, 14), np.int8)
    labels[1:6, 1:7, 1:7], labels[6:8, 1:7, 1:7] = 1, 2
    logits = sure * (labels == np.arange(3)[:, None, None, None])
    noise = np.random.default_rng(seed).normal(size=logits.shape)
    return labels, (logits + noise).astype(np.float32)


def test_cases_of_all_members_are_found_and_read(plan, source, train, store):
    for configuration in ("2d", "3d_fullres"):
        for fold in ("0", "1"):
            truth, logits = draw(int(fold))
            train(configuration, fold, {f"case {fold}": (truth, logits.argmax(axis=0))})
            if (configuration, fold) != ("2d", "1"):
                store(configuration, fold, f"case {fold}", logits)
    members = [
        Member(configuration=name, folds=("0", "1"), weight=0.5) for name in ("2d", "3d_fullres")
    ]
    assert len(find_places(source, members[1:])) == 2
    (place,) = find_places(source, members)
    assert (place.case.id, place.fold) == ("case 0", "0")
    (loaded,) = load_places(source, [place], "choosing")
    truth, logits = draw(0)
    np.testing.assert_array_equal(loaded.reference, truth)
    assert (loaded.labels(members[1:]) == logits.argmax(axis=0)).mean() > 0.999
    for folder in place.folders.values():
        for path in folder.probabilities.iterdir():
            path.write_bytes(b"")
    assert list(load_places(source, [place], "choosing")) == []
    placement = loaded.stored["2d"].placement
    np.testing.assert_array_equal(loaded.labels(members), restore_labels(logits, placement))


def test_probabilities_are_weighted_in_the_precision_of_the_artifact(source, train, store):
    truth, logits = draw(0, sure=0.5)
    for configuration, values in {"2d": logits, "3d_fullres": logits[::-1].copy()}.items():
        train(configuration, "0", {"case 0": (truth, truth)})
        store(configuration, "0", "case 0", values)
    members = [
        Member(configuration=name, folds=("0",), weight=by)
        for name, by in {"2d": 0.3, "3d_fullres": 0.7}.items()
    ]
    (loaded,) = load_places(source, find_places(source, members), "choosing")
    found = loaded.probabilities(members)
    parts = [loaded.probabilities([member]).astype(np.float32) for member in members]
    weighted = [
        np.float32(member.weight) * part for member, part in zip(members, parts, strict=True)
    ]
    np.testing.assert_array_equal(found, weighted[0] + weighted[1])


def test_a_stop_is_heard_between_two_cases(source, train, store):
    truth, logits = draw(0)
    train("2d", "0", {"case 0": (truth, truth)})
    store("2d", "0", "case 0", logits)
    places = find_places(source, [Member(configuration="2d", folds=("0",), weight=1.0)])
    stopping = replace(source, listeners=replace(source.listeners, should_stop=lambda: True))
    with pytest.raises(Interrupted, match="the choice"):
        list(load_places(stopping, places, "the choice"))
