"""Common random numbers: a draw depends on its place, not on what else was drawn.

A figure must change only by what its reader changed. With an ordinary generator, a plate that grows
from 20 rows to 21 can reshuffle all of them, and every draw after them. Here each number is a
function of the figure's seed, of which draw it is (the first `sample` of a run, the second, ...)
and of its index in the tensor: entry `[3]` of the second draw is the same number whatever the size.
Parameters only transform it.

What is hashed so is base noise, standard normal and uniform; every sampler computes its draws from
it by the forms of `pplkit.capture`. So a page without a kernel, which runs the captured graph on
the same noise (`js/src/noise.ts` has the hash too), shows the same points.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from pplkit.capture.noise import GivenNoise
from pplkit.randomness import NOISE_GIVEN, ROWS, SOURCE

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
    0x8CB92BA72F3D8DD7,
    0xE7037ED1A0B428DB,
)

_SAMPLERS = {
    torch.rand, torch.randn, torch.rand_like, torch.randn_like, torch.randint, torch.randint_like,
    torch.randperm, torch.normal, torch.bernoulli, torch.multinomial, torch.poisson, torch.binomial,
    torch._standard_gamma, torch._sample_dirichlet, torch.dropout, torch.nn.functional.dropout,
    torch.Tensor.bernoulli, torch.Tensor.multinomial, torch.Tensor.uniform_, torch.Tensor.normal_,
    torch.Tensor.exponential_, torch.Tensor.bernoulli_, torch.Tensor.cauchy_,
    torch.Tensor.geometric_, torch.Tensor.log_normal_,
}  # fmt: skip


class common_random_numbers(TorchFunctionMode):
    """Inside, torch's samplers draw numbers that stay with their place.

    Attributes:
        draws: how much base noise was taken so far: one for each normal or Bernoulli draw, two or
            more for a gamma one.

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
        self._blocks: dict = {}  # which draw the first rows of a run's noise were

    def __enter__(self):
        # Not True: a seed of the function's own, inside, is respected.
        self._tokens = NOISE_GIVEN.set("common"), SOURCE.set(self.take)
        return super().__enter__()

    def __exit__(self, *exc):
        NOISE_GIVEN.reset(self._tokens[0])
        SOURCE.reset(self._tokens[1])
        return super().__exit__(*exc)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in _SAMPLERS or kwargs.get("generator") is not None or _answered():
            return func(*args, **kwargs)
        with GivenNoise(self.take):
            return func(*args, **kwargs)

    def take(self, kind: str, shape, dtype: torch.dtype, device) -> Tensor:
        """The next base noise: `normal` or `uniform`, of this shape."""
        block, first = ROWS.get() or (None, 0)
        if block is None or block not in self._blocks:
            self.draws += 1
            draw = self.draws
            if block is not None:
                self._blocks[block] = draw
        else:
            draw = self._blocks[block]
        return numbers(self.seed, draw, kind, tuple(shape), dtype, device, first)


def _answered() -> bool:
    """Whether samplers are being answered already, as inside `SVI.run`."""
    return any(isinstance(mode, GivenNoise) for mode in _get_current_dispatch_mode_stack())


def numbers(
    seed: int, draw: int, kind: str, shape: tuple, dtype=torch.float32, device="cpu", first: int = 0
) -> Tensor:
    """Base noise of one draw.

    Args:
        seed: of the figure.
        draw: which draw it is, counted from 1.
        kind: "normal" or "uniform" (in the open interval (0, 1)).
        shape: up to seven dimensions.
        first: the index at which the first dimension starts.

    >>> numbers(0, 1, "uniform", (2,), torch.float64)
    tensor([0.6131, 0.7422], dtype=torch.float64)
    """
    with torch._C.DisableTorchFunction(), torch.no_grad():
        u = _uniform(_key(seed, draw), shape, device, first)
        if kind == "normal":
            return (math.sqrt(2.0) * torch.special.erfinv(2.0 * u - 1.0)).to(dtype)
        return u.to(dtype).clamp(max=1.0 - torch.finfo(dtype).eps / 2)


def _key(seed: int, draw: int) -> int:
    """A 64-bit number for a draw."""
    return _mixed(_mixed(seed * _STEP & _MASK) + draw * _STEP & _MASK)


def _uniform(key: int, shape: tuple, device, first: int) -> Tensor:
    """float64 in the open interval (0, 1), one number per index."""
    if len(shape) > len(_STRIDES):
        raise ValueError(
            f"A draw of {len(shape)} dimensions in a live figure; {len(_STRIDES)} are possible."
        )
    state = torch.full((), _signed(key), dtype=torch.int64, device=device)
    for size, stride in zip(shape, _STRIDES):
        places = torch.arange(1 + first, size + first + 1, device=device)
        state, first = state.unsqueeze(-1) + places * _signed(stride), 0
    return ((_shifted(_mix(state), 11).double() + 0.5) * 2.0**-53).clamp(max=1 - 2.0**-53)


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
