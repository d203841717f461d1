"""Families of numbers between two bounds, and of angles."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributions.utils import clamp_probs, lazy_property, logits_to_probs, probs_to_logits

from ..randomness import NOISE_GIVEN
from . import constraints
from .base import Distribution, Family, parameters
from .pathwise import dirichlet, transformed
from .real_line import log_ndtr, uniform
from .special import betainc, von_mises_tail


class Uniform(Distribution, torch_dist.Uniform):
    """Any number from `low` to `high`, all alike.

    Args:
        low: the least value.
        high: the greatest, above `low`.

    >>> Uniform(0.0, 4.0).log_prob(torch.tensor(1.0)).exp()
    tensor(0.2500)
    """

    arg_constraints = {"low": constraints.real, "high": constraints.real}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.low, self.high)

    def relations(self):
        yield "high", self.high, constraints.greater_than(self.low)

    def _log_prob(self, value: Tensor) -> Tensor:
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -(self.high - self.low).log(), -math.inf)


class LogUniform(Family):
    """A number from `low` to `high` whose logarithm is uniform: density 1 / (x log(high / low)).

    Args:
        low: the least value, > 0.
        high: the greatest, above `low`.

    >>> LogUniform(1.0, 100.0).cdf(torch.tensor(10.0))
    tensor(0.5000)
    """

    arg_constraints = {"low": constraints.positive, "high": constraints.positive}
    has_rsample = True

    def __init__(self, low, high, *, validate_args=None):
        self.low, self.high = parameters(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.low, self.high)

    def relations(self):
        yield "high", self.high, constraints.greater_than(self.low)

    @property
    def _width(self) -> Tensor:
        return self.high.log() - self.low.log()

    def _log_prob(self, value: Tensor) -> Tensor:
        inside = (value >= self.low) & (value <= self.high)
        return torch.where(inside, -value.log() - self._width.log(), -math.inf)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        u = torch.rand(self._extended(sample_shape), dtype=self.low.dtype, device=self.low.device)
        return self._icdf(u)

    def _cdf(self, value: Tensor) -> Tensor:
        return ((value / self.low).log() / self._width).clamp(0, 1)

    def _icdf(self, value: Tensor) -> Tensor:
        drawn = self.low * (value * self._width).exp()
        return torch.minimum(drawn, self.high)  # rounding must not lead outside

    @property
    def mean(self) -> Tensor:
        return (self.high - self.low) / self._width

    @property
    def variance(self) -> Tensor:
        return (self.high**2 - self.low**2) / (2 * self._width) - self.mean**2


class Beta(Distribution, torch_dist.Beta):
    """A number between 0 and 1: what a proportion may be, after concentration1 - 1 hits and
    concentration0 - 1 misses. Its density is proportional to x^(concentration1 - 1) (1 -
    x)^(concentration0 - 1).

    Args:
        concentration1: > 0; draws towards 1.
        concentration0: > 0; draws towards 0.

    >>> Beta(2.0, 1.0).mean
    tensor(0.6667)
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended_shape(sample_shape) + (2,)
        return dirichlet(self._dirichlet.concentration.expand(shape))[..., 0]

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        body = torch.xlogy(a - 1, value) + torch.special.xlog1py(b - 1, -value)
        return body + (a + b).lgamma() - a.lgamma() - b.lgamma()

    def _cdf(self, value: Tensor) -> Tensor:
        return betainc(self.concentration1, self.concentration0, value)


class AffineBeta(Family):
    """A beta-distributed number, stretched and moved: loc + scale Beta(concentration1,
    concentration0).

    Args:
        concentration1, concentration0: > 0, as of `Beta`.
        loc: the least value.
        scale: the distance from there to the greatest, > 0.

    >>> AffineBeta(2.0, 2.0, -1.0, 4.0).mean
    tensor(1.)
    """

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    has_rsample = True

    def __init__(self, concentration1, concentration0, loc, scale, validate_args=None):
        values = parameters(concentration1, concentration0, loc, scale)
        self.concentration1, self.concentration0, self.loc, self.scale = values
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def base_dist(self) -> Beta:
        """The beta distribution on (0, 1)."""
        return Beta(self.concentration1, self.concentration0)

    @property
    def low(self) -> Tensor:
        """The least value."""
        return self.loc

    @property
    def high(self) -> Tensor:
        """The greatest value."""
        return self.loc + self.scale

    @property
    def sample_size(self) -> Tensor:
        """The sum of the concentrations: how many observations the distribution is worth."""
        return self.concentration1 + self.concentration0

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.low, self.high)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist._log_prob((value - self.loc) / self.scale) - self.scale.log()

    def _cdf(self, value: Tensor) -> Tensor:
        return self.base_dist._cdf((value - self.loc) / self.scale)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        # A little inside the bounds, where the density is finite.
        value = self.loc + self.scale * self.base_dist._rsample(sample_shape)
        margin = torch.finfo(value.dtype).eps * self.scale
        return torch.minimum(torch.maximum(value, self.low + margin), self.high - margin)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * self.base_dist.variance


