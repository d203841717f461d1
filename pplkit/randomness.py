"""Where random numbers come from.

Draws come from torch's global generator, unless a `seed` handler is in force: then from generators
of its own. The generator is handed to torch's samplers as they are called, so every distribution
obeys, torch's and a user's own, and other threads, other tasks and torch's global state are left
alone.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from .effects import active_handlers
from .params import user_task

_METHODS = (
    "normal_",
    "uniform_",
    "exponential_",
    "cauchy_",
    "geometric_",
    "log_normal_",
    "bernoulli_",
    "random_",
)
_LIKE = {torch.rand_like: torch.rand, torch.randn_like: torch.randn}
_SAMPLERS = {
    torch.normal,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.randperm,
    torch.bernoulli,
    torch.multinomial,
    torch.poisson,
    torch.binomial,
    torch._standard_gamma,
    torch._sample_dirichlet,
    torch.Tensor.bernoulli,
    torch.Tensor.multinomial,
    *(getattr(torch.Tensor, name) for name in _METHODS),
}


class Generators:
    """One random stream per device, all of one seed."""

    def __init__(self, seed: int):
        self.seed = seed
        self._by_device: dict[torch.device, torch.Generator] = {}

    def on(self, device: torch.device) -> torch.Generator:
        if device not in self._by_device:
            self._by_device[device] = torch.Generator(device).manual_seed(self.seed)
        return self._by_device[device]


class drawing_from(TorchFunctionMode):
    """Inside, torch's samplers draw from these generators."""

    def __init__(self, generators: Generators):
        super().__init__()
        self.generators = generators

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in _LIKE:
            like, args = args[0], (args[0].shape, *args[1:])
            kwargs = {"dtype": like.dtype, "device": like.device, **kwargs}
            func = _LIKE[func]
        if func in _SAMPLERS and kwargs.get("generator") is None:
            kwargs = {**kwargs, "generator": self.generators.on(_device(args, kwargs))}
        return func(*args, **kwargs)


def _device(args, kwargs) -> torch.device:
    tensors = (a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
    first = next(tensors, None)
    if first is not None:
        return first.device
    return torch.device(kwargs.get("device") or torch.get_default_device())


_AMBIENT: ContextVar[Generators | None] = ContextVar("pplkit_ambient_seed", default=None)


def generators_here() -> Generators | None:
    """The innermost `seed`'s random streams, or this context's; None for torch's global one."""
    for handler in reversed(active_handlers()):
        if handler.generators is not None:
            return handler.generators
    return _AMBIENT.get()


def set_rng_seed(rng_seed: int) -> None:
    """Seed all draws that follow.

    In the main thread this seeds torch, Python's `random` and, when it has been imported, NumPy, as
    Pyro does. In another thread or an asyncio task it seeds this context alone; the rest of the
    process is left as it is.

    Args:
        rng_seed: a whole number, 0 ≤ rng_seed < 2³².

    >>> import pplkit, pplkit.distributions as dist
    >>> set_rng_seed(0)
    >>> first = pplkit.sample("x", dist.Normal(0.0, 1.0))
    >>> set_rng_seed(0)
    >>> bool(first == pplkit.sample("x", dist.Normal(0.0, 1.0)))
    True
    """
    if threading.current_thread() is not threading.main_thread() or user_task() is not None:
        _AMBIENT.set(Generators(rng_seed))
        return
    torch.manual_seed(rng_seed)
    random.seed(rng_seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(rng_seed)


# Set while draws are made from noise that is given: a function of its inputs then, whose samplers
# are answered by `pplkit.capture`. What is true but not True gives way to a `seed` inside.
NOISE_GIVEN: ContextVar[bool | str] = ContextVar("pplkit_noise_given", default=False)

# Set while a block of a run's base noise is drawn: whose it is, and the row that it starts at.
ROWS: ContextVar[tuple | None] = ContextVar("pplkit_noise_rows", default=None)

# What hands out base noise instead of random streams, as in a figure.
SOURCE: ContextVar[Callable | None] = ContextVar("pplkit_noise_source", default=None)


def base_noise(
    kind: str, shape, dtype: torch.dtype, device: torch.device, own: Generators | None = None
) -> Tensor:
    """Standard normal or uniform numbers.

    Args:
        kind: `normal` or `uniform`.
        own: random streams; this context's, unless told.
    """
    source = SOURCE.get()
    if own is None and source is not None:
        return source(kind, tuple(shape), dtype, device)
    make = torch.randn if kind == "normal" else torch.rand
    streams = generators_here() if own is None else own
    generator = None if streams is None else streams.on(device)
    with _disable_current_modes():  # noise is not to be answered with noise
        return make(tuple(shape), dtype=dtype, device=device, generator=generator)


_ANSWER: ContextVar[tuple | None] = ContextVar("pplkit_noise_answer", default=None)


@contextmanager
def answered_by(answer: Callable, take: Callable, seeded: Callable) -> Iterator[None]:
    """In the block, draws are not made from random streams, but for those inside a `seed` of their
    own.

    Args:
        answer: gives the context in which a draw is made.
        take: gives base noise, of a kind, a shape, a dtype and a device.
        seeded: called when a draw is made inside a `seed` of its own.
    """
    token = _ANSWER.set((answer, take, generators_here(), seeded))
    try:
        yield
    finally:
        _ANSWER.reset(token)


def noise_here() -> Callable | None:
    """What base noise is taken from, when draws are not made from a random stream."""
    given = _ANSWER.get()
    return given[1] if given is not None and generators_here() is given[2] else None


def drawing():
    """A context in which torch's samplers draw from this context's random streams."""
    given, generators = _ANSWER.get(), generators_here()
    if given is not None:
        if generators is given[2]:
            return given[0]()
        given[3]()
    generators = None if NOISE_GIVEN.get() is True else generators
    return nullcontext() if generators is None else drawing_from(generators)
