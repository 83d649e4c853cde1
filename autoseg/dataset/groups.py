"""Which cases belong to one patient, animal or sequence, as far as their names tell."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from autoseg.dataset.dataset import Case, Dataset, Finding
from autoseg.errors import counted

SUBJECTS = (
    "patient|pat|pt|subject|subj|sub|person|participant|volunteer|donor|animal|mouse|monkey|pig|"
    "specimen|embryo|video|vid|movie|film|sequence|seq"
)
"""With a number or one letter they name a group, whatever follows: patient012, sub-12, movieA."""
NUMBERED = (
    "frame|frm|fr|slice|slc|sl|layer|plane|page|section|sec|time|timepoint|tp|phase|session|sess|"
    "ses|visit|vis|scan|exam|run|rep|repeat|echo|acq|series|ser|day|week|month|year|followup|fu|"
    "view|angle|crop|patch|tile|roi|region|fov|clip|part|stack|aug|rot|copy"
)
"""With a number they tell a part of a patient: frame01, slice7, ses-1."""
VISITS = (
    r"(?:timepoint|tp|session|sess|ses|visit|vis|day|week|month|year|followup|fu)[-_ #]?\d+|"
    r"ses-[A-Za-z0-9]+|baseline|followup|bl|fu|(?:19|20)\d\d-?[01]\d-?[0-3]\d"
)
"""When a patient came: all that tells groups of one patient apart, where a layout tells groups."""
SIDES = (
    ("left", "right"),
    ("l", "r"),
    ("lh", "rh"),
    ("od", "os"),
    ("ed", "es"),
    ("cc", "mlo"),
    ("pre", "post"),
    ("before", "after"),
    ("baseline", "followup"),
)
"""Parts of which a patient has each one: two of a pair make a group of a name without a number."""
KINDS = (
    "normal|healthy|benign|malignant|positive|negative|control|diseased|pathologic|cancer|tumou?r|"
    "lesion|crack|good|bad|real|fake|day|night|image|img|mask|scan|eye|hand|foot|lung|breast|kidney|"
    "train|training|val|valid|validation|test|testing"
)
"""Words that name no patient: what an image shows, and what it is for."""
LETTERS = "fzt"
"""Parts abbreviated, after a separator: _f00930, _z012."""
WEAK_LETTERS = "svdxy"
"""The same, but of several meanings: slice or subject, tile or experiment."""
PLAIN = (
    "left|right|lh|rh|od|os|ed|es|pre|post|before|after|baseline|followup|bl|fu|axial|coronal|"
    "sagittal|ax|cor|sag|ap|pa|cc|mlo|copy|augmented|aug|flipped|flip|mirrored|rotated|"
    "t1|t1w|t1c|t1ce|t1gd|t2|t2w|t2starw|flair|dwi|adc|swi|ct|mr|mri|pet"
)
"""Parts of a patient without a number: sides, phases, views, contrasts, copies."""
COUNTED = "num|no|nr|n|image|img|im|pic|picture|photo|index|idx|id"
"""With a number they count, and no more than a number alone do they tell what."""
COUNTED_THINGS = (
    "train|training|val|validation|test|testing|dataset|data|case|image|img|im|volume|vol|stack|"
    "series|scan|slide|tile|sample|id|exam"
)
"""Their number names one of many, as a patient's does: train_12, case3."""
COLLECTIONS = (
    "set|subset|batch|fold|cohort|group|grp|class|cat|category|site|center|centre|hospital|clinic|"
    "scanner|vendor|institution|version|level|grade|type|task|year"
)
"""Their number names no patient: set1_001 and set1_002 are not of one."""
FEW_GROUPS = 5
FEW_CASES = 20
"""Fewer groups of more cases are collections, where only a number or a letter tells of them."""
TILE_STEP = 8
"""Two last numbers that are multiples of this in all names, from 0 on, are the corners of tiles."""
SEPARATORS = "-_ ./#()+"
MAX_SHOWN = 3
EVERY_CASE_ALONE = "--group-by '(.*)'"

