"""Cross-validation: which cases a fold trains on, and which it is validated on."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from autoseg.dataset.dataset import Case, Finding
from autoseg.dataset.groups import join_groups
from autoseg.errors import DatasetError, counted
from autoseg.record import Record
from autoseg.seeds import stream

DEFAULT_FOLDS = 5
MAX_LISTED = 10
"""Cases that one line of a message names."""


class Split(Record):
    """One fold, by case ids."""

    train: tuple[str, ...]
    val: tuple[str, ...]


Splits = tuple[Split, ...]


def make_splits(
    cases: Sequence[Case],
    num_folds: int | None,
    seed: int,
    strata: Mapping[str, Sequence[str]] | None = None,
    *,
    together: Sequence[Sequence[str]] = (),
) -> tuple[Splits, list[Finding]]:
    """Return folds of about equal size and mixture in which no group stands on both sides.

    The largest fold has at most as many cases more than the smallest as the largest group has.
    Cases of an official test set are in no fold. The order of `cases` does not matter.

    Parameters
    ----------
    num_folds
        None: `DEFAULT_FOLDS`, or fewer with a finding if the groups do not suffice.
    strata
        Facts about each case, such as the classes that it holds, of which every fold gets its
        share; sites are such facts without being named here.
    together
        Ids of cases that belong into one group whatever their own ones are, such as copies.

    Raises
    ------
    DatasetError
        There are fewer groups than folds asked for, or fewer than two.
    """
    cases = [case for case in cases if case.split != "test"]
    groups, joined = join_groups(cases, together)
    num_groups = len(set(groups.values()))
    wanted = DEFAULT_FOLDS if num_folds is None else num_folds
    count = wanted if num_folds is not None else min(wanted, num_groups)
    if not 2 <= count <= num_groups:
        raise _too_few(wanted, num_groups, len(cases), is_explicit=num_folds is not None)
    facts = {case.id: _facts(case, strata or {}) for case in cases}
    fold_of = _assign(_units(groups, facts), count, seed)
    splits = tuple(
        split_of(cases, {case.id for case in cases if fold_of[groups[case.id]] == index})
        for index in range(count)
    )
    findings = _joined(joined)
    if count < wanted:
        findings.append(_fewer_folds(num_groups, len(cases), count))
    return splits, findings


def split_by_site(
    cases: Sequence[Case], together: Sequence[Sequence[str]] = ()
) -> tuple[Splits, list[Finding]]:
    """Return one fold a site, by rising name: validated on the site, trained on all others.

    Of a group with cases in several sites, a fold trains on none: they are left out, with a
    finding.

    Raises
    ------
    DatasetError
        Cases have no site, there are fewer than two, or nothing is left to train on.
    """
    cases = [case for case in cases if case.split != "test"]
    sites = _sites(cases)
    groups, joined = join_groups(cases, together)
    splits, left_out = [], set()
    for site in sites:
        val = {case.id for case in cases if case.site == site}
        held = {groups[case_id] for case_id in val}
        torn = {case.id for case in cases if case.id not in val and groups[case.id] in held}
        split = split_of([case for case in cases if case.id not in torn], val)
        if not split.train:
            raise DatasetError(
                found=f"site {site!r} shares its patients or copies with every other case",
                expected="cases of other patients to train on",
                fix="leave --split-by out, or correct --group-by",
            )
        splits.append(split)
        left_out |= torn
    findings = _joined(joined)
    return tuple(splits), [*findings, *([_torn(left_out)] if left_out else [])]


def split_problems(
    split: Split, cases: Sequence[Case], together: Iterable[Sequence[str]] = ()
) -> list[str]:
    """Return what is wrong with a fold that was given, one line each; no line: it does not leak."""
    known = {case.id: case for case in cases}
    listed = Counter((*split.train, *split.val))
    problems = [f"unknown case {case_id!r}" for case_id in sorted(set(listed) - set(known))]
    if not split.train or not split.val:
        problems.append(f"{len(split.train)} cases to train, {len(split.val)} to validate")
    twice = sorted(case_id for case_id, count in listed.items() if count > 1)
    if twice:
        problems.append(f"cases listed twice: {listing(twice)}")
    tested = [i for i in sorted(set(listed) & set(known)) if known[i].split == "test"]
    if tested:
        problems.append(f"cases of the test set: {listing(tested)}")
    train, val = ({i for i in side if i in known} - set(twice) for side in (split.train, split.val))
    for group in sorted({known[i].group for i in train} & {known[i].group for i in val}):
        sides = ({i for i in side if known[i].group == group} for side in (train, val))
        problems.append(f"group {group!r} on both sides: {_sides(*sides)}")
    for ids in together:
        sides = train & set(ids), val & set(ids)
        if all(sides) and len({known[i].group for i in (*sides[0], *sides[1])}) > 1:
            found = f"the same or nearly the same image on both sides: {_sides(*sides)}"
            problems.append(found)
    return problems


def split_of(cases: Sequence[Case], validated: set[str]) -> Split:
    """Return the fold that is validated on some of the cases and trained on the others."""
    ids = sorted(case.id for case in cases)
    return Split(
        train=tuple(case_id for case_id in ids if case_id not in validated),
        val=tuple(case_id for case_id in ids if case_id in validated),
    )


def _facts(case: Case, strata: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    site = () if case.site is None else (f"site {case.site}",)
    return (*strata.get(case.id, ()), *site)


def _units(
    groups: Mapping[str, str], facts: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, Counter[str]]]:
    """Return of each group how many cases it has, and in how many of them each fact holds."""
    sizes = Counter(groups.values())
    counts: dict[str, Counter[str]] = {group: Counter() for group in sizes}
    for case_id, group in groups.items():
        counts[group].update(set(facts[case_id]))
    return {group: (sizes[group], counts[group]) for group in sizes}


def _assign(units: Mapping[str, tuple[int, Counter[str]]], count: int, seed: int) -> dict[str, int]:
    """Return the fold of each group: drawn groups, large ones and those with rare facts first.

    Folds are filled to equal quotas. Large groups may leave them too unequal; then no fold may run
    ahead of the smallest at any time, which costs some of the equal mixture.
    """
    names = sorted(units)
    drawn = [names[i] for i in stream(seed, "splits").permutation(len(names))]
    total = sum((facts for _, facts in units.values()), Counter())
    last = 1 + max(total.values(), default=0)
    rarest = {name: min((total[f] for f in units[name][1]), default=last) for name in names}
    order = sorted(drawn, key=lambda name: (-units[name][0], rarest[name]))
    largest = max(size for size, _ in units.values())
    quota, rest = divmod(sum(size for size, _ in units.values()), count)

    def below_quota(sizes: Sequence[int], _: int) -> list[int]:
        return [fold for fold in range(count) if sizes[fold] < quota + (fold < rest)]

    def not_ahead(sizes: Sequence[int], size: int) -> list[int]:
        return [fold for fold in range(count) if sizes[fold] + size <= min(sizes) + largest]

    fold_of = _place(units, order, count, below_quota)
    sizes = [sum(units[name][0] for name in names if fold_of[name] == i) for i in range(count)]
    if max(sizes) - min(sizes) > largest:
        return _place(units, order, count, not_ahead)
    return fold_of


def _place(
    units: Mapping[str, tuple[int, Counter[str]]],
    order: Sequence[str],
    count: int,
    folds_with_room: Callable[[Sequence[int], int], list[int]],
) -> dict[str, int]:
    """Return the fold of each group: of those with room, the one with least of what it holds."""
    total = sum((facts for _, facts in units.values()), Counter())
    sizes, held = [0] * count, [Counter() for _ in range(count)]
    fold_of = {}
    for name in order:
        size, facts = units[name]
        fold = min(
            folds_with_room(sizes, size),
            key=lambda fold: (_likeness(facts, held[fold], total), sizes[fold], fold),
        )
        fold_of[name] = fold
        sizes[fold] += size
        held[fold].update(facts)
    return fold_of


def _likeness(facts: Counter[str], held: Counter[str], total: Counter[str]) -> float:
    """Return how much a fold has of what a group brings, each fact by its share of all cases."""
    return sum(facts[fact] * held[fact] / total[fact] for fact in sorted(facts))


def _sites(cases: Sequence[Case]) -> list[str]:
    """Return the sites by rising name; at least two, and every case has one."""
    sites = sorted({case.site for case in cases if case.site is not None})
    without = sorted(case.id for case in cases if case.site is None)
    if len(sites) >= 2 and not without:
        return sites
    found = f"{counted(len(sites), 'site')}"
    if without:
        found += f"; {len(without)} of {len(cases)} cases without a site: {listing(without)}"
    raise DatasetError(
        found=found,
        expected="a site for each case, at least two of them, for --split-by site",
        fix="declare site_by with --spec, a regular expression whose first group names the site in "
        'the id of a case, e.g. "^([A-Za-z]+)_", or the column of a table; or leave --split-by out',
    )


def _too_few(wanted: int, num_groups: int, num_cases: int, *, is_explicit: bool) -> DatasetError:
    of = counted(num_cases, "case")
    of += f" in {counted(num_groups, 'group')}" if num_groups < num_cases else ""
    if is_explicit and wanted >= 2:
        fix = f"ask for at most {num_groups} folds (--folds {num_groups}), or add cases"
        if num_groups < 2:
            fix = "add cases"
        expected = f"at least one group for each of {wanted} folds"
        return DatasetError(found=of, expected=expected, fix=fix)
    if is_explicit:
        return DatasetError(
            found=f"{wanted} folds", expected="at least 2", fix="ask for 2 folds or more (--folds)"
        )
    return DatasetError(
        found=of,
        expected="at least two, one to train on and one to validate on",
        fix="add cases, or correct --group-by if it puts all cases into one group",
    )


def _fewer_folds(num_groups: int, num_cases: int, count: int) -> Finding:
    of = "cases" if num_groups == num_cases else "groups"
    return Finding(
        severity="warning",
        found=f"only {num_groups} {of}: the number of folds is {count}",
        expected=f"at least {DEFAULT_FOLDS} {of} for the default of {DEFAULT_FOLDS} folds",
        remedy="add cases; with so few, scores differ much from fold to fold",
    )


def _joined(sets: Sequence[Sequence[str]]) -> list[Finding]:
    """Return a note about copies that stay together although their groups differ."""
    if not sets:
        return []
    shown = "; ".join(listing(ids) for ids in sets[:MAX_LISTED])
    more = f"; and {len(sets) - MAX_LISTED} more" if len(sets) > MAX_LISTED else ""
    return [
        Finding(
            severity="note",
            files=tuple(sets[0]),
            found=f"the same or nearly the same image under several names, kept in one fold: "
            f"{shown}{more}",
            expected="every image once",
            remedy="remove the copies, or leave them: no fold is validated on what it has seen",
        )
    ]


def _torn(left_out: set[str]) -> Finding:
    ids = sorted(left_out)
    return Finding(
        severity="warning",
        files=tuple(ids),
        found=f"{len(ids)} cases share a patient or are copies across sites: {listing(ids)}",
        expected="the cases of a patient in one site",
        remedy="nothing: a fold validated on one of them trains on none of the others; or correct "
        "the sites or --group-by",
    )


def _sides(train: set[str], val: set[str]) -> str:
    return f"{listing(sorted(train))} to train, {listing(sorted(val))} to validate"


def listing(ids: Sequence[str]) -> str:
    """Return ids for a message, the first few of many."""
    more = f" and {len(ids) - MAX_LISTED} more" if len(ids) > MAX_LISTED else ""
    return ", ".join(ids[:MAX_LISTED]) + more
