"""Packages that only some formats need: imported when a data set has that format."""

import importlib
import sys
import warnings
from types import ModuleType

from autoseg.errors import DatasetError


def load_package(name: str, extra: str) -> ModuleType:
    """Return an imported package of one of the extras of autoseg.

    What it warns about itself while it is imported is no concern of the user.

    Raises
    ------
    DatasetError
        It is not installed; the message says how to.
    """
    if sys.modules.get(name) is not None:
        return importlib.import_module(name)  # waits where another thread is importing it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise DatasetError(
            found=f"files that need the package {name}: {error}",
            expected=f"{name}, which comes with the extra {extra!r}",
            fix=f"pip install 'autoseg-unet[{extra}]'",
        ) from error
