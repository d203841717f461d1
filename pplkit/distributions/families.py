"""The families, one class each over its namesake in `torch.distributions`."""

from __future__ import annotations

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions import constraints

from .base import Distribution


class Normal(Distribution, torch_dist.Normal):
    """The normal distribution: a bell around `loc` of standard deviation `scale`.

    Args:
        loc: mean.
        scale: standard deviation (not variance), > 0. Both of any shapes that broadcast.

    >>> Normal(0.0, 2.0).log_prob(torch.tensor(0.0))
    tensor(-1.6121)
    """


class LogNormal(Distribution, torch_dist.LogNormal):
    """A positive number whose logarithm is normal with mean `loc` and standard deviation `scale` > 0.

    >>> LogNormal(0.0, 1.0).mean
    tensor(1.6487)
    """


class Uniform(Distribution, torch_dist.Uniform):
    """Any number from `low` to `high`, all alike.

    >>> Uniform(0.0, 4.0).log_prob(torch.tensor(1.0)).exp()
    tensor(0.2500)
    """

    def relations(self):
        yield "high", self.high, constraints.greater_than(self.low)


class Gamma(Distribution, torch_dist.Gamma):
    """A positive number, of density proportional to x^(concentration - 1) e^(-rate x).

    Args:
        concentration: shape, > 0.
        rate: inverse scale, > 0; the mean is concentration / rate.

    >>> Gamma(3.0, 2.0).mean
    tensor(1.5000)
    """


class Beta(Distribution, torch_dist.Beta):
    """A number between 0 and 1: what a proportion may be, after concentration1 - 1 hits and concentration0 - 1 misses.

    >>> Beta(2.0, 1.0).mean
    tensor(0.6667)
    """


class Bernoulli(Distribution, torch_dist.Bernoulli):
    """0 or 1, as floating-point numbers: 1 with probability `probs`.

    Args:
        probs: between 0 and 1; or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> Bernoulli(0.2).log_prob(torch.tensor(1.0)).exp()
    tensor(0.2000)
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass of `value`, 0 or 1, of any number type."""
        return super().log_prob(value.to(self._param.dtype) if not value.is_floating_point() else value)


class Categorical(Distribution, torch_dist.Categorical):
    """One of the whole numbers 0 ... K - 1.

    Args:
        probs: non-negative weights, shape `(..., K)`, normalised to sum 1; or instead
        logits: their logarithms, up to a constant.

    >>> Categorical(torch.tensor([1.0, 3.0])).log_prob(torch.tensor(1)).exp()
    tensor(0.7500)
    """


class Delta(Distribution):
    """Always the value `v`.

    Args:
        v: of any shape.
        log_density: what `log_prob(v)` is; batch-shaped.
        event_dim: how many rightmost dimensions of `v` are one value.

    >>> Delta(torch.tensor(2.0)).log_prob(torch.tensor([2.0, 3.0]))
    tensor([0., -inf])
    """

    has_rsample = True
    arg_constraints = {"v": constraints.dependent, "log_density": constraints.real}

    def __init__(self, v, log_density=0.0, event_dim: int = 0, validate_args=None):
        v = torch.as_tensor(v)
        batch_dim = v.dim() - event_dim
        batch_shape, event_shape = v.shape[:batch_dim], v.shape[batch_dim:]
        self.v = v
        self.log_density = torch.as_tensor(log_density, dtype=_floating(v), device=v.device).expand(batch_shape)
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    @constraints.dependent_property
    def support(self):
        return constraints.independent(constraints.real, self.event_dim)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Delta, _instance)
        batch_shape = torch.Size(batch_shape)
        new.v = self.v.expand(batch_shape + self.event_shape)
        new.log_density = self.log_density.expand(batch_shape)
        super(Delta, new).__init__(batch_shape, self.event_shape, validate_args=False)
        return new

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        """`v`, repeated."""
        return self.v.expand(torch.Size(sample_shape) + self.v.shape)

    def sample(self, sample_shape=torch.Size()) -> Tensor:
        """`v`, repeated, without gradient."""
        return self.rsample(sample_shape).detach()

    def log_prob(self, value: Tensor) -> Tensor:
        """`log_density` where `value` is `v`, -inf elsewhere."""
        same = torch.as_tensor(value == self.v, dtype=self.log_density.dtype).log()
        return same.sum(tuple(range(-self.event_dim, 0))) + self.log_density if self.event_dim else same + self.log_density

    @property
    def mean(self) -> Tensor:
        return self.v

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.v)


class Unit(Distribution):
    """A term of a log-probability, of no variable: its values are empty. Made by `factor`.

    Args:
        log_factor: the term; batch-shaped.
        has_rsample: in a guide, whether it is differentiable in the guide's draws.

    >>> Unit(torch.tensor(-1.5)).log_prob(torch.empty(0))
    tensor(-1.5000)
    """

    arg_constraints = {"log_factor": constraints.dependent}
    support = constraints.independent(constraints.real, 1)

    def __init__(self, log_factor, *, has_rsample: bool | None = None, validate_args=None):
        self.log_factor = torch.as_tensor(log_factor)
        self.has_rsample = bool(has_rsample)
        super().__init__(self.log_factor.shape, torch.Size((0,)), validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Unit, _instance)
        new.log_factor, new.has_rsample = self.log_factor.expand(torch.Size(batch_shape)), self.has_rsample
        super(Unit, new).__init__(new.log_factor.shape, self.event_shape, validate_args=False)
        return new

    def rsample(self, sample_shape=torch.Size()) -> Tensor:
        """Empty."""
        return self.log_factor.new_empty(self.shape(sample_shape))

    def sample(self, sample_shape=torch.Size()) -> Tensor:
        """Empty."""
        return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """`log_factor`, whatever the value."""
        return self.log_factor.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))


def _floating(v: Tensor) -> torch.dtype:
    return v.dtype if v.is_floating_point() else torch.get_default_dtype()
