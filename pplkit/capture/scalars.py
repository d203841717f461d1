"""Python's own functions of numbers, of those that are inputs of a graph.

A control, a plate's size or what is computed of them is a plain number when a function runs, and a
tensor or a symbolic size while it is captured. `math.sqrt(n)` or `max(mu, 0)` would then ask for
the number, which a graph does not have: while it is made, torch computes them.
"""

from __future__ import annotations

import builtins
import functools
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MATH: dict[str, Callable] = {
    **{
        name: getattr(torch, name)
        for name in (
            "acos acosh asin asinh atan atan2 atanh cos cosh erf erfc exp exp2 expm1 hypot lgamma"
            " log10 log1p log2 pow sin sinh sqrt tan tanh"
        ).split()
    },
    "degrees": torch.rad2deg,
    "fabs": torch.abs,
    "gamma": lambda x: torch.where(x > 0, torch.lgamma(x).exp(), torch.nan),
    "log": lambda x, base=None: torch.log(x) if base is None else torch.log(x) / torch.log(base),
    "radians": torch.deg2rad,
}


@contextmanager
def open_numbers(used: list[str] | None) -> Iterator[None]:
    """In this thread, `len`, `max`, `min` and `math` take numbers that are open.

    Args:
        used: gets the names of the functions that made tensors of some; None, and none does.

    `len` of a tensor may be symbolic, where Python's own must be a plain number; the larger of two
    sizes is a size, where Python's own would ask which.
    """
    here = threading.get_ident()
    known = {name for name in _MATH if used is not None and hasattr(math, name)}  # exp2 is young
    plain_math = {name: getattr(math, name) for name in known}
    plain = builtins.len, builtins.max, builtins.min

    def of_tensors(name, function, own):
        @functools.wraps(own)
        def opened(*args):
            if threading.get_ident() != here or not any(map(_is_open, args)):
                return own(*args)
            used.append(name)
            return function(*map(_as_tensor, args))

        return opened

    def symbolic_len(x, /):
        if isinstance(x, Tensor) and threading.get_ident() == here and x.dim():
            return x.shape[0]
        return plain[0](x)

    builtins.len = symbolic_len
    larger, smaller = (None, None) if used is None else (torch.maximum, torch.minimum)
    builtins.max = _of_several(plain[1], torch.sym_max, larger, here, used)
    builtins.min = _of_several(plain[2], torch.sym_min, smaller, here, used)
    for name, own in plain_math.items():
        setattr(math, name, of_tensors(name, _MATH[name], own))
    try:
        yield
    finally:
        builtins.len, builtins.max, builtins.min = plain
        for name, own in plain_math.items():
            setattr(math, name, own)


def _of_several(own: Callable, of_sizes: Callable, of_tensors: Callable | None, here: int,
                used: list[str] | None) -> Callable:  # fmt: skip
    def opened(*args, **kwargs):
        if kwargs or len(args) < 2 or threading.get_ident() != here:
            return own(*args, **kwargs)
        if of_tensors and any(isinstance(x, Tensor) and x.dim() == 0 for x in args):
            used.append(own.__name__)
            return functools.reduce(of_tensors, map(_as_tensor, args))
        if any(isinstance(x, torch.SymInt) for x in args):
            return functools.reduce(of_sizes, args)
        return own(*args)

    return opened


def _is_open(x) -> bool:
    return isinstance(x, (torch.SymInt, torch.SymFloat)) or isinstance(x, Tensor) and x.dim() == 0


def _as_tensor(x) -> Tensor:
    if isinstance(x, Tensor):
        return x if x.is_floating_point() else x.to(torch.get_default_dtype())
    return torch.full((), x, dtype=torch.get_default_dtype())
