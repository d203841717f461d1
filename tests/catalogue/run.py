"""Runs a mistake on one of the engines, from a file, and tells how the engine answered."""

from __future__ import annotations

import ast
import re
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sympy  # noqa: F401 - which torch imports at a later moment, and which adds a filter
import torch

from .cases import PRELUDE

FILE = "program.py"


@dataclass(frozen=True)
class Outcome:
    """How an engine answered: by an error, by warnings, or by neither and a value."""

    error: BaseException | None
    warnings: tuple[Warning, ...]
    value: object = None
    filters_kept: bool = True  # whether the same warnings are shown as before

    @property
    def kind(self) -> str:
        return "error" if self.error is not None else "warning" if self.warnings else "silence"

    @property
    def text(self) -> str:
        """Error and warnings as a notebook shows them, but for the frames above."""
        parts = [_told(w) for w in self.warnings]
        if self.error is not None:
            parts.append(_told(self.error))
        return _steady("\n".join(parts) if parts else brief(self.value))


def _told(fault: BaseException) -> str:
    said = str(fault)
    return f"{type(fault).__name__}: {said}" if said else type(fault).__name__


def _steady(text: str) -> str:
    """Without what differs from run to run."""
    return re.sub(r"0x[0-9a-f]{6,}", "0x...", text)


def brief(value: object) -> str:
    """An outcome in a line; drawn numbers, which another machine rounds otherwise, to 4 digits."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        if value.numel() > 6:
            return f"{value.dtype} tensor of shape {tuple(value.shape)}"
        with _printing():
            return " ".join(repr(value).split())
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {brief(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(brief, value))})"
    return _steady(repr(value))


@contextmanager
def _printing():
    before = torch._tensor_str.PRINT_OPTS
    kept = {
        key: getattr(before, key)
        for key in ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
    }
    torch.set_printoptions(precision=4, sci_mode=False)
    try:
        yield
    finally:
        torch.set_printoptions(**kept)


def namespace(engine: str) -> dict:
    """What a program finds: the prelude's names, by one of the engines."""
    names: dict = {"__name__": "__main__"}
    exec(PRELUDE.replace("pplkit", engine), names)  # noqa: S102
    return names


def run(program: str, names: dict, file: str | Path = FILE) -> Outcome:
    """Run a program as the file `file`, in the current folder or at a path."""
    tree = ast.parse(program)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)
    error = value = None
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        try:
            exec(compile(tree, str(file), "exec"), names)  # noqa: S102
            if last is not None:
                value = eval(compile(last, str(file), "eval"), names)
        except Exception as fault:  # noqa: BLE001 - whatever it is, it is the answer
            error = fault
        kept = warnings.filters == filters
    return Outcome(error, tuple(w.message for w in shown), value, kept)


def on_pplkit(program: str) -> Outcome:
    import pplkit

    pplkit.clear_param_store()
    names = namespace("pplkit")
    torch.manual_seed(0)
    return run(program, names)


def on_pyro(program: str) -> Outcome:
    """On Pyro, from a clean start and with a clean end: what it leaves behind is not ours to mend."""
    names = namespace("pyro")
    import pyro
    from pyro.poutine import indep_messenger, runtime

    def cleared():
        runtime._PYRO_STACK.clear()
        indep_messenger._DIM_ALLOCATOR = type(indep_messenger._DIM_ALLOCATOR)()
        pyro.clear_param_store()
        pyro.enable_validation(True)

    before = torch.distributions.Distribution._validate_args
    cleared()
    pyro.set_rng_seed(0)
    try:
        return run(program, names)
    finally:
        cleared()
        torch.distributions.Distribution.set_default_validate_args(before)


def as_in_a_notebook(text: str) -> str:
    """An answer given from a file, as cell 1 would have got it."""
    return re.sub(rf"\b{re.escape(FILE)}, line", "Cell In [1], line", text)


def our_answer(outcome: Outcome) -> str:
    """What stands in a mistake's `.txt`."""
    text = as_in_a_notebook(outcome.text)
    return f"accepted: {text}" if outcome.kind == "silence" else text
