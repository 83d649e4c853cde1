import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autoseg.errors import TrainingError
from autoseg.network.execution import Execution
from autoseg.preprocess.store import CaseArrays, CaseStore, PreparedCase
from autoseg.runtime.recipe import Labels
from autoseg.testing.plans import STILL, small_configuration
from autoseg.train.device_batches import DeviceBatches
from autoseg.train.kept_cases import KeptCases, whole
from autoseg.train.sampling import Batches, draw_start, is_forced

LABELS = Labels(names=("background", "a", "b"), values=(0, 1, 2))
LIVELY = STILL.revised(
    rotation_probability=0.5, noise_probability=0.5, gamma_probability=0.5, mirror_probability=0.5
)


def configuration(patch_size=(8, 10, 8), batch_size=4, augmentation=STILL, num_axes=3):
    if len(patch_size) == 2:
        augmentation = augmentation.revised(rotation=((-3.0, 3.0),))
    item = small_configuration(patch_size, image_axes=num_axes, batch_size=batch_size)
    return item.revised(training=item.training.revised(augmentation=augmentation))


class MemoryStore:
    """Prepared cases in memory: every voxel of the image holds its own flat index plus one."""

    def __init__(self, labels_by_case):
        self.cases = labels_by_case
        self.num_opened = 0

    def info(self, case_id):
        labels = self.cases[case_id]
        counts = [len(self.flat_locations(case_id, c)) for c in range(3)]
        offsets = tuple(int(n) for n in np.cumsum([0, *counts]))
        return SimpleNamespace(shape=(1, *labels.shape), location_offsets=offsets)

    def image(self, case_id):
        self.num_opened += 1
        labels = self.cases[case_id]
        return 1 + np.arange(labels.size, dtype=np.float32).reshape(1, *labels.shape)

    def labels(self, case_id):
        return self.cases[case_id]

    def flat_locations(self, case_id, label):
        labels = self.cases[case_id]
        if label == 0:  # all annotated voxels, where there are others
            return np.flatnonzero(labels >= 0) if (labels < 0).any() else np.array([], int)
        return np.flatnonzero(labels == label)


def write_store(folder, memory, patch_size):
    """Return a store on disk with the cases of a store in memory."""
    store = CaseStore(folder)
    for case_id, labels in memory.cases.items():
        places = [memory.flat_locations(case_id, c) for c in range(3)]
        info = PreparedCase(
            autoseg_version="0",
            case_id=case_id,
            dtype="float32",
            shape=(1, *labels.shape),
            spacing=(1.0,) * labels.ndim,
            mean=(0.0,),
            std=(1.0,),
            placement={},
            class_voxels=tuple(int((labels == c).sum()) for c in range(3)),
            num_annotated=int((labels >= 0).sum()),
            location_offsets=memory.info(case_id).location_offsets,
            source_hash="",
            recipe_digest="",
        )
        arrays = CaseArrays(memory.image(case_id), labels, np.concatenate(places))
        store.write(info, arrays, patch_size)
    return store


def spotted_case(shape=(24, 30, 26), spots=(((20, 3, 12), 1), ((2, 28, 25), 2))):
    labels = np.zeros(shape, np.int8)
    for place, label in spots:
        labels[place] = label
    return labels


def make_batches(
    store: Any, plan=None, case_ids=None, labels=LABELS, cache_bytes=0, fold="0", seed=0, known=None
):
    case_ids = case_ids or sorted(store.cases)
    return Batches(
        store if isinstance(store, KeptCases) else KeptCases(store, cache_bytes),
        case_ids,
        plan or configuration(),
        labels=labels,
        seed=seed,
        fold=fold,
        known=known or {},
    )


def same(first, second):
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


def test_batch_has_the_planned_shape_and_types():
    batch = make_batches(MemoryStore({"a": spotted_case()})).batch(0)
    assert batch.images.shape == (4, 1, 8, 10, 8)
    assert batch.images.dtype == torch.float32
    assert batch.labels.shape == (4, 8, 10, 8)
    assert batch.labels.dtype == torch.int16


