"""Families of positive numbers."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
from torch import Tensor

from . import constraints
from .base import Distribution, Family, parameters
from .pathwise import standard_gamma
from .special import betainc


class Exponential(Distribution, torch_dist.Exponential):
    """The time until an event that may come at any moment alike: density rate exp(-rate x).

    Args:
        rate: events per unit of time, > 0; the mean is 1 / rate.

    >>> Exponential(2.0).mean
    tensor(0.5000)
    """

    def _cdf(self, value: Tensor) -> Tensor:
        return -torch.expm1(-self.rate * value)

    def _icdf(self, value: Tensor) -> Tensor:
        return -torch.log1p(-value) / self.rate


class Gamma(Distribution, torch_dist.Gamma):
    """A positive number, of density proportional to x^(concentration - 1) e^(-rate x).

    Args:
        concentration: shape, > 0.
        rate: inverse scale, > 0; the mean is concentration / rate.

    >>> Gamma(3.0, 2.0).mean
    tensor(1.5000)
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended_shape(sample_shape)
        value = standard_gamma(self.concentration.expand(shape)) / self.rate
        # Never 0, where the density may be infinite; the gradient stays what it is.
        return value + (value.clamp(min=torch.finfo(value.dtype).tiny) - value).detach()

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration, self.rate
        return torch.xlogy(a, b) + torch.xlogy(a - 1, value) - b * value - a.lgamma()

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.special.gammainc(self.concentration, self.rate * value)


class Chi2(Gamma, torch_dist.Chi2):
    """The sum of the squares of `df` standard normal numbers: Gamma(df / 2, 1 / 2).

    Args:
        df: degrees of freedom, > 0; the mean is df.

    >>> Chi2(3.0).variance
    tensor(6.)
    """

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df, validate_args=None):
        torch_dist.Gamma.__init__(self, 0.5 * parameters(df)[0], 0.5, validate_args=False)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return self.concentration * 2


