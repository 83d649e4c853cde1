"""Rules about what is to be found: how much of it there is, and whether it is thin and long.

Pure functions of the fingerprint's numbers.
"""

import math
from collections.abc import Sequence
from statistics import median

from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint
from autoseg.machine import Device
from autoseg.plan.advice import Advice
from autoseg.plan.training import FOREGROUND_FRACTION
from autoseg.record import LossPlan

SPARSE = 0.05
"""Images with less foreground are oversampled, and their loss must contain Dice: the field's common
advice."""
OVERSAMPLED = 0.58
"""Part of a batch around foreground where it is sparse: the median of nine searched nnU-Nets, seven
of which had more than the usual third (Auto-nnU-Net, arXiv:2505.16561)."""
TINY = 0.001
"""Below this, focal loss takes the place of cross-entropy: it was made for one voxel of foreground
in a thousand (Lin et al. 2017, arXiv:1708.02002). At a few per cent, which is usual in volumes,
nnU-Net's Dice + cross-entropy won most public comparisons (Isensee et al. 2021)."""
TUBE_LENGTH = 200.0
"""Parts this many times longer than wide are a tree or a mesh of tubes. Measured medians: vessels
of a retina 1400, cell membranes 1100; hearts' muscle 62, cracks 22, nuclei 4."""
TUBE_WIDTH = 10.0
"""Voxels. A skeleton takes one erosion for each voxel of the radius; wider tubes seldom break."""
MIN_SKELETON_ITERATIONS = 5
"""Tubes vary: the widest of a tree are a few times as wide as the mean."""


def foreground_share(cases: Sequence[CaseStats]) -> float | None:
    """Return the part of an image that is foreground, median over those that have any.

    None if it was not measured.
    """
    shares = [
        sum(case.class_voxels[1:]) / sum(case.class_voxels)
        for case in cases
        if sum(case.class_voxels[1:])
    ]
    return median(shares) if shares else None


def oversampling(share: float | None) -> Advice[float]:
    """Return the part of each batch that is centred on foreground."""
    if share is not None and share < SPARSE:
        return Advice(
            OVERSAMPLED,
            f"Less than {SPARSE:.0%} of an image is foreground: patches are drawn around it.",
        )
    return Advice(
        FOREGROUND_FRACTION, "A third of each batch shows foreground for sure; the rest anything."
    )


def tube_width(fingerprint: Fingerprint) -> float | None:
    """Return the mean width in voxels if all foreground is thin tubes; else None.

    Where one class is not, its overlap counts more than whether the others hang together.
    """
    num_classes, widths = len(fingerprint.labels.names), []
    measured = [case for case in fingerprint.cases if len(case.class_lengths) == num_classes]
    for index in range(1, num_classes):
        found = [case for case in measured if case.class_lengths[index]]
        if not found or median(case.class_lengths[index] for case in found) < TUBE_LENGTH:
            return None
        widths.append(median(case.class_widths[index] for case in found))
    return max(widths) if widths and max(widths) <= TUBE_WIDTH else None


def affords_skeletons(device: Device) -> bool:
    """Return whether there are the steps that clDice needs.

    In the few that a CPU affords it lost: on a retina's vessels, after 240 equal steps, Dice 0.733
    and surface Dice 0.753 against 0.757 and 0.788, and its skeletons take as long as a step.
    """
    return device != "cpu"


def loss_of(
    share: float | None,
    width: float | None,
    regions: Sequence[Sequence[int]],
    *,
    can_afford_skeletons: bool,
) -> Advice[LossPlan]:
    """Return the loss.

    Parameters
    ----------
    share
        Part of an image that is foreground, None where it is not known.
    width
        Of tubes, None where the foreground is none.
    regions
        Classes of the nested regions that are asked for; empty where classes are.
    can_afford_skeletons
        Whether there is time for clDice.
    """
    if regions:
        return Advice(
            LossPlan(kind="regions", regions=tuple(tuple(region) for region in regions)),
            "Regions are nested, and each is trained as it will be judged.",
        )
    if width is not None and can_afford_skeletons:
        iterations = max(MIN_SKELETON_ITERATIONS, math.ceil(width))
        return Advice(
            LossPlan(kind="dice_ce_cldice", skeleton_iterations=iterations),
            "All foreground is thin tubes: clDice rewards centrelines that hang together; "
            "cross-entropy keeps it from marking everything.",
        )
    if share is not None and share < TINY:
        return Advice(
            LossPlan(kind="dice_focal"),
            f"Less than {TINY:.1%} of an image is foreground: focal loss keeps the many easy "
            "voxels of the background from outweighing it.",
        )
    if width is not None:
        return Advice(
            LossPlan(),
            "Thin tubes would call for clDice, but its skeletons take the time of many steps "
            "(--set loss=dice_ce_cldice has it).",
        )
    return Advice(LossPlan(), "Cross-entropy and Dice together suit most data.")