def test_batch_depends_on_seed_fold_and_step_only():
    store = MemoryStore({"a": spotted_case(), "b": spotted_case((20, 20, 20), ())})
    plan = configuration(augmentation=LIVELY)
    batches = make_batches(store, plan)
    first = batches.batch(7)
    batches.batch(3)

    assert same(first, batches.batch(7))
    assert same(first, make_batches(store, plan, cache_bytes=10**9).batch(7))
    assert not same(first, batches.batch(8))
    assert not same(first, make_batches(store, plan, fold="1").batch(7))
    assert not same(first, make_batches(store, plan, seed=1).batch(7))


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_stream_is_the_same_for_any_number_of_threads(num_workers):
    store = MemoryStore({"a": spotted_case(), "b": spotted_case((20, 20, 20), ())})
    batches = make_batches(store, configuration(augmentation=LIVELY))
    expected = [batches.batch(step) for step in range(5, 12)]

    found = list(batches.stream_from(5, 12, num_workers))

    assert len(found) == 7
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_closing_the_stream_ends_its_threads():
    before = threading.active_count()
    stream = make_batches(MemoryStore({"a": spotted_case()})).stream_from(0, 10**9, 2)
    next(stream)
    assert threading.active_count() > before
    stream.close()
    assert threading.active_count() == before


def test_stream_makes_few_batches_ahead():
    store = MemoryStore({"a": spotted_case()})
    stream = make_batches(store, configuration(batch_size=2)).stream_from(0, 10**9, 2)
    for _ in range(3):
        next(stream)
    stream.close()
    assert store.num_opened <= 2 * (3 + 2 + 1)


@pytest.mark.parametrize("num_workers", [0, 3])
@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_cases_on_disk_give_the_same_batches(tmp_path, num_workers, cache_bytes):
    memory = MemoryStore({"a <b>": spotted_case(), "ü": spotted_case((20, 20, 20), ())})
    plan = configuration(augmentation=LIVELY)
    expected = make_batches(memory, plan)
    store = write_store(tmp_path, memory, plan.patch_size)

    on_disk = make_batches(store, plan, sorted(memory.cases), cache_bytes=cache_bytes)
    found = list(on_disk.stream_from(0, 12, num_workers))

    assert len(found) == 12
    assert all(same(batch, expected.batch(step)) for step, batch in enumerate(found))


def rows_of(batch):
    assert batch.annotated is not None
    return [tuple(row) for row in batch.annotated.tolist()]


def test_a_batch_says_which_classes_its_cases_annotate():
    store = MemoryStore({"all": spotted_case(), "some": spotted_case()})
    known = {"some": (True, False, True)}
    batches = make_batches(store, known=known)
    rows = [row for step in range(8) for row in rows_of(batches.batch(step))]
    assert set(rows) == {(True, True, True), (True, False, True)}
    assert make_batches(store).batch(0).annotated is None
    assert make_batches(store, case_ids=["all"], known=known).batch(0).annotated is None


def test_a_patch_made_of_two_cases_tells_what_both_annotate():
    store = MemoryStore({"a": spotted_case(), "b": spotted_case()})
    mixing = STILL.revised(cutmix_probability=1.0)
    known = {"a": (True, False, True), "b": (True, True, False)}
    batch = make_batches(store, configuration(augmentation=mixing), known=known).batch(0)
    assert rows_of(batch) == [(True, False, False)] * 4


def test_what_valid_convolutions_predict_lies_inside_the_image():
    plan = configuration(patch_size=(10, 12, 10))
    network = plan.network.revised(padding="valid", downsampling="max")
    plan = plan.revised(network=network)
    margin = network.output_margin[0]
    assert margin > 0
    store = MemoryStore({"a": spotted_case((9, 11, 9), (((0, 0, 0), 1),))})
    batches = make_batches(store, plan)
    labels = torch.cat([batches.batch(step).labels for step in range(3)])
    inner = labels[(slice(None), *(slice(margin, n - margin) for n in plan.patch_size))]
    assert bool((inner >= 0).all())
    assert int(labels.min()) < 0  # seen around the image, and not predicted


def numbered(label):
    """Return the labels of a case with one voxel of a class."""
    labels = np.zeros((24, 30, 26), np.int8)
    labels[12, 15, 13] = label
    return labels


