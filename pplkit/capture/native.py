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
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .export import _unasked
from .folder import NO_KERNEL, Compiler, NotCompiled, compiler
from .folder import kept as _kept
from .folder import private as _private
from .program import Program, evaluated
from .replay import Replay, recording

_MANY = 1 << 15  # what is worth more than one of a GPU's processors


class LoopFailed(Exception):
    """A native loop has come upon what Python raises an exception for."""


class Step:
    """A captured step that can be looped over: a function of what is carried from step to step,
    then of what all steps share, that returns what is carried on, the loss, and whether all is
    well.

    Args:
        program: of the step; base noise is its input, as of any captured program.
        carried: how many tensors are carried on: the first inputs, and the first outputs.
        rates: how many inputs after those have a row for each step, as noise has.
        device: where all tensors are, if steps are recorded there (`replay`); None: the loop is one
            of the processor's own.

    Raises:
        NotCompiled: an operation that would end the process where Python raises an exception.
    """

    def __init__(
        self,
        program: Program,
        carried: int,
        sizes: dict,
        rates: int = 0,
        device: torch.device | None = None,
    ):
        self.program, self.carried, self.rates, self.device = program, carried, rates, device
        traced = program.traced
        _refuse_division(traced.graph.graph)
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
        self.loss = program.dtype_of(carried)
        arguments = sum(shape is not None for shape in traced.shapes)
        self.request = {
            "code": traced.graph.code.strip(),
            "inputs": [self._described(value) for value in values],
            "sizes": self._planned(sizes),
            "carried": carried,
            "noise": [arguments, arguments + len(traced.noise)],
            "threads": 1,
        }
        if rates:
            self.request["rates"] = [carried, carried + rates]
        if device is not None:
            self.request |= {"code": _unasked(traced.graph).code.strip(), "device": str(device)}

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

    def _planned(self, sizes: dict) -> dict[str, int]:
        """Sizes to plan for. They tell nothing of those that are, so that one plan serves all; but
        in their order, where the program asks for one, and the very sizes, where it asks for more.
        """
        for order in (self.symbols, sorted(self.symbols, key=sizes.__getitem__)):
            planned = _distinct(order, sizes, self.device)
            if not (kept := self._not_admitted(planned, sizes)):
                break
        while kept:
            planned |= kept
            more = self._not_admitted(planned, sizes)
            kept = {name: n for name, n in more.items() if planned[name] != n}
        return {str(s): planned[str(s)] for s in self.symbols}

    def _not_admitted(self, planned: dict[str, int], sizes: dict) -> dict[str, int]:
        """What is asked of in a guard that does not hold for these: as it is."""
        found = {}
        for guard in self.program.traced.guards:
            holds = self._untied(guard.holds)
            asked = getattr(holds, "free_symbols", ())
            given = {s: planned.get(str(s), sizes[s]) for s in asked}
            if asked and evaluated(holds, given) is not True:
                found |= {str(s): sizes[s] for s in asked}
        return found

    def _pinned(self, holds) -> set:
        """The sizes in an equation that is no mere identity."""
        import sympy

        left = self._untied(holds)
        return left.free_symbols if isinstance(left, sympy.Eq) else set()

    def _described(self, value) -> dict:
        kind = str(value.dtype).removeprefix("torch.") if isinstance(value, Tensor) else None
        return {"dtype": kind, "shape": [str(self._expression(n)) for n in _sizes(value)]}

    @cached_property
    def key(self) -> str:
        """What tells this step's native code from all others."""
        told = [json.dumps(self.request, sort_keys=True), _machine()]
        if self.device is not None:
            told.append(_kind_of(self.device))
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:40]

    def loop(self, code: bytes | None = None) -> Loop | Played:
        """What runs it; without `code`, by that which this process has loaded before."""
        return Loop(self, code) if self.device is None else Played(self, code)


_DIVISIONS = ("floor_divide", "remainder", "fmod", "div")


def _refuse_division(graph: torch.fx.Graph) -> None:
    """Refuse divisions of whole numbers by tensors of them: processors stop at a zero there."""
    for node in graph.nodes:
        name = getattr(node.target, "__name__", "").partition(".")[0]
        if node.op != "call_function" or name not in _DIVISIONS or len(node.args) < 2:
            continue
        made, by = node.meta.get("val"), node.args[1]
        by = by.meta.get("val") if isinstance(by, torch.fx.Node) else None
        if isinstance(by, Tensor) and isinstance(made, Tensor) and not made.is_floating_point():
            raise NotCompiled("it divides whole numbers by a tensor, which may hold a zero")


