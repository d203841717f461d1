"""A class of strangers: what they hand in is graded, and what it does stays its own affair."""

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pplwidgets.classroom
import pytest

from tools import classroom

NAME = "02-sample"
SECONDS = 15  # more than any right answer needs on a loaded machine
RIGHT = {
    "attempts": "def attempts(p):\n    n = 1\n    while not sample(f'try_{n}', dist.Bernoulli(p)):\n"
    "        n += 1\n    return n",
    "score": "def score(model, values):\n"
    "    return trace(condition(model, data=values)).get_trace().log_prob_sum()",
    "redraw": "def redraw(model, run, name):\n    rest = run.copy()\n    del rest.nodes[name]\n"
    "    return trace(replay(model, trace=rest)).get_trace()",
    "heard": "def heard():\n    order = ['seed', 'condition', 'trace']\n"
    "    return {'out': order, 'back': order[::-1], 'drawn': ['minutes']}",
    "log_evidence": "def log_evidence(model, n):\n    logs = []\n    for _ in range(n):\n"
    "        run = trace(model).get_trace()\n"
    "        logs.append(sum(run.nodes[s].log_prob.sum() for s in run.observation_nodes))\n"
    "    return torch.logsumexp(torch.stack(logs), dim=0) - math.log(n)",
}
WRONG = {
    "attempts": "def attempts(p):\n    return int(dist.Geometric(p).sample()) + 1",
    "score": "def score(model, values):\n    return trace(model).get_trace().log_prob_sum()",
    "redraw": "def redraw(model, run, name):\n    return run",
    "log_evidence": "def log_evidence(model, n):\n    return 1 / 0",
    "heard": "def heard():\n    return ['trace', 'condition', 'seed']",
}
# Everything that looks for the solution, in all the places where it could be.
SPY = """\
import glob, os, pathlib
found = []
for pattern in {places!r}:
    try:
        found += [open(path).read() for path in glob.glob(pattern, recursive=True)]
    except OSError as refused:
        print("refused:", refused)
try:
    found.append(os.popen("cat {first}").read())
except OSError as refused:
    print("refused:", refused)
try:
    found.append(open("{first}").read())
except OSError as refused:
    print("refused:", refused)
print("FOUND" if any("while not sample" in text for text in found) else "nothing found")
"""
FORGERY = """\
import sys, pplwidgets.checks, pplwidgets.judging
check = lambda *_: "passed: as I say"
pplwidgets.checks.check = check
for judge in pplwidgets.judging.JUDGES:
    pplwidgets.judging.JUDGES[judge] = ((), lambda answer: "passed")
def log_evidence(model, n):
    return None
"""
SILENCED = """\
import builtins, torch
get_ipython().set_custom_exc((Exception,), lambda *_, **__: None)
torch.allclose = lambda *_, **__: True
def score(model, values):
    return None
"""


