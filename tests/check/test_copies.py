import time
from collections.abc import Callable

from autoseg.check.copies import same_masks as rule
from autoseg.check.findings import check_fingerprint
from autoseg.check.subject import Subject


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


def same_masks(made, count, **changes):
    centres = ((), (0.5, 0.5, 0.4), (0.5, 0.2, 0.7))
    cases = [made.stats(i, class_centres=centres, **changes) for i in range(count)]
    return [item for item in check(made, *cases) if "masks show the same" in item.found]


def test_one_mask_under_all_names_is_told(made):
    (finding,) = same_masks(made, 20)
    assert finding.found.startswith("all 20 masks show the same")
    assert "nothing, if the object never moves" in finding.remedy
    assert len(finding.files) == 20


def test_few_masks_or_copied_images_do_not_tell_that_masks_are_copies(made):
    assert same_masks(made, 3) == []
    assert same_masks(made, 20, content_hash="1") == []
    assert [f for f in check(made, *made.usual()) if "masks show the same" in f.found] == []


def test_equal_masks_of_many_cases_are_found_in_a_moment(made):
    first = made.stats(0)
    cases = [first.model_copy(update={"content_hash": str(i)}) for i in range(20_000)]
    subject = Subject(fingerprint=made.fingerprint(first).model_copy(update={"cases": cases}))
    start = time.process_time()
    assert len(rule(subject)) == 1
    assert time.process_time() - start < 2  # comparing all with all takes 20 s
