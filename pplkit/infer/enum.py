"""Which sites are enumerated, and the values that the data make most probable."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import errors
from ..distributions import Unit
from ..effects import Message
from ..enumeration import enum, first_dim, strategy
from ..handlers import block, infer_config, replay, trace
from .enum_factors import Joint, enumerated


def config_enumerate(
    guide: Callable | None = None,
    default: str | None = "parallel",
    expand: bool = False,
    num_samples: int | None = None,
    tmc: str | None = "diagonal",
) -> Callable:
    """Mark every latent site whose values can be listed for enumeration.

    As a function, `model = config_enumerate(model)`, or as a decorator, with arguments or without.
    Marks that a site has already are kept.

    Args:
        guide: the model or guide.
        default: "parallel", "sequential", or None for no mark.
        expand: give the values the full shape of the site's batch; else they broadcast with it.
        num_samples: sum over so many draws of each latent site, continuous ones too, rather than
            over all values; for a guide, and "parallel".
        tmc: accepted for Pyro's sake; draws are made for each value of the variables upstream.

    Raises:
        UsageError: an argument that is none of these.

    >>> import torch, pplkit, pplkit.distributions as dist
    >>> @config_enumerate
    ... def model():
    ...     return pplkit.sample("z", dist.Categorical(torch.ones(3)))
    >>> pplkit.handlers.enum(model, first_available_dim=-1)()
    tensor([0, 1, 2])
    """
    if default not in ("parallel", "sequential", None):
        expected = '"parallel", "sequential" or None'
        raise errors.wrong_argument("config_enumerate", "default=", default, expected)
    if not isinstance(expand, bool):
        raise errors.wrong_argument("config_enumerate", "expand=", expand, "True or False")
    if num_samples is not None:
        whole = isinstance(num_samples, int) and not isinstance(num_samples, bool)
        if not whole or num_samples < 1 or default == "sequential":
            expected = 'None, or a whole number, at least 1, with default="parallel"'
            raise errors.wrong_argument("config_enumerate", "num_samples=", num_samples, expected)
    if guide is None:
        return functools.partial(
            config_enumerate, default=default, expand=expand, num_samples=num_samples, tmc=tmc
        )

    def config(site: Message) -> dict:
        if site.type != "sample" or site.is_observed or isinstance(site.fn, Unit):
            return {}
        if num_samples is None and not site.fn.has_enumerate_support:
            return {}
        marks = {"enumerate": default, "expand": expand}
        if num_samples is not None:
            marks |= {"num_samples": num_samples, "tmc": tmc}
        return {key: site.infer.get(key, value) for key, value in marks.items()}

    return infer_config(guide, config_fn=config)


def infer_discrete(
    fn: Callable | None = None,
    first_available_dim: int | None = None,
    temperature: int = 1,
    *,
    strict_enumeration_warning: bool = True,
) -> Callable:
    """A model whose discrete sites, marked for enumeration, take values that the data suggest.

    With `temperature=1` the values are a draw from their joint posterior, given the observations
    and the other latent variables; with `temperature=0` they are the most probable combination
    (in a hidden Markov model: Viterbi's path). As a function or as a decorator.

    Latent variables that are not enumerated are drawn from their priors, unless a handler inside
    says otherwise: `infer_discrete(replay(model, trace=guide_trace), ...)`.

    Args:
        fn: the model, its sites marked, as by `config_enumerate`.
        first_available_dim: negative; left of all plates.
        temperature: 0 or 1.
        strict_enumeration_warning: warn when no site is marked.

    Returns:
        A function of the model's arguments that returns what the model returns.

    Raises:
        InferenceError: observations of probability zero.
        UsageError: another temperature, or a dimension that is not negative.

    >>> import torch, pplkit, pplkit.distributions as dist
    >>> @infer_discrete(first_available_dim=-1, temperature=0)
    ... @config_enumerate
    ... def path(xs, stay=torch.tensor([[0.9, 0.1], [0.1, 0.9]])):
    ...     zs = [torch.tensor(0)]
    ...     for t in pplkit.markov(range(len(xs))):
    ...         zs.append(pplkit.sample(f"z_{t}", dist.Categorical(stay[zs[-1]])))
    ...         pplkit.sample(f"x_{t}", dist.Normal(4.0 * zs[-1], 1.0), obs=xs[t])
    ...     return zs
    >>> [int(z) for z in path(torch.tensor([0.0, 2.5, 0.0, 4.0, 4.0]))]
    [0, 0, 0, 0, 1, 1]
    """
    first = first_dim("infer_discrete", first_available_dim)
    if temperature not in (0, 1):
        expected = "0 for the most probable values, or 1 for a draw"
        raise errors.wrong_argument("infer_discrete", "temperature=", temperature, expected)
    if fn is None:
        return functools.partial(
            infer_discrete,
            first_available_dim=first_available_dim,
            temperature=temperature,
            strict_enumeration_warning=strict_enumeration_warning,
        )

    @functools.wraps(fn)
    def inferred(*args, **kwargs) -> Any:
        with block(), trace() as recorder, enum(first_available_dim=first):
            fn(*args, **kwargs)
        run = recorder.trace
        for site in run.sites("sample"):
            if not site.is_observed and strategy(site) == "sequential":
                raise errors.sequential_in_model(site)
        if strict_enumeration_warning and not any(map(enumerated, run.sites("sample"))):
            errors.warn(errors.nothing_enumerated("infer_discrete"))
        joint = Joint(run, (), first, largest=temperature == 0)
        drawn = joint.drawn(run, "infer_discrete")
        with replay(trace=drawn):
            return fn(*args, **kwargs)

    return inferred