_SUBJECT = re.compile(
    rf"(?<![A-Za-z])(?:sub-[A-Za-z0-9]+|(?:{SUBJECTS})[-_ ]?\d+(?:[A-Za-z]+(?![A-Za-z0-9]))?|"
    rf"(?:{SUBJECTS})(?:(?-i:[A-Z])|[-_ ](?-i:[A-Z]|[a-km-qs-z]))(?![A-Za-z0-9]))",
    re.I,
)
_PART = (
    rf"(?:{NUMBERED})[-_ #]?\d+|(?:ses|run|acq|echo|rec|dir|task)-[A-Za-z0-9]+|(?:{PLAIN})|"
    r"(?:19|20)\d\d-?[01]\d-?[0-3]\d"
)
_WORDS = rf"(?<![A-Za-z])(?:{_PART})|(?<![A-Za-z0-9])[lr]|(?<=\d)(?-i:[LR])"
_WORD = re.compile(rf"(?:{_WORDS}|(?<![A-Za-z0-9])x\d+[-_ ]?y\d+)$", re.I)
_LETTER = re.compile(rf"(?<![A-Za-z0-9])[{LETTERS}]\d+$", re.I)
_WEAK_LETTER = re.compile(rf"(?<![A-Za-z0-9])[{LETTERS}{WEAK_LETTERS}]\d+$", re.I)
_VISIT = re.compile(rf"(?<![A-Za-z])(?:{VISITS})$", re.I)
_HEAD = re.compile(rf"^(?:{PLAIN})[-_ ]+", re.I)
_NUMBERED_HEAD = re.compile(rf"^(?:{_PART})[-_ ]+", re.I)
_NUMBER = re.compile(rf"[-_ ./#(](?:(?:{COUNTED})[-_ ]?)?(\d+)$", re.I)
_TILE = re.compile(r"(?P<head>.*?[^-_ ])[-_ ](?P<first>\d+)[-_ x](?P<second>\d+)")
_KEYED = re.compile(r"([A-Za-z]*)[-_ ]?(\d+)")
_FIELD = re.compile(r"(?:1[.p]?5|3|7)T(?![A-Za-z0-9])", re.I)
_YEAR = re.compile(r"(?:19|20)\d\d(?:[01]\d[0-3]\d)?")
_SIDE = re.compile(rf"[-_ .](?:{'|'.join(word for pair in SIDES for word in pair)})$", re.I)
_NO_PATIENT = re.compile(rf"(?:{COLLECTIONS}|{KINDS})s?", re.I)
_COLLECTION = re.compile(COLLECTIONS, re.I)
_COUNTED_THING = re.compile(COUNTED_THINGS, re.I)


def infer_groups(names: Iterable[str]) -> dict[str, str]:
    """Return the group of each name where names tell of groups; {} where they tell of none.

    A group is what several names share when their frames, slices, visits, sides and so on are
    left out. It has to hold a number that names a patient (or movieA, or both of anna_left and
    anna_right); plain running numbers are no groups.
    A number at the end may be a part too (12_1, 12_2, 13_1), where it starts anew in each group:
    one that runs on names the case, and what stands before it describes it.
    """
    names = list(names)
    pictures = _without_tiles(names)
    if pictures:
        told = infer_groups(set(pictures.values()))
        return _shared({name: told.get(picture, picture) for name, picture in pictures.items()})
    sure = {name: _stem(name, _LETTER) for name in names}
    less = {name: _stem(name, _WEAK_LETTER) for name in names}
    less |= _without_numbers(less)
    counting_up = {word for name in names for word, number in _numbers(name) if len(number) == 1}
    less = {name: sure[name] if _ends(stem, counting_up) else stem for name, stem in less.items()}
    are_few = len(set(less.values())) < FEW_GROUPS and len(names) > FEW_CASES
    stems = (sure if are_few else less) | _pairs_of_sides(names)
    if all(_YEAR.search(stem) and not _is_identifier(stem) for stem in stems.values()):
        return {}
    return _shared(stems)


def _without_tiles(names: Sequence[str]) -> dict[str, str]:
    """Return the picture of each name where all are of tiles, as img1_0_512 is; {} otherwise."""
    found = [match for name in names if (match := _TILE.fullmatch(name)) is not None]
    corners = [{int(match[side]) for match in found} for side in ("first", "second")]
    are_tiles = all(0 in side and math.gcd(*side) >= TILE_STEP for side in corners)
    if len(found) < len(names) or not are_tiles:
        return {}
    return {match.string: match["head"] for match in found}


def _pairs_of_sides(names: Sequence[str]) -> dict[str, str]:
    """Return the stem of each name without a number that tells a side whose other one is there."""
    stems: dict[str, str] = {}
    sides: dict[str, set[str]] = defaultdict(set)
    for name in names:
        match = _SIDE.search(name)
        stem = name[: match.start()] if match is not None and not _has_number(name) else ""
        words = re.split(rf"[{re.escape(SEPARATORS)}]", stem)
        if match is not None and stem and not any(map(_NO_PATIENT.fullmatch, words)):
            stems[name] = stem
            sides[stem].add(match[0][1:].casefold())
    whole = {stem for stem, found in sides.items() if any({*pair} <= found for pair in SIDES)}
    return {name: stem for name, stem in stems.items() if stem in whole}