def test_pasted_objects_come_from_another_case_with_their_labels():
    store = MemoryStore({"a": numbered(0), "b": numbered(0), "c": numbered(2)})
    plan = configuration(augmentation=STILL.revised(copy_paste_probability=1.0), batch_size=8)
    batches = make_batches(store, plan, case_ids=["a", "b", "c"])
    labels = torch.cat([batches.batch(step).labels for step in range(4)])
    images = torch.cat([batches.batch(step).images for step in range(4)])
    pasted = labels == 2
    assert (pasted.flatten(1).sum(1) == 1).sum() > 10  # all but those of the case that has it
    voxel = 1 + int(np.ravel_multi_index((12, 15, 13), (24, 30, 26)))
    assert set(images[:, 0][pasted].tolist()) == {voxel}


def test_nothing_is_pasted_where_no_other_case_has_anything():
    store = MemoryStore({"a": numbered(1), "b": numbered(0)})
    pasting = configuration(
        augmentation=STILL.revised(copy_paste_probability=1.0, cutmix_probability=1.0)
    )
    still = configuration()
    alone, plain = (make_batches(store, plan, case_ids=["a"]) for plan in (pasting, still))
    assert same(alone.batch(0), plain.batch(0))


def test_a_mixed_box_shows_image_and_labels_of_the_same_place():
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 3, 24 * 30 * 26).astype(np.int8)
    store = MemoryStore({name: flat.reshape(24, 30, 26) for name in "ab"})
    plan = configuration(augmentation=STILL.revised(cutmix_probability=1.0))
    batches = make_batches(store, plan)
    batch, again = batches.batch(1), batches.batch(1)
    index = batch.images[:, 0].long() - 1
    assert torch.equal(torch.from_numpy(flat)[index].short(), batch.labels)
    jumps = (batch.images.diff(dim=-1) != 1).flatten(1).any(1)
    assert jumps.all()  # two places are seen
    assert same(batch, again)


def test_slices_of_volumes_are_mixed_too():
    store = MemoryStore({name: spotted_case() for name in "ab"})
    mixing = STILL.revised(cutmix_probability=1.0, copy_paste_probability=1.0)
    plan = configuration(patch_size=(10, 8), augmentation=mixing)
    batch = make_batches(store, plan).batch(0)
    assert batch.images.shape == (4, 1, 10, 8)
    assert (batch.labels > 0).any()


def test_damaged_file_is_named(tmp_path):
    memory = MemoryStore({"patient 7": spotted_case()})
    store = write_store(tmp_path, memory, (8, 10, 8))
    next(tmp_path.glob("*7.b2nd")).write_bytes(b"not an array")
    with pytest.raises(TrainingError, match="'patient 7'"):
        make_batches(store, case_ids=["patient 7"]).batch(0)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_case_is_named(num_workers):
    store = MemoryStore({"patient 7": spotted_case()})

    def broken(case_id):
        raise RuntimeError("cannot decompress")

    store.image = broken
    before = threading.active_count()
    with pytest.raises(TrainingError, match=r"'patient 7'.*cannot decompress"):
        list(make_batches(store).stream_from(0, 5, num_workers))
    assert threading.active_count() == before


def test_our_own_fault_keeps_its_type_and_names_the_case():
    store = MemoryStore({"patient 7": spotted_case()})
    store.labels = lambda case_id: np.zeros((3, 3), np.int8)
    with pytest.raises(ValueError, match="zip") as caught:
        make_batches(store).batch(0)
    assert "patient 7" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("batch_size", "num_forced"), [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (9, 3), (12, 4)]
)
def test_forced_share_is_that_of_nnunet(batch_size, num_forced):
    assert sum(is_forced(index, batch_size, 0.33) for index in range(batch_size)) == num_forced


def test_last_samples_of_every_batch_hold_foreground():
    store = MemoryStore({"a": spotted_case()})
    batches = make_batches(store, configuration(batch_size=3))
    labels = torch.stack([batches.batch(step).labels for step in range(60)])
    held = (labels > 0).flatten(2).any(2)

    assert held[:, 2].all()
    assert held[:, :2].float().mean() < 0.5
    found = [set(sample.unique().tolist()) - {0} for sample in labels[:, 2]]
    assert 15 < sum(classes == {1} for classes in found) < 45


def test_patch_is_centred_on_a_foreground_voxel_away_from_borders():
    store = MemoryStore({"a": spotted_case(spots=(((12, 15, 13), 2),))})
    batch = make_batches(store, configuration(batch_size=3)).batch(0)
    assert batch.labels[2, 4, 5, 4] == 2


