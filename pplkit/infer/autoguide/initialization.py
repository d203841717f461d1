"""Where an automatic guide starts: strategies that choose a first value for a site.

A strategy is a function from a site (`site.name`, `site.fn`) to a tensor of the site's shape.
Those here can be given as they are, `init_loc_fn=init_to_mean`, or with settings,
`init_loc_fn=init_to_uniform(radius=0.1)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ... import checks, errors
from ...distributions import transform_to
from ...effects import Handler, Message
from ...names import Names
from ...randomness import drawing

Strategy = Callable[[Message], Tensor]


def _configurable(strategy: Callable) -> Callable:
    """Lets a strategy be called with settings alone, for one that has them."""

    @functools.wraps(strategy)
    def either(site: Message | None = None, *args, **settings):
        if site is None:
            return functools.partial(strategy, **settings)
        return strategy(site, *args, **settings)

    return either


@_configurable
def init_to_feasible(site: Message) -> Tensor:
    """Any value inside the support, whatever the distribution's parameters.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_feasible(Message("sample", "x", dist.Gamma(3.0, 5.0)))
    tensor(1.)
    """
    to_support = transform_to(site.fn.support)
    return to_support(torch.zeros_like(to_support.inv(site.fn.sample())))


@_configurable
def init_to_sample(site: Message) -> Tensor:
    """A draw from the prior.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_sample(Message("sample", "x", dist.Delta(torch.tensor(2.0))))
    tensor(2.)
    """
    return site.fn.sample()


@_configurable
def init_to_median(
    site: Message, num_samples: int = 15, *, fallback: Strategy | None = init_to_feasible
) -> Tensor:
    """The median of draws from the prior; `fallback` where that is none: for vectors, mostly.

    Args:
        num_samples: how many draws; more come closer to the prior's median.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_median(Message("sample", "x", dist.Delta(torch.tensor(2.0))), num_samples=5)
    tensor(2.)
    """
    if not _is_multivariate(site.fn):
        # Torch's median of an expanded tensor is wrong: copy.
        value = site.fn.sample((num_samples,)).contiguous().median(0).values
        if _is_usable(site, value):
            return value
    return _fallen_back(site, fallback)


@_configurable
def init_to_mean(site: Message, *, fallback: Strategy | None = init_to_median) -> Tensor:
    """The prior's mean; `fallback` where it has none.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_mean(Message("sample", "x", dist.Gamma(3.0, 2.0)))
    tensor(1.5000)
    """
    try:
        value = site.fn.mean.detach().clone()
    except (NotImplementedError, AttributeError):
        return _fallen_back(site, fallback)
    return value if _is_usable(site, value) else _fallen_back(site, fallback)


@_configurable
def init_to_uniform(site: Message, radius: float = 2.0) -> Tensor:
    """A random value: unconstrained, uniform between -radius and radius.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_uniform(Message("sample", "x", dist.Gamma(3.0, 2.0)), radius=1e-9)
    tensor(1.)
    """
    to_support = transform_to(site.fn.support)
    free = to_support.inv(site.fn.sample())
    with drawing():
        return to_support(torch.rand_like(free) * (2 * radius) - radius)


@_configurable
def init_to_value(
    site: Message,
    values: Mapping[str, Tensor] | None = None,
    *,
    fallback: Strategy | None = init_to_uniform,
) -> Tensor:
    """The value given for the site; `fallback` for sites that have none.

    Args:
        values: by name.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> init_to_value(Message("sample", "x", dist.Normal(0.0, 1.0)), {"x": torch.tensor(3.0)})
    tensor(3.)
    """
    if site.name not in (values or {}):
        return _fallen_back(site, fallback)
    return torch.as_tensor(values[site.name], dtype=site.fn.sample().dtype)


def init_to_generated(
    site: Message | None = None, generate: Callable[[], Strategy] = lambda: init_to_uniform
) -> Tensor | Strategy:
    """A strategy that is made afresh, by `generate`, for each run of the model.

    >>> import pplkit.distributions as dist
    >>> from pplkit.effects import Message
    >>> start = init_to_generated(generate=lambda: init_to_value(values={"x": torch.rand(())}))
    >>> site = Message("sample", "x", dist.Normal(0.0, 1.0))
    >>> bool(start(site) == start(site))
    False
    """
    strategy = _Generated(generate)
    return strategy if site is None else strategy(site)


class _Generated:
    def __init__(self, generate: Callable[[], Strategy]):
        self.generate = generate
        self._strategy: Strategy | None = None
        self._seen: set[str] = set()

    def __call__(self, site: Message) -> Tensor:
        if self._strategy is None or site.name in self._seen:  # a new run has begun
            self._strategy, self._seen = self.generate(), set()
        self._seen.add(site.name)
        return self._strategy(site)


def _fallen_back(site: Message, fallback: Strategy | None) -> Tensor:
    if fallback is None:
        raise errors.no_initial_value(site)
    return fallback(site)


def _is_multivariate(fn) -> bool:
    """Whether a value is a vector that is more than a row of numbers made one event."""
    while type(fn).__name__ in ("Independent", "MaskedDistribution"):
        fn = fn.base_dist
    return any(size > 1 for size in fn.event_shape)


def _is_usable(site: Message, value: Tensor) -> bool:
    return checks.holds(torch.isfinite(value).all() & site.fn.support.check(value).all())


def values_named(strategy: Strategy) -> list[str]:
    """The names of the sites that `init_to_value` has values for, as a fallback too.

    >>> values_named(init_to_median(fallback=init_to_value(values={"x": torch.tensor(0.0)})))
    ['x']
    """
    settings = getattr(strategy, "keywords", None) or {}
    inner = settings.get("fallback")
    return [*(settings.get("values") or ()), *(values_named(inner) if inner is not None else ())]


def _is_initialised(msg: Message) -> bool:
    return msg.type == "sample" and msg.value is None and not msg.fn.support.is_discrete


class InitHandler(Handler):
    """Runs a model with each unobserved site at the value that a strategy chooses.

    Discrete sites, which have no unconstrained values to choose from, are drawn.

    Args:
        fn: the model.
        strategy: as `init_to_median`.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("x", dist.Gamma(3.0, 2.0))
    >>> InitHandler(model, init_to_mean)()
    tensor(1.5000)
    """

    def __init__(self, fn=None, strategy: Strategy = init_to_sample):
        super().__init__(fn)
        if not callable(strategy):
            expected = "a function from a site to a tensor, as init_to_median"
            raise errors.wrong_argument("InitHandler", "strategy=", strategy, expected)
        self.strategy = strategy
        named = values_named(strategy)
        self.given_names = Names("init_to_value", named, _is_initialised) if named else None

    def process_message(self, msg: Message) -> None:
        self._note(msg)
        if not _is_initialised(msg):
            return
        with torch.no_grad():
            value = torch.as_tensor(self.strategy(msg)).detach()
        if value.shape != msg.fn.shape():
            raise errors.initial_value(msg, value.shape, msg.fn.shape())
        if not checks.holds(msg.fn.support.check(value).all()):
            raise errors.initial_outside_support(msg, value)
        msg.value = value
