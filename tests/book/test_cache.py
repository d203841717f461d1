"""A book that keeps what notebooks gave: text is edited in moments, and nothing old is shown."""

from __future__ import annotations

import re

import nbformat

from tests.browser import small_book

CONFIG = small_book.CONFIG.replace("force", "cache")


def test_cells_run_again_when_what_they_depend_on_has_changed(tmp_path):
    book, ran = tmp_path / "book", tmp_path / "ran"
    cells = [f"with open({str(ran)!r}, 'a') as file:\n    print('once', file=file)", "40 + 2"]
    small_book.write(book, CONFIG, page=cells, other=["6 * 7"])

    def shown():
        ended = small_book.build(book)
        assert ended.returncode == 0, ended.stdout
        page = (book / "_build" / "html" / "page.html").read_text(encoding="utf-8")
        assert re.search(r"<span></span>42\s*</pre>", page)  # the output of the second cell
        # What is to be run has been, side by side, by the time the first page is read.
        assert "Using cached notebook" in ended.stdout
        assert "Executing notebook" not in ended.stdout
        return page, ran.read_text().count("once")

    assert shown()[1] == 1
    notebook = nbformat.read(book / "page.ipynb", 4)
    notebook.cells[0].source = "# Another heading"
    nbformat.write(notebook, book / "page.ipynb")
    (book / "own.css").write_text("p {}")
    page, times = shown()
    assert "Another heading" in page and times == 1
    (book / "numbers.csv").write_text("1\n")  # which a cell might read
    (book / "page.ipynb").touch()
    assert shown()[1] == 2
    assert len(list((book / "_build" / ".jupyter_cache").glob("pplkit-*"))) == 1