def test_case_without_foreground_gives_patches_from_anywhere():
    store = MemoryStore({"a": spotted_case(spots=())})
    batches = make_batches(store, configuration(batch_size=2))
    corners = {float(batches.batch(step).images[1, 0, 0, 0, 0]) for step in range(10)}
    assert len(corners) > 7


def test_cases_are_drawn_uniformly():
    store = MemoryStore({name: np.full((8, 10, 8), i, np.int8) for i, name in enumerate("xyz")})
    batches = make_batches(store)
    drawn = [batches.batch(step).labels[:, 0, 0, 0] for step in range(150)]
    shares = np.bincount(torch.cat(drawn).numpy(), minlength=3) / 600
    np.testing.assert_allclose(shares, 1 / 3, atol=0.07)


def test_patches_cover_every_voxel():
    store = MemoryStore({"a": spotted_case((10, 12, 9), ())})
    batches = make_batches(store)
    seen = torch.cat([batches.batch(step).images.unique() for step in range(40)]).unique()
    assert seen.tolist() == list(range(1, 10 * 12 * 9 + 1))


def test_small_image_is_mirrored_and_ignored_outside():
    store = MemoryStore({"a": np.ones((4, 14, 3), np.int8)})
    batch = make_batches(store).batch(0)
    for image, labels in zip(batch.images[:, 0], batch.labels, strict=True):
        inside = labels != -1
        assert inside.sum() == 4 * 10 * 3
        assert set(image.unique().tolist()) == set(image[inside].unique().tolist())


def test_turned_patch_is_ignored_where_it_leaves_the_image():
    store = MemoryStore({"a": np.ones((8, 10, 8), np.int8)})
    turned = STILL.revised(rotation_probability=1.0, rotation=((0.5, 0.5),) * 3)
    batch = make_batches(store, configuration(augmentation=turned)).batch(0)
    assert set(batch.labels.unique().tolist()) == {-1, 1}
    assert (batch.labels == -1).float().mean() > 0.1
    assert (batch.labels[:, 3:5, 4:6, 3:5] == 1).all()
    assert batch.images.min() > 0.99
    assert batch.images.max() < 8 * 10 * 8 + 0.01


def test_small_image_lies_anywhere_in_the_patch():
    rng = np.random.default_rng(0)
    starts = {draw_start(rng, (5,), (8,), None)[0] for _ in range(100)}
    assert starts == {-3, -2, -1, 0}


def test_patch_around_a_border_voxel_stays_inside():
    rng = np.random.default_rng(0)
    assert draw_start(rng, (30, 30), (8, 8), (0, 29)) == (0, 22)


@pytest.mark.parametrize("num_axes", [2, 3])
def test_planar_network_sees_slices(num_axes):
    shape = (6, 20, 24)[3 - num_axes :]
    labels = np.zeros(shape, np.int8)
    labels[(4, 10, 12)[3 - num_axes :]] = 1
    store = MemoryStore({"a": labels})
    plan = configuration((8, 8), batch_size=3, augmentation=LIVELY, num_axes=num_axes)
    batch = make_batches(store, plan).batch(1)
    plain = make_batches(store, plan.revised(training=configuration().training)).batch(1)

    assert batch.images.shape == (3, 1, 8, 8)
    assert plain.labels[2, 4, 4] == 1
    if num_axes == 3:
        assert int(plain.images[2, 0, 4, 4]) == 1 + np.ravel_multi_index((4, 10, 12), shape)


def test_sparse_annotation_is_where_patches_lie():
    labels = np.full((40, 40, 40), -1, np.int8)
    labels[35, 30:38, 5:12] = 0
    store = MemoryStore({"a": labels})
    sparse = Labels(names=LABELS.names, values=LABELS.values, ignore=9)
    known = [
        (make_batches(store, labels=chosen).batch(0).labels >= 0).flatten(1).any(1)
        for chosen in (sparse, LABELS)
    ]
    assert known[0][:3].all()
    assert not known[1][:3].all()


def test_kept_cases_are_opened_once_and_limited_by_memory():
    labels = spotted_case()
    one = labels.size * (4 + 1)
    store = MemoryStore({"a": labels})
    kept = make_batches(store, cache_bytes=one)
    for step in range(5):
        kept.batch(step)
    assert store.num_opened == 1
    unkept = make_batches(store, cache_bytes=one - 1)
    unkept.batch(0)
    assert store.num_opened == 1 + 4


