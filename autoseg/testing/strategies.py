"""Hypothesis strategies for what planners are asked. Needs the extra `dev`."""

from dataclasses import replace

from hypothesis import strategies as st

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import Gpu
from autoseg.plan.request import PlanRequest
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

CHANNEL_NAMES = ("CT", "T2", "noNorm", "rescale_to_0_1", "rgb_to_0_1")


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    """Draw a data set: 1D to 3D, isotropic or not, tiny or large, one case or many."""
    dims = draw(st.sampled_from((1, 2, 3)))
    spacing = draw(st.tuples(*[st.floats(0.25, 8.0)] * dims))
    shape = draw(st.tuples(*[st.integers(1, 600)] * dims))
    factors = draw(st.lists(st.floats(0.7, 1.4), min_size=1, max_size=6))
    num_classes = draw(st.integers(2, 9))
    labels = Labels(
        names=tuple(f"class {index}" for index in range(num_classes)),
        values=tuple(range(num_classes)),
        ignore=draw(st.sampled_from((None, num_classes))),
    )
    return fingerprint_of(
        [tuple(max(1, round(n * factor)) for n in shape) for factor in factors],
        [tuple(step / factor for step in spacing) for factor in factors],
        channels=tuple(draw(st.lists(st.sampled_from(CHANNEL_NAMES), min_size=1, max_size=3))),
        labels=labels,
        left_after_cropping=draw(st.floats(0.1, 1.0)),
    )


@st.composite
def plan_requests(draw: st.DrawFn) -> PlanRequest:
    """Draw a data set with a machine and a budget."""
    gpu = Gpu(name=draw(st.sampled_from(("NVIDIA A100", "unknown"))), memory_bytes=24 * 2**30)
    machine = machine_of(
        *draw(st.sampled_from(((), (gpu,)))),
        flops=draw(st.floats(1e10, 5e12)),
        has_bf16=draw(st.booleans()),
    )
    request = request_of(
        draw(fingerprints()),
        machine,
        memory_bytes=draw(st.sampled_from((None, 4_000_000_000, 16_000_000_000))),
        budget_s=draw(st.sampled_from((None, 600.0, 7200.0, 86400.0))),
        num_folds=draw(st.integers(1, 5)),
    )
    return replace(request, seed=draw(st.integers(0, 3)))
