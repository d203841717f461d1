"""Rényi's bounds on the evidence, of which the importance-weighted one is a member."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .. import errors
from ..effects import PlateFrame
from ..trace import Trace
from .elbo import ELBO


class RenyiELBO(ELBO):
    """A bound from K particles of weights w = p(x, z) / q(z): log(mean(w^(1-alpha))) / (1-alpha).

    With `alpha` = 0 it is that of the importance-weighted autoencoder (Burda, Grosse and
    Salakhutdinov, 2016); as alpha approaches 1, the ELBO; alpha < 0 can overestimate the evidence
    (Li and Turner, 2016, "Rényi divergence variational inference"). Rows of plates that all sites
    share have a bound each. Gradients of draws that are not differentiable are those of the bound
    that infinitely many particles give.

    Args:
        alpha: any number but 1.
        num_particles: K; at least 1, 2 unless told.
        max_plate_nesting, vectorize_particles: see `ELBO`.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> abs(RenyiELBO(alpha=0.5).loss(model, model))
    0.0
    """

    def __init__(self, alpha: float = 0.0, num_particles: int = 2, **kwargs):
        number = isinstance(alpha, (int, float)) and not isinstance(alpha, bool)
        if not number or alpha == 1 or not math.isfinite(alpha):
            expected = "a number other than 1; for alpha = 1 use Trace_ELBO"
            raise errors.wrong_argument("RenyiELBO", "alpha=", alpha, expected)
        super().__init__(num_particles, **kwargs)
        self.alpha = float(alpha)

    def loss_of(self, runs):
        return self._bound(self._log_weights(runs))

    def estimate(self, runs):
        powers = self._log_weights(runs).detach()
        share = (powers - self._log_mean_weights(powers)).exp() / self.num_particles
        ascent = self._gathered([self._ascent(*run) for run in runs])
        return self._bound(powers), -(share * ascent).sum()

    def _bound(self, powers: Tensor) -> Tensor:
        return -self._log_mean_weights(powers).sum() / (1 - self.alpha)

    def _log_weights(self, runs: list[tuple[Trace, Trace]]) -> Tensor:
        """(1 - alpha) log w; particles at the left, then the plates that all sites share."""
        return (1 - self.alpha) * self._gathered([_log_weight(*run) for run in runs])

    def _log_mean_weights(self, powers: Tensor) -> Tensor:
        return powers.logsumexp(0) - math.log(self.num_particles)

    def _gathered(self, particles: list[Tensor]) -> Tensor:
        vectorized = self.vectorize_particles and self.num_particles > 1
        return particles[0] if vectorized else torch.stack(particles)

    def _ascent(self, model_trace: Trace, guide_trace: Trace) -> Tensor:
        """A particle's log w, or what has the right gradient in its place."""
        shared = _shared_plates(model_trace, guide_trace)
        total = _sum_of(model_trace, shared)
        for site in guide_trace.sites("sample"):
            share = -1.0 if site.fn.has_rsample else self.alpha / (1 - self.alpha)
            total = total + share * _rows(site.log_prob, shared)
        return total


def _log_weight(model_trace: Trace, guide_trace: Trace) -> Tensor:
    shared = _shared_plates(model_trace, guide_trace)
    return _sum_of(model_trace, shared) - _sum_of(guide_trace, shared)


def _shared_plates(*runs: Trace) -> list[PlateFrame]:
    """The plates that every site of the model stands in."""
    # By comparison: while a program is captured, a plate's size is a symbol, which has no hash.
    first, *rest = [site.plates for site in runs[0].sites("sample")] or [()]
    return [f for f in first if f.vectorized and all(f in plates for plates in rest)]


def _sum_of(run: Trace, shared: list[PlateFrame]) -> Tensor:
    terms = [_rows(site.log_prob, shared) for site in run.sites("sample")]
    return sum(terms[1:], terms[0]) if terms else torch.zeros(())


def _rows(log_prob: Tensor, shared: list[PlateFrame]) -> Tensor:
    """Summed over all dimensions but those of the shared plates."""
    kept = {frame.dim for frame in shared}
    dims = [dim for dim in range(-log_prob.dim(), 0) if dim not in kept]
    return log_prob.sum(dims, keepdim=True) if dims else log_prob
