"""Families on the real line."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributions.utils import broadcast_all

from . import constraints
from .base import Distribution, Family, parameters
from .positive import Chi2
from .special import betainc

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _alike(a, b) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape: `broadcast_all`, quicker where there is little to do."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape:
        return a, b
    if isinstance(a, Tensor) and a.dim() == 0 and isinstance(b, float):
        return a, torch.tensor(b, dtype=a.dtype, device=a.device)
    if isinstance(a, float) and isinstance(b, float):
        return torch.tensor(a), torch.tensor(b)
    return broadcast_all(a, b)


class Normal(Distribution, torch_dist.Normal):
    """The normal distribution: a bell around `loc`, of density proportional to exp(-((x - loc) /
    scale)^2 / 2).

    Args:
        loc: mean.
        scale: standard deviation (not variance), > 0. Both of any shapes that broadcast.

    >>> Normal(0.0, 2.0).log_prob(torch.tensor(0.0))
    tensor(-1.6121)
    """

    def __init__(self, loc, scale, validate_args=None):
        self.loc, self.scale = _alike(loc, scale)
        torch_dist.Distribution.__init__(self, self.loc.shape, validate_args=validate_args)

    def _of_noise(self, take, sample_shape: torch.Size) -> Tensor:
        shape = self._extended_shape(sample_shape)
        return self.loc + self.scale * take("normal", shape, self.loc.dtype, self.loc.device)

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return torch.addcmul(self.scale.log().neg() - _HALF_LOG_2PI, z, z, value=-0.5)

    def _cdf(self, value: Tensor) -> Tensor:
        return ndtr((value - self.loc) / self.scale)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * torch.special.ndtri(value)


class NanMaskedNormal(Normal):
    """A normal distribution for data with gaps: NaN in a value has no part in the log-probability.

    Args:
        loc: mean.
        scale: standard deviation, > 0.

    >>> NanMaskedNormal(0.0, 1.0).log_prob(torch.tensor([0.0, float("nan")]))
    tensor([-0.9189,  0.0000])
    """

    @property
    def support(self):
        return constraints.anything

    def _log_prob(self, value: Tensor) -> Tensor:
        known = value.isfinite()
        log_prob = super()._log_prob(torch.where(known, value, 0.0))
        return torch.where(known, log_prob, 0.0)


class Cauchy(Distribution, torch_dist.Cauchy):
    """A bell with tails so heavy that it has no mean: density 1 / (pi scale (1 + ((x - loc) /
    scale)^2)).

    Args:
        loc: median.
        scale: half the distance between the quartiles, > 0.

    >>> Cauchy(0.0, 1.0).cdf(torch.tensor(1.0))
    tensor(0.7500)
    """

    def _cdf(self, value: Tensor) -> Tensor:
        # The angle, not half of a half plus it: no cancellation in the left tail.
        z = (value - self.loc) / self.scale
        return torch.atan2(torch.ones_like(z), -z) / math.pi

    def _icdf(self, value: Tensor) -> Tensor:
        left = value < 0.5
        away = 1 / (math.pi * torch.where(left, value, 1 - value)).tan()
        return self.loc + self.scale * torch.where(left, -away, away)


class Laplace(Distribution, torch_dist.Laplace):
    """Two exponential slopes, back to back: density exp(-|x - loc| / scale) / (2 scale).

    Args:
        loc: mean.
        scale: mean distance from it, > 0.

    >>> Laplace(0.0, 1.0).log_prob(torch.tensor(2.0))
    tensor(-2.6931)
    """

    def _cdf(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        tail = 0.5 * torch.exp(-z.abs())
        return torch.where(z < 0, tail, 1 - tail)

    def _icdf(self, value: Tensor) -> Tensor:
        left = value < 0.5
        tail = torch.where(left, value, 1 - value)
        z = (2 * tail).log()
        return self.loc + self.scale * torch.where(left, z, -z)


class StudentT(Distribution, torch_dist.StudentT):
    """A normal distribution of unsure variance: density proportional to (1 + z^2 / df)^(-(df + 1) /
    2), where z = (x - loc) / scale. It has a mean for df > 1, a finite variance for df > 2.

    Args:
        df: degrees of freedom, > 0; the smaller, the heavier the tails.
        loc: centre.
        scale: > 0.

    >>> StudentT(3.0).log_prob(torch.tensor(0.0))
    tensor(-1.0009)
    """

    def __init__(self, df, loc=0.0, scale=1.0, validate_args=None):
        self.df, self.loc, self.scale = parameters(df, loc, scale)
        self._chi2 = Chi2(self.df)
        torch_dist.Distribution.__init__(self, self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return torch.where(self.df > 1, self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        finite = self.scale**2 * self.df / torch.where(self.df > 2, self.df - 2, 1.0)
        return torch.where(self.df > 2, finite, torch.where(self.df > 1, math.inf, math.nan))

    def _cdf(self, value: Tensor) -> Tensor:
        # z^2 / (df + z^2) is Beta(1/2, df/2); each side of z^2 = df is computed where it is exact.
        z = (value - self.loc) / self.scale
        square, half, df = z * z, torch.full_like(z, 0.5), self.df.expand(z.shape)
        far = square > df
        share = torch.where(far, df, square) / (df + square)
        within = betainc(torch.where(far, df / 2, half), torch.where(far, half, df / 2), share)
        tail = torch.where(far, within, 1 - within) / 2
        return torch.where(z > 0, 1 - tail, tail)


class Gumbel(Distribution, torch_dist.Gumbel):
    """The largest of many: distribution function exp(-exp(-(x - loc) / scale)).

    Args:
        loc: mode.
        scale: > 0.

    >>> Gumbel(0.0, 1.0).mean
    tensor(0.5772)
    """

    def _cdf(self, value: Tensor) -> Tensor:
        return (-((self.loc - value) / self.scale).exp()).exp()

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc - self.scale * (-value.log()).log()

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (self.loc - value) / self.scale
        return z - z.exp() - self.scale.log()


class _LocationScale(Family):
    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc, scale, *, validate_args=None):
        self.loc, self.scale = parameters(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._icdf(uniform(self.loc, self._extended(sample_shape)))


class Logistic(_LocationScale):
    """A bell with exponential tails: distribution function 1 / (1 + exp(-(x - loc) / scale)).

    Args:
        loc: mean.
        scale: > 0; the standard deviation is scale pi / sqrt(3).

    >>> Logistic(0.0, 1.0).log_prob(torch.tensor(0.0))
    tensor(-1.3863)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return F.logsigmoid(z) + F.logsigmoid(-z) - self.scale.log()

    def _cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).sigmoid()

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * value.logit()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale * math.pi) ** 2 / 3

    def entropy(self) -> Tensor:
        """Mean of -log_prob; batch-shaped."""
        return self.scale.log() + 2


