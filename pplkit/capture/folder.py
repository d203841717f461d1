"""The folder in which compiled programs are kept, and what makes them.

What lies in it is executable code: it belongs to this user alone, and what anybody else could have
written is never loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path


NO_KERNEL = 3  # the compiling process's exit status: an operation that a loop cannot hold


class NotCompiled(Exception):
    """Why there is no native code of a step, in a few words."""


def compiler() -> str:
    """The C++ compiler that torch uses."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(name)
    if found is None:
        raise NotCompiled(f"there is no C++ compiler on this machine ({name} was looked for)")
    return found


def folder() -> Path:
    """Where compiled steps are kept: $PPLKIT_CACHE_DIR, or this user's own folder for caches."""
    named = os.environ.get("PPLKIT_CACHE_DIR")
    if named:
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "pplkit"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pplkit"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pplkit"


def private(path: Path, kind) -> bool:
    """Whether this is what it seems, belongs to this user, and nobody else can change it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    if not kind(found.st_mode):
        return False
    if sys.platform == "win32":
        return True  # below this user's own profile
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def kept() -> Path | None:
    """The folder, made if need be; None when it cannot be used."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return place if private(place, stat.S_ISDIR) else None


# -- what may be worth a look ----------------------------------------------------------------------


def noted(digest: str) -> bool:
    """Whether a program of this identity has been compiled here: a hint alone, for its native code
    is looked up by what it computes.
    """
    place = kept()
    return place is not None and (place / f"{digest}.seen").exists()


def note(digest: str) -> None:
    """Note that a program of this identity has been compiled."""
    place = kept()
    try:
        if place is not None:
            (place / f"{digest}.seen").touch(mode=0o600)
    except OSError:
        pass  # a full or read-only folder


# -- the process that compiles ---------------------------------------------------------------------


class Compiler:
    """A process that compiles one step: it imports what it needs before there is a step to compile.

    Raises:
        NotCompiled: there is no compiler.
    """

    _begun: weakref.WeakSet[Compiler] = weakref.WeakSet()

    @classmethod
    def at_work(cls) -> bool:
        """Whether there is one that this process has begun, and that has not ended."""
        mine = [each for each in list(cls._begun) if each.owner == os.getpid()]
        return any(each.process.poll() is None for each in mine)

    def __init__(self):
        compiler()
        self._work = tempfile.TemporaryDirectory(prefix="pplkit-", ignore_cleanup_errors=True)
        place = Path(self._work.name)
        self.code, self.said = place / "step.so", place / "said"
        home = str(Path(__file__).resolve().parents[2])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONIOENCODING": "utf-8",
            "TORCHINDUCTOR_CACHE_DIR": str((kept() or place) / "inductor"),
        }
        words = [sys.executable, "-m", "pplkit.capture.compiling", "-", str(self.code)]
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # an interrupt is for us; we end it ourselves
            )
        self.owner = os.getpid()  # a copy of this process has no child of ours
        self._begun.add(self)
        self._finalizer = weakref.finalize(self, _ended, self.process, self._work, self.owner)

    def ask(self, request: dict) -> None:
        """Begin to compile; nothing waits here, whatever the other process is doing."""
        asked = self.code.with_name("step.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        with contextlib.suppress(BrokenPipeError), self.process.stdin as told:
            told.write(f"{asked}\n".encode())  # if it has ended, what it has said tells why

    def stop(self) -> None:
        """End it."""
        self._finalizer()


def _ended(process: subprocess.Popen, work: tempfile.TemporaryDirectory, owner: int) -> None:
    if os.getpid() != owner:
        return  # a copy of the process that it belongs to
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started, too
        else:
            process.kill()
    process.wait()
    if process.stdin is not None and not process.stdin.closed:
        with contextlib.suppress(OSError):
            process.stdin.close()
    work.cleanup()
