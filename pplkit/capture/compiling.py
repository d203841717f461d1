"""The process that compiles a captured step: `python -m pplkit.capture.compiling FILE LIBRARY`."""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch._inductor import config, cpu_vec_isa
from torch._inductor.cpp_builder import CppTorchOptions, get_cpp_compiler

from .folder import NO_KERNEL


def main(request: str, target: str) -> int:
    """Write the step of `request` as a shared library; what it is called with goes beside it.

    Args:
        request: a file; "-": its name comes on standard input, once there is a request.
        target: the library's file.
    """
    from .lowering import NoKernel, source

    file = sys.stdin.readline().rstrip("\n") if request == "-" else request
    if not file:
        return 1  # whoever was about to ask has thought better of it, or is no more
    step = json.loads(Path(file).read_text(encoding="utf-8"))
    if "device" in step:
        return _package(step, Path(target))
    written = Path(target).with_suffix(".cpp")
    try:
        with _untried():
            written.write_text(source(step), encoding="utf-8")
            built = _compiled(command(written, target))
        if built.returncode:  # the compiler lacks what the processor has
            written.write_text(source(step), encoding="utf-8")
            built = _compiled(command(written, target))
    except NoKernel as fault:
        print(fault)
        return NO_KERNEL
    print(built.stderr, file=sys.stderr)
    return built.returncode


class _AVX512(cpu_vec_isa.VecAVX512):
    """Without arithmetic of 16 bits, which no step has."""

    __hash__ = cpu_vec_isa.VecISA.__hash__

    def __bool__(self) -> bool:
        return True


@contextmanager
def _untried() -> Iterator[None]:
    """In the block, the compiler is taken to know what this processor does: to let Inductor try
    takes longer than to compile.
    """
    known = cpu_vec_isa.x86_isa_checker()
    found = [("avx512", _AVX512), ("avx2", cpu_vec_isa.VecAVX2)]
    found = [kind() for name, kind in found if name in known]
    tried = cpu_vec_isa.valid_vec_isa_list
    try:
        with config.patch({"cpp.vec_isa_ok": True}):
            if found:
                cpu_vec_isa.valid_vec_isa_list = lambda: found
            yield
    finally:
        cpu_vec_isa.valid_vec_isa_list = tried
        if not found:
            tried.cache_clear()


def _package(step: dict, target: Path) -> int:
    from .packaging import package

    made = target.with_suffix(".pt2")
    package(step, made)
    made.replace(target)
    return 0


def _compiled(words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(words, check=False, capture_output=True, text=True)


def command(written: Path, target: str) -> list[str]:
    """How the compiler is called: what its third level adds is a quarter of its time, no speed."""
    o = CppTorchOptions(vec_isa=cpu_vec_isa.pick_vec_isa())
    words = [f"-{w}" for w in o.get_cflags() if not re.fullmatch("g[0-9]?|O3", w)]
    words += [f"-D{w.strip()}" for w in o.get_definitions()]
    words += [f"-I{shlex.quote(w)}" for w in o.get_include_dirs()]
    words += [*o.get_passthrough_args(), *o.get_ldflags()]
    words += [f"-L{shlex.quote(w)}" for w in o.get_libraries_dirs()]
    words += [f"-l{w}" for w in o.get_libraries()]
    words = [w if w.startswith("-") else f"-{w}" for w in words if w.strip("- ")]
    flags = shlex.split(" ".join(words))
    return [get_cpp_compiler(), str(written), "-O2", "-shared", "-fPIC", "-w", "-o", target, *flags]


if __name__ == "__main__":
    gc.disable()  # this process is soon over
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to take all modules down in good order would be a second of waiting
