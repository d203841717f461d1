"""Baselines: what a score-function gradient may subtract from its cost without a bias.

E[b grad log q] = 0 for any b that does not depend on the draw; a b close to the expected cost makes
the estimate less noisy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..effects import Message
from ..params import get_param_store
from ..primitives import param

_DEFAULTS = {
    "nn_baseline": None,
    "nn_baseline_input": None,
    "use_decaying_avg_baseline": False,
    "baseline_beta": 0.9,
    "baseline_value": None,
}


def with_baseline(site: Message, cost: Tensor) -> tuple[Tensor, Tensor | float]:
    """A site's cost less its baseline, and the loss by which a learnt baseline comes close to it.

    Args:
        site: of the guide; `site.infer["baseline"]` says what is wanted.
        cost: without gradient; the shape of the site's plates.

    >>> import pplkit, pplkit.distributions as dist
    >>> def guide():
    ...     advice = {"baseline": {"baseline_value": torch.tensor(2.0)}}
    ...     pplkit.sample("k", dist.Bernoulli(0.5), infer=advice)
    >>> site = pplkit.handlers.trace(guide).get_trace().nodes["k"]
    >>> with_baseline(site, torch.tensor(5.0))
    (tensor(3.), tensor(9.))
    """
    given = site.infer.get("baseline")
    if not given:
        return cost, 0.0
    unknown = [key for key in given if key not in _DEFAULTS]
    if unknown:
        raise errors.baseline_options(site, unknown, list(_DEFAULTS))
    wanted = {**_DEFAULTS, **given}
    learnt = _learnt(site, wanted)
    parts = [] if learnt is None else [learnt]
    if wanted["use_decaying_avg_baseline"]:
        parts.append(_decaying_average(site, cost, wanted["baseline_beta"]))
    if not parts:
        return cost, 0.0
    baseline = sum(parts[1:], parts[0])
    if baseline.shape != cost.shape:
        raise errors.baseline_shape(site, baseline.shape, cost.shape)
    loss = 0.0 if learnt is None else (cost - baseline).pow(2).sum()
    return cost - baseline.detach(), loss


def _learnt(site: Message, wanted: dict[str, Any]) -> Tensor | None:
    if wanted["nn_baseline"] is None:
        return wanted["baseline_value"]
    if wanted["baseline_value"] is not None:
        raise errors.baseline_twice(site)
    # The baseline's own loss must not reach what its input was made of.
    return wanted["nn_baseline"](_detached(wanted["nn_baseline_input"]))


def _detached(given: Any) -> Any:
    if isinstance(given, Tensor):
        return given.detach()
    if isinstance(given, (list, tuple)):
        return type(given)(_detached(part) for part in given)
    return given


def _decaying_average(site: Message, cost: Tensor, beta: float) -> Tensor:
    """The running mean of the cost, as it was before; it is a parameter that nothing moves."""
    name = f"__baseline_avg_downstream_cost_{site.name}"
    param(name, torch.zeros_like(cost))
    leaf = get_param_store().unconstrained(name)
    before = leaf.detach().clone()
    with torch.no_grad():  # a step that fails must not leave its cost behind
        leaf.copy_(torch.where(cost.isfinite(), leaf.lerp(cost, 1 - beta), leaf))
    return before
