from autoseg.train.lines import keep_lines, read_lines
from autoseg.workspace import append_line


def test_damaged_lines_are_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    assert read_lines(path) == []
    path.write_bytes(b'{"a": 1}\n{"b": \n\xff\n7\n{"c": 3}\n{"d"')
    assert read_lines(path) == [{"a": 1}, {"c": 3}]


def test_what_follows_a_line_cut_short_is_not_lost(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert keep_lines(path, lambda line: line["a"] != 1) == [{"a": 2}]
    append_line(path, {"a": 4})
    assert read_lines(path) == [{"a": 2}, {"a": 4}]


def test_a_whole_log_is_not_touched(tmp_path):
    path = tmp_path / "events.jsonl"
    append_line(path, {"a": 1})
    before = path.stat().st_mtime_ns
    assert keep_lines(path) == [{"a": 1}]
    assert path.stat().st_mtime_ns == before
    assert keep_lines(tmp_path / "absent") == []
    assert not (tmp_path / "absent").exists()