def hand_in(inbox, student, release, answers, *, without=(), extra=()):
    """A submission: these answers in the released notebook, cells taken out, cells put in front."""
    notebook = nbformat.from_dict(release)
    for cell in notebook.cells:
        name = classroom._id(cell)
        if name in answers:
            cell.source = answers[name]
    notebook.cells = [c for c in notebook.cells if classroom._id(c) not in without]
    notebook.cells[2:2] = [nbformat.v4.new_code_cell(source) for source in extra]
    path = inbox / student / f"{NAME}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def hostile(inbox, release, room):
    places = [
        str(room.folder / "source" / "**" / "*.ipynb"),
        "../../../source/**/*.ipynb",
        str(classroom.EXERCISES / "*.ipynb"),
        str(classroom.ROOT / "book" / "_build" / "**" / "02-sample.ipynb"),
        str(classroom.ROOT / "tests" / "book" / "*.py"),
        str(inbox / "ada" / "*.ipynb"),
    ]
    spy = SPY.format(places=places, first=classroom.EXERCISES / f"{NAME}.ipynb")
    hand_in(inbox, "endless", release, {**RIGHT, "attempts": "while True:\n    pass"})
    hand_in(
        inbox, "stubborn", release,
        {"attempts": "import os\nos._exit(0)", "score": RIGHT["score"], "log_evidence": FORGERY,
         "redraw": "import sys\nsys.exit(0)"},
        without=("check-attempts", "check-score"),
        extra=["for _ in range(300):\n    print('x' * 10_000)", spy],
    )  # fmt: skip
    hand_in(inbox, "silent", release, {"score": SILENCED}, without=("attempts", "check-redraw"))


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    """One course through all four steps, in a folder with a space in its name."""
    home = tmp_path_factory.mktemp("a class")
    room, inbox = classroom.Classroom(home / "the course", seconds=SECONDS), home / "in box"
    (released,) = room.release([NAME])
    release = nbformat.read(released, as_version=4)
    hand_in(inbox, "ada", release, RIGHT)
    hand_in(inbox, "wrong", release, WRONG)
    hand_in(inbox, "empty", release, {})
    hostile(inbox, release, room)
    for student, text in (("nothing", ""), ("no.notebook", json.dumps({"cells": 3}))):
        (inbox / student).mkdir()
        (inbox / student / f"{NAME}.ipynb").write_text(text, encoding="utf-8")
    (inbox / "ada" / "99-unknown.ipynb").write_text("{}", encoding="utf-8")
    status = classroom.main(
        [str(inbox), NAME, "--course", str(room.folder), "--seconds", str(SECONDS)]
    )
    assert status == 0
    return room


@pytest.fixture(scope="module")
def grades(room):
    return {row["student"]: row for row in room.grades()}


def feedback(room, student):
    return (room.folder / "feedback" / student / NAME / f"{NAME}.html").read_text(encoding="utf-8")


def shown(room, student):
    """All that the cells of a graded submission have put out."""
    path = room.folder / "autograded" / student / NAME / f"{NAME}.ipynb"
    return json.dumps([c.get("outputs") for c in nbformat.read(path, as_version=4).cells])


def solved(row):
    return set(row["solved"].split())


def test_examples_of_the_classroom():
    assert doctest.testmod(classroom).failed == 0


