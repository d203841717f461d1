"""What a model predicts: its sites, drawn again for each draw of what is known of the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..effects import Message
from ..handlers import block, condition, trace
from ..primitives import plate
from ..trace import Trace
from .elbo import plate_nesting
from .weights import check_log_weights, systematic

_DRAWS = "_num_predictive_samples"


class Predictive:
    """Draws of a model's sites, given draws of its latent variables or a guide to make them.

    Args:
        model: a function; what it observes is returned as it is, so leave out data to predict them.
        posterior_samples: draws of latent variables, by name, each of shape
            `(num_samples,) + the site's`.
        guide: draws the latent variables itself, with the model's arguments.
        num_samples: how many draws; needed unless `posterior_samples` tell.
        return_sites: names of those to return, `"_RETURN"` for the model's result; unless told, all
            that `posterior_samples` do not give; with None, all.
        parallel: make all draws in one run, in a plate around the model, whose batch dimensions
            must then all belong to plates.
        log_weights: of `posterior_samples`, one for each draw, up to a constant: predictions are
            then made for `num_samples` of them (as many as there are, unless told), chosen by their
            weights afresh in each call.

    Called with the model's arguments, it returns a dictionary of tensors of shape
    `(num_samples,) + the site's`; the site's has as many batch dimensions as the model has plates
    inside each other. No gradients are kept.

    Raises:
        UsageError: arguments that are missing or contradict each other.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model():
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     with pplkit.plate("data", 3):
    ...         pplkit.sample("x", dist.Normal(z, 1.0))
    >>> Predictive(model, {"z": torch.zeros(10, 1)}, parallel=True)()["x"].shape
    torch.Size([10, 3])
    """

    def __init__(
        self,
        model: Callable,
        posterior_samples: Mapping[str, Tensor] | None = None,
        guide: Callable | None = None,
        num_samples: int | None = None,
        return_sites: Collection[str] | None = (),
        parallel: bool = False,
        *,
        log_weights: Tensor | None = None,
    ):
        if not callable(model):
            raise errors.wrong_argument("Predictive", "model=", model, "a function")
        if guide is not None and not callable(guide):
            raise errors.wrong_argument("Predictive", "guide=", guide, "a function")
        if return_sites is not None and not isinstance(return_sites, (list, tuple, set, frozenset)):
            expected = 'a list of names, as ["x"]'
            raise errors.wrong_argument("Predictive", "return_sites=", return_sites, expected)
        if not isinstance(posterior_samples, Mapping | None):
            expected = "draws by name: a dictionary"
            raise errors.wrong_argument(
                "Predictive", "posterior_samples=", posterior_samples, expected
            )
        if guide is not None and posterior_samples:
            raise errors.samples_and_guide()
        if log_weights is not None and not posterior_samples:
            raise errors.weights_without_draws()
        self.model, self.guide, self.parallel = model, guide, parallel
        self.posterior_samples = dict(posterior_samples or {})
        self.log_weights = log_weights
        weighted = log_weights is not None
        self.num_samples = _number(self.posterior_samples, None if weighted else num_samples)
        if weighted:
            check_log_weights("Predictive", log_weights, self.num_samples)
            self.num_samples = _number({}, num_samples or self.num_samples)
        self.return_sites = return_sites
        self._told = False  # whether names that the model does not have were told

    def __call__(self, *args, **kwargs) -> dict[str, Tensor]:
        """Draw, with these arguments of the model."""
        wanted = self.return_sites
        if self.guide is not None and not wanted:
            wanted = None
        given = self._latent_draws(args, kwargs)
        return self._drawn(self.model, given, wanted, self.parallel, args, kwargs)[0]

    forward = __call__

    def get_vectorized_trace(self, *args, **kwargs) -> Trace:
        """One run of the model that holds all draws, in a plate around it."""
        given = self._latent_draws(args, kwargs)
        return self._drawn(self.model, given, (), True, args, kwargs)[1]

    def _latent_draws(self, args, kwargs) -> dict[str, Tensor]:
        if self.log_weights is not None:
            index = systematic(self.log_weights, self.num_samples)
            return {name: value[index] for name, value in self.posterior_samples.items()}
        if self.guide is None:
            return self.posterior_samples
        return self._drawn(self.guide, {}, None, self.parallel, args, kwargs)[0]

    @torch.no_grad()
    def _drawn(
        self, model: Callable, given: dict[str, Tensor], wanted, parallel: bool, args, kwargs
    ) -> tuple[dict[str, Any], Trace]:
        nesting = plate_nesting(model, None, *args, **kwargs)
        with block():
            example = trace(model).get_trace(*args, **kwargs)
        if model is self.model and self.guide is None and not self._told:
            self._told = True
            tell_unknown(example, given)
        names = _chosen(example, given, wanted)
        shapes = {name: _shape(example.nodes[name], self.num_samples, nesting) for name in names}
        if not parallel:
            return self._one_by_one(model, given, shapes, args, kwargs)
        given = {name: _aligned(example, name, given[name], nesting) for name in given}
        return self._at_once(model, given, shapes, nesting, args, kwargs)

    def _one_by_one(self, model, given, shapes, args, kwargs):
        runs = []
        for i in range(self.num_samples):
            known = {name: value[i] for name, value in given.items()}
            runs.append(trace(condition(model, data=known)).get_trace(*args, **kwargs))
        drawn = {}
        for name, shape in shapes.items():
            values = [run.nodes[name].value for run in runs]
            drawn[name] = values if shape is None else torch.stack(values).reshape(shape)
        return drawn, runs[-1]

    def _at_once(self, model, given, shapes, nesting, args, kwargs):
        draws = plate(_DRAWS, self.num_samples, dim=-nesting - 1)
        run = trace(condition(draws(model), data=given)).get_trace(*args, **kwargs)
        drawn = {}
        for name, shape in shapes.items():
            value = run.nodes[name].value
            if shape is not None:
                fits = value.numel() == math.prod(shape)
                value = value.reshape(shape) if fits else value.expand(shape)
            drawn[name] = value
        return drawn, run


def tell_unknown(example: Trace, given: Collection[str]) -> None:
    """Warn of draws that no site of the model takes."""
    for name in given:
        # What an automatic guide has drawn besides: `z_unconstrained`, `_AutoNormal_latent`.
        plain = name.removesuffix("_unconstrained")
        if name not in example and plain not in example and not name.startswith("_"):
            known = [site.name for site in example.sites("sample", "deterministic")]
            told = errors.name_unknown("posterior_samples", name, known, errors.user_frame())
            errors.warn(told)


def _number(samples: Mapping[str, Tensor], num_samples: int | None) -> int:
    """How many draws there are, or shall be."""
    sizes = {value.shape[0] if value.dim() else None for value in samples.values()}
    if len(sizes) > 1 or None in sizes:
        shapes = {name: value.shape for name, value in samples.items()}
        raise errors.different_numbers_of_draws(shapes)
    whole = isinstance(num_samples, int) and not isinstance(num_samples, bool) and num_samples > 0
    if num_samples is not None and not whole:
        expected = "a whole number, at least 1"
        raise errors.wrong_argument("Predictive", "num_samples=", num_samples, expected)
    if not sizes:
        if num_samples is None:
            raise errors.predictive_size_unknown()
        return num_samples
    (size,) = sizes
    if num_samples not in (None, size):
        errors.warn(errors.draws_outnumber(size, num_samples))
    return size


def _aligned(example: Trace, name: str, value: Tensor, nesting: int) -> Tensor:
    """Draws of a site, with room for all plates between the draws' dimension and the site's own."""
    site = example.nodes.get(name)
    event_dim = site.fn.event_dim if site is not None and site.type == "sample" else 0
    gap = (1,) * (nesting - (value.dim() - 1 - event_dim))
    return value.reshape(value.shape[:1] + gap + value.shape[1:])


def _chosen(example: Trace, given: Mapping[str, Tensor], wanted) -> list[str]:
    """Names of the sites to return."""
    known = [site.name for site in example.sites("sample", "deterministic")]
    if wanted is None:
        return known
    if not wanted:
        return [name for name in known if name not in given]
    for name in wanted:
        if name not in known and name != "_RETURN":
            raise errors.unknown_return_site(name, [*known, "_RETURN"])
    return [name for name in (*known, "_RETURN") if name in wanted]


def _shape(site: Message, num_samples: int, nesting: int) -> torch.Size | None:
    """The shape of a site's draws together; None if its value is no tensor."""
    value = site.value
    if not isinstance(value, Tensor):
        return None
    if site.type == "return":
        return torch.Size((num_samples, *value.shape))
    depth = max((-frame.dim for frame in site.plates if frame.vectorized), default=0)
    if site.type == "sample":
        depth = len(site.fn.batch_shape)
    elif site.kwargs["event_dim"] is not None:
        depth = max(depth, value.dim() - site.kwargs["event_dim"])
    return torch.Size((num_samples, *(1,) * (nesting - depth), *value.shape))
