"""The files of a BIDS folder: images by case and kind, and the masks that were drawn on them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.formats.format import Problem
from autoseg.runtime.images import case_stem, is_image

DERIVATIVES = "derivatives"
SUBJECTS = "sub-*"
CASE_ENTITIES = ("sub-", "ses-", "run-")
"""Files that agree in these are of one case."""
MAP = "dseg"
SUFFIXES = ("seg", "mask", "msk", "roi", "lesion", "probseg", MAP)
"""What the names of masks end in; others end in `<name>-manual`."""
MANUAL = "-manual"
POINTS = ("label", "labels", "pmj")
"""Manual annotations of these names are single points."""

Images = dict[str, dict[str, Path]]
"""The images of each case by kind, which is the rest of the name: "T2w", "acq-sagittal_T2w"."""


@dataclass(frozen=True)
class Mask:
    """A file with a mask."""

    path: Path
    case_id: str
    kind: str | None
    """Of the image on which it was drawn; None where its name does not tell."""
    name: str
    is_map: bool
    """A map of values, not binary."""

    @property
    def is_manual(self) -> bool:
        """Whether its name says so."""
        return MANUAL in self.path.name


def find_images(root: Path) -> tuple[Images, list[Problem]]:
    """Return all images, and those that are there twice."""
    images: Images = {}
    problems = []
    for folder in sorted(root.glob(SUBJECTS)):
        for path in _image_files(folder):
            case_id, kind = _split(case_stem(path))
            first = images.setdefault(case_id, {}).setdefault(kind, path)
            if first != path:
                found = f"the image {_name(first, root)} again"
                remedy = "keep one of the two"
                problems.append(Problem.of(_name(path, root), found, case_id, remedy=remedy))
    return images, problems


def find_masks(root: Path, images: Images) -> tuple[list[Mask], list[Problem]]:
    """Return all masks under derivatives/, and those whose image is not there."""
    folders = [root / DERIVATIVES, *sorted((root / DERIVATIVES).glob("*/"))]
    longer: dict[str, list[str]] = {}  # cases whose ids begin so
    for case in images:
        for size in range(1, case.count("_") + 1):
            longer.setdefault("_".join(case.split("_")[:size]), []).append(case)
    masks, problems = [], []
    for path in (
        path for top in folders for sub in sorted(top.glob(SUBJECTS)) for path in _image_files(sub)
    ):
        stem = case_stem(path)
        case_id, _ = _split(stem)
        of_case = images.get(case_id, {})
        kind = _drawn_on(stem, of_case)
        rest = stem.removeprefix(case_stem(of_case[kind])) if kind else stem
        name = _mask_name(rest)
        if name is None:
            continue
        cases = [case_id] if of_case else longer.get(case_id, [])
        if len(cases) == 1:
            is_map = rest.removesuffix(MANUAL).endswith(f"_{MAP}")
            masks.append(Mask(path, cases[0], kind, name, is_map))
        else:
            of = f"{len(cases)} images" if cases else "no image"
            found = f"{of} of that subject, session and run"
            problems.append(Problem.of(_name(path, root), found, case_id))
    return masks, problems


def _image_files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob(SUBJECTS)) if is_image(path))


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _split(stem: str) -> tuple[str, str]:
    """Return the case's id and the kind of image in a file's name."""
    parts = stem.split("_")
    own = [part for part in parts if part.startswith(CASE_ENTITIES)]
    return "_".join(own), "_".join(part for part in parts if part not in own)


def _drawn_on(stem: str, images: dict[str, Path]) -> str | None:
    """Return the kind of the image whose name a mask's name continues."""
    kinds = [kind for kind, path in images.items() if stem.startswith(f"{case_stem(path)}_")]
    return max(kinds, key=len, default=None)


def _mask_name(rest: str) -> str | None:
    """Return what a mask shows, by the part of its name that is not its image's; None: no mask.

    The label, else the description, else what it ends in.
    """
    parts = rest.split("_")
    last = parts[-1].removesuffix(MANUAL)
    is_drawn = parts[-1].endswith(MANUAL) and last.split("-")[0] not in POINTS
    if not is_drawn and last not in SUFFIXES:
        return None
    entities = dict(part.split("-", maxsplit=1) for part in parts[:-1] if "-" in part)
    told = [entities.get("label"), entities.get("desc")]
    return next((name for name in told if name and name != MANUAL[1:]), last)