class Kumaraswamy(Distribution, torch_dist.Kumaraswamy):
    """Much like `Beta`, with a distribution function in closed form: 1 - (1 -
    x^concentration1)^concentration0.

    Args:
        concentration1: > 0; draws towards 1.
        concentration0: > 0; draws towards 0.

    >>> Kumaraswamy(1.0, 2.0).mean
    tensor(0.3333)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return (
            a.log()
            + b.log()
            + torch.xlogy(a - 1, value)
            + torch.special.xlog1py(b - 1, -(value**a))
        )

    def _cdf(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return -torch.expm1(b * torch.log1p(-(value**a)))

    def _icdf(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return (-torch.expm1(torch.log1p(-value) / b)) ** (1 / a)


class ContinuousBernoulli(Distribution, torch_dist.ContinuousBernoulli):
    """A number between 0 and 1, of density proportional to probs^x (1 - probs)^(1 - x): a pixel's
    brightness.

    Args:
        probs: between 0 and 1 (it is not the mean); or instead
        logits: log(probs / (1 - probs)), any real number.
        lims: between these values of probs a series replaces formulas that lose digits there.

    >>> ContinuousBernoulli(0.5).mean
    tensor(0.5000)
    """

    def __init__(self, probs=None, logits=None, lims=(0.499, 0.501), validate_args=None):
        if (probs is None) == (logits is None):
            raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        if probs is not None:
            (self._unclamped,) = parameters(probs)
            self.probs = self._param = clamp_probs(self._unclamped)
        else:
            (self.logits,) = parameters(logits)
            self._param = self.logits
        self._lims = lims
        torch_dist.Distribution.__init__(self, self._param.shape, validate_args=validate_args)

    _unclamped: Tensor | None = None

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._unclamped = self._unclamped
        return new

    def relations(self):
        # Torch keeps a clamped copy, which would always pass.
        if self._unclamped is not None:
            yield "probs", self._unclamped, constraints.unit_interval

    def _log_prob(self, value: Tensor) -> Tensor:
        return value * self.logits - F.softplus(self.logits) + self._cont_bern_log_norm()


class _Relaxed:
    """A coin's two ways of being stated."""

    @lazy_property
    def logits(self) -> Tensor:
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Tensor:
        return logits_to_probs(self.logits, is_binary=True)