CPU = Execution(device="cpu", precision="fp32")
ON = {
    "workers": lambda batches: batches,
    "device": lambda batches: DeviceBatches(batches, "cpu"),
}
EVERYTHING = LIVELY.revised(
    rotation_probability=0.5,
    scale_probability=0.5,
    elastic_probability=0.3,
    cutmix_probability=0.3,
    copy_paste_probability=0.3,
    noise_probability=0.5,
    blur_probability=0.5,
    brightness_probability=0.5,
    contrast_probability=0.5,
    gamma_probability=0.5,
    low_resolution_probability=0.5,
)


def second_stage(plan=None, **changes):
    """Return a configuration that sees what another one found, its recipe changed."""
    plan = plan or configuration()
    recipe = replace(plan.recipe, **changes)
    return plan.revised(previous_stage="3d_lowres", recipe=recipe)


class Found:
    """What a previous stage found, in memory."""

    def __init__(self, labels_by_case):
        self.cases = labels_by_case

    def labels(self, case_id):
        return self.cases[case_id]


def found_before(store, make):
    """Return the cases with what `make` says that a previous stage found in their labels."""
    previous = {case_id: make(labels) for case_id, labels in store.cases.items()}
    return KeptCases(store, 0, Found(previous))


def by_index(labels):
    """Return class indices that tell of each voxel where it lies."""
    return (np.arange(labels.size) % 3).astype(np.int8).reshape(labels.shape)


def one_hot(labels):
    return torch.stack([labels == 1, labels == 2], dim=1).float()


@pytest.fixture(params=ON)
def make_batch(request):
    """Return a function that makes the batch of a step as workers or as a device do."""

    def make(store, plan, step, **options):
        batches = make_batches(store, plan, ["a", "b"], **options)
        return ON[request.param](batches).batch(step).on(CPU)

    return make


@pytest.fixture
def store():
    cases = {"a": spotted_case(), "b": spotted_case((6, 30, 7), (((3, 4, 5), 2),))}
    return MemoryStore(cases)


def test_what_a_previous_stage_found_comes_as_a_channel_for_each_class(make_batch, store):
    batch = make_batch(found_before(store, by_index), second_stage(), 0)
    assert batch.images.shape == (4, 1 + 2, 8, 10, 8)
    assert batch.images.dtype == torch.float32
    assert batch.labels.shape == (4, 8, 10, 8)
    assert batch.labels.dtype == torch.int16


def test_previous_labels_lie_on_their_voxels_and_are_background_outside(make_batch, store):
    plan = second_stage(padding="zero", mirror_axes=(0, 1, 2))
    augmentation = STILL.revised(mirror_probability=0.5)
    plan = plan.revised(training=plan.training.revised(augmentation=augmentation))
    num_outside = 0
    for step in range(6):
        batch = make_batch(found_before(store, by_index), plan, step)
        numbers = batch.images[:, 0].round().long() - 1  # of voxels; -1 outside the image
        expected = torch.where(numbers < 0, 0, numbers % 3)
        assert torch.equal(batch.images[:, 1:], one_hot(expected))
        assert torch.equal(batch.labels < 0, numbers < 0)
        num_outside += int((numbers < 0).sum())
    assert num_outside > 0  # case b is smaller than the patch


def test_previous_labels_are_moved_and_mixed_exactly_as_the_targets(make_batch, store):
    plan = second_stage(configuration(augmentation=EVERYTHING), mirror_axes=(0, 1, 2))
    cases = {name: by_index(labels) for name, labels in store.cases.items()}
    for step in range(8):
        batch = make_batch(found_before(MemoryStore(cases), np.copy), plan, step)
        assert {0, 1, 2} <= set(batch.labels.unique().tolist())
        assert torch.equal(batch.images[:, 1:], one_hot(batch.labels))


