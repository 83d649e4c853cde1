from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.plan.family import Facts
from autoseg.plan.memory import training_memory
from autoseg.plan.sizing import CPU_MIN_STEPS, CPU_PATCH_FLOOR, CPU_WIDTHS, cpu_limits, fit_budget
from autoseg.testing.fingerprints import machine_of
from autoseg_planners.auto import NETWORK

FACTS = Facts(in_channels=1, num_classes=3, num_outputs=3)


def fit(seconds=3600.0, memory=8e9, shape=(160, 160, 160), num_cases=50, machine=None):
    voxels = float(shape[0] * shape[1] * shape[2] * num_cases)
    return fit_budget(
        NETWORK,
        FACTS,
        cpu_limits(machine or machine_of(), seconds, int(memory)),
        spacing=(1.0, 1.0, 1.0),
        median_shape=shape,
        num_voxels=voxels,
        start=tuple(min(128, n) for n in shape),
    )


def voxels_of(sized):
    return sized.patch_size[0] * sized.patch_size[1] * sized.patch_size[2]


@settings(deadline=None, max_examples=30)
@given(
    seconds=st.floats(30, 1e5),
    memory=st.floats(1e9, 3e10),
    shape=st.tuples(*[st.integers(8, 300)] * 3),
    num_cases=st.integers(1, 300),
)
def test_a_fit_keeps_memory_and_the_share_of_the_data(seconds, memory, shape, num_cases):
    sized = fit(seconds, memory, shape, num_cases)
    assert all(
        n % s == 0 for n, s in zip(sized.patch_size, sized.network.total_strides, strict=True)
    )
    needed = training_memory(
        sized.network, sized.patch_size, batch_size=sized.batch_size, precision="bf16"
    )
    assert needed <= memory
    covered = sized.batch_size * voxels_of(sized) / (shape[0] * shape[1] * shape[2] * num_cases)
    assert sized.batch_size == 2 or covered <= 0.05 * (1 + 0.5 / sized.batch_size) + 1e-9


def test_more_time_never_makes_the_patch_smaller():
    sizes = [voxels_of(fit(seconds)) for seconds in (100.0, 400.0, 1600.0, 6400.0, 25600.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_short_run_keeps_enough_steps_or_the_smallest_useful_patch():
    sized = fit(300.0)
    assert 300.0 / sized.step_seconds >= CPU_MIN_STEPS or voxels_of(sized) <= CPU_PATCH_FLOOR[3]


def test_small_images_are_never_cut_for_time():
    assert fit(10.0, shape=(36, 50, 35)).patch_size == (40, 56, 40)


def test_width_grows_with_time_and_not_below_sixteen():
    widths = [
        fit(seconds, shape=(36, 50, 35)).network.stages[0].features
        for seconds in (10.0, 1000.0, 1700.0, 10000.0)
    ]
    assert widths == [16, 16, 24, 32]


def test_a_processor_without_bfloat16_gets_less_to_do():
    fast = fit(800.0)
    slow = fit(800.0, machine=machine_of(has_bf16=False))
    assert voxels_of(slow) < voxels_of(fast)


def test_little_memory_makes_the_patch_smaller():
    assert voxels_of(fit(1e6, memory=1.0e9)) < voxels_of(fit(1e6, memory=8e9))


def test_reasons_name_the_memory_where_it_was_the_memory():
    small = fit(1e6, memory=0.6e9)
    assert "memory" in small.patch_reason
    narrow = fit(1e6, memory=0.7e9, shape=(36, 50, 35))
    assert narrow.network.stages[0].features < CPU_WIDTHS[-1]
    assert "memory" in narrow.width_reason
    hasty = fit(100.0)
    assert "memory" not in hasty.patch_reason


def test_supervision_is_limited_by_the_family():
    family = replace(NETWORK, max_supervised=1)
    sized = fit_budget(
        family,
        FACTS,
        cpu_limits(machine_of(), 3600.0, 8_000_000_000),
        spacing=(1.0, 1.0, 1.0),
        median_shape=(160, 160, 160),
        num_voxels=1e9,
        start=(128, 128, 128),
    )
    assert sized.network.num_supervised == 1
