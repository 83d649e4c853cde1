"""Which cases belong to one patient, animal or sequence, as far as their names tell."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from autoseg.dataset.dataset import Case, Dataset, Finding

SUBJECTS = (
    "patient|pat|pt|subject|subj|sub|person|participant|volunteer|donor|animal|mouse|monkey|pig|"
    "specimen|embryo|video|vid|sequence|seq"
)
"""With a number they name a group, whatever follows: patient012, sub-12, video3."""
NUMBERED = (
    "frame|frm|fr|slice|slc|sl|layer|plane|page|section|sec|time|timepoint|tp|phase|session|sess|"
    "ses|visit|vis|scan|exam|run|rep|repeat|echo|acq|series|ser|day|week|month|year|followup|fu|"
    "view|angle|crop|patch|tile|roi|region|fov|clip|part|stack|aug|rot|copy"
)
"""With a number they tell a part of a patient: frame01, slice7, ses-1."""
LETTERS = "fztvsdxy"
"""The same, abbreviated, after a separator: _f00930, _z012, _s7, _x0_y512."""
PLAIN = (
    "left|right|lh|rh|od|os|ed|es|pre|post|before|after|baseline|followup|bl|fu|axial|coronal|"
    "sagittal|ax|cor|sag|ap|pa|cc|mlo|copy|augmented|aug|flipped|flip|mirrored|rotated|"
    "t1|t1w|t1c|t1ce|t1gd|t2|t2w|t2starw|flair|dwi|adc|swi|ct|mr|mri|pet"
)
"""Parts of a patient without a number: sides, phases, views, contrasts, copies."""
COUNTED = "num|no|nr|n|image|img|im|pic|picture|photo|index|idx|id"
"""With a number they count, and no more than a number alone do they tell what."""
COLLECTIONS = (
    "set|subset|batch|fold|group|grp|class|cat|category|train|training|val|validation|test|"
    "testing|site|center|centre|hospital|scanner|dataset|data|version|level|grade|type|task"
)
"""Their number names no patient: set1_001 and set1_002 are not of one."""
SEPARATORS = "-_ ./#()+"
MAX_SHOWN = 3
EVERY_CASE_ALONE = "--group-by '(.*)'"

_SUBJECT = re.compile(
    rf"(?<![A-Za-z])(?:sub-[A-Za-z0-9]+|(?:{SUBJECTS})[-_ ]?\d+(?:[A-Za-z]+(?![A-Za-z0-9]))?)", re.I
)
_PART = (
    rf"(?:{NUMBERED})[-_ #]?\d+|(?:ses|run|acq|echo|rec|dir|task)-[A-Za-z0-9]+|(?:{PLAIN})|"
    r"(?:19|20)\d\d-?[01]\d-?[0-3]\d"
)
_TAIL = re.compile(
    rf"(?:(?<![A-Za-z])(?:{_PART})|(?<![A-Za-z0-9])(?:[{LETTERS}]\d+|[lr])|(?<=\d)(?-i:[LR]))$",
    re.I,
)
_HEAD = re.compile(rf"^(?:{PLAIN})[-_ ]+", re.I)
_NUMBERED_HEAD = re.compile(rf"^(?:{_PART})[-_ ]+", re.I)
_NUMBER = re.compile(rf"[-_ ./#(](?:(?:{COUNTED})[-_ ]?)?(\d+)$", re.I)
_KEYED = re.compile(r"([A-Za-z]*)[-_ ]?(\d+)")
_YEAR = re.compile(r"(?:19|20)\d\d(?:[01]\d[0-3]\d)?")
_COLLECTION = re.compile(COLLECTIONS, re.I)


def infer_groups(names: Iterable[str], *, count_numbers: bool = True) -> dict[str, str]:
    """Return the group of each name where names tell of groups; {} where they tell of none.

    A group is what several names share when their frames, slices, visits, sides and so on are
    left out. It has to hold a number that names a patient; plain running numbers are no groups.

    Parameters
    ----------
    count_numbers
        Whether a number at the end may be a part too (12_1, 12_2, 13_1). It is one where it starts
        anew in each group: a number that runs on names the case, and what stands before it
        describes it.
    """
    stems = {name: _stem(name) for name in names}
    if count_numbers:
        stems |= _without_numbers(stems)
    counts = Counter(stems.values())
    groups = {name: stem if counts[stem] > 1 else name for name, stem in stems.items()}
    return groups if 2 <= len(set(groups.values())) < len(groups) else {}


def _stem(name: str) -> str:
    """Return a name without the parts of a patient that it tells, as far as a number remains."""
    text = name.rstrip(SEPARATORS)
    subject = _SUBJECT.search(text)
    if subject is not None:
        text = text[: subject.end()]
        head = text[: subject.start()]
        while head and (match := _NUMBERED_HEAD.match(head)) is not None:
            head = head[match.end() :]
        text = head + text[subject.start() :]
    head = _HEAD.match(text)
    if head is not None and _has_number(text[head.end() :]):
        text = text[head.end() :]
    while (match := _TAIL.search(text)) is not None:
        rest = text[: match.start()].rstrip(SEPARATORS)
        if not _has_number(rest):
            break
        text = rest
    return text


def _has_number(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _without_numbers(stems: Mapping[str, str]) -> dict[str, str]:
    """Return the stems without their last number, where these numbers start anew in each group."""
    heads: dict[str, str] = {}
    numbers: dict[str, set[int]] = defaultdict(set)
    for name, stem in stems.items():
        match = _NUMBER.search(stem)
        head = stem[: match.start()].rstrip(SEPARATORS) if match is not None else ""
        if match is not None and _is_identifier(head):
            heads[name] = _stem(head)
            numbers[heads[name]].add(int(match[1]))
    occurrences = Counter(number for found in numbers.values() for number in found)
    shared = [found for found in numbers.values() if len(found) > 1]
    anew = [found for found in shared if any(occurrences[number] > 1 for number in found)]
    return heads if shared and 2 * len(anew) > len(shared) else {}


def _is_identifier(head: str) -> bool:
    """Return whether the end of a text holds a number, and any of its numbers names a patient."""
    last = re.split(rf"[{re.escape(SEPARATORS)}]", head)[-1]
    return _has_number(last) and any(
        not _COLLECTION.fullmatch(word) and not _YEAR.fullmatch(number)
        for word, number in _KEYED.findall(head)
    )


def join_groups(
    cases: Sequence[Case], together: Iterable[Sequence[str]] = ()
) -> tuple[dict[str, str], list[tuple[str, ...]]]:
    """Return the group of each case after groups that share a set of cases have become one.

    Parameters
    ----------
    together
        Ids of cases that may not be told apart, such as copies; unknown ids are left out.

    Returns
    -------
    tuple
        The group of each case, and those sets that joined groups.
    """
    groups = {case.id: case.group for case in cases}
    joined: dict[str, str] = {}

    def first(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    used = []
    for ids in together:
        torn = sorted({first(groups[case_id]) for case_id in ids if case_id in groups})
        joined |= {group: torn[0] for group in torn[1:]}
        if len(torn) > 1:
            used.append(tuple(sorted(case_id for case_id in ids if case_id in groups)))
    return {case_id: first(group) for case_id, group in groups.items()}, sorted(used)


def group_findings(dataset: Dataset) -> list[Finding]:
    """Return a note where groups were inferred, so that a user may confirm or change them."""
    if not dataset.groups_inferred:
        return []
    members: dict[str, list[str]] = defaultdict(list)
    for case in dataset.cases:
        members[case.group].append(case.id)
    shared = sorted((group, ids) for group, ids in members.items() if len(ids) > 1)
    shown = "; ".join(
        f"{group}: {', '.join(sorted(ids)[:MAX_SHOWN])}{', ...' * (len(ids) > MAX_SHOWN)}"
        for group, ids in shared[:MAX_SHOWN]
    )
    more = f"; and {len(shared) - MAX_SHOWN} more" if len(shared) > MAX_SHOWN else ""
    return [
        Finding(
            severity="note",
            files=tuple(sorted(shared[0][1])),
            found=f"{len(dataset.cases)} cases in {len(members)} groups, as their names tell: "
            f"{shown}{more}",
            expected="all cases of a patient, an animal or a sequence in one fold",
            remedy="nothing, if these groups are right; otherwise give --group-by a regular "
            "expression whose first group names the patient in a case's id "
            f"({EVERY_CASE_ALONE} has every case alone)",
        )
    ]