@pytest.mark.parametrize("path", sorted(classroom.EXERCISES.glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_exercise_notebook_is_a_source(path):
    made = classroom.source(nbformat.read(path, as_version=4))
    nbformat.validate(made)
    roles = [cell.metadata["nbgrader"] for cell in made.cells if "nbgrader" in cell.metadata]
    ids = [role["grade_id"] for role in roles]
    assert len(set(ids)) == len(ids)
    asked = [role["grade_id"] for role in roles if role["solution"] and not role["grade"]]
    assert len(asked) >= 4
    assert [i for i in ids if i.startswith("check-")] == [f"check-{name}" for name in asked]
    for cell in made.cells:
        if cell.cell_type == "code":
            compile(cell.source, path.name, "exec")
        assert "_solution" not in cell.source


def test_the_students_version_has_no_solution_and_no_hidden_test(room):
    text = room.released(NAME).read_text(encoding="utf-8")
    assert "while not sample" not in text
    assert "HIDDEN" not in text and "_trusted" not in text
    assert "Nothing that one can see" not in text  # an answer in words
    cells = nbformat.reads(text, as_version=4).cells
    assert "def attempts(p):\n    pass  # your program" in [cell.source for cell in cells]
    assert text.count('check(\\"') == len(RIGHT)
    assert "Hint 1" in text


def test_right_answers_get_all_points_and_words_wait_for_a_reader(grades):
    assert solved(grades["ada"]) == set(RIGHT)
    assert grades["ada"]["points"] == len(RIGHT) and grades["ada"]["of"] == len(RIGHT) + 1


@pytest.mark.parametrize("student", ["wrong", "empty"])
def test_wrong_and_empty_answers_get_none_and_are_told_why(room, grades, student):
    assert grades[student]["points"] == 0
    said = feedback(room, student)
    assert said.count("not yet: ") == len(RIGHT)
    assert "ran no <code>sample</code>" in said


def test_an_endless_loop_costs_its_own_exercise_only(room, grades):
    assert solved(grades["endless"]) == set(RIGHT) - {"attempts"}
    assert f"it was stopped after {SECONDS} seconds" in feedback(room, "endless")


def test_hostile_answers_get_what_their_right_ones_are_worth(room, grades):
    assert solved(grades["stubborn"]) == {"score"}
    assert grades["silent"]["points"] == 0
    assert "it ended the whole session" in feedback(room, "stubborn")


def test_a_forged_check_is_not_believed(room):
    said = shown(room, "stubborn")
    assert "passed: as I say" not in said
    assert "not yet: `log_evidence` returned nothing" in said


def test_megabytes_are_cut(room):
    path = room.folder / "autograded" / "stubborn" / NAME / f"{NAME}.ipynb"
    assert path.stat().st_size < 500_000
    assert "... (and more)" in path.read_text(encoding="utf-8")


def test_the_solution_is_not_to_be_had(room):
    said = shown(room, "stubborn")
    assert "refused: starting a program" in said
    assert "refused: looking at" in said
    assert "nothing found" in said and "FOUND" not in said


def test_what_is_not_a_notebook_is_named_and_stops_nobody(room, capsys):
    inbox = room.folder.parent / "in box"
    inside, refused = room.collect(inbox, [NAME])
    assert len(inside) == 6
    told = {path.parent.name + "/" + path.stem: reason for path, reason in refused}
    assert set(told) == {f"nothing/{NAME}", f"no.notebook/{NAME}", "ada/99-unknown"}
    assert all("not a notebook" in told[f"{name}/{NAME}"] for name in ("nothing", "no.notebook"))


def test_the_grades_are_a_table(room):
    lines = (room.folder / "grades.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "student,exercise,points,of,to read,solved"
    assert len(lines) == 7


def test_releasing_again_keeps_the_grades(room, grades):
    room.release([NAME])
    assert {row["student"]: row["points"] for row in room.grades()} == {
        name: row["points"] for name, row in grades.items()
    }


@pytest.mark.parametrize(
    "arguments, said",
    [(["nowhere"], "is not a folder"), ([".", "77-none"], "No exercises 77-none")],
)
def test_a_mistake_of_the_teacher_is_one_sentence(arguments, said, tmp_path, capsys):
    assert classroom.main([*arguments, "--course", str(tmp_path / "course")]) == 1
    assert said in capsys.readouterr().err


# What an answer may try in the folder "work", with a neighbour "other" and the course in "private".
TRIED = """\
import ctypes, os, shutil, sqlite3, sys
exec(open(sys.argv[1], encoding="utf-8").read())
os.chdir("work")
stand([os.path.abspath("../private")], [os.getcwd()])
private, other = "../private/notes", "../other/answer"
tried = {
    "keeps": lambda: (open("own", "w").close(), os.rename("own", "mine"), os.mkdir("d"),
                      shutil.rmtree("d"), shutil.copyfile("mine", "copy"), open(other).close(),
                      sqlite3.connect(":memory:"), ctypes.CDLL(None).strlen(b"abc")),
    "open": lambda: open(other, "w"),
    "read": lambda: open(private),
    "rename": lambda: os.rename("mine", other),
    "link": lambda: os.link("mine", other + "2"),
    "symlink": lambda: os.symlink("mine", other + "3"),
    "tree": lambda: shutil.rmtree("../other"),
    "folder": lambda: os.remove("answer", dir_fd=os.open("../other", os.O_RDONLY)),
    "move": lambda: shutil.move("mine", other + "4"),
    "database": lambda: sqlite3.connect(private),
    "system": lambda: ctypes.CDLL(None).system(b"true"),
    "kill": lambda: os.kill(os.getppid(), 0),
    "fork": lambda: os.fork(),
}
for name, attempt in tried.items():
    try:
        attempt()
        print(name)
    except PermissionError as refused:
        assert "that is being graded" in str(refused)
"""


def test_an_answer_writes_in_its_own_folder_and_starts_nothing(tmp_path):
    for folder, file in (("work", "own"), ("private", "notes"), ("other", "answer")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("as it was", encoding="utf-8")
    guard = Path(pplwidgets.classroom.__file__).with_name("guard.py")
    command = [sys.executable, "-c", TRIED, str(guard)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["keeps"], "")
    assert (tmp_path / "other" / "answer").read_text(encoding="utf-8") == "as it was"
