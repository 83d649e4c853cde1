"""Cases that are there twice, exactly or nearly."""

from collections.abc import Sequence

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.fingerprint.copies import copies as same_content
from autoseg.fingerprint.copies import near_copies

MAX_SETS = 20
"""Sets of nearly equal images that are told one by one: more are slices of volumes."""
REMEDY = (
    "look at them and remove those that show the same; `autoseg plan` says which of them folds "
    "keep together, --group-by says what belongs together"
)


def copies(subject: Subject) -> list[Finding]:
    """Return cases with the same content, and cases whose images are nearly the same."""
    return [
        *(_same(subject, ids) for ids in same_content(subject.fingerprint.cases)),
        *_near(subject),
    ]


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
    """Return cases of different groups whose images look alike, one like the next."""
    by_id = {case.case_id: case for case in subject.fingerprint.cases}
    alike = [
        ids
        for ids in near_copies(subject.fingerprint.cases)
        if len({subject.group(case_id) for case_id in ids}) > 1
        and len({by_id[case_id].content_hash for case_id in ids}) > 1
    ]
    expected = "images of one patient, tile or video in one group"
    if len(alike) > MAX_SETS:
        found = f"{len(alike)} sets of nearly the same image"
        files = subject.images([case_id for ids in alike for case_id in ids])
        return [finding("warning", found, expected, REMEDY, files)]
    findings = []
    for ids in alike:
        found = "nearly the same image"
        if len({by_id[case_id].thumbnail for case_id in ids}) == 1:
            found = "the same image but for its scale or labels"
        if len(ids) > 2:
            found += f", one like the next, in {len(ids)} cases"
        findings.append(finding("warning", found, expected, REMEDY, subject.images(ids)))
    return findings
