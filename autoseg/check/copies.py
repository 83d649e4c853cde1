"""Cases that are there twice, exactly or nearly."""

from collections import defaultdict
from collections.abc import Sequence

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.fingerprint.copies import near_pairs

MAX_PAIRS = 20
"""Nearly equal pairs told: more are a video, or slices of volumes."""


def copies(subject: Subject) -> list[Finding]:
    """Return cases with the same content, and cases whose images are nearly the same."""
    by_content = defaultdict(list)
    for case in subject.fingerprint.cases:
        if case.content_hash is not None:
            by_content[case.content_hash].append(case.case_id)
    same = [ids for ids in by_content.values() if len(ids) > 1]
    return [*(_same(subject, ids) for ids in same), *_near(subject)]


def _same(subject: Subject, ids: Sequence[str]) -> Finding:
    is_torn = len({subject.group(case_id) for case_id in ids}) > 1
    found = f"the same image and labels under {len(ids)} names"
    if not is_torn:
        return finding(
            "note",
            f"{found}, in one group",
            "every case once",
            "remove the copies: they count several times",
            subject.images(ids),
        )
    return finding(
        "warning",
        found,
        "every case once, or all copies in one group",
        "remove the copies: they count several times; folds that are made keep them together",
        subject.images(ids),
    )


def _near(subject: Subject) -> list[Finding]:
    """Return pairs of cases of different groups whose images look alike."""
    cases = [case for case in subject.fingerprint.cases if case.thumbnail is not None]
    pairs = [
        (cases[first].case_id, cases[second].case_id, distance)
        for first, second, distance in near_pairs(cases)
        if cases[first].content_hash != cases[second].content_hash
        and subject.group(cases[first].case_id) != subject.group(cases[second].case_id)
    ]
    findings = [
        finding(
            "warning",
            "nearly the same image" if distance else "the same image but for its scale or labels",
            "images of one patient, tile or video in one group",
            "look at both and remove one if they show the same; folds that are made keep them "
            "together",
            subject.images((first, second)),
        )
        for first, second, distance in pairs[:MAX_PAIRS]
    ]
    if len(pairs) > MAX_PAIRS:
        ids = dict.fromkeys(case_id for pair in pairs for case_id in pair[:2])
        findings = [
            finding(
                "warning",
                f"{len(pairs)} pairs of nearly the same image among {len(ids)} cases",
                "images of one patient, tile or video in one group",
                "look at them; folds that are made keep them together; --group-by says what "
                "belongs together",
                subject.images([*ids]),
            )
        ]
    return findings
