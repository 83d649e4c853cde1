from collections.abc import Callable

from autoseg.check.findings import check_fingerprint


def check(made, *cases, group: Callable[[str], str] = str):
    return check_fingerprint(made.fingerprint(*cases), made.known(*cases, group=group))


def test_copies_in_different_groups_are_a_warning(made):
    same = {"content_hash": "3", "thumbnail": made.stats(3).thumbnail}
    (finding,) = check(made, *made.usual(), made.stats(99, **same))
    assert finding.severity == "warning"
    assert finding.found == "the same image and labels under 2 names"
    assert finding.files == ("images/case_3.nii", "images/case_99.nii")


def test_copies_within_a_group_are_only_a_note(made):
    cases = [*made.usual(), made.stats(99, content_hash="3")]
    (finding,) = check(made, *cases, group=lambda _: "g")
    assert finding.severity == "note"
    assert "in one group" in finding.found


def test_images_that_look_alike_are_told_across_groups_only(made):
    bits = int(made.stats(3).thumbnail, 16) ^ 0b101
    cases = [*made.usual(), made.stats(99, thumbnail=f"{bits:016x}")]
    (finding,) = check(made, *cases)
    assert finding.found == "nearly the same image"
    assert finding.files == ("images/case_3.nii", "images/case_99.nii")
    assert check(made, *cases, group=lambda _: "g") == ()


def test_the_same_image_with_other_labels_is_told(made):
    (finding,) = check(made, *made.usual(), made.stats(99, thumbnail=made.stats(3).thumbnail))
    assert "but for its scale or labels" in finding.found


def test_a_video_is_told_in_one_finding(made):
    cases = [made.stats(i, thumbnail=f"{1 << (i % 3):016x}") for i in range(300)]
    (finding,) = check(made, *cases)
    assert finding.found == "nearly the same image, one like the next, in 300 cases"
    assert len(finding.files) == 300


def test_many_sets_of_images_that_look_alike_are_told_in_one_finding(made):
    cases = made.usual(21)
    again = [made.stats(100 + i, thumbnail=case.thumbnail) for i, case in enumerate(cases)]
    (finding,) = check(made, *cases, *again)
    assert finding.found == "21 sets of nearly the same image"