class RelaxedBernoulli(_Relaxed, Family, torch_dist.RelaxedBernoulli):
    """A coin softened: a number between 0 and 1 that tends to either end as the temperature falls.
    It is sigmoid((logits + L) / temperature), where L is a standard logistic number.

    Args:
        temperature: > 0.
        probs: of the end 1, between 0 and 1; or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> RelaxedBernoulli(0.5, probs=0.3).sample([2]).shape
    torch.Size([2])
    """

    arg_constraints = {
        "temperature": constraints.positive,
        "probs": constraints.unit_interval,
        "logits": constraints.real,
    }
    support = constraints.unit_interval
    has_rsample = True
    temperature: Tensor = None

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        self.temperature, (name, value) = _temperature(temperature, probs, logits)
        self.temperature, value = parameters(self.temperature, value)
        self.__dict__[name] = value
        torch_dist.Distribution.__init__(self, value.shape, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._soft(sample_shape)

    def _soft(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended(sample_shape)
        probs = clamp_probs(self.probs.expand(shape))
        u = clamp_probs(torch.rand(shape, dtype=probs.dtype, device=probs.device))
        score = u.log() - torch.log1p(-u) + probs.log() - torch.log1p(-probs)
        return (score / self.temperature).sigmoid()

    def _log_prob(self, value: Tensor) -> Tensor:
        value = clamp_probs(value)
        logit = value.log() - torch.log1p(-value)
        z = self.logits - self.temperature * logit
        return self.temperature.log() + z - 2 * F.softplus(z) - value.log() - torch.log1p(-value)

    def _cdf(self, value: Tensor) -> Tensor:
        return (self.temperature * value.logit() - self.logits).sigmoid()

    def _icdf(self, value: Tensor) -> Tensor:
        return ((value.logit() + self.logits) / self.temperature).sigmoid()

    @classmethod
    def _adopted(cls, fn):
        base = fn.base_dist
        name = "probs" if "probs" in base.__dict__ else "logits"
        return cls(base.temperature, **{name: getattr(base, name)})


def _temperature(temperature, probs, logits):
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")
    return temperature, ("probs", probs) if probs is not None else ("logits", logits)


class RelaxedBernoulliStraightThrough(RelaxedBernoulli):
    """`RelaxedBernoulli` with hard draws: 0 or 1, whose gradient is the soft draw's.

    Args:
        temperature, probs, logits: as of `RelaxedBernoulli`.

    The log-probability of a draw is that of the soft number behind it.

    >>> bool(RelaxedBernoulliStraightThrough(0.5, probs=0.3).rsample() in (0.0, 1.0))
    True
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return straight_through(self._soft(sample_shape), torch.round)

    def _log_prob(self, value: Tensor) -> Tensor:
        return super()._log_prob(getattr(value, "_unquantize", value))


def straight_through(soft: Tensor, harden) -> Tensor:
    """`harden(soft)`, with the gradient of `soft`; remembers it."""
    soft = clamp_probs(soft)
    hard = harden(soft.detach()) + (soft - soft.detach())
    hard._unquantize = soft
    return hard


class TruncatedNormal(Family):
    """A normal distribution of which only the part between `low` and `high` is left.

    Args:
        loc, scale: mean and standard deviation (> 0) of the whole bell.
        low, high: the bounds, low < high; either may be left out.

    >>> TruncatedNormal(0.0, 1.0, low=0.0).mean
    tensor(0.7979)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.real,
        "high": constraints.real,
    }
    has_rsample = True

    def __init__(self, loc, scale, low=-math.inf, high=math.inf, *, validate_args=None):
        low = -math.inf if low is None else low
        high = math.inf if high is None else high
        self.loc, self.scale, self.low, self.high = parameters(loc, scale, low, high)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.low, self.high)

    def relations(self):
        yield "high", self.high, constraints.greater_than(self.low)

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """The bounds in standard units; an infinite one as a number so large that it makes no
        difference.
        """
        return self._standard(self.low), self._standard(self.high)

    def _standard(self, bound: Tensor) -> Tensor:
        finite = bound.isfinite()
        z = (torch.where(finite, bound, 0.0) - self.loc) / self.scale
        return torch.where(finite, z, torch.where(bound > 0, _ENDLESS, -_ENDLESS))

    def _in_left_tail(self) -> tuple[Tensor, Tensor, Tensor]:
        """The bounds, mirrored where that brings them nearer to the left tail, and where they are
        mirrored.
        """
        a, b = self._bounds()
        mirrored = a + b > 0
        return torch.where(mirrored, -b, a), torch.where(mirrored, -a, b), mirrored

    def _log_mass(self) -> Tensor:
        """Logarithm of how much of the bell is left."""
        a, b, _ = self._in_left_tail()
        return _log_ndtr_between(a, b)

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        log_prob = -0.5 * z * z - _LOG_ROOT_2_PI - self.scale.log() - self._log_mass()
        return torch.where((value >= self.low) & (value <= self.high), log_prob, -math.inf)

    def _cdf(self, value: Tensor) -> Tensor:
        z, (a, b, mirrored) = (value - self.loc) / self.scale, self._in_left_tail()
        z = torch.minimum(torch.maximum(torch.where(mirrored, -z, z), a), b)
        below = (_log_ndtr_between(a, z) - _log_ndtr_between(a, b)).exp()
        return torch.where(mirrored, 1 - below, below)

    def _icdf(self, value: Tensor) -> Tensor:
        a, b, mirrored = self._in_left_tail()
        share = torch.where(mirrored, 1 - value, value)
        # Phi(z) is (1 - share) Phi(a) + share Phi(b).
        log_p = torch.logaddexp(torch.log1p(-share) + log_ndtr(a), share.log() + log_ndtr(b))
        z = torch.minimum(torch.maximum(_log_ndtri(log_p), a), b)
        value = self.loc + self.scale * torch.where(mirrored, -z, z)
        return torch.minimum(torch.maximum(value, self.low), self.high)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        u = uniform(self.loc, self._extended(sample_shape))
        return self._icdf(u.clamp(max=1 - torch.finfo(u.dtype).eps / 2))

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * self._moments()[0]

    @property
    def variance(self) -> Tensor:
        first, second = self._moments()
        return self.scale**2 * (1 + second - first**2)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """(phi(a) - phi(b)) / mass and (a phi(a) - b phi(b)) / mass, in standard units."""
        (a, b), log_mass = self._bounds(), self._log_mass()
        at_a, at_b = ((-0.5 * z * z - _LOG_ROOT_2_PI - log_mass).exp() for z in (a, b))
        return at_a - at_b, a * at_a - b * at_b


