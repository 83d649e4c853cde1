import json

import numpy as np
import pytest

from autoseg.cli.display import block_lines, count_findings, print_findings
from autoseg.cli.main import main
from autoseg.dataset.dataset import Finding
from autoseg.runtime.images import Geometry, Image, read_image, write_image
from autoseg.testing.synthetic import write_spheres

SHAPE = (10, 12, 14)


@pytest.fixture
def root(tmp_path):
    return write_spheres(tmp_path / "spheres", num_cases=12, seed=0, shape=SHAPE)


def image_of(root, case):
    return root / "imagesTr" / f"{case}_0000.nii.gz"


def put_nan(root, *cases):
    for case in cases:
        image = read_image([image_of(root, case)])
        image.array[0, 0, 0, 0] = np.nan
        write_image(image_of(root, case), image)


def finding(severity, found="a", files=(), remedy="c"):
    return Finding(severity=severity, files=files, found=found, expected="b", remedy=remedy)


@pytest.mark.parametrize(
    ("severities", "text"),
    [
        ((), "no findings"),
        (("note",), "1 note"),
        (("note", "error", "note"), "1 error, 2 notes"),
        (("warning",) * 2, "2 warnings"),
    ],
)
def test_findings_are_counted(severities, text):
    found = [finding(severity, remedy=str(i)) for i, severity in enumerate(severities)]
    assert count_findings(found) == text


def test_findings_of_one_block_count_once(capsys):
    found = [finding("error", f"odd {i}") for i in range(5)]
    print_findings(found)
    assert capsys.readouterr().out.count("error") == 1
    assert count_findings(found) == "1 error"


def test_a_block_tells_how_many_cases_it_is_about():
    found = [finding("error", "odd", (f"{i}.nii",)).revised(case=str(i)) for i in range(5)]
    assert block_lines(found)[0] == "error  0.nii, 1.nii, 2.nii and 2 more (5 cases)"
    assert block_lines(found[:1])[0] == "error  0.nii"


def test_a_narrow_terminal_breaks_between_words_and_never_in_names():
    name = "a_long_folder/with_a_file-name-of_many_letters.nii.gz"
    found = [finding("error", "many words " * 9, (name, "images/b.png"), "mend\n  it")]
    lines = block_lines(found, 40)
    assert name in "\n".join(lines)
    assert all(len(line) <= 40 or line.strip(" ,").startswith("a_long") for line in lines)
    assert lines[-2:] == ["  remedy: mend", "      it"]


def test_errors_come_first_and_one_remedy_is_told_once(capsys):
    print_findings(
        [
            finding("note", "small"),
            *(finding("error", f"odd {i}", (f"{i}.nii",), "mend it") for i in range(5)),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "error  0.nii, 1.nii, 2.nii and 2 more",
        "  found: odd 0; odd 1; odd 2; and 2 more",
        "  expected: b",
        "  remedy: mend it",
        "note",
        "  found: small",
        "  expected: b",
        "  remedy: c",
    ]


def test_a_sound_data_set_has_no_findings(root, capsys):
    assert main(["check", str(root)]) == 0
    assert capsys.readouterr().out == "no findings\n"


def test_errors_are_blocks_and_exit_code_2(root, capsys):
    put_nan(root, "case_003")
    assert main(["check", str(root)]) == 2
    lines = capsys.readouterr().out.splitlines()
    (first,) = [line for line in lines if line.startswith("error")]
    assert first.count("case_003") == 1
    assert lines[-1] == "1 error"


def test_programs_get_findings_and_the_data_set_with_errors_too(root, capsys):
    put_nan(root, "case_003")
    assert main(["check", str(root), "--json"]) == 2
    content = json.loads(capsys.readouterr().out)
    assert [item["case"] for item in content["findings"]] == ["case_003"]
    assert content["findings"][0]["fix"] == {"fixes": ["replace_nan"]}
    assert content["dataset"]["num_cases"] == 12
    assert content["dataset"]["labels"] == {"background": 0, "class_1": 1}


def test_fixing_tells_what_was_set_and_where(root, tmp_path, capsys):
    put_nan(root, "case_003")
    assert main(["check", str(root), "--fix", "-w", str(tmp_path / "w")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"spec: {tmp_path / 'w' / 'spec.json'}" in lines
    assert 'set fixes: ["replace_nan"]' in lines
    assert lines[-1] == "1 note"


def test_a_plan_says_which_spec_it_took(root, tmp_path, capsys):
    put_nan(root, "case_003")
    place = ["-w", str(tmp_path / "w")]
    assert main(["check", str(root), "--fix", *place]) == 0
    capsys.readouterr()
    assert main(["plan", str(root), *place]) == 0
    assert f"spec: {tmp_path / 'w' / 'spec.json'}" in capsys.readouterr().out


def test_a_plan_may_skip_broken_cases(root, tmp_path, capsys):
    image_of(root, "case_003").write_bytes(b"torn")
    arguments = ["plan", str(root), "-w", str(tmp_path / "w")]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "case_003" in error
    assert error.splitlines()[-1].endswith("; or leave broken cases out: --skip-broken")
    assert main([*arguments, "--skip-broken"]) == 0
    assert "left out: broken" in capsys.readouterr().out


def test_headers_alone_find_what_headers_tell(root, capsys):
    write_image(
        image_of(root, "case_003"),
        Image(np.ones((1, 9, 12, 14), np.float32), Geometry((1.0, 1.0, 1.0))),
    )
    assert main(["check", str(root), "--headers"]) == 2
    out = capsys.readouterr().out
    assert "shapes 9 x 12 x 14 and 10 x 12 x 14" in out
    assert out.splitlines()[-1] == "1 error"


@pytest.mark.parametrize("options", [["--skip-broken"], ["--headers", "--fix"]])
def test_options_that_make_no_sense_together_are_refused(options, root, capsys):
    assert main(["check", str(root), *options]) == 2
    assert "--fix" in capsys.readouterr().err


def test_a_spec_in_the_workspace_is_named_by_its_remedies(root, tmp_path, capsys):
    spec = tmp_path / "w" / "spec.json"
    spec.parent.mkdir()
    place = ["-w", str(tmp_path / "w")]
    spec.write_text('{"exclude": {"b5": "blurred"}}')
    assert main(["plan", str(root), *place]) == 2
    assert f"fix: correct exclude in {spec}" in capsys.readouterr().err
    spec.write_text('{"group_by": "(x"}')
    assert main(["plan", str(root), *place]) == 2
    error = capsys.readouterr().err
    assert f"fix: correct group_by in {spec}" in error
    assert "--group-by" not in error
    assert main(["plan", str(root), *place, "--group-by", "(y"]) == 2
    assert "fix: correct --group-by" in capsys.readouterr().err


def test_what_was_left_out_as_broken_and_is_gone_stops_nothing(root, tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text('{"exclude": {"b5": "broken: torn"}}')
    assert main(["check", str(root), "--spec", str(spec)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  found: b5, excluded, is no case any more; was broken: torn" in lines
    assert f"  remedy: remove it from exclude in {spec}" in lines
    assert lines[-1] == "1 note"


def test_labels_without_a_background_are_told_once_with_the_remedy(root, tmp_path, capsys):
    spec = tmp_path / "spec.json"
    spec.write_text('{"labels": {"a": 1, "b": 2}}')
    arguments = ["-w", str(tmp_path / "w"), "--spec", str(spec)]
    assert main(["plan", str(root), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("label values 0, which no class has") == 1
    assert 'add "background": 0 to the declared labels' in error
    assert "--skip-broken" not in error
