"""The folds of a plan: those that were given, those that the data set comes with, or made ones."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg.dataset.dataset import Dataset, DatasetSpec, Finding
from autoseg.dataset.groups import group_findings, join_groups
from autoseg.dataset.official import official_splits
from autoseg.dataset.split_files import leak_error, read_split_file, with_test
from autoseg.dataset.splits import (
    DEFAULT_FOLDS,
    Splits,
    listing,
    make_splits,
    split_by_site,
    split_problems,
)
from autoseg.dataset.undeclared import find_labels
from autoseg.errors import DatasetError
from autoseg.fingerprint.copies import copies, near_copies
from autoseg.fingerprint.fingerprint import CaseStats, Fingerprint

SplitBy = Literal["folds", "site"]
Sets = Sequence[Sequence[str]]
"""Ids of cases that are copies of one another, or nearly."""
MIN_GROUPS = 2
"""Nearly equal images that leave fewer are a stack or a video, and are no reason not to train."""
OFFICIAL = "the split of the data set"
OFFICIAL_FIX = "correct the split, or leave out cases (exclude in the spec)"


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """What a user may ask of the folds: one of three things."""

    splits: Path | None = None
    split_by: SplitBy = "folds"
    num_folds: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse wishes that exclude each other."""
        wishes = {
            "--splits": self.splits is not None,
            "--split-by site": self.split_by == "site",
            "--folds": self.num_folds is not None,
        }
        asked = [name for name, is_asked in wishes.items() if is_asked]
        if len(asked) > 1:
            raise DatasetError(
                found=" and ".join(asked),
                expected="folds from a file, one a site, or a number of them",
                fix=f"leave out {' and '.join(asked[1:])}",
            )


@dataclass(frozen=True)
class GivenSplits:
    """Folds that nobody has to make."""

    splits: Splits
    source: str
    fix: str
    """What to do about those that leak."""


def find_given(dataset: Dataset, options: SplitOptions) -> tuple[Dataset, GivenSplits | None]:
    """Return the folds that a file or the data set gives, and the data set with its test set.

    Measures no image: what is wrong with given folds is said before that. A file may name cases
    that are kept out of all folds; they are in the test set of the data set returned.

    Raises
    ------
    DatasetError
        Given folds leak or make no sense (all problems), or those asked for cannot be made.
    """
    given = None
    if options.splits is not None:
        found = read_split_file(
            options.splits, dataset.cases, DatasetSpec(exclude=dataset.excluded)
        )
        dataset = dataset.revised(cases=with_test(dataset.cases, found.test))
        if found.test and not dataset.labels_declared:  # no class is known from test cases alone
            dataset = dataset.revised(labels=find_labels(dataset, dataset.labels.ignore))
        fix = f"correct {options.splits.name}, or leave --splits out to have folds made"
        given = GivenSplits(found.splits, options.splits.name, fix)
    elif options.split_by == "folds" and options.num_folds is None:
        splits = official_splits(dataset.cases)
        fix = f"{OFFICIAL_FIX}; or have folds made: --folds 5"
        given = GivenSplits(splits, OFFICIAL, fix) if splits else None
    problems = _test_problems(dataset)
    if not dataset.training_cases:
        problems.append("every case is in the test set")
    if problems:
        raise leak_error(OFFICIAL, problems, OFFICIAL_FIX)
    _check(dataset, given, ())
    if options.split_by == "site":
        split_by_site(dataset.cases)  # refuses missing sites now, as the next line too few groups
    elif options.num_folds is not None:
        make_splits(dataset.cases, options.num_folds, options.seed)
    return dataset, given


def choose_splits(
    dataset: Dataset,
    fingerprint: Fingerprint,
    options: SplitOptions,
    given: GivenSplits | None,
    alike: Sets | None = None,
) -> tuple[Splits, tuple[Finding, ...]]:
    """Return the folds, and what a user should know about groups and folds.

    Parameters
    ----------
    alike
        What `near_copies` returns, where it is known: comparing all with all takes long.

    Raises
    ------
    DatasetError
        Given folds have copies of an image on both sides; or there are too few groups or sites.
    """
    same = copies(fingerprint.cases)
    alike = near_copies(fingerprint.cases) if alike is None else alike
    groups = group_findings(dataset)
    if given is not None:
        _check(dataset, given, same)
        more = (*_alike_on_both_sides(given, alike), *_in_no_fold(dataset, given))
        return given.splits, (*groups, *more)
    kept, torn = _kept_together(dataset, same, alike, options)
    together = (*same, *kept)
    groups += _told_apart(dataset, torn)
    if options.split_by == "site":
        splits, more = split_by_site(dataset.cases, together)
    else:
        strata = {case.case_id: _classes(case) for case in fingerprint.cases}
        splits, more = make_splits(
            dataset.cases, options.num_folds, options.seed, strata, together=together
        )
    return splits, (*groups, *more, *_unused(dataset, options))


def _classes(case: CaseStats) -> tuple[str, ...]:
    """Return the classes that a case holds, as facts to stratify by."""
    return tuple(f"class {index}" for index, n in enumerate(case.class_voxels) if index and n)


