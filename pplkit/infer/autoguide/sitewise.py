"""Guides that treat each latent variable by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...distributions import Delta, Normal, constraints
from ...primitives import sample
from .base import AutoGuide, Latent, as_quantiles, draw_from_free, of_a_point, positive_float
from .initialization import Strategy, init_to_feasible


class AutoDelta(AutoGuide):
    """All the weight on one value of each latent variable.

    Fitted, it is the mode of the posterior density, in constrained space: the MAP estimate.

    Parameters: `AutoDelta.<site>`, constrained to the site's support, of the site's shape with the
    full plates' rows.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.

    Raises:
        ModelError: a discrete variable, or one inside a plate that is looped over.

    >>> import pplkit, pplkit.distributions as dist
    >>> pplkit.clear_param_store()
    >>> model = lambda: pplkit.sample("z", dist.Normal(3.0, 1.0))
    >>> from pplkit.infer.autoguide import init_to_mean
    >>> AutoDelta(model, init_loc_fn=init_to_mean)()
    {'z': tensor(3., grad_fn=<ExpandBackward0>)}
    """

    def forward(self, *args, **kwargs) -> dict[str, Tensor]:
        """Every latent variable at its parameter's value."""
        values = {}
        for latent in self.latents:
            with self.inside(latent):
                value = self._value(latent)
                values[latent.name] = sample(latent.name, Delta(value, event_dim=latent.event_dim))
        return values

    def _value(self, latent: Latent) -> Tensor:
        return self.param(latent.name, latent.start, latent.support, latent.event_dim)

    @torch.no_grad()
    def median(self, *args, **kwargs) -> dict[str, Tensor]:
        """The value of each latent variable, by name."""
        with self.stored():
            return {latent.name: self._value(latent).clone() for latent in self.latents}

    def quantiles(self, quantiles: float | Sequence[float], *args, **kwargs) -> dict[str, Tensor]:
        """All quantiles are the value itself; shape: as for `AutoNormal`."""
        return of_a_point(self.median(), quantiles)


class AutoNormal(AutoGuide):
    """An independent normal distribution for each element of each latent variable, unconstrained.

    A site with support other than the real line is the normal variable's image under
    `biject_to(support)`. Parameters: `AutoNormal.locs.<site>` and `AutoNormal.scales.<site>`, of
    the unconstrained site's shape with the full plates' rows.

    Args:
        model, init_loc_fn, create_plates, name: see `AutoGuide`.
        init_scale: the first standard deviation of every element.

    Raises:
        ModelError: a discrete variable, or one inside a plate that is looped over.

    >>> import pplkit, pplkit.distributions as dist
    >>> pplkit.clear_param_store()
    >>> guide = AutoNormal(lambda: pplkit.sample("rate", dist.Gamma(2.0, 1.0)))
    >>> list(guide()), guide.median()["rate"]
    (['rate'], tensor(1.))
    >>> list(pplkit.get_param_store())
    ['AutoNormal.locs.rate', 'AutoNormal.scales.rate']
    """

    def __init__(
        self,
        model: Callable,
        init_loc_fn: Strategy = init_to_feasible,
        init_scale: float = 0.1,
        *,
        create_plates: Callable | None = None,
        name: str | None = None,
    ):
        super().__init__(model, init_loc_fn, create_plates=create_plates, name=name)
        self.init_scale = positive_float(self.name, "init_scale=", init_scale)

    def forward(self, *args, **kwargs) -> dict[str, Tensor]:
        """Draw each latent variable: `<site>_unconstrained`, then the site as a function of it."""
        values = {}
        for latent in self.latents:
            with self.inside(latent):
                loc, scale, event_dim = self._loc_scale(latent)
                free = sample(
                    f"{latent.name}_unconstrained",
                    Normal(loc, scale).to_event(event_dim),
                    infer={"is_auxiliary": True},
                )
                values[latent.name] = draw_from_free(latent, free)
        return values

    def _loc_scale(self, latent: Latent) -> tuple[Tensor, Tensor, int]:
        start, event_dim = latent.free_start, latent.free_event_dim
        loc = self.param(f"locs.{latent.name}", start, constraints.real, event_dim)
        scale = self.param(
            f"scales.{latent.name}",
            torch.full_like(start, self.init_scale),
            constraints.softplus_positive,
            event_dim,
        )
        return loc, scale, event_dim

    @torch.no_grad()
    def median(self, *args, **kwargs) -> dict[str, Tensor]:
        """The median of each latent variable, by name."""
        with self.stored():
            return {z.name: z.to_support(self._loc_scale(z)[0].clone()) for z in self.latents}

    @torch.no_grad()
    def quantiles(self, quantiles: float | Sequence[float], *args, **kwargs) -> dict[str, Tensor]:
        """Quantiles of each latent variable's elements, by name.

        Args:
            quantiles: between 0 and 1.

        Returns:
            Tensors of shape `(number of quantiles,) + the site's`; for one number, the site's.
        """
        found = {}
        with self.stored():
            for latent in self.latents:
                loc, scale, _ = self._loc_scale(latent)
                asked = as_quantiles(quantiles, loc)
                asked = asked.reshape(asked.shape + (1,) * loc.dim())
                found[latent.name] = latent.to_support(Normal(loc, scale).icdf(asked))
        return found
