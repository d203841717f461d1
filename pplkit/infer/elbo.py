"""The evidence lower bound, and gradients of it.

For a model p(x, z) and a guide q(z), ELBO = E_q[log p(x, z) - log q(z)] <= log p(x); the gap is the
Kullback-Leibler divergence from the guide to the posterior. `loss` is its negative, estimated with
draws from the guide.

Where a guide's site can be drawn differentiably, gradients flow through the draw. Elsewhere the
score function stands in: E[f grad log q], f being only those terms that the site's plates let it
influence (Ranganath et al., 2014, "Black box variational inference").
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .. import errors
from ..effects import Message, PlateFrame
from ..handlers import replay, trace
from ..trace import Trace


class Trace_ELBO:
    """ELBO for any model and guide, estimated from draws of the guide.

    Args:
        num_particles: how many draws an estimate averages over; at least 1.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> abs(Trace_ELBO().loss(model, model))  # the guide is the posterior: no evidence, no gap
    0.0
    """

    def __init__(self, num_particles: int = 1):
        if not isinstance(num_particles, int) or num_particles < 1:
            raise errors.wrong_argument(
                "Trace_ELBO", "num_particles=", num_particles, "a whole number, at least 1"
            )
        self.num_particles = num_particles

    def loss(self, model: Callable, guide: Callable, *args, **kwargs) -> float:
        """An estimate of the negative ELBO."""
        with torch.no_grad():
            return self.loss_and_surrogate(model, guide, *args, **kwargs)[0].item()

    def differentiable_loss(self, model: Callable, guide: Callable, *args, **kwargs) -> Tensor:
        """An estimate of the negative ELBO, whose gradient estimates its gradient; a scalar."""
        loss, surrogate = self.loss_and_surrogate(model, guide, *args, **kwargs)
        return surrogate + (loss - surrogate).detach()

    def loss_and_surrogate(
        self, model: Callable, guide: Callable, *args, **kwargs
    ) -> tuple[Tensor, Tensor]:
        """The estimate, and a scalar whose gradient estimates its gradient."""
        particles = [
            self._particle(*self.traces(model, guide, *args, **kwargs))
            for _ in range(self.num_particles)
        ]
        if self.num_particles == 1:
            return particles[0]
        losses, surrogates = zip(*particles, strict=True)
        return torch.stack(losses).mean(), torch.stack(surrogates).mean()

    def traces(self, model: Callable, guide: Callable, *args, **kwargs) -> tuple[Trace, Trace]:
        """A run of the guide, and one of the model that takes the guide's draws."""
        guide_trace = trace(guide).get_trace(*args, **kwargs)
        tracer = trace(replay(model, trace=guide_trace))
        try:
            model_trace = tracer.get_trace(*args, **kwargs)
        except errors.ShapeError:
            check_shapes(tracer.trace, guide_trace)  # the likelier cause comes first
            raise
        check_match(model_trace, guide_trace)
        model_trace.check_plates()
        guide_trace.check_plates()
        return model_trace, guide_trace

    def _particle(self, model_trace: Trace, guide_trace: Trace) -> tuple[Tensor, Tensor]:
        log_p = model_trace.log_prob_sum()
        log_q = guide_trace.log_prob_sum()
        elbo = surrogate = log_p - log_q
        scored = [
            s for s in guide_trace.sites("sample") if not s.is_observed and not s.fn.has_rsample
        ]
        if scored:
            terms = _terms(model_trace, guide_trace)
            score = sum(
                (_influenced(site, terms) * site.unscaled_log_prob).sum() for site in scored
            )
            pathwise = sum(
                (s.log_prob_sum for s in guide_trace.sites("sample") if s not in scored), start=0.0
            )
            surrogate = log_p - pathwise + score
        return -elbo, -surrogate


def _terms(model_trace: Trace, guide_trace: Trace) -> list[tuple[Message, Tensor]]:
    """The summands of the ELBO, without gradients, each with the site it belongs to."""
    terms = [(site, site.log_prob.detach()) for site in model_trace.sites("sample")]
    return terms + [(site, -site.log_prob.detach()) for site in guide_trace.sites("sample")]


def _influenced(site: Message, terms: list[tuple[Message, Tensor]]) -> Tensor:
    """The terms that `site` can influence, summed to its own shape.

    Rows of a plate are independent: of a term inside the site's plates only the same row counts,
    and plates that the site does not stand in are summed over.
    """
    mine = {frame.dim: frame for frame in site.plates if frame.vectorized}
    loops = {(f.name, f.counter) for f in site.plates if not f.vectorized}
    total = site.log_prob.new_zeros(site.log_prob.shape)
    for other, log_prob in terms:
        theirs = {(f.name, f.counter) for f in other.plates if not f.vectorized}
        if any(name == n and counter != c for name, counter in loops for n, c in theirs):
            continue
        total = total + _summed_outside(log_prob, other.plates, mine)
    return total


def _summed_outside(
    log_prob: Tensor, plates: tuple[PlateFrame, ...], mine: dict[int, PlateFrame]
) -> Tensor:
    outside = [
        f.dim for f in plates if f.vectorized and mine.get(f.dim) != f and log_prob.dim() >= -f.dim
    ]
    if outside:
        log_prob = log_prob.sum(outside, keepdim=True)
    while log_prob.dim() > max((-dim for dim in mine), default=0) and log_prob.shape[0] == 1:
        log_prob = log_prob.squeeze(0)
    return log_prob


def check_match(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise if guide and model differ in their unobserved sites, or in those sites' shapes."""
    latent = [s for s in model_trace.sites("sample") if not s.is_observed]
    drawn = [
        s
        for s in guide_trace.sites("sample")
        if not s.is_observed and not s.infer.get("is_auxiliary")
    ]
    model_names, guide_names = [s.name for s in latent], [s.name for s in drawn]
    for site in drawn:
        if site.name not in model_names:
            raise errors.guide_site_missing(site, model_names)
    for site in latent:
        if site.name not in guide_trace and not site.infer.get("is_auxiliary"):
            raise errors.model_site_missing(site, guide_names)
    check_shapes(model_trace, guide_trace)


def check_shapes(model_trace: Trace, guide_trace: Trace) -> None:
    """Raise if a site of the guide has another shape than the model's."""
    for name in guide_trace.stochastic_nodes:
        theirs, ours = guide_trace.nodes[name], model_trace.nodes.get(name)
        if ours is not None and ours.fn.shape() != theirs.fn.shape():
            raise errors.guide_shape(ours, theirs)
