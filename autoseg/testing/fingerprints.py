"""Fingerprints and machines made by code, for tests of planners."""

from collections.abc import Sequence

from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.machine import Gpu, Machine
from autoseg.plan.request import PlanRequest
from autoseg.runtime.recipe import Labels

KNOWN = Intensities(
    mean=100.0,
    median=90.0,
    std=30.0,
    min=0.0,
    max=255.0,
    percentile_00_5=1.0,
    percentile_99_5=250.0,
)
"""Foreground intensities of every channel made here."""

UNITS = {1: "s", 2: "pixel", 3: "mm"}
"""Of spacings, by the number of axes."""

TWO_CLASSES = Labels(names=("background", "organ"), values=(0, 1))


def fingerprint_of(
    shapes: Sequence[tuple[int, ...]],
    spacing: tuple[float, ...] | list[tuple[float, ...]] = (1.0, 1.0, 1.0),
    *,
    channels: tuple[str, ...] = ("MRI",),
    labels: Labels = TWO_CLASSES,
    left_after_cropping: float = 1.0,
) -> Fingerprint:
    """Return the fingerprint of cases of some shapes, at one spacing or one for each.

    Signals are measured in seconds, pictures in pixels, volumes in millimetres. A list holds one
    spacing a case.
    """
    spacings = spacing if isinstance(spacing, list) else [spacing] * len(shapes)
    return Fingerprint.model_validate(
        {
            "autoseg_version": "0",
            "dataset_name": "made",
            "unit": UNITS[len(shapes[0])],
            "labels": labels,
            "channels": channels,
            "cases": tuple(
                CaseStats(
                    case_id=f"case {index}",
                    shape=shape,
                    shape_after_crop=shape,
                    spacing=tuple(float(step) for step in spacings[index]),
                )
                for index, shape in enumerate(shapes)
            ),
            "intensities": (KNOWN,) * len(channels),
            "median_relative_size_after_cropping": left_after_cropping,
        }
    )


def machine_of(*gpus: Gpu, flops: float = 2e11, has_bf16: bool = True) -> Machine:
    """Return a machine of two cores and 16 GiB."""
    return Machine(
        num_cpus=2,
        memory_bytes=16 * 2**30,
        gpus=gpus,
        cpu_features=("avx512_bf16",) if has_bf16 else (),
        flops=flops,
        system="Linux",
        python="3.11",
    )


def request_of(
    fingerprint: Fingerprint,
    machine: Machine | None = None,
    *,
    memory_bytes: int | None = None,
    budget_s: float | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> PlanRequest:
    """Return a request with the machine's best device and half of its memory."""
    machine = machine or machine_of()
    return PlanRequest(
        fingerprint=fingerprint,
        machine=machine,
        device=machine.device,
        memory_bytes=memory_bytes,
        ram_bytes=machine.memory_bytes // 2,
        budget_s=budget_s,
        num_folds=num_folds,
        seed=seed,
    )
