"""Other ways to write the same variable: for `handlers.reparam`.

A strategy's `apply(msg)` draws an auxiliary variable with a statement of its own, and turns the
site into a deterministic function of it. The model's meaning stays; its geometry changes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import errors
from ..distributions import Distribution, Independent
from ..effects import Message
from ..primitives import param, sample


class LocScaleReparam:
    """Draw a variable of a location-scale family from its centre, partly or wholly decentred.

    With `centered` c, the auxiliary `<name>_decentered` has location c·loc and scale scale^c; 0 is
    fully non-centred, 1 leaves the site as it is (Gorinova, Moore and Hoffman, 2020, "Automatic
    reparameterisation of probabilistic programs").

    Args:
        centered: between 0 and 1, or None to learn it, one number for each element, as a parameter
            `<name>_centered`.
        shape_params: names of further parameters of the family, as `["df"]` for StudentT.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Normal(5.0, 2.0))
    >>> tr = pplkit.handlers.trace(
    ...     pplkit.handlers.reparam(model, config={"x": LocScaleReparam(0.0)})
    ... ).get_trace()
    >>> bool(tr.nodes["x"].value == 5.0 + 2.0 * tr.nodes["x_decentered"].value)
    True
    """

    def __init__(
        self, centered: float | Tensor | None = None, shape_params: tuple[str, ...] | list[str] = ()
    ):
        if centered is not None:
            centered = torch.as_tensor(centered, dtype=torch.get_default_dtype())
            if not bool(constraints.unit_interval.check(centered).all()):
                raise errors.wrong_argument(
                    "LocScaleReparam", "centered=", centered, "between 0 and 1, or None"
                )
        self.centered, self.shape_params = centered, tuple(shape_params)

    def apply(self, msg: Message) -> None:
        """Turn the site into a function of `<name>_decentered`."""
        if msg.is_observed:
            raise errors.reparam_observed(msg)
        base, event_dim = _unwrapped(msg.fn)
        if not hasattr(base, "loc") or not hasattr(base, "scale"):
            raise errors.reparam_family(msg, "a location-scale family: one with loc and scale")
        centered = self.centered
        if centered is None:
            half = base.loc.new_full(base.batch_shape, 0.5)
            centered = param(f"{msg.name}_centered", half, constraint=constraints.unit_interval)
        settings = {key: getattr(base, key) for key in self.shape_params}
        settings |= {"loc": base.loc * centered, "scale": base.scale**centered}
        decentered = _wrapped(type(base)(**settings), event_dim)
        value = sample(f"{msg.name}_decentered", decentered, infer=dict(msg.infer))
        shifted = value - centered * base.loc
        _become(msg, base.loc + base.scale ** (1 - centered) * shifted, event_dim)


class TransformReparam:
    """Draw a transformed variable as what it was before the transforms, `<name>_base`.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.LogNormal(0.0, 1.0))
    >>> tr = pplkit.handlers.trace(
    ...     pplkit.handlers.reparam(model, config={"x": TransformReparam()})
    ... ).get_trace()
    >>> bool(tr.nodes["x"].value == tr.nodes["x_base"].value.exp())
    True
    """

    def apply(self, msg: Message) -> None:
        """Turn the site into a function of `<name>_base`."""
        base, event_dim = _unwrapped(msg.fn)
        if not isinstance(base, torch.distributions.TransformedDistribution):
            raise errors.reparam_family(msg, "a TransformedDistribution, as LogNormal is")
        if msg.is_observed:
            raise errors.reparam_observed(msg)
        value = sample(
            f"{msg.name}_base", _wrapped(base.base_dist, event_dim), infer=dict(msg.infer)
        )
        for transform in base.transforms:
            value = transform(value)
        _become(msg, value, msg.fn.event_dim)


def _unwrapped(fn: Distribution) -> tuple[Distribution, int]:
    """What stands behind `.to_event`, and how many dimensions that declared."""
    event_dim = 0
    while isinstance(fn, Independent):
        event_dim += fn.reinterpreted_batch_ndims
        fn = fn.base_dist
    return fn, event_dim


def _wrapped(fn: Distribution, event_dim: int) -> Distribution:
    return Independent(fn, event_dim) if event_dim else fn


def _become(msg: Message, value: Tensor, event_dim: int) -> None:
    msg.type, msg.fn, msg.args, msg.kwargs = "deterministic", None, (), {"event_dim": event_dim}
    msg.value, msg.done = value, True
