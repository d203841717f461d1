"""The notebook normaliser: what it keeps, drops and refuses, and that it changes nothing twice."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks

ROOT = Path(__file__).parents[2]


def one_cell(*outputs, **metadata):
    cell = new_code_cell("1 + 1", execution_count=7, outputs=list(outputs), metadata=metadata)
    return new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "vscode": 1})


def normal(*outputs, **metadata):
    return notebooks.normalise(one_cell(*outputs, **metadata)).cells[0]


def test_pictures_html_and_widgets_go_and_their_text_stays():
    data = {
        "text/plain": "Figure(1)",
        "text/html": "<b>1</b>",
        "image/png": "aGk=",
        "application/vnd.jupyter.widget-view+json": {"model_id": "f00"},
    }
    output = new_output("execute_result", data=data, execution_count=7, metadata={"x": 1})
    kept = normal(output).outputs
    assert kept == [
        {
            "output_type": "execute_result",
            "data": {"text/plain": "Figure(1)"},
            "metadata": {},
            "execution_count": 0,
        }
    ]


def test_an_output_without_text_goes():
    assert normal(new_output("display_data", data={"image/png": "aGk="})).outputs == []


def test_printed_text_is_joined_and_loses_its_colours():
    first = new_output("stream", name="stdout", text="a\n")
    second = new_output("stream", name="stdout", text="\x1b[31mb\x1b[0m\n")
    assert normal(first, second).outputs == [
        {"output_type": "stream", "name": "stdout", "text": "a\nb\n"}
    ]


def test_an_error_keeps_its_name_and_message_and_no_path():
    error = new_output(
        "error",
        ename="ValueError",
        evalue="no",
        traceback=["\x1b[31mFile /home/someone/x.py:3", "ValueError: no"],
    )
    assert normal(error).outputs[0].traceback == ["ValueError: no"]


def test_metadata_of_editors_goes_and_tags_stay_sorted():
    metadata = {
        "tags": ["solution", "hide-cell"],
        "jupyter": {"source_hidden": True, "outputs_hidden": False},
        "execution": {"iopub.execute_input": "2026"},
        "collapsed": False,
        "nbgrader": {"grade": True},
    }
    assert normal(**metadata).metadata == {
        "tags": ["hide-cell", "solution"],
        "jupyter": {"source_hidden": True},
        "nbgrader": {"grade": True},
    }
    assert set(notebooks.normalise(one_cell()).metadata) == {"kernelspec", "language_info"}


def test_execution_counts_do_not_depend_on_the_order_of_cells():
    assert normal().execution_count == 0
    unrun = new_notebook(cells=[new_code_cell("1")])
    assert notebooks.normalise(unrun).cells[0].execution_count is None


def test_ids_are_kept_and_missing_or_repeated_ones_follow_from_the_source():
    cells = [new_markdown_cell("a", id="mine"), new_code_cell("b", id="mine"), new_code_cell("b")]
    del cells[2]["id"]
    twice = [notebooks.normalise(new_notebook(cells=cells)) for _ in range(2)]
    ids = [cell.id for cell in twice[0].cells]
    assert ids == [cell.id for cell in twice[1].cells]
    assert ids[0] == "mine"
    assert len(set(ids)) == 3


def test_normalising_twice_changes_nothing():
    once = notebooks.normalise(one_cell(new_output("stream", name="stdout", text="a\n")))
    assert notebooks.to_text(notebooks.normalise(once)) == notebooks.to_text(once)


@pytest.mark.parametrize(
    "text, reason",
    [
        ("<object object at 0x7f5656c8fa60>", "a memory address"),
        ("see /home/someone/book.ipynb", "a path of this machine"),
        ("/tmp/ipykernel_12/34.py", "a path of this machine"),
        ("C:\\Users\\someone", "a Windows path"),
        (" 42%|####      | 42/100", "a progress bar"),
    ],
)
def test_what_differs_elsewhere_is_refused(text, reason):
    with pytest.raises(notebooks.Unstable, match=f"cell 1 shows {reason}"):
        normal(new_output("stream", name="stdout", text=text))


@pytest.mark.parametrize("text", ["1/2 and 3/4", "mean 0.5 +/- 0.1", "https://example.org/a/b"])
def test_harmless_text_is_not_refused(text):
    assert normal(new_output("stream", name="stdout", text=text)).outputs[0].text == text


def test_warnings_are_refused():
    with pytest.raises(notebooks.Unstable, match="cell 1 wrote to stderr"):
        normal(new_output("stream", name="stderr", text="careful"))


def run_tool(*arguments, **variables):
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "notebooks.py"), *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **variables},
        check=False,
    )


def test_a_run_writes_once_and_then_finds_nothing_to_do(tmp_path):
    path = tmp_path / "a book" / "1 é.ipynb"
    path.parent.mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell("print('é', 1 + 1)")]), path)

    checked = run_tool("--check", path)
    assert checked.returncode == 1
    assert '+      "é 2\\n"' in checked.stdout
    assert "1 notebook(s) differ" in checked.stdout

    posix = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    written = run_tool(path, **posix)
    assert (written.returncode, written.stderr) == (0, "")
    assert "written" in written.stdout
    assert "é 2" in path.read_text(encoding="utf-8")

    again = run_tool("--check", path)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.endswith("unchanged\n")


def test_a_failing_cell_is_told_and_nothing_is_written(tmp_path):
    path = tmp_path / "n.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), path)
    before = path.read_bytes()
    failed = run_tool(path)
    assert failed.returncode == 2
    assert "ZeroDivisionError" in failed.stderr
    assert path.read_bytes() == before


def test_a_missing_notebook_is_told():
    assert "no such notebook" in run_tool("nowhere.ipynb").stderr
