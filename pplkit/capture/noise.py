"""Draws as functions of base noise.

A captured program has no random stream: it takes standard normal and uniform numbers as inputs, and
every draw of a run is a function of those and of the distribution's parameters. The same function
serves an eager run that is given the same noise.

Each form below is exact in distribution up to the resolution of its noise, and does a fixed amount
of work. What torch draws by rejection, with as many tries as the numbers ask for, is given a fixed
number of proposals; the chance that all are refused, upon which the last one stands, is below
`1e-7` for one draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .. import errors
from ..randomness import NOISE_GIVEN
from .lines import user_line

aten = torch.ops.aten

# Of Marsaglia and Tsang's proposals for a gamma draw at least 95 in 100 are accepted; of Hörmann's
# for a binomial one, more than 80.
_GAMMA_PROPOSALS, _BINOMIAL_PROPOSALS = 6, 10
_POISSON_MANY, _POISSON_TERMS, _BINOMIAL_TERMS = 16.0, 64, 64


class GivenNoise(TorchDispatchMode):
    """Inside, torch's samplers compute their draws from what `take` hands out.

    Args:
        take: from a kind ("normal" or "uniform"), a shape, a dtype and a device to a tensor.
        strict: what has no form from given noise is an error; otherwise it is drawn by torch.

    >>> import pplkit.distributions as dist
    >>> with GivenNoise(lambda kind, shape, dtype, device: torch.full(shape, 0.5, dtype=dtype)):
    ...     dist.Normal(1.0, 2.0).sample(), dist.Bernoulli(0.7).sample()
    (tensor(2.), tensor(1.))
    """

    def __init__(
        self, take: Callable[[str, tuple, torch.dtype, torch.device], Tensor], strict: bool = True
    ):
        super().__init__()
        self.take, self.strict = take, strict
        # For a run of SVI inside: whether it is being recorded; whether nobody looks at its end.
        self.records = self.brief = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler at the first draw: seconds

    def __enter__(self):
        self._token = NOISE_GIVEN.set(True)
        return super().__enter__()

    def __exit__(self, *exc):
        NOISE_GIVEN.reset(self._token)
        return super().__exit__(*exc)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        form = _FORMS.get(func)
        own = any(isinstance(x, torch.Generator) for x in tree_leaves((args, kwargs)))
        if not self.strict and (form is None or own):
            return func(*args, **kwargs)
        if form is None:
            raise errors.cannot_be_captured(
                f"the random operation {func}", user_line(), "no form of it from given noise"
            )
        if own:
            raise errors.cannot_be_captured(
                "a torch.Generator",
                user_line(),
                remedy="leave it out: the noise of a captured program is an input; or make what"
                " is to stay the same outside the function",
            )
        kwargs.pop("generator", None)
        return form(self.take, *args, **kwargs)


# -- base noise ------------------------------------------------------------------------------------


def _plain(kind: str):
    def form(take, size, *, dtype=None, device=None, **_):
        dtype = dtype or torch.get_default_dtype()
        device = torch.device(device) if device is not None else torch.get_default_device()
        return take(kind, tuple(size), dtype, device)

    return form


def _like(kind: str):
    def form(take, like, *, dtype=None, device=None, **_):
        device = like.device if device is None else torch.device(device)
        return take(kind, tuple(like.shape), dtype or like.dtype, device)

    return form


def _noise(take, kind: str, like: Tensor, *more) -> Tensor:
    """Noise of the shape of `like`, after `more` dimensions."""
    return take(kind, (*more, *like.shape), like.dtype, like.device)


# -- transformations -------------------------------------------------------------------------------


def _exponential(take, like: Tensor, rate=1.0) -> Tensor:
    least = torch.finfo(like.dtype).tiny
    return (-torch.log1p(-_noise(take, "uniform", like))).clamp(min=least) / rate


def _cauchy(take, like: Tensor, median=0.0, sigma=1.0) -> Tensor:
    return median + sigma * (math.pi * (_noise(take, "uniform", like) - 0.5)).tan()


def _uniform(take, like: Tensor, low=0.0, high=1.0) -> Tensor:
    u = _noise(take, "uniform", like)
    return u if (low, high) == (0.0, 1.0) else low + (high - low) * u


def _normal(take, like: Tensor, mean=0.0, std=1.0) -> Tensor:
    z = _noise(take, "normal", like)
    return z if (mean, std) == (0.0, 1.0) else mean + std * z


def _log_normal(take, like: Tensor, mean=1.0, std=2.0) -> Tensor:
    return _normal(take, like, mean, std).exp()


def _geometric(take, like: Tensor, p) -> Tensor:
    u = _noise(take, "uniform", like)
    flips = torch.log1p(-u) / (torch.log1p(-p) if isinstance(p, Tensor) else math.log1p(-p))
    return flips.ceil().clamp(min=1)


def _normal_of(take, mean, std, **_) -> Tensor:
    shape = torch.broadcast_shapes(*(x.shape for x in (mean, std) if isinstance(x, Tensor)))
    like = mean if isinstance(mean, Tensor) else std
    return mean + std * take("normal", tuple(shape), like.dtype, like.device)


def _normal_sized(take, mean, std, size, *, dtype=None, device=None, **_) -> Tensor:
    return mean + std * _plain("normal")(take, size, dtype=dtype, device=device)


def _bernoulli(take, probs: Tensor, p=None) -> Tensor:
    chance = probs if p is None else p
    return (_noise(take, "uniform", probs) < chance).to(probs.dtype)


def _bernoulli_into(take, like: Tensor, p=0.5) -> Tensor:
    u = take("uniform", tuple(like.shape), torch.get_default_dtype(), like.device)
    return (u < p).to(like.dtype)


def _dropout(take, x: Tensor, p: float, train=True):
    kept = _bernoulli_into(take, x, 1 - p)
    if not train:
        return x, torch.ones_like(x, dtype=torch.bool)
    return x * (kept / (1 - p) if p < 1 else kept), kept.bool()


def _whole(take, low, high, size, *, dtype=None, device=None, **_) -> Tensor:
    u = _plain("uniform")(take, size, dtype=torch.float64, device=device)
    return (low + (u * (high - low)).floor()).to(dtype or torch.int64)


def _whole_like(take, like: Tensor, low, high, *, dtype=None, **_) -> Tensor:
    return _whole(take, low, high, like.shape, dtype=dtype or like.dtype, device=like.device)


def _permutation(take, n, *, dtype=None, device=None, **_) -> Tensor:
    order = _plain("uniform")(take, (n,), dtype=torch.float64, device=device).argsort()
    return order if dtype in (None, torch.int64) else order.to(dtype)


def _multinomial(take, probs: Tensor, count: int, replacement: bool = False) -> Tensor:
    probs = probs.detach()
    if not replacement:
        # The order in which exponential clocks of these rates ring.
        clocks = -torch.log1p(-_noise(take, "uniform", probs)) / probs
        return clocks.topk(count, -1, largest=False).indices
    shares = probs.cumsum(-1)
    # Divided, so that the last share is 1 exactly and a weight of zero behind it is never reached.
    shares = (shares / shares[..., -1:]).unsqueeze(-2)[..., :-1]
    u = take("uniform", (*probs.shape[:-1], count), probs.dtype, probs.device).unsqueeze(-1)
    return (u >= shares).sum(-1)


# -- gamma, and what is made of it -----------------------------------------------------------------


def _standard_gamma(take, concentration: Tensor) -> Tensor:
    """Marsaglia and Tsang, 2000, "A simple method for generating gamma variables"."""
    x = _noise(take, "normal", concentration, _GAMMA_PROPOSALS)
    u = _noise(take, "uniform", concentration, _GAMMA_PROPOSALS + 1)
    small = concentration < 1  # then a draw of one more, times a power of a uniform number
    d = torch.where(small, concentration + 1, concentration) - 1 / 3
    v = (1 + x / (9 * d).sqrt()) ** 3
    within = v > 0
    v = torch.where(within, v, 1.0)
    good = within & ((1 - u[1:]).log() < 0.5 * x * x + d * (1 - v + v.log()))
    draw = d * _first(good, v)
    power = (1 - u[0]) ** (1 / torch.where(small, concentration, 1.0))
    return torch.where(small, draw * power, draw)


def _first(good: Tensor, proposals: Tensor) -> Tensor:
    """Along the first dimension, the first good proposal; the last one when there is none."""
    chosen = proposals[-1]
    for i in range(proposals.shape[0] - 2, -1, -1):
        chosen = torch.where(good[i], proposals[i], chosen)
    return chosen


def _dirichlet(take, concentration: Tensor) -> Tensor:
    draw = _standard_gamma(take, concentration).clamp(min=torch.finfo(concentration.dtype).tiny)
    return draw / draw.sum(-1, keepdim=True)


# -- counts ----------------------------------------------------------------------------------------


def _poisson(take, rate: Tensor) -> Tensor:
    """The least count whose distribution function exceeds a uniform number. Few expected: of all
    counts there may be. Many: of those next to where Cornish and Fisher's expansion puts it.
    """
    u, given, rate = _noise(take, "uniform", rate).double(), rate, rate.double()
    few = rate < _POISSON_MANY
    less, more = torch.where(few, rate, 1.0), torch.where(few, _POISSON_MANY, rate)
    k = torch.arange(_POISSON_TERMS, dtype=rate.dtype, device=rate.device)
    k = k.reshape(-1, *([1] * rate.dim()))
    mass = (torch.special.xlogy(k, less) - less - (k + 1).lgamma()).exp()
    summed = (u >= mass.cumsum(0)).to(rate.dtype).sum(0)
    z = torch.special.ndtri(u.clamp(1e-16, 1 - 1e-16))
    near = more + more.sqrt() * z + (z * z - 1) / 6 + (z - z**3) / (72 * more.sqrt())
    low = (near.floor() - 1).clamp(min=0)
    next_to = low + torch.arange(4, dtype=rate.dtype, device=rate.device).reshape(k[:4].shape)
    below = torch.special.gammaincc(next_to + 1, more.expand(next_to.shape))
    found = low + (u >= below).to(rate.dtype).sum(0)
    return torch.where(few, summed, found).to(given.dtype)


def _binomial(take, count: Tensor, prob: Tensor) -> Tensor:
    """Few expected successes: the least count whose distribution function exceeds a uniform number.
    Many: Hörmann, 1993, "The generation of binomial random variates", transformed rejection.
    """
    count, prob = torch.broadcast_tensors(count, prob)
    dtype = prob.dtype
    u = _noise(take, "uniform", prob, 2 * _BINOMIAL_PROPOSALS + 1).double()
    n, p = count.double(), prob.double()
    rare = torch.minimum(p, 1 - p)
    few = n * rare < 10
    many = _binomial_rejected(
        u[1 : _BINOMIAL_PROPOSALS + 1],
        1 - u[_BINOMIAL_PROPOSALS + 1 :],
        torch.where(few, 40.0, n),
        torch.where(few, 0.5, rare),
    )
    drawn = torch.where(few, _binomial_summed(u[0], torch.where(few, n, 0.0), rare), many)
    return torch.where(p > 0.5, n - drawn, drawn).to(dtype)


def _binomial_summed(u: Tensor, n: Tensor, p: Tensor) -> Tensor:
    k = torch.arange(_BINOMIAL_TERMS, dtype=n.dtype, device=n.device)
    k = k.reshape(-1, *([1] * n.dim()))
    below = (k <= n).to(n.dtype)
    log_mass = torch.special.xlogy(k * below, p) + torch.special.xlog1py((n - k) * below, -p)
    ways = (n + 1).lgamma() - (k + 1).lgamma() - ((n - k) * below + 1).lgamma()
    reached = ((log_mass + ways).exp() * below).cumsum(0)
    return torch.minimum((u >= reached).to(n.dtype).sum(0), n)


def _binomial_rejected(u: Tensor, v: Tensor, n: Tensor, p: Tensor) -> Tensor:
    spread = (n * p * (1 - p)).sqrt()
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    alpha = (2.83 + 5.1 / b) * spread
    mode = ((n + 1) * p).floor()
    u = u - 0.5
    edge = (0.5 - u.abs()).clamp(min=1e-300)
    k = ((2 * a / edge + b) * u + n * p + 0.5).floor()
    within = (k >= 0) & (k <= n)
    k = torch.where(within, k, mode)
    ratio = (mode + 1).lgamma() + (n - mode + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()
    ratio = ratio + (k - mode) * (p.log() - torch.log1p(-p))
    quick = (edge >= 0.07) & (v <= 0.92 - 4.2 / b)
    good = within & (quick | ((v * alpha / (a / (edge * edge) + b)).log() <= ratio))
    return _first(good, k)


# -- which form stands for which operation ---------------------------------------------------------


def _filling(form):
    """A sampler that writes into the tensor it is given."""

    def fill(take, into: Tensor, *args, **kwargs):
        return into.copy_(form(take, into, *args, **kwargs))

    return fill


_FORMS: dict[Any, Callable] = {
    aten.rand.default: _plain("uniform"),
    aten.rand.generator: _plain("uniform"),
    aten.randn.default: _plain("normal"),
    aten.randn.generator: _plain("normal"),
    aten.rand_like.default: _like("uniform"),
    aten.randn_like.default: _like("normal"),
    aten.randint.default: lambda take, high, size, **kw: _whole(take, 0, high, size, **kw),
    aten.randint.low: _whole,
    aten.randint_like.default: lambda take, like, high, **kw: _whole_like(
        take, like, 0, high, **kw
    ),
    aten.randint_like.low_dtype: _whole_like,
    aten.randperm.default: _permutation,
    aten.normal.Tensor_Tensor: _normal_of,
    aten.normal.Tensor_float: lambda take, mean, std=1.0, **kw: _normal_of(take, mean, std, **kw),
    aten.normal.float_Tensor: _normal_of,
    aten.normal.float_float: _normal_sized,
    aten.bernoulli.default: _bernoulli,
    aten.bernoulli.p: _bernoulli,
    aten.multinomial.default: _multinomial,
    aten.poisson.default: _poisson,
    aten.binomial.default: _binomial,
    aten._standard_gamma.default: _standard_gamma,
    aten._sample_dirichlet.default: _dirichlet,
    aten.native_dropout.default: _dropout,
}
for _name, _form in {
    "normal": _normal,
    "uniform": _uniform,
    "exponential": _exponential,
    "cauchy": _cauchy,
    "geometric": _geometric,
    "log_normal": _log_normal,
}.items():
    _FORMS[getattr(aten, f"{_name}_").default] = _filling(_form)
    if _name != "normal":
        _FORMS[getattr(aten, _name).default] = _form
_FORMS[aten.normal_functional.default] = _normal
_FORMS[aten.bernoulli_.float] = _FORMS[aten.bernoulli_.Tensor] = _filling(_bernoulli_into)
