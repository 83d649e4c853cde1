"""nnU-Net's residual encoders, sizes M and L."""

from dataclasses import replace

from autoseg.plan.family import Family
from autoseg.plan.plan import Plan
from autoseg.plan.request import PlanRequest
from autoseg_planners.nnunet import plan_family

RESENC_M = Family(
    encoder="residual",
    blocks=(1, 3, 4, 6),
    decoder_convs=1,
    max_features={2: 512, 3: 320},
    reference_values={2: 135_000_000, 3: 680_000_000},
    reference_bytes=8_000_000_000,
    fitted_batch={2: 12, 3: 2},
    max_covered=1.0,
)
"""For 9 to 11 GB of GPU memory. The reference values are nnU-Net's, as is the batch that may cover
the whole data set: small images get very large batches."""

RESENC_L = replace(
    RESENC_M,
    reference_values={2: 380_000_000, 3: 2_100_000_000},
    reference_bytes=24_000_000_000,
)
"""For 24 GB of GPU memory."""


def plan_m(request: PlanRequest) -> Plan:
    """Return nnU-Net's plan with a residual encoder of size M (memory target 8 GB)."""
    return plan_family(request, RESENC_M, "resenc_m")


def plan_l(request: PlanRequest) -> Plan:
    """Return nnU-Net's plan with a residual encoder of size L (memory target 24 GB)."""
    return plan_family(request, RESENC_L, "resenc_l")
