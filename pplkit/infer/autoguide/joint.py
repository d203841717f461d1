"""Guides that draw all latent variables as one vector, unconstrained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ... import errors
from ...distributions import (
    Delta,
    Distribution,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    constraints,
)
from ...handlers import replay, substitute, trace
from ...primitives import sample, subsample
from ...randomness import drawing
from .base import AutoGuide, Latent, as_quantiles, draw_from_free, of_a_point, positive_float
from .initialization import Strategy, init_to_median


class AutoContinuous(AutoGuide):
    """One distribution over all latent variables at once: unconstrained, end to end in one vector.

    Plates that are subsampled have all their rows in the vector.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.

    A subclass says which distribution (`posterior`), and what its marginals are (`loc_scale`):

    >>> import pplkit, pplkit.distributions as dist
    >>> class Standard(AutoContinuous):
    ...     def posterior(self):
    ...         return dist.Normal(torch.zeros(self.latent_dim), 1.0).to_event(1)
    ...     def loc_scale(self):
    ...         return torch.zeros(self.latent_dim), torch.ones(self.latent_dim)
    >>> guide = Standard(lambda: pplkit.sample("z", dist.LogNormal(0.0, 1.0)))
    >>> list(guide()), guide.median()
    (['z'], {'z': tensor(1.)})
    """

    def posterior(self) -> Distribution:
        """The distribution of the vector."""
        raise NotImplementedError

    def loc_scale(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each element of the vector."""
        raise NotImplementedError

    def setup(self, *args, **kwargs) -> None:
        super().setup(*args, **kwargs)
        if self.latent_dim == 0:
            raise errors.no_latent(self.name)

    @property
    def latent_dim(self) -> int:
        """The vector's length."""
        return sum(latent.free_start.numel() for latent in self.latents)

    def start(self) -> Tensor:
        """The vector of the first values."""
        return torch.cat([latent.free_start.reshape(-1) for latent in self.latents])

    def get_posterior(self, *args, **kwargs) -> Distribution:
        """The distribution of the vector, at the parameters that there are."""
        with self.stored():
            return self.posterior()

    def sample_latent(self, *args, **kwargs) -> Tensor:
        """Draw the vector."""
        return sample(f"_{self.name}_latent", self.posterior(), infer={"is_auxiliary": True})

    def forward(self, *args, **kwargs) -> dict[str, Tensor]:
        """Draw the vector, then each latent variable as a function of its part."""
        vector, values = self.sample_latent(*args, **kwargs), {}
        for latent, free in self._parts(vector):
            with self.inside(latent):
                rows = subsample(free, event_dim=latent.free_event_dim)
                values[latent.name] = draw_from_free(latent, rows)
        return values

    def _parts(self, vector: Tensor) -> Iterator[tuple[Latent, Tensor]]:
        """Each latent variable with its part of the vector, unconstrained and in shape.

        Dimensions of plates around the whole guide, as of particles, stay at the left.
        """
        around, position = vector.shape[:-1], 0
        for latent in self.latents:
            own = latent.free_start.shape
            end = position + latent.free_start.numel()  # of a Size it is a plain number
            shape = torch.broadcast_shapes(own, around + (1,) * latent.free_event_dim)
            yield latent, vector[..., position:end].reshape(shape)
            position = end

    @torch.no_grad()
    def median(self, *args, **kwargs) -> dict[str, Tensor]:
        """The median of each latent variable, by name."""
        with self.stored():
            loc = self.loc_scale()[0].clone()
        return {latent.name: latent.to_support(free) for latent, free in self._parts(loc)}

    @torch.no_grad()
    def quantiles(self, quantiles: float | Sequence[float], *args, **kwargs) -> dict[str, Tensor]:
        """Quantiles of each latent variable's elements, by name.

        Args:
            quantiles: between 0 and 1.

        Returns:
            Tensors of shape `(number of quantiles,) + the site's`; for one number, the site's.
        """
        with self.stored():
            loc, scale = self.loc_scale()
        asked = as_quantiles(quantiles, loc)
        vectors = Normal(loc, scale).icdf(asked.unsqueeze(-1)).reshape(-1, len(loc))
        found: dict[str, list[Tensor]] = {latent.name: [] for latent in self.latents}
        for vector in vectors:
            for latent, free in self._parts(vector):
                found[latent.name].append(latent.to_support(free))
        stacked = {name: torch.stack(values) for name, values in found.items()}
        return stacked if asked.dim() else {name: value[0] for name, value in stacked.items()}


