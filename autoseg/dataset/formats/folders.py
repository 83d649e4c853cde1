"""Plain folders: images/ and masks/ or labels/, paired by the names of the files."""

from pathlib import Path

from autoseg.dataset.dataset import DatasetSpec
from autoseg.dataset.formats.format import Format, Layout
from autoseg.dataset.formats.pairing import as_layout, check_channels, pair_files
from autoseg.dataset.label_values import spec_labels
from autoseg.errors import DatasetError

IMAGES = "images"
LABELS = ("labels", "masks")


def is_found(root: Path) -> bool:
    """Return whether a folder has this layout."""
    return (root / IMAGES).is_dir() and any((root / name).is_dir() for name in LABELS)


def find_cases(root: Path, spec: DatasetSpec) -> Layout:
    """Return the cases of two folders, with the channels and labels that `spec` declares.

    Raises
    ------
    DatasetError
        There is no folder of labels, or more than one. Problems of pairing are returned.
    """
    present = [name for name in LABELS if (root / name).is_dir()]
    if len(present) != 1:
        found = " and ".join(f"{name}/" for name in present) or "no folder of labels"
        raise DatasetError(
            found=f"{found} in {root}",
            expected=f"one folder of labels: {' or '.join(f'{name}/' for name in LABELS)}",
            fix="rename the folder that holds the labels, and the others to something else",
        )
    labels = spec_labels(spec)
    pairing = pair_files(root, IMAGES, present[0], ending=None)
    channels = spec.channels
    if pairing.has_suffix and channels is None:
        count = 1 + max(pairing.channels, default=0)
        channels = tuple(f"channel_{index}" for index in range(count)) if count > 1 else None
    if channels is not None:
        pairing = check_channels(pairing, channels)
    return as_layout(pairing, channels, labels)


FORMAT = Format(
    name="folders",
    expects="images/ and labels/ or masks/ with files of equal names",
    is_found=is_found,
    find_cases=find_cases,
)
