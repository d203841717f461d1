"""A class's exercises with nbgrader: release them, collect what came back, grade it, say what was
found.

    python -m tools.classroom                     write the student's versions of all exercises
    python -m tools.classroom INBOX               ... and grade INBOX/<student>/<exercise>.ipynb
    python -m tools.classroom INBOX 02-sample     ... one exercise notebook only
    python -m tools.classroom --course DIRECTORY  where the course is kept (default: classroom)

The one source is the book's own notebook, solutions included. A course is a folder of nbgrader's:
source, release, submitted, autograded, feedback, gradebook.db; `grades.csv` is written beside them.
"""

from __future__ import annotations

import argparse
import ast
import csv
import logging
import os
import re
import shutil
import sys
import textwrap
import warnings
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
EXERCISES = ROOT / "book" / "exercises"
PRIVATE = (ROOT / "book", ROOT / "tests")  # whose solutions are in many places, once it is built
LARGEST = 20_000_000  # bytes of a notebook that is looked at
NAME = re.compile(r"[\w.@-]+")
ANSWERS = re.compile(r"<details>\s*<summary>Answers?</summary>(.*?)</details>", re.DOTALL)
# The answer may have changed the checks that this session has loaded: they are loaded anew, and
# must refuse a function that does nothing.
HIDDEN = """\
### BEGIN HIDDEN TESTS
import sys
for _name in [n for n in sys.modules if n.split(".")[0] == "pplwidgets"]:
    del sys.modules[_name]
from pplwidgets.checks import check
_trusted = repr(check("{name}", lambda *_: None)).startswith("not yet: ")
if not _trusted:
    raise RuntimeError("something has changed how answers are checked")
### END HIDDEN TESTS
"""
CONFIG = """\
from pplwidgets.classroom import configure

c = get_config()
c.CourseDirectory.course_id = {course!r}
configure(c, private={private!r})
"""


class ClassroomFailed(RuntimeError):
    """The teacher's path has stopped; the message says where, and what to do."""


# -- one source ------------------------------------------------------------------------------------


def source(notebook):
    """nbgrader's source of an exercise notebook of the book: solutions and checks, marked as such.

    A stub and its hidden solution become one cell; a check becomes the cell that decides the
    points. Answers in words become a cell that a person reads.
    """
    cells, stub, written = [], None, 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "exercise" in tags:
            stub = new_code_cell()
            name = re.search(r"^def (\w+)\(", cell.source, re.MULTILINE)[1]
            stub.metadata["nbgrader"] = _role(name, solution=True)
            stub.pplkit_stub = cell.source
            cells.append(stub)
        elif "check" in tags:
            name = re.search(r'check\("(\w+)"', cell.source)[1]
            made = new_code_cell(HIDDEN.format(name=name) + cell.source)
            made.metadata["nbgrader"] = _role(f"check-{name}", grade=True, locked=True, points=1)
            cells.append(made)
        elif "solution" in tags:
            stub.source = answered(stub.pop("pplkit_stub"), cell.source)
        elif cell.cell_type == "markdown":
            for number, part in enumerate(ANSWERS.split(cell.source)):
                if number % 2 == 0:
                    if part.strip():
                        cells.append(new_markdown_cell(part.strip()))
                    continue
                written += 1
                text = f"### BEGIN SOLUTION\n{part.strip()}\n### END SOLUTION"
                cells.append(new_markdown_cell(text))
                role = _role(f"in-words-{written}", grade=True, solution=True, points=1)
                cells[-1].metadata["nbgrader"] = role
        else:
            cells.append(new_code_cell(cell.source))
    return nbformat.v4.new_notebook(cells=cells, metadata=notebook.metadata)


def _is_bare(stub, name):
    """Whether the function of a stub has no more than `...` for its body."""
    (function,) = [s for s in ast.parse(stub).body if getattr(s, "name", "") == name]
    last = function.body[-1]
    return isinstance(last, ast.Expr) and getattr(last.value, "value", None) is ...


def _role(name, *, grade=False, solution=False, locked=False, points=None):
    role = {"schema_version": 3, "grade_id": name, "grade": grade, "solution": solution,
            "locked": locked, "task": False}  # fmt: skip
    return role if points is None else {**role, "points": points}


def answered(stub: str, solution: str) -> str:
    """The stub with the solution for its body, between nbgrader's marks.

    A stub that is a program already keeps it: its solution stands in front of what it shows.

    >>> print(answered("def two():\\n    ...", "one = 1\\n\\ndef two_solution():\\n    return 2"))
    def two():
        ### BEGIN SOLUTION
        one = 1
    <BLANKLINE>
        return 2
        ### END SOLUTION
    """
    name = re.search(r"^def (\w+)\(", stub, re.MULTILINE)[1]
    lines = solution.split("\n")
    statements = ast.parse(solution).body
    (function,) = [s for s in statements if getattr(s, "name", "") == f"{name}_solution"]
    before = "\n".join(lines[: function.lineno - 1]).strip("\n")
    body = lines[function.body[0].lineno - 1 : function.end_lineno]
    inside = textwrap.indent(before, "    ").split("\n") + [""] if before else []
    inside = [*inside, *body]
    if _is_bare(stub, name):
        text = "\n".join(["    ### BEGIN SOLUTION", *inside, "    ### END SOLUTION"])
        head = stub[: stub.rindex("...")].rstrip()
        return f"{head}\n{text}".replace(f"{name}_solution", name)
    last = ast.parse(stub).body[-1]
    shown = last.lineno - 1 if isinstance(last, ast.Expr) else len(stub.split("\n"))
    given, rest = stub.split("\n")[:shown], stub.split("\n")[shown:]
    whole = [*before.split("\n"), "", *lines[function.lineno - 1 : function.end_lineno]]
    text = [*given, "### BEGIN SOLUTION", *whole, "### END SOLUTION", *rest]
    return "\n".join(text).replace(f"{name}_solution", name)


