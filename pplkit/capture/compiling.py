"""The process that compiles a captured step: `python -m pplkit.capture.compiling request target`.

The compiler reads what all steps include while Inductor is imported and plans: on two processors
neither waits for the other.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from torch._inductor import config, cpu_vec_isa
from torch._inductor.cpp_builder import CppTorchOptions, get_cpp_compiler

from .folder import HEADERS, NO_KERNEL


def main(request: str, target: str) -> int:
    """Write the step of `request` as a shared library; what it is called with goes beside it.

    Args:
        request: a file; "-": its name comes on standard input, once there is a request.
        target: the library's file.
    """
    with config.patch({"cpp.vec_isa_ok": True}):  # to try it takes longer than to compile
        headers = _Headers(Path(target).parent)
    try:
        return _library(request, target, headers)
    finally:
        headers.stop()


def _library(request: str, target: str, headers: _Headers) -> int:
    from .lowering import NoKernel, source

    file = sys.stdin.readline().rstrip("\n") if request == "-" else request
    if not file:
        return 1  # whoever was about to ask has thought better of it, or is no more
    step = json.loads(Path(file).read_text(encoding="utf-8"))
    if "device" in step:
        return _package(step, Path(target))
    written = Path(target).with_suffix(".cpp")
    try:
        with config.patch({"cpp.vec_isa_ok": True}):
            written.write_text(source(step), encoding="utf-8")
            built = _compiled([*command(written, target), *headers.words()])
        if built.returncode:  # not with these headers; or the compiler lacks what the processor has
            cpu_vec_isa.valid_vec_isa_list.cache_clear()
            written.write_text(source(step), encoding="utf-8")
            built = _compiled(command(written, target))
    except NoKernel as fault:
        print(fault)
        return NO_KERNEL
    print(built.stderr, file=sys.stderr)
    return built.returncode


def _package(step: dict, target: Path) -> int:
    from .packaging import package

    made = target.with_suffix(".pt2")
    package(step, made)
    made.replace(target)
    return 0


def _compiled(words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(words, check=False, capture_output=True, text=True)


# Of GCC's intrinsics, those that an AVX2 processor has: the others take a third of the compiler's
# time. A compiler that does not know these headers is called again without them.
LEAN_FOR = "-DCPU_CAPABILITY_AVX2"
LEAN = ["x86gprintrin", "mmintrin", "xmmintrin", "emmintrin", "pmmintrin", "tmmintrin"]
LEAN += ["smmintrin", "wmmintrin", "avxintrin", "avx2intrin", "fmaintrin", "f16cintrin"]


class _Headers:
    """What all steps include, read by the compiler while there is no step yet: that takes as long
    as to compile one.
    """

    def __init__(self, place: Path):
        self._file = place / "prefix.h"
        self._file.write_text(HEADERS, encoding="utf-8")
        made = self._file.with_suffix(".h.gch")
        first, _, *flags = command(self._file, str(made))
        flags = [word for word in flags if not word.startswith(("-l", "-L", "-shared"))]
        self._lean = [f"-I{_lean(place)}"] if LEAN_FOR in flags else []
        words = [first, "-x", "c++-header", str(self._file), *flags, *self._lean]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(words, **quiet)

    def words(self) -> list[str]:
        """How the compiler is told of them: nothing is lost where it could not read them."""
        well = self._process.wait() == 0
        return [*self._lean, *(["-include", str(self._file)] if well else [])]

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def _lean(place: Path) -> Path:
    """A folder whose `immintrin.h` is short."""
    lines = ["#ifndef _IMMINTRIN_H_INCLUDED", "#define _IMMINTRIN_H_INCLUDED"]
    lines += [*(f"#include <{name}.h>" for name in LEAN), "#endif", ""]
    (place / "lean").mkdir(exist_ok=True)
    (place / "lean" / "immintrin.h").write_text("\n".join(lines), encoding="utf-8")
    return place / "lean"


def command(written: Path, target: str) -> list[str]:
    """How the compiler is called."""
    o = CppTorchOptions(vec_isa=cpu_vec_isa.pick_vec_isa())
    words = [f"-{w}" for w in o.get_cflags() if not re.fullmatch("g[0-9]?", w)]
    words += [f"-D{w.strip()}" for w in o.get_definitions()]
    words += [f"-I{shlex.quote(w)}" for w in o.get_include_dirs()]
    words += [*o.get_passthrough_args(), *o.get_ldflags()]
    words += [f"-L{shlex.quote(w)}" for w in o.get_libraries_dirs()]
    words += [f"-l{w}" for w in o.get_libraries()]
    words = [w if w.startswith("-") else f"-{w}" for w in words if w.strip("- ")]
    flags = shlex.split(" ".join(words))
    return [get_cpp_compiler(), str(written), "-shared", "-fPIC", "-w", "-o", target, *flags]


if __name__ == "__main__":
    gc.disable()  # this process is soon over
    status = main(*sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to take all modules down in good order would be a second of waiting
