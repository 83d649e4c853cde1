"""Which losses a plan may name, and what must hold for their parameters."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from autoseg.errors import nearest
from autoseg.record import LossPlan

LOSSES: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ce": ("cross-entropy", ()),
        "weighted_ce": ("cross-entropy with class weights", ("class_weights",)),
        "bce": ("binary cross-entropy of each foreground class", ()),
        "dice": ("Dice", ("dice_power",)),
        "dice_ce": ("cross-entropy + Dice", ("dice_power",)),
        "dice_bce": ("binary cross-entropy + Dice", ()),
        "focal": ("focal", ("focal_gamma", "focal_alpha")),
        "dice_focal": ("focal + Dice", ("dice_power", "focal_gamma", "focal_alpha")),
        "focal_dice": ("focal Dice", ("focal_dice_beta",)),
        "tversky": ("Tversky", ("false_positive_weight", "false_negative_weight")),
        "focal_tversky": (
            "focal Tversky",
            ("false_positive_weight", "false_negative_weight", "focal_tversky_gamma"),
        ),
        "topk_ce": ("cross-entropy of the hardest voxels", ("hardest_fraction",)),
        "ohem_ce": (
            "cross-entropy of the hardest voxels (OHEM)",
            ("hardest_fraction", "hardest_below"),
        ),
        "dice_topk": (
            "cross-entropy of the hardest voxels + Dice",
            ("dice_power", "hardest_fraction"),
        ),
        "generalised_dice": ("generalised Dice", ()),
        "cldice": (
            "centreline Dice + Dice",
            ("dice_power", "cldice_weight", "skeleton_iterations"),
        ),
        "dice_ce_cldice": (
            "cross-entropy + centreline Dice + Dice",
            ("dice_power", "cldice_weight", "skeleton_iterations"),
        ),
        "dice_ce_boundary": (
            "cross-entropy + Dice + distance from the surface",
            ("dice_power", "boundary_weight"),
        ),
        "regions": ("binary cross-entropy + Dice of each region", ("regions",)),
    }
)
"""What a loss is in words, and the fields of `LossPlan` that have a part in it."""

AT_LEAST: Mapping[str, float] = MappingProxyType(
    {
        "focal_gamma": 0,
        "focal_alpha": 0,
        "focal_dice_beta": 1,
        "focal_tversky_gamma": 1,
        "false_positive_weight": 0,
        "false_negative_weight": 0,
        "hardest_fraction": 0,
        "hardest_below": 0,
        "cldice_weight": 0,
        "skeleton_iterations": 1,
        "boundary_weight": 0,
    }
)
AT_MOST_ONE = ("focal_alpha", "hardest_fraction", "hardest_below", "cldice_weight")


def loss_problems(loss: LossPlan, num_classes: int) -> Iterator[str]:
    """Yield why a loss cannot be built as planned, one line a problem."""
    if loss.kind not in LOSSES:
        names = ", ".join(LOSSES)
        yield f"kind is {loss.kind!r}, not one of {names}{nearest(loss.kind, tuple(LOSSES))}"
        return
    used = LOSSES[loss.kind][1]
    usual = LossPlan()
    for key in LossPlan.model_fields:
        if key not in ("kind", *used) and getattr(loss, key) != getattr(usual, key):
            yield f"{key} is set, which has no part in {loss.kind}"
    if "class_weights" in used and not _are_weights(loss.class_weights, num_classes):
        yield f"class_weights is {loss.class_weights}, not {num_classes} numbers of 0 or more"
    if "regions" in used and not _are_regions(loss.regions, num_classes):
        yield f"regions is {loss.regions}, not sets of classes from 0 to {num_classes - 1}"
    yield from _limit_problems(loss)


def _limit_problems(loss: LossPlan) -> Iterator[str]:
    for key, limit in AT_LEAST.items():
        value = getattr(loss, key)
        if value is not None and value < limit:
            yield f"{key} is {value}, not {limit} or more"
    for key in AT_MOST_ONE:
        value = getattr(loss, key)
        if value is not None and value > 1:
            yield f"{key} is {value}, not 1 or less"
    if loss.hardest_fraction == 0:
        yield "hardest_fraction is 0, not above 0"
    if loss.false_positive_weight + loss.false_negative_weight == 0:
        yield "false_positive_weight and false_negative_weight are both 0"


def _are_weights(weights: tuple[float, ...], num_classes: int) -> bool:
    return len(weights) == num_classes and min(weights) >= 0 and max(weights) > 0


def _are_regions(regions: tuple[tuple[int, ...], ...], num_classes: int) -> bool:
    members = {index for region in regions for index in region}
    return bool(regions) and all(regions) and members <= set(range(num_classes))
