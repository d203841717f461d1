"""Other ways to write the same variable: for `handlers.reparam`.

A strategy's `apply(msg)` draws an auxiliary variable with a statement of its own, and turns the
site into a deterministic function of it. The model's meaning stays; its geometry changes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints

from .. import errors
from ..distributions import Distribution, Independent, Normal, ProjectedNormal, Uniform
from ..effects import Message
from ..handlers import reparam
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


class ProjectedNormalReparam:
    """Draw a direction as a standard normal vector `<name>_normal`, moved and cut to length 1.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.ProjectedNormal(torch.ones(3)))
    >>> x = pplkit.handlers.reparam(model, config={"x": ProjectedNormalReparam()})()
    >>> bool((x.norm() - 1).abs() < 1e-6)
    True
    """

    def apply(self, msg: Message) -> None:
        """Turn the site into a function of `<name>_normal`."""
        base, event_dim = _unwrapped(msg.fn)
        if not isinstance(base, ProjectedNormal):
            raise errors.reparam_family(msg, "ProjectedNormal")
        if msg.is_observed:
            raise errors.reparam_observed(msg)
        unit = Normal(torch.zeros_like(base.concentration), 1.0).to_event(1)
        noise = sample(f"{msg.name}_normal", _wrapped(unit, event_dim), infer=dict(msg.infer))
        moved = noise + base.concentration
        length = moved.norm(dim=-1, keepdim=True).clamp(min=torch.finfo(moved.dtype).tiny)
        _become(msg, moved / length, msg.fn.event_dim)


class GumbelSoftmaxReparam:
    """Draw a point of the simplex from independent uniform numbers, `<name>_uniform`: for
    RelaxedOneHotCategorical, whose density has a peak at each corner.

    >>> import pplkit, pplkit.distributions as dist
    >>> relaxed = dist.RelaxedOneHotCategorical(torch.tensor(0.5), logits=torch.zeros(3))
    >>> model = lambda: pplkit.sample("x", relaxed)
    >>> x = pplkit.handlers.reparam(model, config={"x": GumbelSoftmaxReparam()})()
    >>> bool((x.sum() - 1).abs() < 1e-6)
    True
    """

    def apply(self, msg: Message) -> None:
        """Turn the site into a function of `<name>_uniform`."""
        base, event_dim = _unwrapped(msg.fn)
        if not isinstance(base, torch.distributions.RelaxedOneHotCategorical):
            raise errors.reparam_family(msg, "RelaxedOneHotCategorical")
        if msg.is_observed:
            raise errors.reparam_observed(msg)
        logits = base.logits
        unit = Uniform(torch.zeros_like(logits), torch.ones_like(logits)).to_event(1)
        drawn = sample(f"{msg.name}_uniform", _wrapped(unit, event_dim), infer=dict(msg.infer))
        tiny = torch.finfo(drawn.dtype).tiny
        drawn = drawn.clamp(tiny, 1 - torch.finfo(drawn.dtype).eps)  # both logarithms are finite
        gumbel = -(-drawn.log()).log()
        temperature = torch.as_tensor(base.temperature)
        if temperature.dim():  # of the batch
            temperature = temperature.unsqueeze(-1)
        value = ((logits + gumbel) / temperature).softmax(-1)
        _become(msg, value, msg.fn.event_dim)


class Strategy:
    """Chooses how each site is rewritten; a subclass says so in `configure`.

    Used as a decorator, around a model, or as `handlers.reparam(model, config=strategy)`.

    Attributes:
        config: what was chosen, by site, once the model has run; `handlers.reparam` takes it.

    >>> import pplkit, pplkit.distributions as dist
    >>> class OnlyTheta(Strategy):
    ...     def configure(self, msg):
    ...         return LocScaleReparam(0.0) if msg.name == "theta" else None
    >>> model = OnlyTheta()(lambda: pplkit.sample("theta", dist.Normal(5.0, 2.0)))
    >>> pplkit.handlers.trace(model).get_trace().stochastic_nodes
    ['theta_decentered']
    """

    def __init__(self):
        self.config: dict[str, object] = {}

    def configure(self, msg: Message):
        """The way to rewrite this site, or None to leave it; asked when it is first met."""
        raise NotImplementedError

    def __call__(self, msg_or_fn):
        if not isinstance(msg_or_fn, Message):
            return reparam(msg_or_fn, config=self)
        if msg_or_fn.name not in self.config:
            self.config[msg_or_fn.name] = self.configure(msg_or_fn)
        return self.config[msg_or_fn.name]


class MinimalReparam(Strategy):
    """Rewrites only what otherwise cannot be inferred: latent directions (ProjectedNormal).

    >>> import pplkit, pplkit.distributions as dist
    >>> @MinimalReparam()
    ... def model():
    ...     pplkit.sample("x", dist.ProjectedNormal(torch.ones(3)))
    ...     pplkit.sample("y", dist.Normal(0.0, 1.0))
    >>> pplkit.handlers.trace(model).get_trace().stochastic_nodes
    ['x_normal', 'y']
    """

    def configure(self, msg: Message):
        """The way to rewrite this site, or None."""
        fn, transformed = _innermost(msg.fn)
        if msg.is_observed or not isinstance(fn, ProjectedNormal):
            return None
        return TransformReparam() if transformed else ProjectedNormalReparam()


class AutoReparam(Strategy):
    """Rewrites every latent site in the way that is usually the best for its family: transformed
    distributions by `TransformReparam`, RelaxedOneHotCategorical by `GumbelSoftmaxReparam`,
    location-scale families on all real numbers by `LocScaleReparam`; else as `MinimalReparam`.

    Args:
        centered: of `LocScaleReparam`: None learns it, site by site, as a parameter, for SVI; for
            MCMC, which has no parameters to learn, say 0.0.

    >>> import pplkit, pplkit.distributions as dist
    >>> @AutoReparam(centered=0.0)
    ... def model():
    ...     mu = pplkit.sample("mu", dist.Normal(0.0, 1.0))
    ...     tau = pplkit.sample("tau", dist.LogNormal(0.0, 1.0))
    ...     pplkit.sample("theta", dist.Normal(mu, tau))
    >>> pplkit.handlers.trace(model).get_trace().stochastic_nodes
    ['mu_decentered', 'tau_base_decentered', 'theta_decentered']
    """

    def __init__(self, *, centered: float | Tensor | None = None):
        super().__init__()
        self.centered = LocScaleReparam(centered).centered  # which looks at it

    def configure(self, msg: Message):
        """The way to rewrite this site, or None."""
        fn, transformed = _innermost(msg.fn)
        if msg.is_observed:
            return None
        if transformed:
            return TransformReparam()
        if isinstance(fn, torch.distributions.RelaxedOneHotCategorical):
            return GumbelSoftmaxReparam()
        settings = set(fn.arg_constraints)
        on_all_numbers = _plain(fn.support) is constraints.real
        if {"loc", "scale"} <= settings and on_all_numbers and "_decentered" not in msg.name:
            return LocScaleReparam(self.centered, sorted(settings - {"loc", "scale"}))
        return ProjectedNormalReparam() if isinstance(fn, ProjectedNormal) else None


def _innermost(fn: Distribution) -> tuple[Distribution, bool]:
    """What stands behind all wrappers, and whether one of them transforms.

    What folds, as HalfNormal does, stays: before the fold there are two modes.
    """
    transformed = False
    while isinstance(getattr(fn, "base_dist", None), torch.distributions.Distribution):
        if isinstance(fn, torch.distributions.TransformedDistribution):
            if not all(transform.bijective for transform in fn.transforms):
                break
            transformed = True
        fn = fn.base_dist
    return fn, transformed


def _plain(support: constraints.Constraint) -> constraints.Constraint:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


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