# -- what comes back -------------------------------------------------------------------------------


def read(path: Path):
    """A submission as a notebook, without its outputs. Raises ValueError: it is none."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is not a file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST // 1_000_000} MB")
    try:
        notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(notebook)
        cells = list(notebook.cells)
    except Exception as error:  # noqa: BLE001  whatever a stranger wrote in there
        raise ValueError(f"it is not a notebook ({type(error).__name__})") from None
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def completed(submission, release):
    """The submission with all of the release's cells, in its own order and with its own additions.

    Cells that are not the student's to change are the release's. One that was taken out comes back,
    an answer as an empty one. What else a student has written stays.
    """
    known = {_id(cell): cell for cell in release.cells if _id(cell)}
    cells, seen = [], set()
    for cell in submission.cells:
        name = _id(cell)
        if name in known and name not in seen:
            seen.add(name)
            own = known[name].metadata.nbgrader.solution
            kept = nbformat.from_dict(known[name])
            kept.source = cell.source if own else kept.source
            cells.append(kept)
        elif cell.cell_type == "code":
            cells.append(new_code_cell(cell.source))
        else:
            cells.append(new_markdown_cell(cell.source))
    previous = None
    for name, cell in known.items():
        if name not in seen:
            kept = nbformat.from_dict(cell)
            if kept.metadata.nbgrader.solution:
                kept.source = "" if kept.cell_type == "code" else cell.source
            at = [_id(c) for c in cells].index(previous) + 1 if previous else 0
            cells.insert(at if previous else _after_imports(cells), kept)
        previous = name
    return nbformat.v4.new_notebook(cells=cells, metadata=release.metadata)


def _id(cell):
    role = cell.metadata.get("nbgrader", {})
    return role.get("grade_id") if isinstance(role, dict) else None


def _after_imports(cells):
    """Where the first exercise stands: behind the cells that come before any exercise."""
    named = [i for i, cell in enumerate(cells) if _id(cell)]
    return named[0] if named else len(cells)


# -- the teacher's path ----------------------------------------------------------------------------


class Classroom:
    """A course in a folder, and the four steps of its teacher."""

    def __init__(self, folder: Path, seconds: int | None = None):
        from pplwidgets import classroom
        from traitlets.config import Config

        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = Config()
        self.config.CourseDirectory.root = str(self.folder)
        self.config.CourseDirectory.course_id = _course_id(self.folder)
        seconds = seconds or classroom.SECONDS
        scripts, path = str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)
        if scripts not in path.split(os.pathsep):  # where nbgrader looks for alembic
            os.environ["PATH"] = os.pathsep.join([scripts, path])
        classroom.configure(self.config, seconds=seconds, private=PRIVATE)
        self._private = list(self.config.Run.private)
        settings = self.folder / "nbgrader_config.py"
        if not settings.exists():  # so that nbgrader's own commands do as this one does
            private = tuple(map(str, PRIVATE))
            text = CONFIG.format(course=_course_id(self.folder), private=private)
            settings.write_text(text, encoding="utf-8")

    def release(self, names) -> list[Path]:
        """The student's version of each exercise notebook, in `release/`."""
        for name in names:
            notebook = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
            path = self.folder / "source" / name / f"{name}.ipynb"
            path.parent.mkdir(parents=True, exist_ok=True)
            text = nbformat.writes(source(notebook))
            released = self.released(name)
            if released.is_file() and path.is_file() and path.read_text(encoding="utf-8") == text:
                continue
            path.write_text(text, encoding="utf-8")
            self._convert("GenerateAssignment", name)
        return [self.released(name) for name in names]

    def released(self, name) -> Path:
        return self.folder / "release" / name / f"{name}.ipynb"

    def collect(self, inbox: Path, names):
        """Take in `inbox/<student>/<exercise>.ipynb`.

        Returns the pairs of student and exercise that are in, and (path, reason) of what is not.
        """
        inside, refused = [], []
        paths = sorted(Path(inbox).glob("*/*.ipynb"))
        folders = {str(path.parent.resolve()) for path in paths}  # no neighbour's answers
        self.config.Run.private = [*self._private, *sorted(folders)]
        for path in paths:
            student, name = path.parent.name, path.stem
            if name not in names:
                refused.append((path, "no exercise notebook is called so"))
                continue
            release = nbformat.read(self.released(name), as_version=4)
            try:
                if not NAME.fullmatch(student):
                    raise ValueError("the student's folder has a name with odd characters")
                submission = read(path)
            except ValueError as error:
                refused.append((path, str(error)))
                continue
            target = self.folder / "submitted" / student / name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(completed(submission, release), target)
            inside.append((student, name))
        return inside, refused

    def grade(self, student, name) -> None:
        self._convert("Autograde", name, student, create_student=True)

    def feedback(self, student, name) -> Path:
        self._convert("GenerateFeedback", name, student)
        return self.folder / "feedback" / student / name / f"{name}.html"

    def grades(self) -> list[dict]:
        """A row for each submission: points, and what each of its exercises got."""
        from nbgrader.api import Gradebook

        rows = []
        with Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}") as book:
            for assignment in book.assignments:
                for submission in book.assignment_submissions(assignment.name):
                    parts = {
                        grade.name.removeprefix("check-"): grade
                        for notebook in submission.notebooks
                        for grade in notebook.grades
                    }
                    rows.append({
                        "student": submission.student_id,
                        "exercise": assignment.name,
                        "points": submission.score,
                        "of": submission.max_score,
                        "to read": sum(bool(g.needs_manual_grade) for g in parts.values()),
                        "solved": " ".join(n for n, g in parts.items() if g.auto_score),
                    })  # fmt: skip
        return sorted(rows, key=lambda row: (row["exercise"], row["student"]))

    def write_grades(self) -> Path:
        path, rows = self.folder / "grades.csv", self.grades()
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, ["student", "exercise", "points", "of", "to read", "solved"]
            )
            writer.writeheader()
            writer.writerows(rows)
        return path

    def _convert(self, step, name, student="*", **attributes):
        import nbgrader.converters
        from nbgrader.coursedir import CourseDirectory

        folder = CourseDirectory(config=self.config)
        folder.assignment_id, folder.student_id = name, student
        converter = getattr(nbgrader.converters, step)(coursedir=folder, config=self.config)
        converter.force = True
        for attribute, value in attributes.items():
            setattr(converter, attribute, value)
        log, handler = converter.log, logging.FileHandler(self.folder / "log.txt", encoding="utf-8")
        before = log.handlers[:], log.propagate
        log.handlers, log.propagate = [handler], False
        try:
            with warnings.catch_warnings():  # of nbgrader's own use of its database
                warnings.simplefilter("ignore")
                converter.start()
        except nbgrader.converters.NbGraderException:
            where = handler.baseFilename
            raise ClassroomFailed(f"{name}, {student}: {step} failed; {where} tells why.") from None
        finally:
            log.handlers, log.propagate = before
            handler.close()


