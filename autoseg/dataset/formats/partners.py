"""Files without a partner that likely belong together: names that differ by a slip.

Leading zeros, capitals, an ending written twice, a word for "mask" that others lack, two letters
exchanged.
"""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.dataset.formats.format import PAIR, Problem
from autoseg.runtime.images import FORMATS, file_ending

WORDS = re.compile(
    "masks?|seg|segmentation|labels?|labelmap|gt|groundtruth|truth|annotation|manual|images?|img"
)
"""Parts of a name that tell images from masks, not one case from another."""
ALIKE = 0.85
"""Names with the same numbers that are so alike differ by a letter too many or too few."""
MAX_COMPARED = 30
"""Of more masks with the same numbers, only names that tell the same are compared: there may be
thousands without any number."""
MAX_TOLD = 3
"""So many files have a remedy of their own; more of them have one together."""


def find_partners(images: Iterable[str], masks: Iterable[str]) -> dict[str, str]:
    """Return the mask that likely belongs to each image; both are names without a partner.

    Only where one mask is meant by one image: of several that might be, none is named.
    """
    by_numbers: dict[tuple[str, ...], list[str]] = defaultdict(list)
    by_key: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for mask in masks:
        by_numbers[_numbers(mask)].append(mask)
        by_key[_key(mask)].append(mask)
    near = {}
    for image in images:
        others = by_numbers[_numbers(image)]
        compared = others if len(others) <= MAX_COMPARED else []
        slips = [mask for mask in compared if _have_a_slip(image, mask)]
        near[image] = list(dict.fromkeys([*by_key[_key(image)], *slips]))
    owners = Counter(mask for candidates in near.values() for mask in candidates)
    return {
        image: candidates[0]
        for image, candidates in near.items()
        if len(candidates) == 1 and owners[candidates[0]] == 1
    }


def join_partners(
    images: Sequence[Problem], masks: Sequence[Problem], right_name: Callable[[str], str]
) -> list[Problem]:
    """Return the problems of files without partners; two that likely belong together are one.

    Parameters
    ----------
    images
        Of images without a mask, one a case.
    masks
        Of masks without an image, one a case.
    right_name
        Gives the name, without its ending, that the mask of a case should have.
    """
    lost = {problem.case_id or "": problem for problem in masks}
    partners = find_partners([problem.case_id or "" for problem in images], lost)
    renamed = {
        case_id: (lost[mask].files[0], right_name(case_id) + file_ending(Path(lost[mask].files[0])))
        for case_id, mask in partners.items()
    }
    together = [
        _joined(problem, *renamed[problem.case_id], others=renamed)
        if problem.case_id in renamed
        else problem
        for problem in images
    ]
    taken = set(partners.values())
    return together + [problem for problem in masks if problem.case_id not in taken]


def _joined(
    problem: Problem, mask: str, name: str, others: Mapping[str, tuple[str, str]]
) -> Problem:
    """Return the problem of an image with the mask that is likely meant, and its right name."""
    remedy = f"rename {mask} to {name}"
    if len(others) > MAX_TOLD:
        first, its_name = next(iter(others.values()))
        remedy = f"rename each mask as said here: {first} to {its_name}, and so on"
    return replace(
        problem,
        found=f"{problem.found}; did you mean {mask} (it would be called {name})?",
        files=(*problem.files, mask),
        remedy=f"{remedy}, if it is the mask of this image; otherwise {PAIR}",
    )


def _numbers(name: str) -> tuple[str, ...]:
    return tuple(part for part in _key(name) if part.isdigit())


def _key(name: str) -> tuple[str, ...]:
    """Return what a name tells of its case: words in lower case, numbers without leading zeros."""
    text = name.casefold()
    while text.endswith(FORMATS):
        text = text[: -len(file_ending(Path(text)))]
    parts = re.findall(r"\d+|[^\W\d_]+", text)
    told = [part for part in parts if not WORDS.fullmatch(part)] or parts
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in told)


def _have_a_slip(first: str, second: str) -> bool:
    """Return whether two letters are exchanged, or one is too many; digits are the same."""
    one, other = first.casefold(), second.casefold()
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    if sorted(one) == sorted(other):
        return True
    is_near = difflib.SequenceMatcher(None, one, other).ratio() >= ALIKE
    return is_near and abs(len(one) - len(other)) == 1
