"""Cases that are there twice, exactly or nearly."""

from collections import Counter
from collections.abc import Sequence

from autoseg.check.subject import Subject, finding
from autoseg.dataset.dataset import Finding
from autoseg.fingerprint.copies import copies as same_content
from autoseg.fingerprint.fingerprint import CaseStats

MAX_SETS = 20
"""Sets of nearly equal images that are told one by one: more are slices of volumes."""
MIN_MASKS = 4
"""Fewer equal masks may be chance, in made data."""
MOST = 0.5
"""More of the masks than this part must be equal."""
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


def same_masks(subject: Subject) -> list[Finding]:
    """Return a warning where most cases have one and the same mask under different images."""
    cases = [case for case in subject.measured if any(case.class_centres)]
    if len(cases) < MIN_MASKS:
        return []
    masks = [_mask(case) for case in cases]
    most, count = Counter(masks).most_common(1)[0]
    alike = [case for case, mask in zip(cases, masks, strict=True) if mask == most]
    contents = {case.content_hash for case in alike}
    if count < MIN_MASKS or count <= MOST * len(masks) or len(contents) < count:
        return []
    which = "all" if count == len(masks) else f"{count} of"
    return [
        finding(
            "warning",
            f"{which} {len(masks)} masks show the same, though their images differ",
            "a mask of its own for each image",
            "nothing, if the object never moves; otherwise check how the masks were exported: one "
            "was likely written under every name; mend them, or leave these cases out (exclude in "
            "the spec)",
            subject.labels([case.case_id for case in alike]),
        )
    ]


def _mask(case: CaseStats) -> tuple[object, ...]:
    """Return what tells two masks apart: how much of each class is where."""
    return case.shape, case.class_voxels, case.class_components, case.class_centres


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
        for ids in subject.alike
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
