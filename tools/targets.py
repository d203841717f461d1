"""The targets of the Makefile, one function each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from tools import environment
from tools.environment import ROOT

HELP = """\
make lab          JupyterLab on the first chapter      ARGS="--no-browser --port=9000"
make test         everything that proves the project   ARGS="tests/engine -k plate"
make test-all     the same and the long matrices
make book         the HTML course, in book/_build/html
make serve        the same, served on this machine     ARGS="--port 9000"
make pdf          the course to print, in book/_build/pplkit.pdf
make classroom    nbgrader's exercises; with a folder, grades it   ARGS="inbox 02-sample"
make notebooks    puts the notebooks into their committed form
make setup        only the set-up in .venv that the others do by themselves
make constraints  resolves pyproject.toml into constraints.txt   ARGS="--upgrade"
make clean        removes everything that was made, .venv too
"""
# What `make clean` removes: all of it is made again when it is needed.
MADE = (
    ".venv", "build", "dist", "book/_build", "widgets/pplwidgets/static", "widgets/js/node_modules",
    ".pytest_cache", ".hypothesis", "test-results",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    """Runs the target `arguments[0]` with the rest; returns the exit status."""
    target, *rest = arguments or ["help"]
    try:
        TARGETS[target](rest)
        return 0
    except (
        RuntimeError
    ) as error:  # SetupFailed, BuildFailed, BrowserMissing: a sentence for the reader
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def show_help(_):
    print(HELP, end="")


def setup(_):
    _ready("lab", "book", "test")


def lab(arguments):
    python = _ready("lab")
    _become([str(python), "-m", "jupyterlab", *lab_options(arguments), *arguments])


def test(arguments, *selection):
    begun = time.monotonic()
    python = _ready("test")
    if not arguments:  # whoever asks for a part may do without a browser
        from tools import browser

        browser.provide(python)
    os.environ.update(environment.one_thread())
    os.environ["PPLKIT_SETUP_SECONDS"] = f"{time.monotonic() - begun:.1f}"
    beside = [] if arguments else _side_by_side()
    _become([str(python), "-m", "pytest", "-p", "tools.rooms", *beside, *selection, *arguments])


def _side_by_side():
    """The whole suite takes as many processors as there are, up to four."""
    here = hasattr(os, "sched_getaffinity")  # which knows what a container may use
    workers = min(4, len(os.sched_getaffinity(0)) if here else os.cpu_count() or 1)
    return ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] * (workers > 1)


def test_all(arguments):
    test(arguments, "-m", "long or not long")


def book(arguments):
    _become([str(_ready("book")), "-m", "tools.book", "build", *arguments])


def serve(arguments):
    _become([str(_ready("book")), "-m", "tools.book", "serve", *arguments])


def pdf(_):
    _become([str(_ready("test")), "-m", "tools.pdf"])


def classroom(arguments):
    _become([str(_ready("classroom")), "-m", "tools.classroom", *arguments])


def notebooks(arguments):
    _become([str(_ready("test")), "-m", "tools.notebooks", *arguments])


def constraints(arguments):
    _become([str(_ready("dev")), "-m", "tools.constraints", *arguments])


def clean(_):
    for name in MADE:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for folder in ("pplkit", "widgets", "book", "tests", "tools"):
        for pattern in ("__pycache__", ".ipynb_checkpoints"):
            for path in [*(ROOT / folder).rglob(pattern)]:
                shutil.rmtree(path, ignore_errors=True)


TARGETS = {
    "help": show_help,
    "setup": setup,
    "lab": lab,
    "test": test,
    "test-all": test_all,
    "book": book,
    "serve": serve,
    "pdf": pdf,
    "classroom": classroom,
    "notebooks": notebooks,
    "constraints": constraints,
    "clean": clean,
}


def _ready(*extras) -> Path:
    return environment.ready(*extras, python=os.environ.get("PYTHON"))


def lab_options(arguments):
    """JupyterLab's options: the project's root, its first chapter, unless the user says others."""
    options = []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    if not _given(arguments, "--notebook-dir", "--ServerApp.root_dir", "--ServerApp.notebook_dir"):
        options.append(f"--ServerApp.root_dir={ROOT}")
        chapters = sorted((ROOT / "book" / "chapters").glob("01*.ipynb"))
        opened = any((ROOT / argument).exists() for argument in arguments)
        if (
            chapters
            and not opened
            and not _given(arguments, "--LabApp.default_url", "--ServerApp.default_url")
        ):
            path = quote(chapters[0].relative_to(ROOT).as_posix())
            options.append(f"--LabApp.default_url=/lab/tree/{path}")
    return options


def _given(arguments, *names):
    return any(
        argument == name or argument.startswith(name + "=")
        for argument in arguments
        for name in names
    )


def _become(command):
    """Puts the command in this program's place, so that Ctrl-C and the exit status are its own."""
    os.chdir(ROOT)
    sys.stdout.flush()
    if os.name == "nt":
        sys.exit(subprocess.run(command, env=environment.variables()).returncode)
    os.execve(command[0], command, environment.variables())
