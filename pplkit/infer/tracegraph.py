"""ELBO with the finest Rao-Blackwellisation: each score-function term counts only what it touches.

Which terms a draw touches is found by following it through the program: a draw that has no gradient
carries its site's name, and whatever torch computes from a tensor inherits the names on it
(Schulman et al., 2015, "Gradient estimation using stochastic computation graphs").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..effects import Handler, Message
from .elbo import Trace_ELBO

_NONE: frozenset[str] = frozenset()


class TraceGraph_ELBO(Trace_ELBO):  # noqa: N801
    """`Trace_ELBO` whose score-function gradients count only the terms that depend on the draw.

    Dependence is followed through torch's operations; one that goes through Python numbers
    (`.item()`, `if`) is not seen.

    Args:
        num_particles, max_plate_nesting, vectorize_particles: see `ELBO`.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     pplkit.sample("k", dist.Bernoulli(0.5))
    >>> abs(TraceGraph_ELBO().loss(model, model))
    0.0
    """

    def traces(self, model, guide, *args, **kwargs):
        with _Following(), _Marking():
            traces = super().traces(model, guide, *args, **kwargs)
            for run in traces:
                run.compute_log_prob()
        return traces

    def _terms(self, model_trace, guide_trace):
        with _Following():
            return super()._terms(model_trace, guide_trace)

    def _influences(self, site: Message, term: Tensor) -> bool:
        return site.name in provenance(term)


def provenance(tensor: Any) -> frozenset[str]:
    """Names of the draws that a tensor was computed from, as far as they were followed.

    >>> provenance(torch.tensor(0.0))
    frozenset()
    """
    return getattr(tensor, "_provenance", _NONE) if isinstance(tensor, Tensor) else _NONE


class _Marking(Handler):
    """Writes a site's name on its draw, where the draw has no gradient."""

    def postprocess_message(self, msg: Message) -> None:
        if msg.type == "sample" and not msg.is_observed and not msg.fn.has_rsample:
            msg.value._provenance = provenance(msg.value) | {msg.name}


class _Following(TorchFunctionMode):
    """Hands names on from what torch's functions take to what they return."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        names = _NONE.union(*map(provenance, _flat((args, kwargs.values()))))
        result = func(*args, **kwargs)
        if names:
            for tensor in _flat((result,)):
                if isinstance(tensor, Tensor):
                    tensor._provenance = provenance(tensor) | names
        return result


def _flat(things: Iterable) -> Iterable:
    for thing in things:
        if isinstance(thing, Tensor) or not isinstance(thing, Iterable) or isinstance(thing, str):
            yield thing
        else:
            yield from _flat(thing)
