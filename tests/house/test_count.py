"""The engine stays small enough to read."""

from tools import count


def test_no_budget_is_broken():
    assert count.complaints() == []


def test_what_counts_as_code(tmp_path):
    text = '"""Doc.\n\nstring."""\n\n# comment\nX = """a\nb"""\n\n\ndef f():\n    "doc"\n    return X\n'
    (tmp_path / "m.py").write_text(text, encoding="utf-8")
    assert count.code_lines(tmp_path / "m.py") == {6, 7, 10, 12}
    assert count.functions(tmp_path / "m.py") == [(2, "m.py:10 f")]
