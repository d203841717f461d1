"""The commands as a stranger meets them: a fresh copy, a path with a space, no network."""

from __future__ import annotations

import ast
import doctest
import os
import socket
import subprocess
import sys
import urllib.request

import pytest

from tools import browser, environment, hatch_build, rooms, targets

from .project import ROOT


def sentence(process):
    """The last line that a failed command printed, make's own closing line apart."""
    assert process.returncode != 0
    lines = [line for line in process.stderr.splitlines() if line and not line.startswith("make:")]
    assert "Traceback" not in process.stderr
    return lines[-1]


@pytest.mark.parametrize(
    "module", [environment, hatch_build, rooms, targets], ids=lambda m: m.__name__
)
def test_examples_in_the_tools(module):
    assert doctest.testmod(module).failed == 0


def test_a_missing_python_is_one_sentence(make, offline):
    said = sentence(make("lab", offline | {"PYTHON": "no such python"}))
    assert said.startswith(
        'pplkit needs Python 3.11 or newer, and there is no program "no such python"'
    )


def test_an_old_python_is_one_sentence(copy):
    ast.parse((ROOT / "tools/make.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    old = "import sys; sys.argv = ['make.py', 'lab']; sys.version_info = (3, 9, 2, 'final', 0)\n"
    old += "import runpy; runpy.run_path('tools/make.py', run_name='__main__')"
    variables = os.environ | {"PYTHON": "python3.9"}
    ended = subprocess.run(
        [sys.executable, "-c", old], cwd=copy, env=variables, capture_output=True, encoding="utf-8"
    )
    said = sentence(ended)
    assert said.startswith("pplkit needs Python 3.11 or newer, and ")
    assert "is Python 3.9: install a newer one, or name it with PYTHON=" in said


def test_no_network_is_one_sentence_and_a_cut_set_up_starts_over(copy, make, offline, plain_python):
    offline["PYTHON"] = plain_python
    first = make("lab", offline)
    assert sentence(first).startswith(
        "The Python packages could not be fetched: pip does not reach its index."
    )
    assert not (copy / ".venv" / "unfinished").exists()  # pip ended in order, and may go on
    (copy / ".venv" / "unfinished").touch()  # what a kill leaves behind
    second = make("test", offline)
    assert "anew: an earlier set-up was cut short" in second.stderr
    assert sentence(second) == sentence(first)


def test_a_registry_out_of_reach_is_one_sentence(copy, offline):
    ended = subprocess.run(
        [sys.executable, "tools/hatch_build.py"],
        cwd=copy,
        env=offline,
        capture_output=True,
        encoding="utf-8",
    )
    assert sentence(ended).startswith(
        "The widgets' JavaScript packages could not be fetched: npm does"
    )


def test_missing_sources_of_the_widgets_are_an_error(copy):
    (copy / "widgets/js/package.json").unlink()
    with pytest.raises(hatch_build.BuildFailed, match="widgets/js/package.json is missing"):
        hatch_build.build_javascript(copy)


def test_a_build_is_out_of_date_when_its_contents_are(copy):
    source, static = copy / "widgets/js", copy / "widgets/pplwidgets/static"
    static.mkdir()
    (static / "figure.js").write_text("1", encoding="utf-8")
    note = source / "node_modules" / ".pplkit.json"
    inputs, outputs = hatch_build._inputs(source), hatch_build.tree_hash(static)
    hatch_build._write(note, {"inputs": inputs, "outputs": outputs})
    assert hatch_build.is_built(copy)
    os.utime(source / "package.json", (0, 0))
    assert hatch_build.is_built(copy)
    (static / "figure.js").write_text("2", encoding="utf-8")
    assert not hatch_build.is_built(copy)
    (static / "figure.js").write_text("1", encoding="utf-8")
    (source / "one more.ts").touch()
    assert not hatch_build.is_built(copy)


def test_requirements_of_an_extra_hold_those_it_is_built_on():
    project = {
        "name": "kit",
        "dependencies": ["torch>=2"],
        "optional-dependencies": {
            "a": ["x>=1"],
            "b": ["kit[a]", "y>=1"],
            "c": ["kit[a, b]", "x>=1"],
        },
    }
    assert environment.requirements(project, ["b"]) == ["torch>=2", "y>=1", "x>=1"]
    assert sorted(environment.requirements(project, ["c"])) == ["torch>=2", "x>=1", "y>=1"]


def test_the_lab_opens_the_first_chapter_unless_told_otherwise():
    (chapter,) = sorted((ROOT / "book/chapters").glob("01*.ipynb"))
    options = targets.lab_options(["--no-browser", "--port", "9000"])
    assert f"--ServerApp.root_dir={ROOT}" in options
    assert f"--LabApp.default_url=/lab/tree/book/chapters/{chapter.name}" in options
    for own in (["Makefile"], ["--LabApp.default_url=/lab"]):
        assert not [o for o in targets.lab_options(own) if "default_url" in o]
    assert not [o for o in targets.lab_options(["--notebook-dir=/tmp"]) if "root_dir" in o]


def test_what_runs_in_the_environment_is_kept_from_the_outside(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("MAKEFLAGS", "-j8")
    variables = environment.variables()
    assert variables["PYTHONUTF8"] == "1"
    assert not {"PYTHONPATH", "MAKEFLAGS"} & set(variables)
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        assert variables[name].startswith(str(ROOT / ".venv"))


def test_a_named_browser_that_is_none_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PPLKIT_BROWSER", "no such browser")
    with pytest.raises(browser.BrowserMissing, match="which is no program on this machine"):
        browser.provide(sys.executable)


def test_the_course_is_served_at_the_next_free_port(tmp_path):
    (tmp_path / "runtime.wasm").write_bytes(b"\0asm")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serve = "import sys; from pathlib import Path; from tools import book\n"
        serve += "book.serve(Path(sys.argv[1]), int(sys.argv[2]))"
        with subprocess.Popen(
            [sys.executable, "-c", serve, str(tmp_path), str(port)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        ) as server:
            try:
                assert server.stdout.readline() == f"Port {port} is taken.\n"
                address = server.stdout.readline().split()[4]
                assert address.startswith("http://127.0.0.1:")
                with urllib.request.urlopen(address + "runtime.wasm") as answer:
                    assert answer.headers["Content-Type"] == "application/wasm"
                    assert answer.read() == b"\0asm"
            finally:
                server.terminate()


def test_what_runs_in_the_environment_has_a_utf_8_locale():
    asked = (
        "import subprocess, sys; from tools import environment\n"
        "words = [sys.executable, '-c', 'import locale; print(locale.getencoding())']\n"
        "subprocess.run(words, env=environment.variables(), check=True)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=ROOT,
        env={**os.environ, "LC_ALL": "C"},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )
    assert ended.stdout.strip().lower() == "utf-8"
