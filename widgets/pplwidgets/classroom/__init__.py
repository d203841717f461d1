"""How nbgrader grades the exercises: its settings, and a kernel that outlasts what it is given.

A course's `nbgrader_config.py` needs two lines:

    from pplwidgets.classroom import configure
    configure(get_config())

An answer is a stranger's program. It may never end, end its kernel, print without end or look
around, so each cell has a time limit, a kernel that is lost is replaced and the cells before are
run again, and a guard in the kernel refuses the files of the course. Nothing counts as solved but a
check that says so. It is no wall: who must grade people with bad intentions does so in a container
that holds nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# What a student finds where the solution was: a statement, for a value would be displayed.
STUB = "pass  # your program"
SECONDS = 60  # for one cell

__all__ = ["SECONDS", "STUB", "configure"]


def configure(config, *, seconds: int = SECONDS, private: tuple = ()) -> None:
    """Set up nbgrader for the exercises of the book.

    Args:
        config: the traitlets configuration, `get_config()` in an nbgrader_config.py.
        seconds: time limit of a single cell while grading.
        private: further folders that a submission must not read; the course's own is one.

    Raises:
        pplkit.errors.PplkitError: nbgrader is not installed.
    """
    try:
        import nbgrader  # noqa: F401
    except ImportError:
        from pplkit import errors

        raise errors.missing_package("nbgrader", "Grading") from None
    from nbgrader.converters import Autograde

    from .running import Decide, Run

    if "root" not in config.CourseDirectory:
        config.CourseDirectory.root = str(Path.cwd())
    config.ClearSolutions.code_stub = {"python": STUB}
    config.ClearSolutions.text_stub = "*Your answer, in words.*"
    config.IncludeHeaderFooter.header = config.IncludeHeaderFooter.footer = ""
    named = Autograde.autograde_preprocessors.default_args[0]
    rest = [kind for kind in named if kind.__name__ != "Execute"]
    config.Autograde.autograde_preprocessors = [Run, Decide, *rest]
    config.Run.timeout = seconds
    config.Run.private = [str(config.CourseDirectory.root), *map(str, private)]
    config.ClearMetadataPreprocessor.enabled = False


def kernel_variables(home: Path, private: list[str], work: Path) -> dict[str, str]:
    """The environment of a grading kernel: nothing of the teacher's but what Python needs."""
    kept = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "SYSTEMROOT", "TEMP", "TMP", "VIRTUAL_ENV",
            "LD_LIBRARY_PATH", "PYTHONUTF8")  # fmt: skip
    startup = home / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True, exist_ok=True)
    guard = Path(__file__).with_name("guard.py").read_text(encoding="utf-8")
    (startup / "00-guard.py").write_text(
        "import pplwidgets.checks  # before the first cell's time runs\ndel pplwidgets\n"
        f"{guard}\nstand({private!r}, {[str(work), str(home)]!r})\ndel stand\n",
        encoding="utf-8",
    )
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "TMPDIR": str(home),
        "PPLKIT_CACHE_DIR": str(home / "pplkit"),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