def join_visits(groups: Iterable[str]) -> dict[str, str]:
    """Return the group of each group that a layout tells, without the visit; {} if none has one.

    Numbers and sides are left alone: a layout knows which groups it has.
    """
    joined = {group: group for group in groups}
    for group in joined:
        match = _VISIT.search(group)
        rest = group[: match.start()].rstrip(SEPARATORS) if match is not None else ""
        if _has_number(rest):
            joined[group] = rest
    return _shared(joined)


def _shared(stems: Mapping[str, str]) -> dict[str, str]:
    """Return the stems that several names have, else the names; {} if that is all or nothing."""
    counts = Counter(stems.values())
    groups = {name: stem if counts[stem] > 1 else name for name, stem in stems.items()}
    return groups if 2 <= len(set(groups.values())) < len(groups) else {}


def _stem(name: str, letter: re.Pattern[str]) -> str:
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
    while True:
        match = _WORD.search(text)
        if match is not None and _has_patient(rest := _before(text, match)):
            text = rest
            continue
        match = letter.search(text)
        if match is None or not _is_identifier(rest := _before(text, match)):
            return text
        text = rest


def _ends(stem: str, words: Collection[str]) -> bool:
    """Return whether the last number of a text follows one of the words, and names no thing."""
    word = next((word for word, _ in reversed(_numbers(stem))), "")
    return len(word) > 1 and word in words and _COUNTED_THING.fullmatch(word) is None


def _before(text: str, match: re.Match[str]) -> str:
    return text[: match.start()].rstrip(SEPARATORS)


def _has_number(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _has_patient(text: str) -> bool:
    """Return whether any number in a text counts something else than collections of patients."""
    return any(not _COLLECTION.fullmatch(word) for word, _ in _numbers(text))


def _numbers(text: str) -> list[tuple[str, str]]:
    """Return the numbers of a text, each after its word, without strengths of a magnet."""
    return _KEYED.findall(_FIELD.sub("", text))


def _without_numbers(stems: Mapping[str, str]) -> dict[str, str]:
    """Return the stems without their last number, where these numbers start anew in each group."""
    heads: dict[str, str] = {}
    numbers: dict[str, set[int]] = defaultdict(set)
    for name, stem in stems.items():
        match = _NUMBER.search(stem)
        head = stem[: match.start()].rstrip(SEPARATORS) if match is not None else ""
        if match is not None and _has_number(_last_word(head)) and _is_identifier(head):
            heads[name] = _stem(head, _WEAK_LETTER)
            numbers[heads[name]].add(int(match[1]))
    occurrences = Counter(number for found in numbers.values() for number in found)
    shared = [found for found in numbers.values() if len(found) > 1]
    anew = [found for found in shared if any(occurrences[number] > 1 for number in found)]
    return heads if shared and 2 * len(anew) > len(shared) else {}


def _last_word(text: str) -> str:
    return re.split(rf"[{re.escape(SEPARATORS)}]", text)[-1]


def _is_identifier(text: str) -> bool:
    """Return whether any number of a text names a patient: 12, P3, ID_007; not LUNG1 or 2018."""
    return any(
        not _COLLECTION.fullmatch(word)
        and not _YEAR.fullmatch(number)
        and (len(word) < 2 or len(number) > 1 or _COUNTED_THING.fullmatch(word) is not None)
        for word, number in _numbers(text)
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
    """Return notes where groups or sites were inferred: a user may confirm or change them."""
    return [*_inferred_groups(dataset), *_inferred_sites(dataset)]


def _inferred_sites(dataset: Dataset) -> list[Finding]:
    if not dataset.sites_inferred:
        return []
    counts = Counter(case.site for case in dataset.cases if case.site is not None)
    first = sorted(case.images[0] for case in dataset.cases)
    shown = ", ".join(f"{site}: {counted(n, 'case')}" for site, n in sorted(counts.items()))
    return [
        Finding(
            severity="note",
            files=(first[0],),
            found=f"the folders are taken for sites: {shown}",
            expected="folders of hospitals or scanners, each with several patients",
            remedy='nothing, if they are; if each is a patient, "group_by": "folder" in a spec',
        )
    ]


def _inferred_groups(dataset: Dataset) -> list[Finding]:
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
