"""Captured steps as native code: compiled once on a machine, kept on disk, run in a loop.

A compiled step is executable code. It is kept in a folder that belongs to this user alone, and what
anybody else could have written is never loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .program import Program, evaluated

_MANY = 1 << 15  # from here on positions do not fit into 16 bits
NO_KERNEL = 3  # of the compiling process: an operation that a loop cannot hold


class NotCompiled(Exception):
    """Why there is no native code of a step, in a few words."""


class Step:
    """A captured step that can be looped over: a function of what is carried from step to step,
    then of what all steps share, that returns what is carried on, the loss, and whether all is
    well.

    Args:
        program: of the step; base noise is its input, as of any captured program.
        carried: how many tensors are carried on: the first inputs, and the first outputs.
    """

    def __init__(self, program: Program, carried: int, sizes: dict):
        self.program, self.carried = program, carried
        traced = program.traced
        self._tied = traced.sizes
        # Sizes that only numbers satisfy hold for these numbers; others get a program each.
        fixed = {s for guard in traced.guards for s in self._pinned(guard.holds)}
        self._fixed = {symbol: sizes[symbol] for symbol in fixed if symbol in sizes}
        places = [n for n in traced.graph.graph.nodes if n.op == "placeholder"]
        values = [place.meta["val"] for place in places]
        known = {
            s for value in values for n in _sizes(value) for s in self._expression(n).free_symbols
        }
        self.symbols = sorted(known, key=str)
        result = next(n for n in traced.graph.graph.nodes if n.op == "output").args[0]
        self.loss: torch.dtype = result[carried].meta["val"].dtype
        arguments = sum(shape is not None for shape in traced.shapes)
        self.request = {
            "code": traced.graph.code.strip(),
            "inputs": [self._described(value) for value in values],
            "sizes": _planned(self.symbols, sizes),
            "carried": carried,
            "noise": [arguments, arguments + len(traced.noise)],
            "threads": 1,
        }

    def _expression(self, size):
        """A size in the names of those that are open."""
        import sympy

        found = size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)
        found = self._untied(found)
        return found.xreplace({s: sympy.Integer(n) for s, n in self._fixed.items()})

    def _untied(self, found):
        """An expression without the names of sizes that are known to be others."""
        while (known := found.xreplace(self._tied)) != found:
            found = known
        return found

    def _pinned(self, holds) -> set:
        """The sizes in an equation that is no mere identity."""
        import sympy

        left = self._untied(holds)
        return left.free_symbols if isinstance(left, sympy.Eq) else set()

    def _described(self, value) -> dict:
        kind = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else None
        return {"dtype": kind, "shape": [str(self._expression(n)) for n in _sizes(value)]}

    @property
    def key(self) -> str:
        """What tells this step's native code from all others."""
        told = [json.dumps(self.request, sort_keys=True), _machine()]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:40]


def _planned(symbols: list, sizes: dict) -> dict[str, int]:
    """What sizes are planned for: all different, so that none is taken for another, and large
    where they are; the plan is another there.
    """
    few, many = _primes(7), _primes(_MANY + 1)
    return {str(s): next(many if sizes[s] >= _MANY else few) for s in symbols}


def _primes(start: int) -> Iterator[int]:
    return (n for n in itertools.count(start, 2) if all(n % d for d in range(3, n, 2)))


def _sizes(value) -> list:
    return list(value.shape) if isinstance(value, Tensor) else [value]


@cache
def _machine() -> str:
    """What native code depends on beside its program."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        flags = next(line for line in flags.splitlines() if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        flags = platform.processor()
    own = Path(__file__).with_name("lowering.py").read_text(encoding="utf-8")
    told = [torch.__version__, sys.platform, platform.machine(), flags, own]
    return "\n".join([*told, _compiler_version()])


@cache
def _compiler_version() -> str:
    try:
        told = subprocess.run([compiler(), "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as fault:
        raise NotCompiled(f"the C++ compiler {compiler()} does not run") from fault
    return told.stdout.decode(errors="replace")


def compiler() -> str:
    """The C++ compiler that torch uses."""
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(name)
    if found is None:
        raise NotCompiled(f"there is no C++ compiler on this machine ({name} was looked for)")
    return found


# -- the folder ------------------------------------------------------------------------------------


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


def _private(path: Path, kind) -> bool:
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


def _kept() -> Path | None:
    """The folder, made if need be; None when it cannot be used."""
    try:
        place = folder()
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return place if _private(place, stat.S_ISDIR) else None


def found(step: Step) -> Loop | None:
    """The native code of a step, if it is on disk, whole and this user's own."""
    place = _kept()
    if place is None:
        return None
    code, note = place / f"{step.key}.so", place / f"{step.key}.json"
    if not (_private(code, stat.S_ISREG) and _private(note, stat.S_ISREG)):
        return None
    try:
        digest = json.loads(note.read_text(encoding="utf-8"))["digest"]
        read = code.read_bytes()
        if hashlib.sha256(read).hexdigest() != digest:
            return None
        return Loop(step, read)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: it is compiled again, and written over