def _distinct(symbols: list, sizes: dict, device: torch.device | None) -> dict[str, int]:
    """Sizes that all differ, so that none is taken for another, in ascending order. A GPU's plan
    for many is another: it says among how many of its processors a sum is shared out.
    """
    few, many = _primes(7), _primes((1 << 22) + 1)
    shared = device is not None
    return {str(s): next(many if shared and sizes[s] >= _MANY else few) for s in symbols}


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
    own = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in _MAKERS]
    told = [torch.__version__, sys.platform, platform.machine(), flags]
    return "\n".join([*told, *own, _compiler_version()])


def _kind_of(device: torch.device) -> str:
    """What code for a device depends on."""
    if device.type != "cuda":
        return device.type
    about = torch.cuda.get_device_properties(device)
    return f"{about.name} {about.major}.{about.minor} {torch.version.cuda} {torch.version.hip}"


_MAKERS = ("lowering.py", "compiling.py", "folder.py", "packaging.py", "replay.py")


@cache
def _compiler_version() -> str:
    try:
        told = subprocess.run([compiler(), "--version"], capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as fault:
        raise NotCompiled(f"the C++ compiler {compiler()} does not run") from fault
    return told.stdout.decode(errors="replace")


# -- the folder ------------------------------------------------------------------------------------


def found(step: Step) -> Loop | Played | None:
    """The native code of a step, if it is on disk, whole and this user's own."""
    if step.key in _LIBRARIES:
        return step.loop()
    place = _kept()
    if place is None:
        return None
    try:
        file = _file(place, step)
        if not _private(file, stat.S_ISREG):
            return None
        digest, _, code = file.read_bytes().partition(b"\n")
        if hashlib.sha256(code).hexdigest().encode() != digest:
            return None  # damaged: it is compiled again, and written over
        return step.loop(code)
    except (OSError, AttributeError):
        return None


def _file(place: Path, step: Step) -> Path:
    """Where a step's native code is kept: the digest of the library on a line, then the library."""
    return place / f"{step.key}.step"


# -- compiling -------------------------------------------------------------------------------------


class Compilation:
    """Native code of a step in the making, by a process of its own.

    Args:
        by: one that has been started before; the compilation ends it.
    """

    started = 0  # how many there have been in this process
    going: dict[str, Compilation] = {}  # by key: a run may be over before its code is made

    @classmethod
    def of(cls, step: Step, by: Compiler | None = None) -> Compilation:
        """The one that is going on for this step, or a new one."""
        going = cls.going.get(step.key)
        if going is None or going._compiler.owner != os.getpid():
            cls._put_away()
            return cls(step, by)
        if by is not None:
            by.stop()
        return going

    @classmethod
    def _put_away(cls) -> None:
        """What is done, though the run that began it is over, is kept where others find it."""
        for each in list(cls.going.values()):
            mine = each._compiler.owner == os.getpid()
            if mine and each.ready() and not each._process.returncode and each._written():
                each.stop()

    def __init__(self, step: Step, by: Compiler | None = None):
        self.step, self._compiler = step, Compiler() if by is None else by
        Compilation.started += 1
        self._process, self._code = self._compiler.process, self._compiler.code
        self._compiler.ask(step.request)
        Compilation.going[step.key] = self

    def ready(self) -> bool:
        """Whether it has ended, well or not."""
        return self._process.poll() is not None

    def loop(self) -> Loop | Played:
        """Wait for the native code.

        Raises:
            NotCompiled: the step has an operation that a loop cannot hold, or the compiler fails.
        """
        try:
            if self.step.key in _LIBRARIES:  # another run has waited for it
                return self.step.loop()
            status = self._process.wait()
            if status:
                raise NotCompiled(self._fault(status))
            kept = found(self.step) if self._written() else None
            return kept or self.step.loop(self._code.read_bytes())
        finally:
            self.stop()

    def stop(self) -> None:
        """End it."""
        Compilation.going.pop(self.step.key, None)
        self._compiler.stop()

    def _fault(self, status: int) -> str:
        said = self._compiler.said.read_text(encoding="utf-8", errors="replace").strip()
        last = said.splitlines()[-1] if said else f"status {status}"
        if status == NO_KERNEL:
            return f"{last} cannot be a part of a compiled loop"
        return f"compiling it failed: {last[:200]}"

    def _written(self) -> bool:
        """Put it where other processes find it: in one move, so that they find all or nothing."""
        place = _kept()
        if place is None:
            return False
        code = self._code.read_bytes()
        digest = hashlib.sha256(code).hexdigest().encode()
        try:
            with tempfile.TemporaryDirectory(dir=place, prefix="new-") as new:
                file = Path(new) / "step"
                file.write_bytes(digest + b"\n" + code)
                file.chmod(0o600)
                os.replace(file, _file(place, self.step))
        except OSError:
            return False  # a full or read-only folder: it serves this process
        return True


# -- running ---------------------------------------------------------------------------------------

_LIBRARIES: dict[str, Any] = {}  # what this process has loaded, by key


def _loaded(code: bytes) -> ctypes.CDLL:
    # What has been looked at is what is loaded, whatever becomes of the file it was read from.
    with tempfile.TemporaryDirectory(prefix="pplkit-", ignore_cleanup_errors=True) as place:
        copied = Path(place) / "step.so"
        copied.write_bytes(code)
        library = ctypes.CDLL(str(copied))
    library.pplkit_room.restype = library.pplkit_run.restype = ctypes.c_int64
    return library


class Loop:
    """A step's native code; without `code`, that which this process has loaded before."""

    def __init__(self, step: Step, code: bytes | None = None):
        self._step = step
        if code is not None:
            _LIBRARIES[step.key] = _loaded(code)
        self._library = _LIBRARIES[step.key]
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

        Raises:
            NotCompiled: it is not for these sizes.
            LoopFailed: a step has come upon what Python raises an exception for, and has changed
                nothing; the losses of those before it are there.
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
            raise LoopFailed
        return taken


class Played:
    """As `Loop`, for a device that steps are recorded on."""

    def __init__(self, step: Step, code: bytes | None = None):
        self._step = step
        if code is not None:
            _LIBRARIES[step.key] = _unpacked(code, step.device)
        self._replay = Replay(
            _LIBRARIES[step.key], step.program, step.carried, recording(step.device), step.rates
        )

    def run(self, steps: int, sizes: dict, inputs: Sequence[Tensor], losses: Tensor) -> int:
        """As `Loop.run`; losses after a step that was not well are NaN. No steps: they are
        recorded, for what cannot be recorded is found out so.

        Raises:
            NotCompiled: the step does what a recording cannot hold.
        """
        if not steps:
            try:
                self._replay.prepare(sizes, inputs)
            except RuntimeError as fault:
                said = str(fault).partition("\n")[0]
                raise NotCompiled(f"its steps cannot be recorded: {said[:200]}") from fault
            return 0
        taken = self._replay.run(steps, sizes, inputs, losses)
        losses[taken:] = torch.nan
        return taken


def _unpacked(code: bytes, device: torch.device):
    """The function in a package."""
    load = torch._C._aoti.AOTIModelPackageLoader  # of itself it imports nothing of Inductor
    number = -1 if device.index is None else device.index
    with tempfile.TemporaryDirectory(prefix="pplkit-", ignore_cleanup_errors=True) as place:
        copied = Path(place) / "step.pt2"
        copied.write_bytes(code)
        package = load(str(copied), "model", True, 1, number)
    rows: dict[int, Tensor] = {}  # a whole number is given as that many

    def step(*inputs):
        for x in inputs:
            if not isinstance(x, Tensor) and x not in rows:
                rows[x] = torch.empty(x, dtype=torch.uint8, device=device)
        return package.boxed_run([x if isinstance(x, Tensor) else rows[x] for x in inputs])

    return step


def rows_of(program: Program, sizes: dict) -> list[tuple]:
    """Kind, shape, dtype and device of the base noise of one step."""
    return [
        (spec.kind, tuple(evaluated(n, sizes) for n in spec.shape), spec.dtype, spec.device)
        for spec in program.traced.noise
    ]
