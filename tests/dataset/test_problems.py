import pickle

from autoseg.dataset.dataset import Finding
from autoseg.dataset.problems import as_error, describe, grouped


def problem(file, found="broken", expected="whole", remedy="mend it", **others):
    return Finding(
        severity="error", files=(file,), found=found, expected=expected, remedy=remedy, **others
    )


def test_one_problem_is_told_as_it_is():
    error = as_error([problem("a.nii")])
    assert (error.found, error.expected, error.fix) == ("a.nii: broken", "whole", "mend it")


def test_problems_with_one_remedy_share_it():
    error = as_error([problem("a.nii"), problem("b.nii", found="torn")])
    assert error.found == "2 problems:\na.nii: broken\nb.nii: torn"
    assert (error.expected, error.fix) == ("whole", "mend it")


def test_problems_with_different_remedies_have_each_its_own():
    problems = [problem("a.nii"), problem("b.nii", remedy="add it"), problem("c.nii")]
    lines = as_error(problems).found.splitlines()
    assert lines == [
        "3 problems:",
        "a.nii: broken",
        "c.nii: broken",
        "    expected: whole",
        "    fix: mend it",
        "b.nii: broken",
        "    expected: whole",
        "    fix: add it",
    ]
    assert "--fix" not in as_error(problems).fix


def test_a_safe_remedy_is_pointed_to():
    problems = [problem("a.nii"), problem("b.nii", remedy="add it", fix={"threshold": 1.0})]
    assert "autoseg check --fix" in as_error(problems).fix


def test_thousands_of_problems_are_cut_short():
    error = as_error([problem(f"{index}.nii", found=f"odd {index}") for index in range(5000)])
    assert len(error.found.splitlines()) < 250
    assert error.found.endswith("... and 4800 more")
    assert len(error.findings) == 5000


def test_the_same_problem_of_many_files_is_told_in_one_line():
    error = as_error([problem(f"{index}.nii") for index in range(22)])
    title, line = error.found.splitlines()
    assert title == "22 problems:"
    assert line.startswith("0.nii, 1.nii, ")
    assert line.endswith("9.nii and 12 more: broken")


def test_the_findings_survive_pickling():
    error = as_error([problem("a.nii"), problem("b.nii", remedy="add it")], "; or leave it")
    again = pickle.loads(pickle.dumps(error))
    assert (again.findings, str(again)) == (error.findings, str(error))


def test_a_file_is_named_once():
    assert describe(problem("a.nii", found="a.nii is broken")) == "a.nii is broken"
    many = problem("a").revised(files=tuple("abcde"), found="1")
    assert describe(many) == "a, b, c and 2 more: 1"


def test_groups_keep_the_order_in_which_they_were_found():
    problems = [problem("b", remedy="2"), problem("a", remedy="1"), problem("c", remedy="2")]
    assert [[item.files[0] for item in group] for group in grouped(problems)] == [["b", "c"], ["a"]]
