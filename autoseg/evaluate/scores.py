"""Scores as records."""

from autoseg.record import Record


class ClassScore(Record):
    """Agreement of one case and class; None where it is not defined (both empty: not counted)."""

    dice: float | None
    iou: float | None
    hd95: float | None
    """In the plan's unit; the image's diagonal when exactly one of both is empty."""
    nsd: float | None
    predicted_voxels: int
    reference_voxels: int


class CaseScore(Record):
    """Scores of one case."""

    case_id: str
    classes: tuple[ClassScore, ...]
    """One entry a foreground class."""
    regions: tuple[ClassScore, ...] = ()
    """One entry a region: a union of classes that counts as one."""