def _course_id(folder: Path) -> str:
    return re.sub(r"[^\w-]+", "-", folder.name).strip("-") or "course"


# -- the command -----------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make classroom", description=__doc__.splitlines()[0])
    parser.add_argument(
        "inbox", nargs="?", type=Path, help="submissions: <student>/<exercise>.ipynb"
    )
    parser.add_argument("exercises", nargs="*", help="such as 02-sample; all, if none is named")
    parser.add_argument("--course", type=Path, default=ROOT / "classroom", help="where it is kept")
    parser.add_argument("--seconds", type=int, help="time limit of a cell while grading")
    options = parser.parse_args(arguments)
    there = sorted(path.stem for path in EXERCISES.glob("*.ipynb"))
    names = options.exercises or there
    try:
        if unknown := sorted(set(names) - set(there)):
            raise ClassroomFailed(
                f"No exercises {', '.join(unknown)}: there are {', '.join(there)}."
            )
        if options.inbox is not None and not options.inbox.is_dir():
            raise ClassroomFailed(f"{options.inbox} is not a folder of submissions.")
        room = Classroom(options.course, options.seconds)
        room.release(names)
        print(f"Released to students: {room.folder / 'release'}")
        if options.inbox is not None:
            _grade_all(room, options.inbox, names)
    except ClassroomFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    except ImportError as error:  # a `missing_package`
        print(error, file=sys.stderr)
        return 1
    return 0


def _grade_all(room, inbox, names):
    inside, refused = room.collect(inbox, names)
    for student, name in inside:
        print(f"  {student}, {name}", flush=True)
        try:
            room.grade(student, name)
            room.feedback(student, name)
        except ClassroomFailed as failure:  # one submission does not keep the others waiting
            shutil.rmtree(room.folder / "feedback" / student / name, ignore_errors=True)
            refused.append((room.folder / "submitted" / student / name, str(failure)))
    for path, reason in refused:
        print(f"Not graded: {path}: {reason}", file=sys.stderr)
    for row in room.grades():
        more = f", {row['to read']} to be read by a person" if row["to read"] else ""
        solved = row["solved"] or "none"
        print(f"{row['student']:>20}  {row['exercise']}  {row['points']:g} of {row['of']:g}"
              f"  ({solved}{more})")  # fmt: skip
    print(f"Grades: {room.write_grades()}")
    print(f"Feedback: {room.folder / 'feedback'}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
