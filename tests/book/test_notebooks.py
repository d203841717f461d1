"""What every chapter and every exercise notebook must have, and what it must not carry along."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from pplwidgets.checks import exercises

from tools import notebooks

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "book" / "chapters").glob("*.ipynb"))
EXERCISES = sorted((ROOT / "book" / "exercises").glob("*.ipynb"))

every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
every_exercise = pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)
every_notebook = pytest.mark.parametrize(
    "path", CHAPTERS + EXERCISES, ids=lambda path: f"{path.parent.name}-{path.stem}"
)


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def headings(notebook):
    return re.findall(r"^(#+) +(.+)$", prose(notebook), flags=re.MULTILINE)


def test_there_are_chapters_and_each_has_its_exercises():
    assert CHAPTERS
    assert [path.name for path in CHAPTERS] == [path.name for path in EXERCISES]


@every_chapter
def test_a_chapter_asks_one_question_in_its_title(path):
    titles = [text for marks, text in headings(read(path)) if marks == "#"]
    assert len(titles) == 1
    assert titles[0].endswith("?")


@every_chapter
@pytest.mark.parametrize("section", ["Common mistakes", "Summary", "In Pyro", "References"])
def test_a_chapter_has_its_sections(path, section):
    assert ("##", section) in headings(read(path))


@every_chapter
def test_a_chapter_shows_a_widget_what_happened_and_asks_its_reader(path):
    notebook = read(path)
    assert any(
        re.search(r"^pplwidgets\.\w+\(", cell.source, re.MULTILINE) for cell in code(notebook)
    )
    assert "**What just happened" in prose(notebook)
    assert prose(notebook).count("<summary>Answer") >= 2
    assert f"../exercises/{path.name}" in prose(notebook)


@every_chapter
def test_common_mistakes_show_the_engines_own_messages(path):
    failing = [
        cell for cell in code(read(path)) if "raises-exception" in cell.metadata.get("tags", [])
    ]
    assert len(failing) >= 2
    for cell in failing:
        assert [output.output_type for output in cell.outputs] == ["error"]
        assert "where:" in cell.outputs[0].evalue


@every_exercise
def test_every_exercise_has_a_stub_a_check_hints_and_a_hidden_solution(path):
    cells = read(path).cells
    starts = [i for i, cell in enumerate(cells) if re.match(r"## \d+\. ", cell.source)]
    assert 4 <= len(starts) <= 6
    for start, end in zip(starts, [*starts[1:], len(cells)], strict=True):
        part = [cell for cell in cells[start:end] if cell.cell_type == "code"]
        tags = [set(cell.metadata.get("tags", [])) for cell in part]
        assert [len(t & {"exercise", "check", "solution"}) for t in tags] == [1, 1, 1]
        stub, test, solution = part
        assert "exercise" in tags[0]
        assert "check" in tags[1]
        assert {"solution", "hide-cell"} <= tags[2]
        assert solution.metadata["jupyter"]["source_hidden"] is True
        hints = sum(cell.source.count("<summary>Hint") for cell in cells[start:end])
        assert hints >= 2

        name = re.search(r"^def (\w+)\(", stub.source, re.MULTILINE)[1]
        assert name in exercises()
        # Each check cell imports for itself: a reader may have overwritten the name.
        assert test.source == f'from pplwidgets.checks import check\n\ncheck("{name}", {name})'
        assert solution.source.endswith(f'check("{name}", {name}_solution)')
        assert test.outputs[0].data["text/plain"].startswith("not yet: ")
        assert solution.outputs[0].data["text/plain"].startswith("passed: ")


def test_there_are_exercises_of_every_kind():
    sources = "\n".join(prose(read(path)) for path in EXERCISES)
    assert len(re.findall(r"^## \d+\. ", sources, re.MULTILINE)) >= 40
    assert len(re.findall(r"\b[Mm]ove (?:the|location)", sources)) >= 4  # controls, until ...


def test_every_check_has_an_exercise():
    sources = "\n".join(cell.source for path in EXERCISES for cell in code(read(path)))
    asked = set(re.findall(r'check\("(\w+)", \w+\)', sources))
    assert asked == set(exercises())


@every_notebook
def test_a_committed_notebook_is_normal(path):
    assert notebooks.differences(path, notebooks.to_text(notebooks.normalise(read(path)))) == ""


@every_notebook
def test_a_committed_notebook_has_been_run_and_carries_text_alone(path):
    notebook = read(path)
    assert "widgets" not in notebook.metadata
    for cell in code(notebook):
        assert cell.execution_count == 0, "not run: `make notebooks`"
        for output in cell.outputs:
            if output.output_type == "stream":
                assert output.name == "stdout"
            elif output.output_type == "error":
                assert len(output.traceback) == 1
            else:
                assert list(output.data) == ["text/plain"]


@every_notebook
def test_a_committed_notebook_names_no_place_of_one_machine(path):
    text = path.read_text(encoding="utf-8")
    for pattern in notebooks.VOLATILE.values():
        for cell in code(read(path)):
            assert not pattern.search(json.dumps(cell.outputs))
    assert not re.search(r"https?://", text), "a page of the book points at nothing outside it"


@every_notebook
def test_code_fits_the_column_of_a_page(path):
    too_wide = [
        line for cell in code(read(path)) for line in cell.source.split("\n") if len(line) > 79
    ]
    assert too_wide == []


@every_notebook
def test_links_between_sources_resolve_in_jupyterlab_too(path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(read(path))):
        assert (path.parent / target).is_file(), target


@every_notebook
def test_unseen_words_are_in_the_glossary(path):
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    known = {
        re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-")
        for word in re.findall(r"^## (.+)$", glossary, flags=re.MULTILINE)
    }
    asked = set(re.findall(r"glossary\.md#([\w-]+)", prose(read(path))))
    assert asked <= known
