"""Common random numbers: a draw depends on its place, not on what else was drawn.

A figure must change only by what its reader changed. With an ordinary generator, a plate that grows
from 20 rows to 21 can reshuffle all of them, and every draw after them. Here each number is a
function of the figure's seed, of which draw it is (the first `sample` of a run, the second, ...)
and of its index in the tensor: entry `[3]` of the second draw is the same number whatever the size.
Parameters only transform it.

That holds for torch's uniform, normal, exponential and Bernoulli samplers, so for every family
built on them, in any plate, and for a bare `torch.randn(n)`. Samplers that reject proposals (gamma,
beta, Poisson, ...) each get a stream of their own: there a growing outermost dimension appends too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators": step and mixing of
# SplitMix64.
_STEP = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_MASK = (1 << 64) - 1

# Multiplies the index in each dimension, counted from the outermost: any of them may grow.
_STRIDES = (
    0xD1342543DE82EF95,
    0xAF251AF3B0F025B5,
    0xB564EF22EC7AECE5,
    0xF7C2EBC08F67F2B5,
    0xC6A4A7935BD1E995,
)

_STREAMED = {
    torch.randint, torch.randperm, torch.multinomial, torch.poisson, torch.binomial,
    torch._standard_gamma, torch._sample_dirichlet, torch.Tensor.multinomial, torch.Tensor.cauchy_,
    torch.Tensor.geometric_, torch.Tensor.log_normal_, torch.Tensor.random_,
}  # fmt: skip


class common_random_numbers(TorchFunctionMode):
    """Inside, torch's samplers draw numbers that stay with their place.

    Attributes:
        draws: how many sampler calls there were so far.

    >>> with common_random_numbers(seed=0) as noise:
    ...     five = torch.randn(5)
    >>> with common_random_numbers(seed=0):
    ...     many = torch.randn(500)
    >>> bool((many[:5] == five).all()), noise.draws
    (True, 1)
    """

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed
        self.draws = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        answer = _ANSWERS.get(func)
        if answer is None or kwargs and kwargs.get("generator") is not None:
            return func(*args, **(kwargs or {}))
        self.draws += 1
        # The samplers' own arithmetic is nobody's business, and there is much of it.
        with torch._C.DisableTorchFunction(), torch.no_grad():
            return answer(
                self, func, args, {k: v for k, v in (kwargs or {}).items() if k != "generator"}
            )

    def key(self) -> int:
        """A 64-bit number for the present draw."""
        return _mixed(_mixed(self.seed * _STEP & _MASK) + self.draws * _STEP & _MASK)

    def uniform(self, shape, device) -> Tensor:
        """float64 in the open interval (0, 1), one number per index."""
        if len(shape) > len(_STRIDES):
            raise ValueError(
                f"A draw of {len(shape)} dimensions in a live figure; {len(_STRIDES)} are possible."
            )
        state = torch.full((), _signed(self.key()), dtype=torch.int64, device=device)
        for size, stride in zip(shape, _STRIDES):
            state = state.unsqueeze(-1) + torch.arange(1, size + 1, device=device) * _signed(stride)
        return (_shifted(_mix(state), 11).double() + 0.5) * 2.0**-53

    def fill(self, kind: str, blank: Tensor, *parameters, **named) -> Tensor:
        return blank.copy_(
            _TRANSFORMS[kind](self.uniform(blank.shape, blank.device), *parameters, **named)
        )


def _sized(kind):
    return lambda noise, func, args, kwargs: noise.fill(kind, torch.empty(*args, **kwargs))


def _like(kind):
    return lambda noise, func, args, kwargs: noise.fill(kind, torch.empty_like(*args, **kwargs))


def _in_place(kind):
    return lambda noise, func, args, kwargs: noise.fill(kind, *args, **kwargs)


def _normal(noise, func, args, kwargs) -> Tensor:
    return noise.fill("normal", *_normal_blank(*args, **kwargs))


def _normal_blank(mean, std=1.0, size=None, *, out=None, **options):
    tensors = [t for t in (mean, std) if isinstance(t, Tensor)]
    if tensors:
        size = torch.broadcast_shapes(*(t.shape for t in tensors))
        options = {"dtype": tensors[0].dtype, "device": tensors[0].device}
    return (torch.empty(size, **options) if out is None else out), mean, std


def _bernoulli(noise, func, args, kwargs) -> Tensor:
    probs = args[1] if len(args) > 1 else kwargs.get("p", args[0])
    return noise.fill("bernoulli", torch.empty_like(args[0]), probs)


def _streamed(noise, func, args, kwargs):
    first = next((a for a in args if isinstance(a, Tensor)), None)
    device = (
        first.device if first is not None else kwargs.get("device") or torch.get_default_device()
    )
    stream = torch.Generator(device).manual_seed(noise.key() >> 1)
    return func(*args, **kwargs, generator=stream)


_ANSWERS = {
    torch.rand: _sized("uniform"),
    torch.randn: _sized("normal"),
    torch.rand_like: _like("uniform"),
    torch.randn_like: _like("normal"),
    torch.normal: _normal,
    torch.bernoulli: _bernoulli,
    torch.Tensor.bernoulli: _bernoulli,
    torch.Tensor.uniform_: _in_place("uniform"),
    torch.Tensor.normal_: _in_place("normal"),
    torch.Tensor.exponential_: _in_place("exponential"),
    torch.Tensor.bernoulli_: _in_place("bernoulli"),
    **dict.fromkeys(_STREAMED, _streamed),
}


def _standard_normal(uniform):
    return math.sqrt(2.0) * torch.special.erfinv(2.0 * uniform - 1.0)


_TRANSFORMS = {
    "uniform": lambda u, low=0.0, high=1.0, **named: (
        named.get("from", low) + u * (named.get("to", high) - named.get("from", low))
    ),
    "normal": lambda u, mean=0.0, std=1.0: mean + std * _standard_normal(u),
    "exponential": lambda u, lambd=1.0: -torch.log(u) / lambd,
    "bernoulli": lambda u, p=0.5: (u < p).to(u.dtype),
}


def _mixed(state: int) -> int:
    for shift, factor in _MIX:
        state = (state ^ state >> shift) * factor & _MASK
    return state ^ state >> _LAST_SHIFT


def _mix(state: Tensor) -> Tensor:
    """`_mixed`, on int64 tensors, whose products wrap around."""
    for shift, factor in _MIX:
        state = (state ^ _shifted(state, shift)) * _signed(factor)
    return state ^ _shifted(state, _LAST_SHIFT)


def _shifted(state: Tensor, bits: int) -> Tensor:
    return (state >> bits) & ((1 << 64 - bits) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
