import json
import shutil

from autoseg.cli.main import main
from autoseg.testing.layouts import write_folders, write_related_names


def test_the_command_shows_and_writes_what_it_understood(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    assert main(["import", "rings"]) == 0
    shown = capsys.readouterr().out
    for word in ("folders", "class_1", "share of pixels", "Not known by looking", "rings.png"):
        assert word in shown
    assert "next: autoseg plan rings --spec rings.json" in shown
    assert json.loads((tmp_path / "rings.json").read_text())["layout"] == "folders"
    assert (tmp_path / "rings.png").stat().st_size > 1000


def test_the_spec_is_what_check_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    assert main(["import", "rings", "-o", "spec.json", "--picture", "look.png"]) == 0
    assert (tmp_path / "look.png").is_file()
    assert main(["check", "rings", "--spec", "spec.json"]) == 0


def test_programs_get_json(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    assert main(["import", "rings", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["declaration"] == json.loads((tmp_path / "rings.json").read_text())
    assert content["understood"]["cases"].startswith("4: ring_1")
    assert [row["name"] for row in content["classes"]] == ["background", "class_1", "class_2"]
    assert content["spec"] == "rings.json"


def test_a_second_import_needs_a_word(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    assert main(["import", "rings"]) == 0
    assert main(["import", "rings"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["import", "rings", "--overwrite"]) == 0


def test_an_unknown_folder_gets_a_proposal_to_be_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_related_names(tmp_path / "eyes")
    (tmp_path / "eyes" / "images").rename(tmp_path / "eyes" / "photos")
    assert main(["import", "eyes"]) == 0
    shown = capsys.readouterr().out
    assert "photos/*_training.tif (4 files" in shown
    assert "compare the picture" in shown
    spec = json.loads((tmp_path / "eyes.json").read_text())
    assert spec["masks"] == "1st_manual/{case}_manual1.gif"


def test_a_folder_without_masks_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    shutil.rmtree(tmp_path / "rings" / "masks")
    assert main(["import", "rings"]) == 2
    assert "no masks found beside the 4 images" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rings"]


def test_an_image_without_mask_is_listed_and_left_out(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    (tmp_path / "rings" / "masks" / "ring_2.png").unlink()
    assert main(["import", "rings"]) == 0
    shown = capsys.readouterr().out
    assert "images/ring_2.png" in shown
    assert 'left out by "exclude"' in shown
    assert main(["check", "rings", "--spec", "rings.json"]) == 0


def test_errors_are_shown_and_a_check_comes_next(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        write_folders(tmp_path / "rings" / part)
    assert main(["import", "rings"]) == 2
    shown = capsys.readouterr().out
    assert "fold 0" in shown
    assert "next: autoseg check rings --spec rings.json" in shown


def test_nothing_is_shown_of_a_header_that_is_empty(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_folders(tmp_path / "rings")
    assert main(["import", "rings"]) == 0
    assert all(line.strip() for line in capsys.readouterr().out.splitlines())
