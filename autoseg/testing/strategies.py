"""Hypothesis strategies for what planners are asked. Needs the extra `dev`."""

import math
from dataclasses import replace

from hypothesis import strategies as st

from autoseg.fingerprint.fingerprint import Fingerprint
from autoseg.machine import Gpu, Machine
from autoseg.plan.request import PlanRequest
from autoseg.runtime.recipe import Labels
from autoseg.testing.fingerprints import fingerprint_of, machine_of, request_of

CHANNEL_NAMES = ("CT", "T2", "noNorm", "rescale_to_0_1", "rgb_to_0_1")
LONGEST = {"usual": {1: 600, 2: 600, 3: 600}, "huge": {1: 2_000_000, 2: 30_000, 3: 2_000}}
"""Edges in voxels, by kind and number of axes; "tiny" ones are up to 9."""
COARSE = 100.0
"""Largest ratio between the spacings of an image's axes."""
MANY_CLASSES = 501
GIB = 2**30
GPUS = (
    Gpu(name="NVIDIA GeForce RTX 2080", memory_bytes=8 * GIB),
    Gpu(name="NVIDIA A100", memory_bytes=24 * GIB),
    Gpu(name="unknown", memory_bytes=80 * GIB),
)


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    """Draw a data set: 1D to 3D, isotropic or not, tiny to huge, one case or more, 500 labels.

    Every second one has what is measured of the labels, too; others are as older versions wrote
    them.
    """
    dims = draw(st.sampled_from((1, 2, 3)))
    longest = draw(st.sampled_from((9, LONGEST["usual"][dims], LONGEST["huge"][dims])))
    spacing = draw(st.tuples(*[st.floats(0.25, 8.0)] * dims))
    coarse = draw(st.sampled_from((1.0, 1.0, COARSE)))
    shape = draw(st.tuples(*[st.integers(1, longest)] * dims))
    factors = draw(st.lists(st.floats(0.7, 1.4), min_size=1, max_size=6))
    found = fingerprint_of(
        [tuple(max(1, round(n * factor)) for n in shape) for factor in factors],
        [
            tuple(
                step / factor * (coarse if axis == 0 else 1.0) for axis, step in enumerate(spacing)
            )
            for factor in factors
        ],
        channels=tuple(draw(st.lists(st.sampled_from(CHANNEL_NAMES), min_size=1, max_size=3))),
        labels=draw(label_tables()),
        left_after_cropping=draw(st.floats(0.1, 1.0)),
    )
    return draw(with_measures(found)) if draw(st.booleans()) else found


@st.composite
def label_tables(draw: st.DrawFn) -> Labels:
    """Draw the labels of a data set: two classes or many, sides, an ignore label."""
    count = draw(st.sampled_from((2, 3, 4, 9, MANY_CLASSES)))
    names = [f"class {index}" for index in range(count)]
    if count > 2 and draw(st.booleans()):
        names[1:3] = "left part", "right part"
    ignore = draw(st.sampled_from((None, count)))
    return Labels(names=tuple(names), values=tuple(range(count)), ignore=ignore)


@st.composite
def with_measures(draw: st.DrawFn, found: Fingerprint) -> Fingerprint:
    """Draw how much of each case is foreground, and in how many pieces."""
    part, orientation = draw(st.floats(0.0, 0.9)), draw(st.sampled_from((None, "LPS")))
    pieces = draw(st.integers(1, 1000))
    others = len(found.labels.names) - 1
    cases = []
    for case in found.cases:
        voxels = math.prod(case.shape)
        each = int(part * voxels / others)
        cases.append(
            case.revised(
                class_voxels=(voxels - others * each, *(each,) * others),
                class_components=(0, *(min(pieces, each),) * others),
                class_centres=((), *(((0.5,) * len(case.shape),) * others)) if each else (),
                foreground_means=(100.0,) * len(found.channels) if each else (),
                orientation=orientation if len(case.shape) == 3 else None,
                dtype="uint8",
            )
        )
    return found.revised(cases=tuple(cases))


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Draw a laptop, a server, or a machine with one of `GPUS`."""
    gpu = draw(st.sampled_from((None, None, *GPUS)))
    machine = machine_of(
        *(() if gpu is None else (gpu,)),
        flops=draw(st.floats(1e10, 5e12)),
        has_bf16=draw(st.booleans()),
    )
    num_cpus, gib = draw(st.sampled_from(((1, 4), (8, 32), (64, 512))))
    return machine.revised(num_cpus=num_cpus, memory_bytes=gib * GIB)


@st.composite
def plan_requests(draw: st.DrawFn) -> PlanRequest:
    """Draw a data set with a machine and a budget."""
    request = request_of(
        draw(fingerprints()),
        draw(machines()),
        memory_bytes=draw(
            st.sampled_from((None, None, 1_000_000_000, 4_000_000_000, 16_000_000_000))
        ),
        budget_s=draw(st.sampled_from((None, 60.0, 600.0, 7200.0, 86400.0))),
        num_folds=draw(st.integers(1, 5)),
    )
    return replace(request, seed=draw(st.integers(0, 3)))
