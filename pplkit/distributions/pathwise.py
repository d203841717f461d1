"""Draws whose gradients `torch.func` can follow, alone and inside `vmap`.

A draw x of a gamma or Dirichlet variable depends on the concentration a through its distribution
function F: F(x; a) stays what it was, so dx/da = - (dF/da) / (dF/dx) (Figurnov et al., 2018,
"Implicit reparameterization gradients"). Torch has the draws and these slopes; what follows lets
gradients and `vmap` pass through.
"""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor
from torch._C import _functorch
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from ..checks import unwrapped
from ..randomness import NOISE_GIVEN

# Below this, powers of uniform numbers underflow and torch's own Dirichlet draws are wrong.
_SMALL = 0.02


def standard_gamma(concentration: Tensor) -> Tensor:
    """A draw of Gamma(concentration, 1), of the concentration's shape, differentiable."""
    if not transformed():
        return torch._standard_gamma(concentration)
    return _GammaPath.apply(concentration, torch._standard_gamma(concentration.detach()))


def dirichlet(concentration: Tensor) -> Tensor:
    """A draw of Dirichlet(concentration), of the concentration's shape, differentiable.

    On a CPU, and unless a concentration is so small that it underflows, this is the draw that torch
    makes.
    """
    if _needs_logarithms(concentration):
        # Gamma(a) is Gamma(a + 1) U^(1 / a); a softmax of logarithms divides by the sum.
        tiny = torch.finfo(concentration.dtype).tiny
        power = torch.rand_like(concentration).clamp(min=tiny).log() / concentration
        log_gamma = standard_gamma(concentration + 1).log() + power
        lowest = torch.finfo(concentration.dtype).min / 4
        return log_gamma.clamp(min=lowest).softmax(-1).clamp(min=tiny)
    draw = torch._sample_dirichlet(concentration.detach())
    return _DirichletPath.apply(concentration, draw)


def _needs_logarithms(concentration: Tensor) -> bool:
    plain = unwrapped(concentration.detach())
    # Elsewhere than on the CPU, looking at numbers would wait for the device; tracing has none to
    # look at.
    if plain.device.type != "cpu" or type(plain) not in (Tensor, torch.nn.Parameter):
        return True
    if NOISE_GIVEN.get():
        return True  # the same way whatever the numbers, as a captured program goes
    return bool((plain < _SMALL).any())


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap, ...) is at work here."""
    return _functorch.maybe_current_level() is not None


class _Elementwise(Function):
    """A function of tensors of one shape, element by element."""

    @classmethod
    def vmap(cls, info, in_dims, *tensors):
        rows = [
            t.unsqueeze(0).expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(tensors, in_dims, strict=True)
        ]
        return cls.apply(*rows), 0


class _GammaPath(_Elementwise):
    """`draw`, as a function of the concentration it was drawn with."""

    @staticmethod
    def forward(concentration: Tensor, draw: Tensor) -> Tensor:
        return draw.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad * _GammaSlope.apply(*ctx.saved_tensors), None


class _GammaSlope(_Elementwise):
    @staticmethod
    def forward(concentration: Tensor, draw: Tensor) -> Tensor:
        return torch._standard_gamma_grad(concentration, draw)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None: ...


class _DirichletPath(_Elementwise):
    """`draw`, as a function of the concentration it was drawn with; the last dimension is the
    simplex's.
    """

    @staticmethod
    def forward(concentration: Tensor, draw: Tensor) -> Tensor:
        return draw.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad: Tensor):
        concentration, x = ctx.saved_tensors
        total = concentration.sum(-1, keepdim=True).expand_as(concentration)
        slope = _DirichletSlope.apply(x, concentration, total)
        return slope * (grad - (x * grad).sum(-1, keepdim=True)), None


class _DirichletSlope(_Elementwise):
    @staticmethod
    def forward(x: Tensor, concentration: Tensor, total: Tensor) -> Tensor:
        return torch._dirichlet_grad(x, concentration, total)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None: ...


# -- samplers that write in place ------------------------------------------------------------------


def fresh_draws():
    """A context in which samplers that fill a tensor make a new one instead: `vmap` asks for it,
    and a captured program is shorter for it.
    """
    return _Fresh() if transformed() or NOISE_GIVEN.get() else nullcontext()


class _Fresh(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return _FRESH.get(func, func)(*args, **(kwargs or {}))


def _uniform(like: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    u = torch.rand(like.shape, dtype=like.dtype, device=like.device)
    return u if (low, high) == (0.0, 1.0) else low + (high - low) * u


def _normal(like: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    z = torch.randn(like.shape, dtype=like.dtype, device=like.device)
    return z if (mean, std) == (0.0, 1.0) else mean + std * z


def _exponential(like: Tensor, rate: float = 1.0) -> Tensor:
    return (-torch.log1p(-_uniform(like))).clamp(min=torch.finfo(like.dtype).tiny) / rate


def _cauchy(like: Tensor, median: float = 0.0, sigma: float = 1.0) -> Tensor:
    return median + sigma * (math.pi * (_uniform(like) - 0.5)).tan()


_FRESH = {
    Tensor.uniform_: _uniform,
    Tensor.normal_: _normal,
    Tensor.exponential_: _exponential,
    Tensor.cauchy_: _cauchy,
}