class _Normal(AutoContinuous):
    """What the normal guides share: a location, and a first scale."""

    def __init__(
        self,
        model: Callable,
        init_loc_fn: Strategy = init_to_median,
        init_scale: float = 0.1,
        *,
        create_plates: Callable | None = None,
        name: str | None = None,
    ):
        super().__init__(model, init_loc_fn, create_plates=create_plates, name=name)
        self.init_scale = positive_float(self.name, "init_scale=", init_scale)

    @property
    def loc(self) -> Tensor:
        """The vector's mean, shape `(latent_dim,)`."""
        return self.param("loc", self.start)

    def _scale(self, times: float = 1.0) -> Tensor:
        first = self.init_scale * times
        return self.param(
            "scale", lambda: torch.full_like(self.start(), first), constraints.softplus_positive
        )


class AutoDiagonalNormal(_Normal):
    """A normal distribution of the unconstrained latent variables, all independent.

    Parameters: `AutoDiagonalNormal.loc` and `AutoDiagonalNormal.scale`, of shape `(latent_dim,)`.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.
        init_scale: the first standard deviation of every element.

    Raises:
        ModelError: a discrete variable, one inside a plate that is looped over, or none at all.

    >>> import pplkit, pplkit.distributions as dist
    >>> pplkit.clear_param_store()
    >>> guide = AutoDiagonalNormal(lambda: pplkit.sample("z", dist.Normal(torch.zeros(3), 1.0)))
    >>> guide()["z"].shape, guide.quantiles([0.1, 0.9])["z"].shape
    (torch.Size([3]), torch.Size([2, 3]))
    """

    def posterior(self) -> Distribution:
        """Normal, with independent elements."""
        return Normal(self.loc, self._scale()).to_event(1)

    def loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, self._scale()


class AutoMultivariateNormal(_Normal):
    """A normal distribution of the unconstrained latent variables, with any covariance.

    Parameters: `AutoMultivariateNormal.loc` and `.scale`, of shape `(latent_dim,)`, and
    `.scale_tril`, lower triangular with ones on the diagonal, whose rows `.scale` multiplies.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.
        init_scale: the first standard deviation of every element.

    Raises:
        ModelError: a discrete variable, one inside a plate that is looped over, or none at all.

    >>> import pplkit, pplkit.distributions as dist
    >>> pplkit.clear_param_store()
    >>> guide = AutoMultivariateNormal(lambda: pplkit.sample("z", dist.Gamma(2.0, 1.0)))
    >>> guide()["z"].shape, guide.get_posterior().event_shape
    (torch.Size([]), torch.Size([1]))
    """

    _fixed: tuple[Tensor, Tensor] | None = None  # mean and Cholesky factor, when not learnt

    def posterior(self) -> Distribution:
        """Normal, with this Cholesky factor of its covariance."""
        loc, scale_tril = self._loc_and_factor()
        return MultivariateNormal(loc, scale_tril=scale_tril)

    def loc_scale(self) -> tuple[Tensor, Tensor]:
        loc, scale_tril = self._loc_and_factor()
        return loc, scale_tril.pow(2).sum(-1).sqrt()

    def _loc_and_factor(self) -> tuple[Tensor, Tensor]:
        if self._fixed is not None:
            return self._fixed
        first, kind = lambda: _identity_like(self.start()), constraints.unit_lower_cholesky
        return self.loc, self._scale().unsqueeze(-1) * self.param("scale_tril", first, kind)


def _identity_like(vector: Tensor) -> Tensor:
    return torch.eye(len(vector), dtype=vector.dtype, device=vector.device)


