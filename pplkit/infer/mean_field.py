"""ELBO with the divergence from the guide to the prior in closed form, where there is one."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import errors
from ..distributions import kl_divergence
from ..effects import Message, scale_and_mask
from ..trace import Trace
from .elbo import ELBO


class TraceMeanField_ELBO(ELBO):  # noqa: N801
    """ELBO for a guide whose sites are independent: expected log-likelihood less the divergence.

    Site by site, KL(q(z) || p(z)) is taken in closed form where the two families have one, else
    from the draw. This is right if, in the model, no site's distribution depends on a later site of
    the guide: always so when both have their sites in the same order.

    Args:
        num_particles, max_plate_nesting, vectorize_particles: see `ELBO`.

    Raises:
        ModelError: a site of the guide whose draws have no gradient.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> guide = lambda: pplkit.sample("z", dist.Normal(1.0, 1.0))
    >>> TraceMeanField_ELBO().loss(model, guide)  # no noise
    0.5
    """

    def traces(self, model, guide, *args, **kwargs):
        model_trace, guide_trace = super().traces(model, guide, *args, **kwargs)
        for site in guide_trace.sites("sample"):
            if not site.fn.has_rsample:
                raise errors.not_reparameterized(site, type(self).__name__)
        _check_order(model_trace, guide_trace)
        return model_trace, guide_trace

    def particle_loss(self, model_trace, guide_trace):
        loss = 0.0
        for site in model_trace.sites("sample"):
            drawn = guide_trace.nodes.get(site.name)
            if site.is_observed or drawn is None:
                loss = loss - site.log_prob_sum
            else:
                loss = loss + _divergence(drawn, site)
        for drawn in guide_trace.sites("sample"):
            if drawn.name not in model_trace or model_trace.nodes[drawn.name].is_observed:
                loss = loss + drawn.log_prob_sum
        return torch.as_tensor(loss)


def _divergence(drawn: Message, site: Message) -> Tensor:
    """KL from the guide's site to the model's, scaled and masked; a scalar."""
    try:
        divergence = kl_divergence(drawn.fn, site.fn)
    except NotImplementedError:
        return drawn.log_prob_sum - site.log_prob_sum
    divergence = divergence.expand(torch.broadcast_shapes(divergence.shape, drawn.fn.batch_shape))
    return scale_and_mask(divergence, drawn.scale, drawn.mask).sum()


def _check_order(model_trace: Trace, guide_trace: Trace) -> None:
    """Warn if the two have their sites in different orders: the guide may not be mean-field."""
    ours = [name for name in model_trace.stochastic_nodes if name in guide_trace]
    theirs = [name for name in guide_trace.stochastic_nodes if name in model_trace]
    if ours != theirs:
        errors.warn(errors.not_verified_mean_field(ours, theirs))
