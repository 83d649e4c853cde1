"""Values in few voxels of a mask that no class has: slips of a mouse, traces of interpolation."""

import json

import numpy as np

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.dataset.files import read_label_files
from autoseg.dataset.formats.registry import find_format
from autoseg.dataset.label_values import as_background
from autoseg.errors import counted

FEW = 8
"""So few voxels of unknown values are strays ..."""
FEW_PART = 1e-3
"""... or so small a part of the mask."""


def with_strays(dataset: Dataset, case: Case, finding: Finding) -> Finding:
    """Return a finding about labels that says where unknown values are, if these are few voxels.

    Raises
    ------
    AutosegError
        The labels cannot be read: that is what the finding is about.
    """
    known = {*dataset.labels.values, dataset.labels.ignore}
    if dataset.reading.masks != "values" or not dataset.labels_declared:
        return finding
    if find_format(dataset.layout).read_labels is not read_label_files:
        return finding
    values = read_label_files(dataset, case).array[0]
    found, counts = np.unique(values, return_counts=True)
    strays = {int(v): int(n) for v, n in zip(found, counts, strict=True) if int(v) not in known}
    total = sum(strays.values())
    if not strays or total > max(FEW, FEW_PART * values.size):
        return finding
    place = np.argwhere(np.isin(values, list(strays)))[0].tolist()
    axes = "ZYX"[-values.ndim :]
    meant = as_background(strays, dataset.labels.values[0], dataset.reading.label_map)
    spec = json.dumps({"label_map": meant})
    return finding.revised(
        found=f"{finding.found}: {counted(total, 'voxel')} of {values.size}, the first at "
        f"{', '.join(map(str, place))} ({axes})",
        remedy=f"{finding.remedy}; or, if it is a slip, declare {spec} in the spec, which reads "
        f"it as {dataset.labels.names[0]}",
    )