# -- compiling -------------------------------------------------------------------------------------


class Compilation:
    """Native code of a step in the making, by a process of its own."""

    started = 0  # how many there have been in this process

    def __init__(self, step: Step):
        self.step = step
        compiler()
        Compilation.started += 1
        self._work = tempfile.TemporaryDirectory(prefix="pplkit-", ignore_cleanup_errors=True)
        self._place = Path(self._work.name)
        asked, self._code = self._place / "step.json", self._place / "step.so"
        asked.write_text(json.dumps(step.request), encoding="utf-8")
        self._said = self._place / "said"
        kept = _kept()
        home = str(Path(__file__).resolve().parents[2])
        paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONIOENCODING": "utf-8",
            "TORCHINDUCTOR_CACHE_DIR": str((kept or self._place) / "inductor"),
        }
        words = [sys.executable, "-m", "pplkit.capture.lowering", str(asked), str(self._code)]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,  # an interrupt is for us; we end it ourselves
            )
        self._finalizer = weakref.finalize(self, _ended, self._process, self._work)

    def ready(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def loop(self) -> Loop:
        """Wait for the native code.

        Raises:
            NotCompiled: the step has an operation that a loop cannot hold, or the compiler fails.
        """
        try:
            status = self._process.wait()
            if status:
                raise NotCompiled(self._fault(status))
            return self._keep() or Loop(self.step, self._code.read_bytes())
        finally:
            self.stop()

    def stop(self) -> None:
        """End it."""
        self._finalizer()

    def _fault(self, status: int) -> str:
        said = self._said.read_text(encoding="utf-8", errors="replace").strip()
        last = said.splitlines()[-1] if said else f"status {status}"
        if status == NO_KERNEL:
            return f"{last} cannot be a part of a compiled loop"
        return f"compiling it failed: {last[:200]}"

    def _keep(self) -> Loop | None:
        """Put it where other processes find it: in one move, so that they find all or nothing."""
        place = _kept()
        if place is None:
            return None
        digest = hashlib.sha256(self._code.read_bytes()).hexdigest()
        key = self.step.key
        try:
            with tempfile.TemporaryDirectory(dir=place, prefix="new-") as new:
                code, note = Path(new) / "step.so", Path(new) / "step.json"
                shutil.copyfile(self._code, code)
                note.write_text(json.dumps({"digest": digest}), encoding="utf-8")
                for part in (code, note):
                    part.chmod(0o600)
                os.replace(code, place / f"{key}.so")
                os.replace(note, place / f"{key}.json")
        except OSError:
            return None  # a full or read-only folder: it serves this process
        return found(self.step)


def _ended(process: subprocess.Popen, work: tempfile.TemporaryDirectory) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    work.cleanup()


# -- running ---------------------------------------------------------------------------------------


class Loop:
    """A step's native code."""

    def __init__(self, step: Step, code: bytes):
        self._step = step
        # What has been looked at is what is loaded, whatever becomes of the file it was read from.
        with tempfile.TemporaryDirectory(prefix="pplkit-", ignore_cleanup_errors=True) as place:
            copied = Path(place) / "step.so"
            copied.write_bytes(code)
            self._library = ctypes.CDLL(str(copied))
        self._library.pplkit_room.restype = ctypes.c_int64
        self._library.pplkit_run.restype = ctypes.c_int64
        self._room: tuple[tuple, Tensor] | None = None

    def run(self, steps: int, sizes: dict, inputs: Sequence[Tensor], losses: Tensor) -> int:
        """Take up to `steps` steps; the inputs that are carried are changed in place.

        Args:
            sizes: of the program, by name.
            inputs: contiguous tensors in the order of the program's inputs; noise has a row for
                each step.
            losses: contiguous, shape `(steps,)`; filled.

        Returns:
            How many steps went well; the one after them has changed nothing.
        """
        numbers = tuple(sizes[symbol] for symbol in self._step.symbols)
        array = (ctypes.c_int64 * max(1, len(numbers)))(*numbers)
        if self._room is None or self._room[0] != numbers:
            room = torch.empty(self._library.pplkit_room(array) + 64, dtype=torch.uint8)
            self._room = numbers, room
        start = (self._room[1].data_ptr() + 63) // 64 * 64
        places = (ctypes.c_void_p * len(inputs))(*(x.data_ptr() for x in inputs))
        taken = self._library.pplkit_run(
            ctypes.c_int64(steps),
            array,
            places,
            ctypes.c_void_p(start),
            ctypes.c_void_p(losses.data_ptr()),
        )
        if taken == -2:
            raise NotCompiled("it was planned for data of other sizes")
        if taken < 0:
            raise NotCompiled("the compiled loop has failed")
        return taken


def rows_of(program: Program, sizes: dict) -> list[tuple]:
    """Kind, shape, dtype and device of the base noise of one step."""
    return [
        (spec.kind, tuple(evaluated(n, sizes) for n in spec.shape), spec.dtype, spec.device)
        for spec in program.traced.noise
    ]
