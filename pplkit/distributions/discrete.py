"""Families of counts, categories and coin flips."""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributions.utils import lazy_property, logits_to_probs, probs_to_logits

from . import constraints
from .base import Distribution, Family, adopt, parameters
from .bounded import Beta
from .positive import Gamma
from .special import betainc


class Bernoulli(Distribution, torch_dist.Bernoulli):
    """0 or 1, as floating-point numbers: 1 with probability `probs`.

    Args:
        probs: between 0 and 1; or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> Bernoulli(0.2).log_prob(torch.tensor(1.0)).exp()
    tensor(0.2000)
    """

    def _cdf(self, value: Tensor) -> Tensor:
        return torch.where(value < 0, 0.0, torch.where(value < 1, 1 - self.probs, 1.0))


class Binomial(Distribution, torch_dist.Binomial):
    """How many of `total_count` coin flips succeed: mass C(n, x) probs^x (1 - probs)^(n - x).

    Args:
        total_count: flips; whole numbers, 0 or greater.
        probs: of success, between 0 and 1; or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> Binomial(2, probs=0.5).log_prob(torch.tensor(1.0)).exp()
    tensor(0.5000)
    """

    def _log_prob(self, value: Tensor) -> Tensor:
        n, k = self.total_count, value
        combinations = (n + 1).lgamma() - (k + 1).lgamma() - (n - k + 1).lgamma()
        return combinations + k * self.logits - n * F.softplus(self.logits)

    def _cdf(self, value: Tensor) -> Tensor:
        k = value.floor()
        inside = (k >= 0) & (k < self.total_count)
        some = torch.where(inside, k, 0.0)
        left = torch.where(inside, self.total_count - k, 1.0)
        below = betainc(left, some + 1, torch.sigmoid(-self.logits))
        return torch.where(inside, below, (k >= 0).to(below.dtype))


class Geometric(Distribution, torch_dist.Geometric):
    """How many coin flips fail before the first that succeeds: mass (1 - probs)^x probs, for x = 0,
    1, 2, ...

    Args:
        probs: of success, above 0, at most 1; or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> Geometric(0.25).mean
    tensor(3.)
    """

    def relations(self):
        if "probs" in self.__dict__:
            yield "probs", self.probs, constraints.greater_than(0.0)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        # A coin that always succeeds gives 0 / -inf = -0.
        return super()._sample(sample_shape).abs()

    def _log_prob(self, value: Tensor) -> Tensor:
        if "probs" in self.__dict__:
            return torch.special.xlog1py(value, -self.probs) + self.probs.log()
        return self.logits - (value + 1) * F.softplus(self.logits)

    def _cdf(self, value: Tensor) -> Tensor:
        flips = (value.floor() + 1).clamp(min=0)
        return -torch.expm1(torch.special.xlog1py(flips, -self.probs))