def test_images_and_targets_are_those_of_a_network_without_a_previous_stage(make_batch, store):
    plan = configuration(augmentation=EVERYTHING)
    changing = EVERYTHING.revised(previous_change_probability=1.0, previous_radius=(1, 2))
    # What is drawn for previous labels comes after the rest, but before places of donors.
    still = {"cutmix_probability": 0.0, "copy_paste_probability": 0.0}
    plan, second = (
        item.revised(training=item.training.revised(augmentation=augmentation.revised(**still)))
        for item, augmentation in ((plan, EVERYTHING), (second_stage(plan), changing))
    )
    is_changed = []
    for step in range(4):
        with_previous = make_batch(found_before(store, by_index), second, step)
        without = make_batch(store, plan, step)
        assert torch.equal(with_previous.images[:, :1], without.images)
        assert torch.equal(with_previous.labels, without.labels)
        plainly = make_batch(found_before(store, by_index), second_stage(plan), step)
        is_changed.append(not torch.equal(plainly.images, with_previous.images))
    assert any(is_changed)


def test_intensities_and_missing_channels_leave_previous_labels_alone(make_batch, store):
    still = {f"{name}_probability": 0.0 for name in ("rotation", "scale", "elastic", "mirror")}
    mixed = {"cutmix_probability": 0.0, "copy_paste_probability": 0.0}
    loud = EVERYTHING.revised(**still, **mixed, brightness_probability=1.0)
    loud = loud.revised(channel_dropout_probability=0.5)
    plan = second_stage(configuration(augmentation=loud))
    plan = plan.revised(recipe=replace(plan.recipe, channels=plan.recipe.channels * 2))
    both = SimpleNamespace(
        **{name: getattr(store, name) for name in ("cases", "labels", "flat_locations", "info")},
        image=lambda case_id: np.repeat(store.image(case_id), 2, axis=0),
    )
    is_missing = []
    for step in range(4):
        batch = make_batch(found_before(both, by_index), plan, step)
        assert batch.images.shape[1] == 2 + 2
        assert set(batch.images[:, 2:].unique().tolist()) == {0.0, 1.0}
        is_missing.append(bool(batch.images[:, :2].isnan().any()))
    assert any(is_missing)


def test_slices_of_volumes_take_their_own_previous_labels(make_batch, store):
    plan = second_stage(configuration(patch_size=(8, 7)), padding="zero")
    batch = make_batch(found_before(store, by_index), plan, 1)
    assert batch.images.shape == (4, 3, 8, 7)
    numbers = batch.images[:, 0].round().long() - 1
    assert torch.equal(batch.images[:, 1:], one_hot(torch.where(numbers < 0, 0, numbers % 3)))


def test_batches_with_previous_labels_depend_on_their_step_only(make_batch, store):
    plan = second_stage(configuration(augmentation=EVERYTHING))
    changing = EVERYTHING.revised(previous_change_probability=1.0, previous_removal_probability=1.0)
    plan = plan.revised(training=plan.training.revised(augmentation=changing))
    cases = found_before(store, by_index)
    first = make_batch(cases, plan, 3)
    make_batch(cases, plan, 2)
    assert same(first, make_batch(cases, plan, 3))
    assert not same(first, make_batch(cases, plan, 4))
    assert np.array_equal(store.cases["a"], spotted_case())  # nothing in memory was changed


def test_previous_labels_in_memory_stay_as_they_are(store):
    changing = STILL.revised(previous_change_probability=1.0, previous_removal_probability=1.0)
    plan = second_stage(configuration((24, 30, 26), augmentation=changing))
    cases = found_before(store, by_index)
    for step in range(3):
        make_batches(cases, plan, ["a"]).batch(step)
    assert np.array_equal(whole(cases.arrays("a")[2]), by_index(store.cases["a"]))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_cases_in_memory_give_the_batches_of_those_on_disk_with_previous_labels(store, num_workers):
    plan = second_stage(configuration(augmentation=EVERYTHING))
    previous = Found({name: by_index(item) for name, item in store.cases.items()})
    found = [
        list(make_batches(KeptCases(store, size, previous), plan, ["a", "b"]).stream_from(0, 5, n))
        for size, n in ((0, 0), (10**9, num_workers))
    ]
    assert all(same(a, b) for a, b in zip(*found, strict=True))


def test_cases_and_configuration_agree_on_the_previous_stage(store):
    with pytest.raises(ValueError, match="previous stage"):
        make_batches(found_before(store, by_index), configuration(), ["a"])
    with pytest.raises(ValueError, match="previous stage"):
        make_batches(store, second_stage(), ["a"])
