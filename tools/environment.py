"""The project's own environment in .venv: made once, mended when what it is made from has changed.

Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import locale
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from tools.hatch_build import BuildFailed, is_built, tree_hash

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOG = VENV / "setup.log"
NOTE = VENV / "pplkit.json"  # what a finished set-up was made from
UNFINISHED = VENV / "unfinished"  # there while .venv is being changed: it outlives a kill
SCHEME = 1  # raise it when this file makes environments differently
# What pip prints when no index answers. With no index at all it finds no version of anything.
NETWORK_SIGNS = (
    "ConnectionError", "Connection refused", "Failed to establish a new connection",
    "Max retries exceeded", "NewConnectionError", "Network is unreachable", "ProxyError",
    "Read timed out", "Temporary failure in name resolution", "(from versions: none)",
)  # fmt: skip


class SetupFailed(RuntimeError):
    """The environment could not be made; the message says why, and what to do."""


def ready(*extras: str, python: str | None = None) -> Path:
    """Makes .venv hold pplkit with `extras`, and the widgets' JavaScript be built.

    Returns the environment's interpreter. `python` is the interpreter that was asked for, if any.
    Raises `SetupFailed`, or `BuildFailed` for the JavaScript.
    """
    with alone(ROOT, "Waiting for another `make` that is setting up this folder ..."):
        _drop_if_unusable(python)
        note = _read_note()
        wanted = sorted({*extras, *note.get("extras", ())})
        key = _key(wanted)
        if note.get("key") != key:
            _make(wanted, key)
        elif not is_built(ROOT):
            _build_javascript()
    return PYTHON


def one_thread() -> dict[str, str]:
    """One thread for torch, unless the user has said how many.

    For tests and the book, whose tensors are tiny: on cores that other work shares, a pool of
    threads waiting for each other makes them some thirty times slower.
    """
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def variables() -> dict[str, str]:
    """The environment variables for everything that runs in .venv.

    UTF-8 whatever the locale; what Jupyter, IPython and matplotlib write stays in .venv/var.
    """
    var = VENV / "var"
    if VENV.is_dir():  # IPython makes its own folder, but not the one around it
        var.mkdir(exist_ok=True)
    mine = {
        "PATH": os.pathsep.join([str(PYTHON.parent), os.environ.get("PATH", os.defpath)]),
        "VIRTUAL_ENV": str(VENV),
        "PYTHONUTF8": "1",
        "PYTHONNOUSERSITE": "1",
        "JUPYTER_CONFIG_DIR": str(var / "jupyter" / "config"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"),
        "JUPYTER_DATA_DIR": str(var / "jupyter" / "data"),
        "JUPYTER_RUNTIME_DIR": str(var / "jupyter" / "runtime"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "IPYTHONDIR": str(var / "ipython"),
        "MPLCONFIGDIR": str(var / "matplotlib"),
    }
    # A module path or an outer make's flags would reach into the environment from outside.
    outside = {"PYTHONHOME", "PYTHONPATH", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKE_TERMOUT"}
    kept = {name: value for name, value in os.environ.items() if name not in outside}
    return kept | mine | _utf8_locale()


def _utf8_locale():
    """What gives a program a UTF-8 locale where the user's is another.

    Python's UTF-8 mode is not enough: 3.11 and 3.12 read .pth files, which hold the path of this
    folder, in the locale's encoding all the same.
    """
    if locale.getencoding().lower().replace("-", "") == "utf8":
        return {}
    before = locale.setlocale(locale.LC_CTYPE)
    for name in ("C.UTF-8", "C.utf8", "en_US.UTF-8"):
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, name)
            locale.setlocale(locale.LC_CTYPE, before)
            return {"LC_ALL" if os.environ.get("LC_ALL") else "LC_CTYPE": name}
    return {}


def _make(extras, key):
    begun = time.monotonic()
    first = not PYTHON.exists()
    how = "some minutes, this first time" if first else "bringing it up to date"
    _say(f"Setting up {VENV}: {how}.")
    try:
        VENV.mkdir(exist_ok=True)
        NOTE.unlink(missing_ok=True)
        LOG.write_text("", encoding="utf-8")
    except OSError as error:
        raise SetupFailed(f"The set-up must be able to write {VENV}: {error.strerror}.") from error
    if first:
        _make_venv()
    elif _run([str(PYTHON), "-m", "pip", "--version"]) != 0:
        _run([str(PYTHON), "-m", "ensurepip"])  # an environment that another tool made without pip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    _say("  the build tools")
    _pip("install", "-c", "constraints.txt", *project["build-system"]["requires"])
    _build_javascript()
    _say("  the packages")
    _pip("install", "-c", "constraints.txt", *requirements(project["project"], extras))
    _say("  pplkit itself")
    _pip("install", "--no-deps", "--no-build-isolation", "-e", ".")
    note = {"root": str(ROOT), "version": _version(PYTHON), "extras": extras, "key": key}
    NOTE.write_text(json.dumps(note, indent=1), encoding="utf-8")
    _say(f"Set up in {time.monotonic() - begun:.0f} s.")


def _make_venv():
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise SetupFailed(
            f"{sys.executable} comes without Python's `{missing[0]}` module, which the set-up"
            " needs: install it (on Debian and Ubuntu the package python3-venv), or name another"
            " interpreter with PYTHON=/path/to/python."
        )
    _say(f"  a virtual environment of Python {sys.version.split()[0]}")
    UNFINISHED.touch()
    if _run([_base_python(), "-m", "venv", str(VENV)]) != 0:
        raise SetupFailed(f"`{_base_python()} -m venv` failed; the end of {LOG}:\n{_log_tail(20)}")
    UNFINISHED.unlink()


def _base_python():
    # In .venv itself, when someone has activated it, the interpreter it was made from.
    return getattr(sys, "_base_executable", None) or sys.executable


def _build_javascript():
    """Builds the JavaScript with the Node that was installed into .venv."""
    ended = subprocess.run(
        [str(PYTHON), str(ROOT / "tools" / "hatch_build.py")],
        cwd=ROOT,
        env=variables(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    )
    if ended.returncode != 0:
        raise BuildFailed(ended.stderr.strip())


def requirements(project, extras):
    """The requirements of pplkit with `extras`, its references to its own extras resolved."""
    lists, found = project["optional-dependencies"], list(project["dependencies"])
    seen, waiting = set(), list(extras)
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in lists[extra]:
            own = re.fullmatch(rf"{project['name']}\[([\w,\s-]+)\]", requirement)
            if own:
                waiting += own.group(1).replace(" ", "").split(",")
            elif requirement not in found:
                found.append(requirement)
    return found


def _pip(*arguments):
    # Relative paths only: pip cuts these two variables at spaces.
    environment = variables() | {
        "PIP_CONSTRAINT": "constraints.txt",
        "PIP_BUILD_CONSTRAINT": "constraints.txt",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_USER": "0",
    }
    UNFINISHED.touch()
    code = _run([str(PYTHON), "-m", "pip", *arguments], environment)
    if code >= 0:  # pip ended by itself: what it left is whole
        UNFINISHED.unlink()
    if code == 0:
        return
    log = _log_tail(400)
    if any(sign in log for sign in NETWORK_SIGNS) or not _index_answers(environment):
        raise SetupFailed(
            "The Python packages could not be fetched: pip does not reach its index. Connect to the"
            f" network (or set pip's proxy or index), and run this again. Details: {LOG}"
        )
    raise SetupFailed(f"pip could not install the packages; the end of {LOG}:\n{_log_tail(20)}")


def _index_answers(environment):
    """Whether pip can see any version of a package that there certainly is."""
    words = ["--retries", "0", "--timeout", "15", "index", "versions", "hatchling"]
    return _run([str(PYTHON), "-m", "pip", *words], environment) == 0


def _run(command, environment=None):
    """Runs `command` with its output in the log, and shows the long steps where someone watches."""
    watched = sys.stderr is not None and sys.stderr.isatty()
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(command)}\n")
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            for line in process.stdout:
                log.write(line)
                if watched and line.lstrip().startswith(
                    ("Downloading ", "Installing ", "Building ")
                ):
                    width = shutil.get_terminal_size().columns - 1
                    sys.stderr.write("\r" + f"    {line.strip()}"[:width].ljust(width))
                    sys.stderr.flush()
            if watched:
                sys.stderr.write("\r\033[K")
    return process.returncode


def _log_tail(lines):
    return "\n".join(LOG.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone(folder: Path, waiting: str):
    """Lets one at a time change `folder`; the others are told `waiting` and wait."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(waiting)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)