class SkewLogistic(Family):
    """A logistic bell with one tail drawn out: distribution function (1 + exp(-(x - loc) /
    scale))^(-asymmetry).

    Args:
        loc: centre.
        scale: > 0.
        asymmetry: > 0; above 1 it leans right, below 1 left, at 1 it is `Logistic`.

    >>> SkewLogistic(0.0, 1.0, 2.0).cdf(torch.tensor(0.0))
    tensor(0.2500)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "asymmetry": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, loc, scale, asymmetry=1.0, *, validate_args=None):
        self.loc, self.scale, self.asymmetry = parameters(loc, scale, asymmetry)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._icdf(uniform(self.loc, self._extended(sample_shape)))

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        a = self.asymmetry
        return a.log() + a * F.logsigmoid(z) + F.logsigmoid(-z) - self.scale.log()

    def _cdf(self, value: Tensor) -> Tensor:
        return (self.asymmetry * F.logsigmoid((value - self.loc) / self.scale)).exp()

    def _icdf(self, value: Tensor) -> Tensor:
        # With p = value^(1 / a): logit(p) = log(p) - log(1 - p).
        log_p = value.log() / self.asymmetry
        return self.loc + self.scale * (log_p - (-torch.expm1(log_p)).log())

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * (
            self.asymmetry.digamma() - torch.ones_like(self.asymmetry).digamma()
        )

    @property
    def variance(self) -> Tensor:
        return self.scale**2 * (torch.polygamma(1, self.asymmetry) + math.pi**2 / 6)


class SoftLaplace(_LocationScale):
    """Laplace's slopes with the tip rounded off: density 2 / (pi scale (e^z + e^-z)), z = (x - loc)
    / scale.

    Args:
        loc: mean.
        scale: > 0; the standard deviation is scale pi / 2.

    >>> SoftLaplace(0.0, 1.0).log_prob(torch.tensor(0.0))
    tensor(-1.1447)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.loc) / self.scale
        return math.log(2 / math.pi) - self.scale.log() - torch.logaddexp(z, -z)

    def _cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).exp().atan() * (2 / math.pi)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * (value * (math.pi / 2)).tan().log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale * (math.pi / 2)) ** 2