class AutoLowRankMultivariateNormal(_Normal):
    """A normal distribution of the unconstrained latent variables, of few correlated directions.

    Its covariance is diagonal plus low rank: D (F Fᵀ + 1) D, with D the diagonal matrix of
    `.scale`, and F the factor `.cov_factor`.

    Parameters: `AutoLowRankMultivariateNormal.loc` and `.scale`, of shape `(latent_dim,)`;
    `.cov_factor`, of shape `(latent_dim, rank)`.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.
        init_scale: the first standard deviation of every element, approximately.
        rank: of the factor; about the square root of `latent_dim`, unless told.

    Raises:
        ModelError: a discrete variable, one inside a plate that is looped over, or none at all.

    >>> import pplkit, pplkit.distributions as dist
    >>> pplkit.clear_param_store()
    >>> model = lambda: pplkit.sample("z", dist.Normal(torch.zeros(9), 1.0).to_event(1))
    >>> guide = AutoLowRankMultivariateNormal(model, rank=2)
    >>> guide()["z"].shape, pplkit.get_param_store()[f"{guide.name}.cov_factor"].shape
    (torch.Size([9]), torch.Size([9, 2]))
    """

    def __init__(
        self,
        model: Callable,
        init_loc_fn: Strategy = init_to_median,
        init_scale: float = 0.1,
        rank: int | None = None,
        *,
        create_plates: Callable | None = None,
        name: str | None = None,
    ):
        super().__init__(model, init_loc_fn, init_scale, create_plates=create_plates, name=name)
        whole = isinstance(rank, int) and not isinstance(rank, bool) and rank > 0
        if rank is not None and not whole:
            raise errors.wrong_argument(self.name, "rank=", rank, "a whole number, at least 1")
        self.rank = rank

    def posterior(self) -> Distribution:
        """Normal, with a covariance of low rank beside its diagonal."""
        loc, scale, factor = self._loc_scale_factor()
        return LowRankMultivariateNormal(loc, factor * scale.unsqueeze(-1), scale * scale)

    def loc_scale(self) -> tuple[Tensor, Tensor]:
        loc, scale, factor = self._loc_scale_factor()
        return loc, scale * (factor.pow(2).sum(-1) + 1).sqrt()

    def _loc_scale_factor(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.loc, self._scale(0.5**0.5), self.param("cov_factor", self._first_factor)

    def _first_factor(self) -> Tensor:
        vector = self.start()
        rank = self.rank or max(1, round(len(vector) ** 0.5))
        with drawing():
            return torch.randn_like(vector.unsqueeze(-1).expand(-1, rank)) / rank**0.5


class AutoLaplaceApproximation(AutoContinuous):
    """The mode of the posterior density in unconstrained space, and its curvature there.

    Fit it, then `laplace_approximation` gives the normal guide. Parameter:
    `AutoLaplaceApproximation.loc`, of shape `(latent_dim,)`.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.

    Raises:
        ModelError: a discrete variable, one inside a plate that is looped over, or none at all.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer.autoguide import init_to_mean
    >>> pplkit.clear_param_store()
    >>> model = lambda: pplkit.sample("z", dist.Normal(3.0, 0.5))
    >>> guide = AutoLaplaceApproximation(model, init_loc_fn=init_to_mean)
    >>> _ = guide()
    >>> guide.laplace_approximation().get_posterior().covariance_matrix
    tensor([[0.2500]])
    """

    @property
    def loc(self) -> Tensor:
        """The mode, shape `(latent_dim,)`."""
        return self.param("loc", self.start)

    def posterior(self) -> Distribution:
        """All the weight on `loc`."""
        return Delta(self.loc, event_dim=1)

    def loc_scale(self) -> tuple[Tensor, Tensor]:
        return self.loc, torch.zeros_like(self.loc)

    def quantiles(self, quantiles, *args, **kwargs):
        """All are the mode; for those of the normal guide ask `laplace_approximation()`."""
        return of_a_point(self.median(), quantiles)

    def laplace_approximation(self, *args, **kwargs) -> AutoMultivariateNormal:
        """A normal guide, of mean `loc`, whose log-density has the posterior's curvature there.

        Args:
            args, kwargs: the model's.

        Raises:
            InferenceError: `loc` is at no maximum.
        """
        with self.stored():
            loc = self.loc.detach()
            curvature = torch.autograd.functional.hessian(
                lambda at: self._negative_log_joint(at, args, kwargs), loc
            )
        factor, failed = torch.linalg.cholesky_ex(curvature)
        if bool(failed):
            raise errors.not_a_maximum(self.name)
        covariance = torch.cholesky_inverse(factor)
        guide = AutoMultivariateNormal(
            self.model, self.init_loc_fn, create_plates=self.create_plates
        )
        guide._latents, guide._ran_in = self._latents, self._store
        guide._fixed = loc, torch.linalg.cholesky(covariance)
        return guide

    def _negative_log_joint(self, at: Tensor, args, kwargs) -> Tensor:
        fixed = substitute(self, data={f"{self.name}.loc": at})
        guide_trace = trace(fixed).get_trace(*args, **kwargs)
        model_trace = trace(replay(self.model, trace=guide_trace)).get_trace(*args, **kwargs)
        return guide_trace.log_prob_sum() - model_trace.log_prob_sum()
