from collections.abc import Callable

import pytest

from autoseg.check.findings import check_fingerprint
from autoseg.dataset.dataset import Case, Finding
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint, Intensities
from autoseg.runtime.recipe import Labels

INTENSITIES = Intensities(
    mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2
)


class Made:
    """A data set as its fingerprint tells it, with nothing odd about it unless asked for."""

    names = ("background", "liver", "cancer")

    def stats(self, index: int, **changes: object) -> CaseStats:
        facts = {
            "case_id": f"case_{index}",
            "shape": (20, 30, 40),
            "shape_after_crop": (20, 30, 40),
            "spacing": (3.0, 1.0, 1.0),
            "content_hash": f"{index}",
            "class_voxels": (24000 - 20, 10, 10),
            "class_components": (0, 1, 1),
            "foreground_means": (100.0 + index,),
            "class_centres": ((), (0.5, 0.5, 0.4), (0.5, 0.2, 0.7 + index / 10_000)),
            "border_foreground": 0.0,
            "brightest": (0.001,),
            "thumbnail": f"{index * 0x9E3779B97F4A7C15 % (1 << 64):016x}",
            "orientation": "LPS",
        }
        return CaseStats.model_validate({**facts, **changes})

    def usual(self, count: int = 20, **changes: object) -> list[CaseStats]:
        return [self.stats(index, **changes) for index in range(count)]

    def fingerprint(self, *cases: CaseStats, names: tuple[str, ...] | None = None, **changes):
        names = names or self.names
        facts = {
            "autoseg_version": "0",
            "dataset_name": "a",
            "unit": "mm",
            "labels": Labels(names=names, values=tuple(range(len(names)))),
            "channels": ("MRI",),
            "cases": cases,
            "intensities": (INTENSITIES,),
            "median_relative_size_after_cropping": 1.0,
        }
        return Fingerprint.model_validate({**facts, **changes})

    def known(self, *cases: CaseStats, group: Callable[[str], str] = str) -> list[Case]:
        return [
            Case(
                id=case.case_id,
                images=(f"images/{case.case_id}.nii",),
                labels=(f"labels/{case.case_id}.nii",),
                group=group(case.case_id),
            )
            for case in cases
        ]

    def findings(self, *cases: CaseStats, **changes) -> list[Finding]:
        made = self.fingerprint(*cases, **changes)
        return list(check_fingerprint(made, self.known(*cases)))


@pytest.fixture
def made():
    return Made()
