"""A folder of no known layout: what lies there, which layouts are near, where the others stand."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from autoseg.dataset.formats.format import Format
from autoseg.dataset.formats.naming import LABEL_FOLDERS, plain_name, subfolders
from autoseg.dataset.formats.registry import formats
from autoseg.errors import DatasetError, counted
from autoseg.runtime.images import is_image

MAX_FILES = 10_000
"""So many files are looked at."""
MAX_SHOWN = 10
"""Entries of the folder that are named."""
MAX_NAMED = 3
"""Images, and masks, that are named."""
MAX_LAYOUTS = 3
"""Layouts that are told, the nearest ones."""
MASK_WORDS = ("mask", "seg", "label", "gt", "truth", "annotation", "manual")
"""Parts of a mask's name, where its folder does not tell."""


class _Seen(NamedTuple):
    """What lies in a folder, at any depth."""

    root: Path
    names: tuple[str, ...]
    """All files, relative to the folder, up to `MAX_FILES`."""
    images: tuple[str, ...]
    """Those that may be images, without masks."""
    masks: tuple[str, ...]
    """Those that may be masks, by their names or folders."""

    def ends(self, *endings: str) -> bool:
        """Return whether some file, or some folder on its way, ends so."""
        return any(name.lower().endswith(endings) for name in self.names)


def unknown_folder(root: Path) -> DatasetError:
    """Return the error about a folder that no format knows, with the few layouts nearest to it."""
    seen = _look(root)
    entries = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    shown = ", ".join(entries[:MAX_SHOWN]) + (", ..." if len(entries) > MAX_SHOWN else "")
    inside = _known_inside(root)
    near = "\n".join(f"  {entry.name}: {entry.expects}" for entry in _nearest(seen))
    fix = "name the folders so; or `autoseg import`, which proposes a spec that says where images"
    if inside is not None:
        fix = f"point to {inside}, which is a data set; or {fix}"
    return DatasetError(
        found=f"{root} holds {shown or 'nothing'}{_told(seen)}",
        expected=f"a known layout; the nearest to what lies there:\n{near}\n"
        "docs/layouts.md has all of them",
        fix=f"{fix} and masks are, for --spec",
    )


def _look(root: Path) -> _Seen:
    names = tuple(islice(_files(root), MAX_FILES))
    pictures = [name for name in names if is_image(Path(name))]
    masks = tuple(name for name in pictures if _is_mask(name))
    others = set(masks)
    return _Seen(root, names, tuple(name for name in pictures if name not in others), masks)


def _files(root: Path) -> Iterator[str]:
    """Yield names relative to a folder; hidden files are passed over, .zarr folders are files."""
    for folder, folders, names in os.walk(root):
        stores = [name for name in folders if name.endswith(".zarr")]
        folders[:] = sorted(n for n in folders if not n.startswith(".") and n not in stores)
        for name in sorted([*names, *stores]):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix()


def _is_mask(name: str) -> bool:
    *folders, file = name.casefold().split("/")
    is_inside = any(plain_name(folder) in LABEL_FOLDERS for folder in folders)
    return is_inside or any(word in file for word in MASK_WORDS)


def _told(seen: _Seen) -> str:
    """Return how many images and masks there are, and the first names of each."""
    if not seen.names:
        return ""
    if not (seen.images or seen.masks):
        endings = Counter(Path(name).suffix or "no ending" for name in seen.names)
        kinds = ", ".join(f"{count} {kind}" for kind, count in endings.most_common(MAX_NAMED))
        return f"\nno file of a known kind of image: {kinds}"
    lines = []
    for what, names in (("image", seen.images), ("file", seen.masks)):
        if names:
            first = ", ".join(names[:MAX_NAMED]) + ", ..." * (len(names) > MAX_NAMED)
            named = " named like masks" if what == "file" else ""
            lines.append(f"\n{counted(len(names), what)}{named}: {first}")
    return "".join(lines) + ("" if seen.masks else "\nno file named like a mask")


def _known_inside(root: Path) -> Path | None:
    """Return the only folder in a folder that is a data set of a known layout, if there is one."""
    found = [
        folder
        for folder in subfolders(root)[:MAX_SHOWN]
        if any(entry.is_found(folder) for entry in formats())
    ]
    return found[0] if len(found) == 1 else None


def _has_case_folders(seen: _Seen) -> bool:
    """Return whether several folders hold two or more images each, as folders of cases do."""
    parents = Counter(Path(name).parent for name in (*seen.images, *seen.masks))
    return len(parents) > 2 and min(parents.values()) > 1


def _has_several_folders(seen: _Seen) -> bool:
    return len({Path(name).parent for name in (*seen.images, *seen.masks)}) > 1


def _is_flat(seen: _Seen) -> bool:
    return any("/" not in name for name in (*seen.images, *seen.masks))


EVIDENCE: tuple[tuple[str, Callable[[_Seen], bool]], ...] = (
    ("zarr", lambda seen: seen.ends(".zarr")),
    ("dicom", lambda seen: seen.ends(".dcm", ".dicom", "dicomdir")),
    ("signals", lambda seen: seen.ends(".hea", ".dat") or (seen.ends(".csv") and not seen.images)),
    ("bids", lambda seen: any(name.startswith("sub-") for name in seen.names)),
    ("nnunet", lambda seen: any(name.startswith(("imagesTr", "labelsTr")) for name in seen.names)),
    ("msd", lambda seen: "dataset.json" in seen.names),
    ("coco", lambda seen: seen.ends(".json") and not seen.masks),
    ("table", lambda seen: seen.ends(".csv", ".tsv", ".xlsx")),
    ("stems", _is_flat),
    ("instances", _has_case_folders),
    ("folders", _has_several_folders),
    ("folders", lambda _: True),
    ("stems", lambda _: True),
    ("nnunet", lambda _: True),
)
"""Layouts and what speaks for them, the most telling first; the last ones suit every folder."""


def _nearest(seen: _Seen) -> Sequence[Format]:
    """Return the layouts nearest to what was seen, then those of other packages."""
    known = {entry.name: entry for entry in formats()}
    near = dict.fromkeys(name for name, speaks in EVIDENCE if name in known and speaks(seen))
    own = list(near)[:MAX_LAYOUTS]
    others = [name for name, entry in known.items() if not _is_own(entry)]
    return [known[name] for name in (*own, *others)]


def _is_own(entry: Format) -> bool:
    return entry.find_cases.__module__.startswith("autoseg.")