def _drop_if_unusable(python):
    """Removes a .venv that was cut short, has moved, has lost its Python, or is of another one."""
    if not VENV.exists():
        return
    note, version, reason = _read_note(), _version(PYTHON), None
    if UNFINISHED.exists():
        reason = "an earlier set-up was cut short"
    elif version is None or note.get("version", version) != version:
        reason = "its Python is gone"
    elif note.get("root", str(ROOT)) != str(ROOT):
        reason = "the folder has moved"
    elif python and version != _version(_base_python()):
        reason = f"another Python was asked for, {python}"
    elif version < [3, 11]:
        reason = "its Python is too old"
    if reason:
        _say(f"Making {VENV} anew: {reason}.")
        shutil.rmtree(VENV)


def _version(python):
    """[major, minor] of an interpreter, or None when it does not run."""
    try:
        ended = subprocess.run(
            [str(python), "-I", "-c", "import sys; print(*sys.version_info[:2])"],
            env=variables(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except OSError:
        return None
    return [int(part) for part in ended.stdout.split()] if ended.returncode == 0 else None


def _key(extras):
    """What an environment depends on; the JavaScript has a note of its own."""
    made_from = tree_hash(ROOT / "pyproject.toml", ROOT / "constraints.txt")
    return hashlib.sha256(json.dumps([SCHEME, made_from, extras]).encode()).hexdigest()


def _read_note():
    try:
        return json.loads(NOTE.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