class AsymmetricLaplace(Family):
    """Two exponential slopes of different steepness, back to back: density exp(-|x - loc| / s) /
    (scale (asymmetry + 1 / asymmetry)), where s is scale asymmetry on the left of loc, and scale /
    asymmetry on its right.

    Args:
        loc: mode.
        scale: geometric mean of the two slopes' scales, > 0.
        asymmetry: > 0; above 1 the left slope is the longer one.

    >>> AsymmetricLaplace(0.0, 1.0, 2.0).log_prob(torch.tensor(0.0))
    tensor(-0.9163)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "asymmetry": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, loc, scale, asymmetry, *, validate_args=None):
        self.loc, self.scale, self.asymmetry = parameters(loc, scale, asymmetry)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def left_scale(self) -> Tensor:
        """Mean distance from `loc` of what lies on its left."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> Tensor:
        """Mean distance from `loc` of what lies on its right."""
        return self.scale / self.asymmetry

    def _log_prob(self, value: Tensor) -> Tensor:
        z = value - self.loc
        distance = z.abs() / torch.where(z < 0, self.left_scale, self.right_scale)
        return -distance - (self.left_scale + self.right_scale).log()

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        # The difference of two exponential numbers has just this distribution.
        u, v = self.loc.new_empty((2, *self._extended(sample_shape))).exponential_().unbind(0)
        return self.loc - self.left_scale * u + self.right_scale * v

    def _cdf(self, value: Tensor) -> Tensor:
        z, left, right = value - self.loc, self.left_scale, self.right_scale
        below = left / (left + right) * (z.clamp(max=0) / left).exp()
        above = right / (left + right) * (-z.clamp(min=0) / right).exp()
        return torch.where(z < 0, below, 1 - above)

    def _icdf(self, value: Tensor) -> Tensor:
        left, right = self.left_scale, self.right_scale
        share = left / (left + right)
        below = left * (value / share).clamp(max=1).log()
        above = right * ((1 - value) / (1 - share)).clamp(max=1).log()
        return self.loc + torch.where(value < share, below, -above)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def variance(self) -> Tensor:
        return self.left_scale**2 + self.right_scale**2


class SoftAsymmetricLaplace(Family):
    """An asymmetric Laplace number plus a normal one, of standard deviation scale softness: smooth
    everywhere.

    Args:
        loc: where the asymmetric Laplace distribution has its mode.
        scale: > 0.
        asymmetry: > 0; above 1 the left slope is the longer one.
        softness: > 0.

    >>> SoftAsymmetricLaplace(0.0, 1.0).log_prob(torch.tensor(0.0))
    tensor(-1.3410)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "asymmetry": constraints.positive,
        "softness": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, loc, scale, asymmetry=1.0, softness=1.0, *, validate_args=None):
        values = parameters(loc, scale, asymmetry, softness)
        self.loc, self.scale, self.asymmetry, self.softness = values
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def left_scale(self) -> Tensor:
        """Length of the left slope."""
        return self.scale * self.asymmetry

    @property
    def right_scale(self) -> Tensor:
        """Length of the right slope."""
        return self.scale / self.asymmetry

    @property
    def soft_scale(self) -> Tensor:
        """Standard deviation of the normal part."""
        return self.scale * self.softness

    def _log_prob(self, value: Tensor) -> Tensor:
        # A slope of length r, smeared by a normal number of deviation s, has at distance z the
        # density exp(s^2 / 2r^2 - z / r) Phi(z / s - s / r) / (sum of the slopes); log Phi keeps
        # the tails.
        z, s = value - self.loc, self.soft_scale
        left, right = self.left_scale, self.right_scale

        def slope(z, r):
            return s * s / (2 * r * r) - z / r + log_ndtr(z / s - s / r)

        return torch.logaddexp(slope(-z, left), slope(z, right)) - (left + right).log()

    def _cdf(self, value: Tensor) -> Tensor:
        z, s = value - self.loc, self.soft_scale
        left, right = self.left_scale, self.right_scale

        def beyond(z, r):
            return r * (s * s / (2 * r * r) - z / r + log_ndtr(z / s - s / r)).exp()

        return ndtr(z / s) + (beyond(-z, left) - beyond(z, right)) / (left + right)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended(sample_shape)
        z = self.loc.new_empty(shape).normal_()
        u, v = self.loc.new_empty((2, *shape)).exponential_().unbind(0)
        return self.loc + self.soft_scale * z - self.left_scale * u + self.right_scale * v

    @property
    def mean(self) -> Tensor:
        return self.loc + self.right_scale - self.left_scale

    @property
    def variance(self) -> Tensor:
        return self.left_scale**2 + self.right_scale**2 + self.soft_scale**2


def uniform(like: Tensor, shape) -> Tensor:
    """Numbers between 0 and 1, never 0 itself, of `like`'s type and device."""
    u = torch.rand(shape, dtype=like.dtype, device=like.device)
    return u.clamp(min=torch.finfo(u.dtype).tiny)


def ndtr(z: Tensor) -> Tensor:
    """Phi(z), the standard normal's distribution function; torch's own is 0 far on the left."""
    return torch.special.erfc(z * -math.sqrt(0.5)) / 2


def log_ndtr(z: Tensor) -> Tensor:
    """log Phi(z), exact in the left tail; torch's own has no rule for `vmap`."""
    left, right = z.clamp(max=-1.0), z.clamp(min=-1.0)
    tail = (torch.special.erfcx(left * -math.sqrt(0.5)) / 2).log() - 0.5 * left * left
    return torch.where(z < -1.0, tail, torch.log1p(-torch.special.erfc(right * math.sqrt(0.5)) / 2))