class Poisson(Distribution, torch_dist.Poisson):
    """How many events happen, when any moment is as likely as another: mass rate^x exp(-rate) / x!

    Args:
        rate: the mean, 0 or greater.
        is_sparse: accepted, as Pyro has it; without effect.

    >>> Poisson(2.0).log_prob(torch.tensor(0.0))
    tensor(-2.)
    """

    is_sparse = False

    def __init__(self, rate, *, is_sparse: bool = False, validate_args=None):
        self.is_sparse = is_sparse
        super().__init__(rate, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new.is_sparse = self.is_sparse
        return new

    def _cdf(self, value: Tensor) -> Tensor:
        counted = torch.special.gammaincc(value.floor().clamp(min=0) + 1, self.rate)
        return torch.where(value < 0, 0.0, counted)


class NegativeBinomial(Distribution, torch_dist.NegativeBinomial):
    """How many coin flips succeed before `total_count` have failed: a Poisson count of uncertain
    rate.

    Args:
        total_count: failures, 0 or greater, not necessarily whole.
        probs: of success, from 0, below 1; the mean is total_count probs / (1 - probs); or instead
        logits: log(probs / (1 - probs)), any real number.

    >>> NegativeBinomial(3.0, probs=0.5).mean
    tensor(3.)
    """

    @lazy_property
    def _gamma(self) -> Gamma:
        return Gamma(self.total_count, torch.exp(-self.logits))

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self._gamma._rsample(sample_shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        n = self.total_count
        never = n == 0  # then the count is surely 0
        n = torch.where(never, 1.0, n)
        counted = (n + value).lgamma() - (value + 1).lgamma() - n.lgamma()
        log_prob = counted - n * F.softplus(self.logits) + value * F.logsigmoid(self.logits)
        return torch.where(never, torch.where(value == 0, 0.0, -math.inf), log_prob)

    def _cdf(self, value: Tensor) -> Tensor:
        k, n = value.floor(), self.total_count
        failures = torch.where(n == 0, 1.0, n)
        counted = betainc(failures, k.clamp(min=0) + 1, torch.sigmoid(-self.logits))
        return torch.where(k < 0, 0.0, torch.where(n == 0, 1.0, counted))


class GammaPoisson(Family):
    """A Poisson count whose rate is drawn from Gamma(concentration, rate).

    Args:
        concentration: of the gamma distribution, > 0.
        rate: of the gamma distribution, > 0; the mean is concentration / rate.

    >>> GammaPoisson(2.0, 1.0).mean
    tensor(2.)
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative_integer

    def __init__(self, concentration, rate, validate_args=None):
        self.concentration, self.rate = parameters(concentration, rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            return torch.poisson(Gamma(self.concentration, self.rate)._rsample(sample_shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration, self.rate
        counted = (a + value).lgamma() - (value + 1).lgamma() - a.lgamma()
        return counted + a * b.log() - (a + value) * torch.log1p(b)

    def _cdf(self, value: Tensor) -> Tensor:
        k = value.floor()
        counted = betainc(self.concentration, k.clamp(min=0) + 1, self.rate / (1 + self.rate))
        return torch.where(k < 0, 0.0, counted)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration * (1 + self.rate) / self.rate**2


class BetaBinomial(Family):
    """How many of `total_count` coin flips succeed, with a coin drawn from Beta(concentration1,
    concentration0).

    Args:
        concentration1, concentration0: of the beta distribution, > 0.
        total_count: flips; whole numbers, 0 or greater.

    >>> BetaBinomial(1.0, 1.0, 4).log_prob(torch.tensor(3.0)).exp()
    tensor(0.2000)
    """

    arg_constraints = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
        "total_count": constraints.nonnegative_integer,
    }
    has_enumerate_support = True

    def __init__(self, concentration1, concentration0, total_count=1, validate_args=None):
        values = parameters(concentration1, concentration0, total_count)
        self.concentration1, self.concentration0, self.total_count = values
        super().__init__(self.total_count.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self):
        return constraints.integer_interval(0, self.total_count)

    @property
    def _beta(self) -> Beta:
        return Beta(self.concentration1, self.concentration0)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        with torch.no_grad():
            probs = self._beta._rsample(sample_shape)
            return torch.binomial(self.total_count.expand(probs.shape), probs)

    def _log_prob(self, value: Tensor) -> Tensor:
        a, b, n = self.concentration1, self.concentration0, self.total_count
        combinations = (n + 1).lgamma() - (value + 1).lgamma() - (n - value + 1).lgamma()
        return combinations + _log_beta(value + a, n - value + b) - _log_beta(a, b)

    def _cdf(self, value: Tensor) -> Tensor:
        most = int(self.total_count.max()) if self.total_count.numel() else 0
        k = torch.arange(most + 1, dtype=value.dtype, device=value.device)
        k = k.reshape(-1, *(1,) * max(value.dim(), self.batch_dim))
        counted = (k <= value) & (k <= self.total_count)
        mass = self._log_prob(torch.minimum(k, self.total_count)).exp()
        return torch.where(counted, mass, 0.0).sum(0)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self._beta.mean

    @property
    def variance(self) -> Tensor:
        size = self.concentration1 + self.concentration0
        return self._beta.variance * self.total_count * (size + self.total_count)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values: 0 ... total_count along a new first dimension; the counts must be equal."""
        return Binomial(self.total_count, probs=self._beta.mean).enumerate_support(expand)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return a.lgamma() + b.lgamma() - (a + b).lgamma()


class Weights(Distribution):
    """What the categorical families share: `probs` are weights, and must be so before they are
    normalised.
    """

    _weights: Tensor | None = None

    def stated(self) -> list[str]:
        # The weights' relation asks more, and of what was given.
        return super().stated() if self._weights is None else []

    def relations(self):
        if self._weights is not None:
            yield "probs", self._weights, constraints.weights

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new.__dict__["_weights"] = self._weights
        return new


def weighted(self: Distribution, probs, logits) -> Categorical:
    """The `Categorical` inside a family over categories, which keeps the weights for the check."""
    self._weights = probs
    return Categorical(probs=probs, logits=logits)


class Categorical(Weights, torch_dist.Categorical):
    """One of the whole numbers 0 ... K - 1.

    Args:
        probs: non-negative weights, shape `(..., K)`, normalised to sum 1; or instead
        logits: their logarithms, up to a constant.

    >>> Categorical(torch.tensor([1.0, 3.0])).log_prob(torch.tensor(1)).exp()
    tensor(0.7500)
    """

    def __init__(self, probs=None, logits=None, validate_args=None):
        self._weights = probs
        super().__init__(probs, logits, validate_args=validate_args)

    def _as_value(self, value) -> Tensor:
        return value if isinstance(value, Tensor) else torch.as_tensor(value)

    @torch.no_grad()
    def _sample(self, sample_shape: torch.Size) -> Tensor:
        # As torch does it; but its numel() would fix a size that a captured program keeps open.
        probs = self.probs.reshape(-1, self._num_events)
        drawn = torch.multinomial(probs, math.prod(sample_shape), True).T
        return drawn.reshape(self._extended_shape(sample_shape))

    def _log_prob(self, value: Tensor) -> Tensor:
        index = value.long().unsqueeze(-1)
        shape = torch.broadcast_shapes(index.shape[:-1], self.batch_shape)
        logits = self.logits.expand(shape + self.logits.shape[-1:])
        return logits.gather(-1, index.expand((*shape, 1))).squeeze(-1)

    def _cdf(self, value: Tensor) -> Tensor:
        categories = torch.arange(self._num_events, device=value.device)
        return torch.where(categories <= value.unsqueeze(-1), self.probs, 0.0).sum(-1)


class OrderedLogistic(Categorical):
    """One of K ordered categories, 0 ... K - 1: where a logistic number around `predictor` falls
    between the cutpoints. P(x <= k) = sigmoid(cutpoints[k] - predictor).

    Args:
        predictor: any real number.
        cutpoints: increasing, shape `(..., K - 1)`; its batch shape broadcasts with the
            predictor's.

    >>> OrderedLogistic(0.0, torch.tensor([-1.0986, 0.0])).probs
    tensor([0.2500, 0.2500, 0.5000])
    """

    arg_constraints = {"predictor": constraints.real, "cutpoints": constraints.ordered_vector}

    def __init__(self, predictor, cutpoints, validate_args=None):
        if not isinstance(predictor, Tensor):
            predictor = cutpoints.new_tensor(predictor)
        batch_shape = torch.broadcast_shapes(predictor.shape, cutpoints.shape[:-1])
        self.predictor = predictor.expand(batch_shape)
        self.cutpoints = cutpoints.expand(batch_shape + cutpoints.shape[-1:])
        z = self.cutpoints - self.predictor.unsqueeze(-1)
        # log(sigmoid(b) - sigmoid(a)) = logsigmoid(b) + logsigmoid(-a) + log(1 - exp(a - b)), for a
        # < b.
        between = F.logsigmoid(z[..., 1:]) + F.logsigmoid(-z[..., :-1])
        between = between + (-torch.expm1(z[..., :-1] - z[..., 1:])).log()
        logits = torch.cat([F.logsigmoid(z[..., :1]), between, F.logsigmoid(-z[..., -1:])], -1)
        self.__dict__["logits"] = logits
        self._param, self._num_events = logits, logits.shape[-1]
        torch_dist.Distribution.__init__(self, batch_shape, validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new = super().expand(batch_shape, _instance)
        new.predictor = self.predictor.expand(new.batch_shape)
        new.cutpoints = self.cutpoints.expand(new.batch_shape + self.cutpoints.shape[-1:])
        return new


class OneHotCategorical(Weights, torch_dist.OneHotCategorical):
    """One of K categories, as a vector of zeros with a single 1.

    Args:
        probs: non-negative weights, shape `(..., K)`, normalised to sum 1; or instead
        logits: their logarithms, up to a constant.

    >>> OneHotCategorical(torch.tensor([1.0, 3.0])).log_prob(torch.tensor([0.0, 1.0])).exp()
    tensor(0.7500)
    """

    def __init__(self, probs=None, logits=None, validate_args=None):
        inner = self._categorical = weighted(self, probs, logits)
        event_shape = inner.param_shape[-1:]
        torch_dist.Distribution.__init__(
            self, inner.batch_shape, event_shape, validate_args=validate_args
        )

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        index = self._categorical._sample(sample_shape)
        places = torch.arange(self.event_shape[0], device=index.device)
        return (index.unsqueeze(-1) == places).to(self.probs.dtype)

    def _log_prob(self, value: Tensor) -> Tensor:
        return self._categorical._log_prob(value.argmax(-1))

    def stated(self) -> list[str]:
        return self._categorical.stated()


class OneHotCategoricalStraightThrough(
    OneHotCategorical, torch_dist.OneHotCategoricalStraightThrough
):
    """`OneHotCategorical`, with a gradient: that of `probs`, as if a draw were its mean.

    Args:
        probs, logits: as of `OneHotCategorical`.

    >>> d = OneHotCategoricalStraightThrough(torch.tensor([1.0, 3.0]))
    >>> d.rsample().sum(), d.has_rsample
    (tensor(1.), True)
    """

    def _rsample(self, sample_shape: torch.Size) -> Tensor:
        return self._sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(Weights, torch_dist.Multinomial):
    """How often each of K categories comes up in `total_count` draws.

    Args:
        total_count: one whole number, 0 or greater.
        probs: non-negative weights, shape `(..., K)`, normalised to sum 1; or instead
        logits: their logarithms, up to a constant.

    >>> Multinomial(2, torch.tensor([0.5, 0.5])).log_prob(torch.tensor([1.0, 1.0])).exp()
    tensor(0.5000)
    """

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        if not isinstance(total_count, int) or isinstance(total_count, bool) or total_count < 0:
            raise ValueError(
                f"total_count must be one whole number, 0 or greater, not {total_count!r}"
            )
        self.total_count = total_count
        inner = self._categorical = weighted(self, probs, logits)
        event_shape = inner.param_shape[-1:]
        torch_dist.Distribution.__init__(
            self, inner.batch_shape, event_shape, validate_args=validate_args
        )

    def stated(self) -> list[str]:
        return self._categorical.stated()

    @property
    def _binomial(self) -> Binomial:
        return Binomial(self.total_count, probs=self.probs)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        drawn = self._categorical._sample(torch.Size((self.total_count,)) + sample_shape)
        drawn = drawn.movedim(0, -1)
        counts = self.probs.new_zeros(self._extended_shape(sample_shape))
        return counts.scatter_add(-1, drawn, torch.ones_like(drawn, dtype=counts.dtype))

    def _log_prob(self, value: Tensor) -> Tensor:
        orders = (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1)
        powers = torch.where(value == 0, 0.0, value * torch.where(value == 0, 0.0, self.logits))
        return orders + powers.sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)


class DirichletMultinomial(Family):
    """How often each of K categories comes up in `total_count` draws, with probabilities drawn from
    a Dirichlet distribution.

    Args:
        concentration: > 0, shape `(..., K)`.
        total_count: whole numbers, 0 or greater; batch-shaped. Draws need it to be the same
            everywhere.
        is_sparse: accepted, as Pyro has it; without effect.

    >>> DirichletMultinomial(torch.ones(3), 2).mean
    tensor([0.6667, 0.6667, 0.6667])
    """

    arg_constraints = {
        "concentration": constraints.positive_vector,
        "total_count": constraints.nonnegative_integer,
    }

    def __init__(self, concentration, total_count=1, is_sparse=False, validate_args=None):
        if not isinstance(total_count, Tensor):
            total_count = concentration.new_tensor(total_count)
        batch_shape = torch.broadcast_shapes(concentration.shape[:-1], total_count.shape)
        self.concentration = concentration.expand(batch_shape + concentration.shape[-1:])
        self.total_count, self.is_sparse = total_count.expand(batch_shape), is_sparse
        super().__init__(batch_shape, concentration.shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self):
        return constraints.multinomial(self.total_count)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        from .multivariate import Dirichlet

        count = int(self.total_count.max()) if self.total_count.numel() else 0
        if bool((self.total_count != count).any()):
            raise NotImplementedError(
                "DirichletMultinomial draws need one total_count for the whole batch"
            )
        with torch.no_grad():
            probs = Dirichlet(self.concentration)._rsample(sample_shape)
        return Multinomial(count, probs)._sample(torch.Size())

    def _log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return _log_count(a.sum(-1), value.sum(-1)) - _log_count(a, value).sum(-1)

    @property
    def mean(self) -> Tensor:
        a = self.concentration
        return self.total_count.unsqueeze(-1) * a / a.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        n, total = self.total_count.unsqueeze(-1), self.concentration.sum(-1, keepdim=True)
        share = self.concentration / total
        return n * share * (1 - share) * (n + total) / (1 + total)


def _log_count(a: Tensor, x: Tensor) -> Tensor:
    return (x + 1).lgamma() + a.lgamma() - (x + a).lgamma()


class ZeroInflatedDistribution(Family):
    """Counts with more zeros than `base_dist` gives: surely 0 with probability `gate`, else from
    `base_dist`.

    Args:
        base_dist: a family of numbers.
        gate: probability of an extra zero, between 0 and 1; or instead
        gate_logits: log(gate / (1 - gate)), any real number.

    >>> ZeroInflatedDistribution(Poisson(1.0), gate=0.5).log_prob(torch.tensor(0.0)).exp()
    tensor(0.6839)
    """

    arg_constraints = {"gate": constraints.unit_interval, "gate_logits": constraints.real}
    _inner = ("base_dist",)

    def __init__(self, base_dist, *, gate=None, gate_logits=None, validate_args=None):
        if (gate is None) == (gate_logits is None):
            raise ValueError("Either `gate` or `gate_logits` must be specified, but not both.")
        base_dist = adopt(base_dist)
        if base_dist.event_shape:
            raise ValueError(f"base_dist must give numbers, not events of {base_dist.event_shape}")
        name, value = ("gate", gate) if gate is not None else ("gate_logits", gate_logits)
        value = parameters(value)[0]
        batch_shape = torch.broadcast_shapes(value.shape, base_dist.batch_shape)
        self.__dict__[name] = value.expand(batch_shape)
        self.base_dist = (
            base_dist if base_dist.batch_shape == batch_shape else base_dist.expand(batch_shape)
        )
        super().__init__(batch_shape, validate_args=validate_args)

    @lazy_property
    def gate(self) -> Tensor:
        return logits_to_probs(self.gate_logits, is_binary=True)

    @lazy_property
    def gate_logits(self) -> Tensor:
        return probs_to_logits(self.gate, is_binary=True)

    @constraints.dependent_property
    def support(self):
        return self.base_dist.support

    def parts(self):
        return (self.base_dist,)

    def _log_prob(self, value: Tensor) -> Tensor:
        log_prob = self.base_dist._log_prob(value)
        if "gate" in self.__dict__:
            log_prob = torch.log1p(-self.gate) + log_prob
            zero = (self.gate + log_prob.exp()).log()
        else:
            log_prob = F.logsigmoid(-self.gate_logits) + log_prob
            zero = torch.logaddexp(F.logsigmoid(self.gate_logits), log_prob)
        return torch.where(value == 0, zero, log_prob)

    def _cdf(self, value: Tensor) -> Tensor:
        extra = torch.where(value < 0, 0.0, self.gate)
        return extra + (1 - self.gate) * self.base_dist._cdf(value)

    def _sample(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended(sample_shape)
        with torch.no_grad():
            closed = torch.bernoulli(self.gate.expand(shape)).bool()
            value = self.base_dist._sample(sample_shape)
            return torch.where(closed, torch.zeros_like(value), value)

    @property
    def mean(self) -> Tensor:
        return (1 - self.gate) * self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        second = self.base_dist.mean**2 + self.base_dist.variance
        return (1 - self.gate) * second - self.mean**2


class ZeroInflatedPoisson(ZeroInflatedDistribution):
    """A Poisson count with extra zeros.

    Args:
        rate: of the Poisson distribution, 0 or greater.
        gate, gate_logits: of an extra zero, as of `ZeroInflatedDistribution`.

    >>> ZeroInflatedPoisson(4.0, gate=0.25).mean
    tensor(3.)
    """

    arg_constraints = {
        "rate": constraints.nonnegative,
        "gate": constraints.unit_interval,
        "gate_logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(self, rate, *, gate=None, gate_logits=None, validate_args=None):
        super().__init__(
            Poisson(rate), gate=gate, gate_logits=gate_logits, validate_args=validate_args
        )

    def parts(self):
        return ()  # its parameters are checked as one's own

    @property
    def rate(self) -> Tensor:
        """Rate of the Poisson distribution."""
        return self.base_dist.rate


class ZeroInflatedNegativeBinomial(ZeroInflatedDistribution):
    """A negative binomial count with extra zeros.

    Args:
        total_count, probs, logits: as of `NegativeBinomial`.
        gate, gate_logits: of an extra zero, as of `ZeroInflatedDistribution`.

    >>> ZeroInflatedNegativeBinomial(3.0, probs=0.5, gate=0.5).mean
    tensor(1.5000)
    """

    arg_constraints = {
        "total_count": constraints.nonnegative,
        "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
        "gate": constraints.unit_interval,
        "gate_logits": constraints.real,
    }
    support = constraints.nonnegative_integer

    def __init__(
        self,
        total_count,
        *,
        probs=None,
        logits=None,
        gate=None,
        gate_logits=None,
        validate_args=None,
    ):
        base = NegativeBinomial(total_count, probs=probs, logits=logits)
        super().__init__(base, gate=gate, gate_logits=gate_logits, validate_args=validate_args)

    parts = ZeroInflatedPoisson.parts

    def stated(self) -> list[str]:
        gate = "gate" if "gate" in self.__dict__ else "gate_logits"
        return [*self.base_dist.stated(), gate]

    @property
    def total_count(self) -> Tensor:
        """Failures, as of `NegativeBinomial`."""
        return self.base_dist.total_count

    @property
    def probs(self) -> Tensor:
        """Probability of success, as of `NegativeBinomial`."""
        return self.base_dist.probs

    @property
    def logits(self) -> Tensor:
        """Log-odds of success, as of `NegativeBinomial`."""
        return self.base_dist.logits