class InverseGamma(Distribution, torch_dist.InverseGamma):
    """One over a gamma-distributed number: density proportional to x^(-concentration - 1) e^(-rate
    / x).

    Args:
        concentration: shape, > 0; the mean is finite above 1, the variance above 2.
        rate: > 0; the mean is rate / (concentration - 1).

    >>> InverseGamma(3.0, 2.0).mean
    tensor(1.)
    """

    def __init__(self, concentration, rate, validate_args=None):
        base = Gamma(concentration, rate)
        power = torch_dist.PowerTransform(-base.rate.new_ones(()))
        torch_dist.TransformedDistribution.__init__(self, base, power, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self.base_dist._rsample(sample_shape).reciprocal()

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return self._rsample(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration, self.rate
        return torch.xlogy(a, b) - torch.xlogy(a + 1, value) - b / value - a.lgamma()

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.special.gammaincc(self.concentration, self.rate / value)


class LogNormal(Distribution, torch_dist.LogNormal):
    """A positive number whose logarithm is normal with mean `loc` and standard deviation `scale`.

    Args:
        loc: mean of the logarithm.
        scale: standard deviation of the logarithm, > 0.

    >>> LogNormal(0.0, 1.0).mean
    tensor(1.6487)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        log_value = value.log()
        z = (log_value - self.loc) / self.scale
        return -0.5 * z * z - log_value - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.special.erfc((self.loc - value.log()) / (self.scale * math.sqrt(2))) / 2

    def _icdf(self, value: Tensor) -> Tensor:
        return (self.loc + self.scale * torch.special.ndtri(value)).exp()


class HalfNormal(Distribution, torch_dist.HalfNormal):
    """The right half of a normal distribution around 0: the distance from 0 of Normal(0, scale).

    Args:
        scale: standard deviation of the whole, > 0.

    >>> HalfNormal(1.0).log_prob(torch.tensor(0.0))
    tensor(-0.2258)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return math.log(math.sqrt(2 / math.pi)) - 0.5 * z * z - self.scale.log()

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.erf(value / (self.scale * math.sqrt(2)))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * math.sqrt(2) * torch.erfinv(value)


class HalfCauchy(Distribution, torch_dist.HalfCauchy):
    """The right half of a Cauchy distribution around 0: density 2 / (pi scale (1 + (x / scale)^2));
    no finite mean.

    Args:
        scale: median, > 0.

    >>> HalfCauchy(2.0).cdf(torch.tensor(2.0))
    tensor(0.5000)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        z = value / self.scale
        return math.log(2 / math.pi) - self.scale.log() - torch.log1p(z * z)

    def _cdf(self, value: Tensor) -> Tensor:
        return (value / self.scale).atan() * (2 / math.pi)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * (value * (math.pi / 2)).tan()


class Weibull(Distribution, torch_dist.Weibull):
    """A lifetime whose risk grows or falls with age: distribution function 1 - exp(-(x /
    scale)^concentration).

    Args:
        scale: > 0; by then 63 % are gone.
        concentration: > 0; above 1 the risk grows, below 1 it falls, at 1 it is `Exponential`.

    >>> Weibull(1.0, 2.0).mean
    tensor(0.8862)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        k, z = self.concentration, value / self.scale
        return k.log() - self.scale.log() + torch.xlogy(k - 1, z) - z**k

    def _cdf(self, value: Tensor) -> Tensor:
        return -torch.expm1(-((value / self.scale) ** self.concentration))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * (-torch.log1p(-value)) ** self.concentration.reciprocal()


class Pareto(Distribution, torch_dist.Pareto):
    """A number above `scale` whose tail falls as a power: P(X > x) = (scale / x)^alpha.

    Args:
        scale: the least possible value, > 0.
        alpha: > 0; the mean is finite above 1, the variance above 2.

    >>> Pareto(1.0, 3.0).mean
    tensor(1.5000)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.alpha
        log_prob = a.log() + a * self.scale.log() - (a + 1) * value.log()
        return torch.where(value >= self.scale, log_prob, -math.inf)

    def _cdf(self, value: Tensor) -> Tensor:
        return -torch.expm1(self.alpha * (self.scale / value).log().clamp(max=0))

    def _icdf(self, value: Tensor) -> Tensor:
        return self.scale * (-torch.log1p(-value) / self.alpha).exp()


class GeneralizedPareto(Family):
    """What exceeds a high threshold: P(X > x) = (1 + c z)^(-1 / c), where z = (x - loc) / scale and
    c is the concentration; exp(-z) at c = 0.

    Args:
        loc: the threshold, and least possible value.
        scale: > 0.
        concentration: any number; the mean is finite below 1, the variance below 1/2; when
            negative, no value exceeds loc - scale / concentration.

    >>> GeneralizedPareto(0.0, 1.0, 0.5).mean
    tensor(2.)
    """

    arg_constraints = {
        "loc": constraints.real,
        "scale": constraints.positive,
        "concentration": constraints.real,
    }
    has_rsample = True

    def __init__(self, loc, scale, concentration, validate_args=None):
        self.loc, self.scale, self.concentration = parameters(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        shrinking = self.concentration < 0
        reach = self.scale / torch.where(shrinking, -self.concentration, 1.0)
        return constraints.interval(self.loc, torch.where(shrinking, self.loc + reach, math.inf))

    def _divisor(self) -> tuple[Tensor, Tensor]:
        """Where the concentration is as good as 0, and the concentration, 1 there."""
        none = self.concentration.abs() < 1e-8
        return none, torch.where(none, 1.0, self.concentration)

    def _log_survival(self, value: Tensor) -> Tensor:
        z, (none, c) = (value - self.loc) / self.scale, self._divisor()
        return torch.where(none, -z, -torch.log1p(c * z) / c)

    def _log_prob(self, value: Tensor) -> Tensor:
        # The density is P(X > x)^(1 + c) / scale.
        return (1 + self.concentration) * self._log_survival(value) - self.scale.log()

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        u = torch.rand(self._extended(sample_shape), dtype=self.loc.dtype, device=self.loc.device)
        return self._icdf(u)

    def _cdf(self, value: Tensor) -> Tensor:
        return -torch.expm1(self._log_survival(value))

    def _icdf(self, value: Tensor) -> Tensor:
        none, c = self._divisor()
        log_above = torch.log1p(-value)
        return self.loc + self.scale * torch.where(
            none, -log_above, torch.expm1(-c * log_above) / c
        )

    @property
    def mean(self) -> Tensor:
        c = torch.where(self.concentration < 1, self.concentration, 0.0)
        return torch.where(self.concentration < 1, self.loc + self.scale / (1 - c), math.nan)

    @property
    def variance(self) -> Tensor:
        c = torch.where(self.concentration < 0.5, self.concentration, 0.0)
        finite = self.scale**2 / ((1 - c) ** 2 * (1 - 2 * c))
        return torch.where(self.concentration < 0.5, finite, math.nan)

    def entropy(self) -> Tensor:
        """Mean of -log_prob; batch-shaped."""
        return self.scale.log() + self.concentration + 1


class FisherSnedecor(Distribution, torch_dist.FisherSnedecor):
    """The ratio of two sample variances: of (Chi2(df1) / df1) and (Chi2(df2) / df2).

    Args:
        df1: degrees of freedom above the line, > 0.
        df2: degrees of freedom below the line, > 0; the mean is df2 / (df2 - 2), for df2 > 2.

    >>> FisherSnedecor(2.0, 4.0).mean
    tensor(2.)
    """

    def __init__(self, df1, df2, validate_args=None):
        self.df1, self.df2 = parameters(df1, df2)
        self._gamma1 = Gamma(self.df1 * 0.5, self.df1)
        self._gamma2 = Gamma(self.df2 * 0.5, self.df2)
        torch_dist.Distribution.__init__(self, self.df1.shape, validate_args=validate_args)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        above, below = self._gamma1._rsample(sample_shape), self._gamma2._rsample(sample_shape)
        return (above / below).clamp(min=torch.finfo(above.dtype).tiny)

    def _log_prob(self, value: Tensor) -> Tensor:
        half1, half2, ratio = self.df1 / 2, self.df2 / 2, self.df1 / self.df2
        normaliser = half1.lgamma() + half2.lgamma() - (half1 + half2).lgamma()
        body = half1 * ratio.log() + torch.xlogy(half1 - 1, value)
        return body - (half1 + half2) * torch.log1p(ratio * value) - normaliser

    def _cdf(self, value: Tensor) -> Tensor:
        share = self.df1 / (self.df1 + self.df2 / value.clamp(min=0))
        return betainc(self.df1 / 2, self.df2 / 2, share)

    @property
    def mean(self) -> Tensor:
        df2 = torch.where(self.df2 > 2, self.df2, math.nan)
        return df2 / (df2 - 2)

    @property
    def variance(self) -> Tensor:
        df2 = torch.where(self.df2 > 4, self.df2, math.nan)
        return 2 * df2**2 * (self.df1 + df2 - 2) / (self.df1 * (df2 - 2) ** 2 * (df2 - 4))
