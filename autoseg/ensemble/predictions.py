"""Where the out-of-fold predictions of a fold are."""

from pathlib import Path

from autoseg.runtime.images import case_stem, list_images
from autoseg.workspace import FoldFolder


def find_predictions(folder: FoldFolder) -> dict[str, Path]:
    """Return the label maps of a fold's validation cases by case, whatever their format."""
    if not folder.validation.is_dir():
        return {}
    return {case_stem(path): path for path in list_images(folder.validation)}