def _check(dataset: Dataset, given: GivenSplits | None, together: Sets) -> None:
    """Refuse given folds that leak."""
    if given is None:
        return
    problems = [
        f"fold {index}: {problem}"
        for index, split in enumerate(given.splits)
        for problem in split_problems(split, dataset.cases, together)
    ]
    if problems:
        raise leak_error(given.source, problems, given.fix)


def _test_problems(dataset: Dataset) -> list[str]:
    """Return the groups that have cases in the test set and outside of it, one line each."""
    inside, outside = defaultdict(list), defaultdict(list)
    for case in dataset.cases:
        (inside if case.split == "test" else outside)[case.group].append(case.id)
    return [
        f"group {group!r} on both sides: {listing(outside[group])} to train, "
        f"{listing(inside[group])} to test"
        for group in sorted(inside)
        if group in outside
    ]


def _kept_together(
    dataset: Dataset, same: Sets, alike: Sets, options: SplitOptions
) -> tuple[Sets, Sets]:
    """Return the sets of nearly equal images that folds keep together, and those that they do not.

    What a user declared of groups holds; and no set may add more cases to a group than a fold
    validates: a stack or a video would leave one fold nearly everything, the others nothing.
    Sets within one group are in neither.
    """
    cases = dataset.training_cases
    own, _ = join_groups(cases, same)
    sets = [
        tuple(ids) for ids in alike if len({own[case_id] for case_id in ids if case_id in own}) > 1
    ]
    if dataset.groups_declared:
        return (), sets
    joined, _ = join_groups(cases, (*same, *sets))
    largest: dict[str, int] = defaultdict(int)
    for (group, _), size in Counter((joined[case.id], own[case.id]) for case in cases).items():
        largest[group] = max(largest[group], size)
    added = {group: size - largest[group] for group, size in Counter(joined.values()).items()}
    num_folds = options.num_folds or DEFAULT_FOLDS
    if options.split_by == "site":
        num_folds = len({case.site for case in cases})
    share = math.ceil(len(cases) / num_folds)
    kept = [ids for ids in sets if all(added[joined[i]] <= share for i in ids if i in joined)]
    if len(set(join_groups(cases, (*same, *kept))[0].values())) < MIN_GROUPS:
        kept = []
    return kept, sorted({*sets} - {*kept})


def _told_apart(dataset: Dataset, torn: Sets) -> list[Finding]:
    """Return what is said of nearly equal images that may be on both sides of a fold."""
    if not torn:
        return []
    ids = sorted(case_id for found in torn for case_id in found)
    if dataset.groups_declared:
        found = f"nearly the same image in several of the declared groups: {listing(ids)}"
        return [
            Finding(
                severity="note",
                files=tuple(ids),
                found=found,
                expected="groups that hold all images of a patient, an animal or a place",
                remedy="look at these images; if they belong together, correct --group-by",
            )
        ]
    total = len(dataset.training_cases)
    which = f"all {total}" if len(ids) == total else f"{len(ids)} of {total}"
    return [
        Finding(
            severity="warning",
            files=tuple(ids),
            found=f"{which} images are nearly the same, one like the next: too many for one fold",
            expected="images of several patients, animals or places",
            remedy="read the scores with caution: folds are validated on images much like those "
            "that they were trained on; say with --group-by what belongs together",
        )
    ]


def _alike_on_both_sides(given: GivenSplits, alike: Sets) -> list[Finding]:
    """Return a warning where given folds have images on both sides that are nearly the same."""
    torn = sorted(
        {
            listing(ids)
            for split in given.splits
            for ids in alike
            if set(ids) & set(split.train) and set(ids) & set(split.val)
        }
    )
    if not torn:
        return []
    return [
        Finding(
            severity="warning",
            found=f"{given.source}: nearly the same image on both sides of a fold: "
            + "; ".join(torn),
            expected="images of a fold's two sides that do not come from one another",
            remedy="look at these images; if one is a copy of the other, leave it out (exclude in "
            "the spec) or let folds be made",
        )
    ]


def _in_no_fold(dataset: Dataset, given: GivenSplits) -> list[Finding]:
    """Return a warning about cases that given folds do not mention."""
    named = {case_id for split in given.splits for case_id in (*split.train, *split.val)}
    missing = sorted(case.id for case in dataset.training_cases if case.id not in named)
    if not missing:
        return []
    return [
        Finding(
            severity="warning",
            files=tuple(missing),
            found=f"{len(missing)} case{'s are' if len(missing) > 1 else ' is'} in no fold of "
            f"{given.source}: {listing(missing)}",
            expected="every case in a fold, or in the test set",
            remedy="add them to the folds; or to exclude in the spec, if they are not to be used",
        )
    ]


def _unused(dataset: Dataset, options: SplitOptions) -> list[Finding]:
    """Return a note where the data set comes with folds, and others were asked for."""
    is_asked = options.split_by != "folds" or options.num_folds is not None
    if not is_asked or official_splits(dataset.cases) is None:
        return []
    counts = Counter(case.split or "train" for case in dataset.cases)
    return [
        Finding(
            severity="note",
            found=f"the data set comes with a split ({counts['train']} cases to train, "
            f"{counts['val']} to validate), but other folds were asked for",
            expected="scores on the split of the data set, where they are to be compared with "
            "published ones",
            remedy="leave --folds and --split-by out to use the split of the data set",
        )
    ]