_ENDLESS = 1e8
_LOG_ROOT_2_PI = math.log(math.sqrt(2 * math.pi))


def _log_ndtr_between(a: Tensor, b: Tensor) -> Tensor:
    """log(Phi(b) - Phi(a)) for a <= b, a + b <= 0: in the left tail, or around the middle."""
    upper, lower = log_ndtr(b), log_ndtr(a)
    return upper + torch.log(-torch.expm1(lower - upper))


def _log_ndtri(log_p: Tensor) -> Tensor:
    """z of which log Phi(z) = log_p."""
    far = log_p < -5.0
    near = torch.special.ndtri(torch.where(far, -1.0, log_p).exp())
    # log Phi is concave and close to a parabola in the tail: Newton's steps converge at once. The
    # last one alone is differentiated, which gives the derivative of the root.
    log_p = torch.where(far, log_p, -5.0)
    z = -(-2 * log_p.detach()).sqrt()
    for _ in range(6):
        z = z - (log_ndtr(z) - log_p.detach()) / _slope(z)
    z = z - (log_ndtr(z) - log_p) / _slope(z)
    return torch.where(far, z, near)


def _slope(z: Tensor) -> Tensor:
    """Derivative of log Phi."""
    return (-0.5 * z * z - _LOG_ROOT_2_PI - log_ndtr(z)).exp()


_TRIES = 20


class VonMises(Distribution, torch_dist.VonMises):
    """An angle: the normal distribution wound around the circle, density proportional to
    exp(concentration cos(x - loc)).

    Args:
        loc: mean direction, in radians.
        concentration: > 0; for large values much like a normal distribution of precision
            `concentration`.

    Draws are from -pi to pi; mean and variance are those of the direction (the variance is between
    0 and 1). A draw is made by rejection (Best and Fisher, 1979, "Efficient simulation of the von
    Mises distribution"): how often to try depends on the numbers. Inside `vmap`, and in a captured
    program, there are 20 tries, all of which fail once in 10⁹ draws.

    >>> VonMises(0.0, 4.0).variance
    tensor(0.1365)
    """

    @torch.no_grad()
    def _sample(self, sample_shape: torch.Size) -> Tensor:
        if not (transformed() or NOISE_GIVEN.get()):
            return super()._sample(sample_shape)
        r, k = self._proposal_r, self._concentration
        shape = (_TRIES, *self._extended_shape(sample_shape))
        u = [torch.rand(shape, dtype=r.dtype, device=r.device) for _ in range(2)]
        sign = torch.rand(shape[1:], dtype=r.dtype, device=r.device) - 0.5
        z = torch.cos(math.pi * u[0])
        cosine = (1 + r * z) / (r + z)
        c = k * (r - cosine)
        good = (c * (2 - c) > u[1]) | ((c / u[1]).log() + 1 - c >= 0)
        chosen = cosine[-1]
        for i in range(_TRIES - 2, -1, -1):
            chosen = torch.where(good[i], cosine[i], chosen)
        angle = torch.where(sign < 0, -1.0, 1.0) * chosen.clamp(-1, 1).acos()
        return ((angle + math.pi + self._loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    def _log_prob(self, value: Tensor) -> Tensor:
        k = self.concentration
        # Through the scaled Bessel function: i0e(k) = exp(-k) I0(k) does not overflow.
        normaliser = math.log(2 * math.pi) + torch.special.i0e(k).log()
        return k * (torch.cos(value - self.loc) - 1) - normaliser

    def _cdf(self, value: Tensor) -> Tensor:
        start = torch.full_like(value, -math.pi)
        value = value.clamp(-math.pi, math.pi)
        return self._turned(value - self.loc) - self._turned(start - self.loc)

    def _turned(self, angle: Tensor) -> Tensor:
        """The integral of the density from loc - pi; it grows by 1 with each turn."""
        turns = torch.floor(angle / (2 * math.pi) + 0.5)
        angle = angle - 2 * math.pi * turns
        tail = von_mises_tail(self.concentration, -angle.abs())
        return turns + torch.where(angle > 0, 1 - tail, tail)

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return 1 - torch.special.i1e(k) / torch.special.i0e(k)
