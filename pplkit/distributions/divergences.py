"""Kullback-Leibler divergences, beyond torch's: importing this module registers them with
`kl_divergence`.
"""

from __future__ import annotations

import math

import torch
import torch.distributions as torch_dist
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from .base import Distribution, Independent, summed
from .wrappers import Delta, MaskedDistribution


@register_kl(Delta, Distribution)
def _delta(p, q) -> Tensor:
    return p.log_density - q.log_prob(p.v)


@register_kl(Independent, Independent)
def _independent(p, q) -> Tensor:
    """Dimensions that both declare one event are summed, what one of them declares besides stays
    declared.
    """
    shared = min(p.reinterpreted_batch_ndims, q.reinterpreted_batch_ndims)
    return summed(kl_divergence(p.to_event(-shared), q.to_event(-shared)), shared)


@register_kl(Independent, torch_dist.MultivariateNormal)
def _independent_normal(p, q) -> Tensor:
    base = p.base_dist
    if p.reinterpreted_batch_ndims != 1 or not isinstance(base, torch_dist.Normal | Delta):
        raise NotImplementedError
    if isinstance(base, Delta):
        return base.log_density.sum(-1) - q.log_prob(base.v)
    # E_p[-log q] is -log q at the mean, and half the trace of q's precision times p's covariance.
    spread = (base.variance * q.precision_matrix.diagonal(dim1=-2, dim2=-1)).sum(-1) / 2
    entropy = base.scale.log().sum(-1) + base.scale.shape[-1] / 2 * (1 + math.log(2 * math.pi))
    return spread - q.log_prob(base.loc) - entropy


@register_kl(MaskedDistribution, MaskedDistribution)
@register_kl(MaskedDistribution, Distribution)
@register_kl(Distribution, MaskedDistribution)
@register_kl(Delta, MaskedDistribution)
def _masked(p, q) -> Tensor:
    mask = True
    for d in (p, q):
        mask = d._mask & mask if isinstance(d, MaskedDistribution) else mask
    p, q = (d.base_dist if isinstance(d, MaskedDistribution) else d for d in (p, q))
    kl = kl_divergence(p, q)
    return (
        torch.where(mask, kl, 0.0)
        if isinstance(mask, Tensor)
        else kl
        if mask
        else torch.zeros_like(kl)
    )
