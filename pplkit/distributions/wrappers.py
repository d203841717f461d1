"""Distributions made of values, of terms, or of other distributions."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
from torch import Tensor

from . import constraints
from .base import Distribution, Family, adopt, grown, summed
from .discrete import Categorical


class Delta(Family):
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
        if not 0 <= event_dim <= v.dim():
            raise ValueError(f"v has no {event_dim} dimensions")
        batch_shape = v.shape[: v.dim() - event_dim]
        dtype = v.dtype if v.is_floating_point() else torch.get_default_dtype()
        log_density = torch.as_tensor(log_density, dtype=dtype, device=v.device)
        self.v, self.log_density = v, log_density.expand(batch_shape)
        super().__init__(batch_shape, v.shape[v.dim() - event_dim :], validate_args=validate_args)

    @constraints.dependent_property
    def support(self):
        kind = constraints.real if self.v.is_floating_point() else constraints.integer
        return constraints.independent(kind, self.event_dim)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new.v = self.v.expand(new.batch_shape + self.event_shape)
        return new

    def _as_value(self, value) -> Tensor:
        return torch.as_tensor(value)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self.v.expand(sample_shape + self.v.shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        same = (value == self.v).to(self.log_density.dtype).log()
        return summed(same, self.event_dim) + self.log_density

    def _cdf(self, value: Tensor) -> Tensor:
        if self.event_dim:
            raise NotImplementedError
        return (value >= self.v).to(self.log_density.dtype)

    @property
    def mean(self) -> Tensor:
        return self.v

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.v)


class Unit(Family):
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
        new = super().expand(batch_shape, _instance)
        new.log_factor = self.log_factor.expand(new.batch_shape)
        return new

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self.log_factor.new_empty(self._extended(sample_shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.log_factor.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))


class ImproperUniform(Family):
    """Every value of the support alike, however large it is: the density is 1, its integral need
    not be finite.

    Args:
        support: a constraint, as `constraints.positive`.
        batch_shape, event_shape: shapes.

    It has no draws: as a latent variable it needs a guide, or a starting value.

    >>> ImproperUniform(constraints.positive, (), ()).log_prob(torch.tensor(3.0))
    tensor(0.)
    """

    arg_constraints = {}
    support = None

    def __init__(self, support, batch_shape, event_shape, validate_args=None):
        batch_shape, event_shape = torch.Size(batch_shape), torch.Size(event_shape)
        missing = len(event_shape) - support.event_dim
        if missing < 0:
            raise ValueError(f"event_shape {event_shape} is too short for values in {support}")
        self.support = constraints.independent(support, missing) if missing else support
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def _log_prob(self, value: Tensor) -> Tensor:
        shape = value.shape[: value.dim() - self.event_dim]
        return value.new_zeros(torch.broadcast_shapes(shape, self.batch_shape))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        raise NotImplementedError(
            "ImproperUniform has no draws: there is no uniform choice from an endless set"
        )


class Empirical(Family):
    """One of some given values, with the odds of their weights: posterior samples, say.

    Args:
        samples: the values, shape `batch_shape + (N,) + event_shape`.
        log_weights: their log-weights, up to a constant, shape `batch_shape + (N,)`.

    The log-probability is that of values equal to the given ones, to the last digit.

    >>> d = Empirical(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    >>> d.mean, d.log_prob(torch.tensor(2.0)).exp()
    (tensor(1.5000), tensor(0.5000))
    """

    arg_constraints = {"log_weights": constraints.real_vector}
    has_enumerate_support = True

    def __init__(self, samples, log_weights, validate_args=None):
        samples = torch.as_tensor(samples)
        if log_weights.dim() < 1 or samples.shape[: log_weights.dim()] != log_weights.shape:
            raise ValueError(
                "the shape of log_weights must be the leftmost part of that of samples"
            )
        self._samples, self.log_weights = samples, log_weights
        event_shape = samples.shape[log_weights.dim() :]
        super().__init__(log_weights.shape[:-1], event_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._samples = self._samples.expand(new.batch_shape + self._samples.shape[self.batch_dim :])
        return new

    @constraints.dependent_property
    def support(self):
        kind = constraints.real if self._samples.is_floating_point() else constraints.integer
        return constraints.independent(kind, self.event_dim)

    @property
    def sample_size(self) -> int:
        """How many values there are, of all batches together."""
        return self.log_weights.numel()

    @property
    def _probs(self) -> Tensor:
        return self.log_weights.softmax(-1)

    def _as_value(self, value) -> Tensor:
        return torch.as_tensor(value)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        index = Categorical(logits=self.log_weights)._sample(sample_shape)
        ones = (1,) * self.event_dim
        index = index.reshape(index.shape + (1,) + ones).expand(
            index.shape + (1,) + self.event_shape
        )
        samples = self._samples.expand(sample_shape + self._samples.shape)
        return samples.gather(len(index.shape) - 1 - self.event_dim, index).squeeze(
            -1 - self.event_dim
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        same = value.unsqueeze(-1 - self.event_dim) == self._samples
        if self.event_dim:
            same = same.flatten(-self.event_dim).all(-1)
        return torch.where(same, self._probs, 0.0).sum(-1).log()

    def _cdf(self, value: Tensor) -> Tensor:
        if self.event_dim:
            raise NotImplementedError
        return torch.where(self._samples <= value.unsqueeze(-1), self._probs, 0.0).sum(-1)

    def _weighted(self, values: Tensor) -> Tensor:
        probs = self._probs.reshape(self.log_weights.shape + (1,) * self.event_dim)
        return (probs * values).sum(self.batch_dim)

    @property
    def mean(self) -> Tensor:
        return self._weighted(self._samples)

    @property
    def variance(self) -> Tensor:
        return self._weighted((self._samples - self.mean.unsqueeze(self.batch_dim)) ** 2)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The given values, along a new first dimension."""
        return self._samples.movedim(self.batch_dim, 0)

    def get_samples_and_weights(self) -> tuple[Tensor, Tensor]:
        """What it was made of: the values, and their log-weights."""
        return self._samples, self.log_weights


# -- of other distributions ------------------------------------------------------------------------


class MaskedDistribution(Family):
    """A distribution whose log-probability counts only where a mask is true; made by `.mask(m)`.

    Args:
        base_dist: the distribution.
        mask: True, False, or a tensor of truth values that broadcasts with the batch shape.

    Where the mask is false a value may be anything, but not NaN if gradients are to flow.

    >>> import pplkit.distributions as dist
    >>> MaskedDistribution(dist.Normal(0.0, 1.0), False).log_prob(torch.tensor(1.0))
    tensor(0.)
    """

    arg_constraints = {}
    _inner = ("base_dist",)

    def __init__(self, base_dist, mask, validate_args=None):
        base_dist = adopt(base_dist)
        if isinstance(mask, Tensor):
            batch_shape = torch.broadcast_shapes(mask.shape, base_dist.batch_shape)
            base_dist = (
                base_dist if base_dist.batch_shape == batch_shape else base_dist.expand(batch_shape)
            )
            mask = mask.bool().expand(batch_shape)
        elif not isinstance(mask, bool):
            raise TypeError(f"mask must be True, False or a tensor of truth values, not {mask!r}")
        self._mask, self.base_dist = mask, base_dist
        super().__init__(base_dist.batch_shape, base_dist.event_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        if isinstance(self._mask, Tensor):
            new._mask = self._mask.expand(new.batch_shape)
        return new

    @property
    def has_rsample(self) -> bool:
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:
        return self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self):
        inner = self.base_dist.support
        if isinstance(self._mask, Tensor):
            return constraints.masked(inner, self._mask)
        return inner

    def parts(self):
        return (self.base_dist,) if self._mask is not False else ()

    def _as_value(self, value) -> Tensor:
        return self.base_dist._as_value(value)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        return self.base_dist._sample(sample_shape)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self.base_dist._rsample(sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        if self._mask is False:
            shape = torch.broadcast_shapes(
                value.shape[: value.dim() - self.event_dim], self.batch_shape
            )
            return torch.zeros(shape, dtype=self._as_value(0.0).dtype, device=value.device)
        log_prob = self.base_dist._log_prob(value)
        return log_prob if self._mask is True else torch.where(self._mask, log_prob, 0.0)

    def _unmasked(self):
        return self.base_dist._unmasked()

    def _cdf(self, value: Tensor) -> Tensor:
        return self.base_dist._cdf(value)

    def _icdf(self, value: Tensor) -> Tensor:
        return self.base_dist._icdf(value)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The base distribution's values."""
        return self.base_dist.enumerate_support(expand)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance


class ExpandedDistribution(Family):
    """Independent copies of a distribution that does not say itself how to make them; made by
    `.expand(...)`.

    Args:
        base_dist: the distribution.
        batch_shape: the shape of the copies; sizes of 1 can grow.

    >>> import pplkit.distributions as dist
    >>> ExpandedDistribution(dist.Normal(torch.zeros(3, 1), 1.0), (2, 3, 4)).sample().shape
    torch.Size([2, 3, 4])
    """

    arg_constraints = {}

    def __init__(self, base_dist, batch_shape=torch.Size(), validate_args=None):
        self.base_dist = adopt(base_dist)
        batch_shape = grown(self.base_dist, batch_shape)
        super().__init__(batch_shape, self.base_dist.event_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        return ExpandedDistribution(self.base_dist, grown(self, batch_shape))

    @property
    def has_rsample(self) -> bool:
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:
        return self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self):
        return self.base_dist.support

    def parts(self):
        return (self.base_dist,)

    def _repeated(self, draw, sample_shape: torch.Size) -> Tensor:
        """Draw what is new as sample dimensions, then move it to its place."""
        base, lead = self.base_dist, len(sample_shape) + self.batch_dim - self.base_dist.batch_dim
        sizes = self.batch_shape[self.batch_dim - base.batch_dim :]
        grown = [i for i, size in enumerate(base.batch_shape) if size != sizes[i]]
        new = self.batch_shape[: self.batch_dim - base.batch_dim] + tuple(sizes[i] for i in grown)
        value = draw(sample_shape + torch.Size(new))
        first = lead + len(grown)  # the base's own dimensions begin here
        batch = [lead + grown.index(i) if i in grown else first + i for i in range(base.batch_dim)]
        ones = [first + i for i in grown]
        event = range(first + base.batch_dim, value.dim())
        value = value.permute(*range(lead), *batch, *ones, *event)
        return value.reshape(self.shape(sample_shape))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        return self._repeated(self.base_dist.sample, sample_shape)

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._repeated(self.base_dist.rsample, sample_shape)

    def _log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(
            value.shape[: value.dim() - self.event_dim], self.batch_shape
        )
        return self.base_dist.log_prob(value).expand(shape)

    def _cdf(self, value: Tensor) -> Tensor:
        below = self.base_dist._cdf(value)
        return below.expand(torch.broadcast_shapes(below.shape, self.batch_shape))

    def _icdf(self, value: Tensor) -> Tensor:
        value = self.base_dist._icdf(value)
        return value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The base distribution's values, along a new first dimension."""
        values = self.base_dist.enumerate_support(expand=False)
        values = values.reshape(values.shape[:1] + (1,) * self.batch_dim + self.event_shape)
        return (
            values.expand(values.shape[:1] + self.batch_shape + self.event_shape)
            if expand
            else values
        )

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean.expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance.expand(self.batch_shape + self.event_shape)


class TransformedDistribution(Distribution, torch_dist.TransformedDistribution):
    """What a transform makes of a draw: y = f(x), of log-density log p(x) - log |det df/dx|.

    Args:
        base_distribution: the distribution of x.
        transforms: one transform, or a list, the first one first; each a bijection.

    >>> from pplkit.distributions import Normal, transforms
    >>> d = TransformedDistribution(Normal(0.0, 1.0), transforms.ExpTransform())
    >>> d.log_prob(torch.tensor(1.0))
    tensor(-0.9189)
    """

    def __init__(self, base_distribution, transforms, validate_args=None):
        super().__init__(adopt(base_distribution), transforms, validate_args=validate_args)
        self.base_dist = adopt(self.base_dist)  # torch may have declared dimensions an event

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._through(self.base_dist._rsample(sample_shape))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return self._through(self.base_dist._sample(sample_shape))

    def _through(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def _log_prob(self, value: Tensor) -> Tensor:
        y, event_dim, log_prob = value, self.event_dim, 0.0
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            event_dim += transform.domain.event_dim - transform.codomain.event_dim
            dims = event_dim - transform.domain.event_dim
            log_prob = log_prob - summed(transform.log_abs_det_jacobian(x, y), dims)
            y = x
        return log_prob + summed(self.base_dist._log_prob(y), event_dim - self.base_dist.event_dim)

    def clear_cache(self) -> None:
        """Forget what the transforms remember of earlier values."""
        for transform in self.transforms:
            if transform._cache_size:
                transform._cached_x_y = None, None


class FoldedDistribution(Family):
    """The distance from 0 of a number: its density at x is p(x) + p(-x).

    Args:
        base_dist: a distribution of numbers.

    >>> import pplkit.distributions as dist
    >>> FoldedDistribution(dist.Normal(0.0, 1.0)).log_prob(torch.tensor(0.0))
    tensor(-0.2258)
    """

    arg_constraints = {}
    support = constraints.nonnegative
    _inner = ("base_dist",)

    def __init__(self, base_dist, validate_args=None):
        self.base_dist = adopt(base_dist)
        if self.base_dist.event_shape:
            raise ValueError("Only univariate distributions can be folded.")
        super().__init__(self.base_dist.batch_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        return self.base_dist.has_rsample

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        return self.base_dist._sample(sample_shape).abs()

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self.base_dist._rsample(sample_shape).abs()

    def _log_prob(self, value: Tensor) -> Tensor:
        return torch.logaddexp(self.base_dist._log_prob(value), self.base_dist._log_prob(-value))

    def _cdf(self, value: Tensor) -> Tensor:
        return self.base_dist._cdf(value) - self.base_dist._cdf(-value)


class MixtureSameFamily(Distribution, torch_dist.MixtureSameFamily):
    """One of K components of a family, chosen at random: density sum_k probs_k p_k(x).

    Args:
        mixture_distribution: a `Categorical` over the components, of the mixture's batch shape, or
            one that broadcasts to it.
        component_distribution: the components, K of them along the rightmost batch dimension.

    >>> import pplkit.distributions as dist
    >>> halves = dist.Categorical(torch.tensor([0.5, 0.5]))
    >>> MixtureSameFamily(halves, dist.Normal(torch.tensor([-1.0, 1.0]), 1.0)).mean
    tensor(0.)
    """

    def __init__(self, mixture_distribution, component_distribution, validate_args=None):
        mixture, components = adopt(mixture_distribution), adopt(component_distribution)
        if not components.batch_shape:
            raise ValueError(
                "the components need a batch dimension, the rightmost, to be mixed along"
            )
        batch_shape = torch.broadcast_shapes(mixture.batch_shape, components.batch_shape[:-1])
        if components.batch_shape[:-1] != batch_shape:
            components = components.expand(batch_shape + components.batch_shape[-1:])
        if isinstance(mixture, torch_dist.Categorical) and mixture.batch_shape != batch_shape:
            mixture = mixture.expand(batch_shape)
        super().__init__(mixture, components, validate_args=validate_args)

    @classmethod
    def _adopted(cls, fn):
        return cls(fn.mixture_distribution, fn.component_distribution)

    def parts(self):
        return self._mixture_distribution, self._component_distribution

    def _as_value(self, value) -> Tensor:
        return self._component_distribution._as_value(value)

    def _log_prob(self, value: Tensor) -> Tensor:
        each = self._component_distribution._log_prob(self._pad(value))
        return (each + self._mixture_distribution.logits.log_softmax(-1)).logsumexp(-1)

    def _cdf(self, value: Tensor) -> Tensor:
        each = self._component_distribution._cdf(self._pad(value))
        return (each * self._mixture_distribution.probs).sum(-1)


class MaskedMixture(Family):
    """Of two distributions the one or the other, as a mask says.

    Args:
        mask: truth values.
        component0: where the mask is false.
        component1: where it is true. The batch shapes of all three broadcast.

    >>> import pplkit.distributions as dist
    >>> which = torch.tensor([False, True])
    >>> MaskedMixture(which, dist.Normal(0.0, 1.0), dist.Normal(5.0, 1.0)).mean
    tensor([0., 5.])
    """

    arg_constraints = {}
    _inner = ("component0", "component1")

    def __init__(self, mask, component0, component1, validate_args=None):
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise ValueError(f"mask must be a tensor of truth values, not {mask!r}")
        component0, component1 = adopt(component0), adopt(component1)
        if component0.event_shape != component1.event_shape:
            raise ValueError(
                f"the events differ: {component0.event_shape} and {component1.event_shape}"
            )
        batch_shape = torch.broadcast_shapes(
            mask.shape, component0.batch_shape, component1.batch_shape
        )
        self._mask = mask.expand(batch_shape)
        self.component0, self.component1 = (
            component0.expand(batch_shape),
            component1.expand(batch_shape),
        )
        super().__init__(batch_shape, component0.event_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new._mask = self._mask.expand(new.batch_shape)
        return new

    @property
    def has_rsample(self) -> bool:
        return self.component0.has_rsample and self.component1.has_rsample

    @constraints.dependent_property
    def support(self):
        zero, one = self.component0.support, self.component1.support
        return zero if zero is one else constraints.either(self._mask, one, zero)

    def parts(self):
        return self.component0, self.component1

    def _chosen(self, value0: Tensor, value1: Tensor) -> Tensor:
        return torch.where(
            self._mask.reshape(self._mask.shape + (1,) * self.event_dim), value1, value0
        )

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        return self._chosen(
            self.component0._sample(sample_shape), self.component1._sample(sample_shape)
        )

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._chosen(
            self.component0._rsample(sample_shape), self.component1._rsample(sample_shape)
        )

    def _log_prob(self, value: Tensor) -> Tensor:
        return torch.where(
            self._mask, self.component1._log_prob(value), self.component0._log_prob(value)
        )

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.where(self._mask, self.component1._cdf(value), self.component0._cdf(value))

    def _icdf(self, value: Tensor) -> Tensor:
        return torch.where(self._mask, self.component1._icdf(value), self.component0._icdf(value))

    @property
    def mean(self) -> Tensor:
        return self._chosen(self.component0.mean, self.component1.mean)

    @property
    def variance(self) -> Tensor:
        return self._chosen(self.component0.variance, self.component1.variance)


class SineSkewed(Family):
    """Angles on a torus, skewed: density p(x) (1 + sum_i skewness_i sin(x_i - mean_i)).

    Args:
        base_dist: symmetric around its mean, with events that are vectors of angles, as
            `VonMises(...).to_event(1)`.
        skewness: between -1 and 1, their absolute values of sum 1 at most; of the event's shape.

    >>> import pplkit.distributions as dist
    >>> angles = dist.VonMises(torch.zeros(1), 2.0).to_event(1)
    >>> SineSkewed(angles, torch.tensor([0.5])).event_shape
    torch.Size([1])
    """

    arg_constraints = {"skewness": constraints.independent(constraints.interval(-1.0, 1.0), 1)}
    support = constraints.independent(constraints.real, 1)
    _inner = ("base_dist",)

    def __init__(self, base_dist, skewness, validate_args=None):
        base_dist = adopt(base_dist)
        if base_dist.event_dim != 1 or skewness.shape[-1:] != base_dist.event_shape:
            raise ValueError(
                "skewness must have one element for each angle of an event of base_dist"
            )
        batch_shape = torch.broadcast_shapes(base_dist.batch_shape, skewness.shape[:-1])
        self.skewness = skewness.expand(batch_shape + skewness.shape[-1:])
        self.base_dist = base_dist.expand(batch_shape)
        super().__init__(batch_shape, skewness.shape[-1:], validate_args=validate_args)

    def relations(self):
        yield "skewness", self.skewness.abs().sum(-1), constraints.less_than(1.0 + 1e-6)

    def parts(self):
        return (self.base_dist,)

    def _skew(self, value: Tensor) -> Tensor:
        return (self.skewness * (value - self.base_dist.mean).sin()).sum(-1)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self.base_dist._log_prob(value) + torch.log1p(self._skew(value))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        # A draw and its mirror image are alike under the base: keep the one or the other, by the
        # skew.
        with torch.no_grad():
            value = self.base_dist._sample(sample_shape)
            u = torch.rand(value.shape[:-1], dtype=value.dtype, device=value.device)
            kept = (u <= 0.5 + 0.5 * self._skew(value)).unsqueeze(-1)
            value = torch.where(kept, value, 2 * self.base_dist.mean - value)
            return (value + math.pi) % (2 * math.pi) - math.pi
