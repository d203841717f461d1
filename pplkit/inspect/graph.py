"""The graph of a model: its relations as plain data, and its picture in plate notation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .dependencies import survey


def get_model_relations(
    model: Callable,
    model_args: tuple | None = None,
    model_kwargs: dict | None = None,
    include_deterministic: bool = False,
) -> dict[str, Any]:
    """A model's variables, parameters and plates, and how they hang together.

    The model runs once; parameters and random streams are left as they were.

    Args:
        model: any model, under handlers or not.
        model_args, model_kwargs: what to call it with.
        include_deterministic: let others depend on `deterministic` sites and those with a Delta
            distribution, rather than on what these are computed from.

    Returns:
        A dictionary, every list in the order of the run: `sample_sample` gives each site those it
        depends on, `sample_param` each site its parameters, `sample_dist` each site the name of its
        distribution ("Deterministic" where it has none), `param_constraint` each parameter its
        constraint in words, `plate_sample` each plate its sites; `observed` lists the sites whose
        value is given, `deterministic` ones included, as Pyro does.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(data):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     noise = pplkit.param("noise", torch.tensor(1.0))
    ...     with pplkit.plate("data", len(data)):
    ...         pplkit.sample("obs", dist.Normal(z, noise), obs=data)
    >>> found = get_model_relations(model, (torch.zeros(3),))
    >>> found["sample_sample"], found["sample_param"]
    ({'z': [], 'obs': ['z']}, {'z': [], 'obs': ['noise']})
    >>> found["plate_sample"], found["observed"]
    ({'data': ['obs']}, ['obs'])
    """
    found = survey(model, model_args, model_kwargs)
    elided = set() if include_deterministic else found.computed()
    sites = found.of_type("sample", "deterministic")
    parents = {s.name: found.parents(s.name, elided) for s in sites}
    params = {s.name: s for s in found.of_type("param")}
    within: dict[str, list[str]] = {}
    for site in sites:
        for frame in site.plates:
            within.setdefault(frame.name, []).append(site.name)
    return {
        "sample_sample": {s: [n for n in names if n not in params] for s, names in parents.items()},
        "sample_param": {s: [n for n in names if n in params] for s, names in parents.items()},
        "sample_dist": {s.name: s.family for s in sites},
        "param_constraint": {name: str(p.constraint) for name, p in params.items()},
        "plate_sample": within,
        "observed": [s.name for s in sites if s.observed or s.type == "deterministic"],
    }
