"""Importance sampling: draws of a guide, weighted by how much more the model believes in them.

A draw z of the guide q gets the weight p(x, z) / q(z). Weighted averages over the draws converge to
the posterior's expectations, and the mean weight to the evidence p(x), whatever the guide, as long
as it covers the posterior. How well a finite number of draws does is read from the weights.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..distributions import Empirical
from ..effects import Message
from ..handlers import block, replay, trace
from ..primitives import plate
from ..trace import Trace
from .elbo import ELBO, plate_nesting
from .predictive import Predictive
from .weights import LogWeights, check_possible, smoothed, systematic

_PARTICLES = "num_particles_vectorized"
FAULTS = (RuntimeError, ValueError, TypeError, IndexError)


class Importance(LogWeights):
    """Draws from a guide, weighted towards the posterior.

    Args:
        model: a function.
        guide: draws the model's latent variables; the prior, unless told.
        num_samples: how many draws, at least 1; 10 unless told.
        parallel: True makes all draws in one run, in a plate around guide and model; False makes
            one run for each. Unless told, they are made in one run where that is right: where two
            draws repeated by themselves get the weights that they have among the others.

    After `run(*args)` with the model's arguments:

    Attributes:
        log_weights: shape `(num_samples,)`.
        model_log_prob, guide_log_prob: their two parts, log p(x, z) and log q(z), of that shape.
        is_vectorized: whether all draws were made in one run.
        args, kwargs: the arguments of the last run.

    Raises:
        UsageError: arguments that are none of these, or weights asked for before a run.
        InferenceError: no draw that is possible under the model, or weights that are not finite.
        ModelError: a guide that does not draw what the model does.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     pplkit.sample("z", dist.Normal(1.0, 0.5**0.5))  # the posterior, given x = 2
    >>> posterior = Importance(model, guide, num_samples=1000).run(torch.tensor(2.0))
    >>> print(posterior)
    Importance(num_samples=1000): ESS 1000.0, log-evidence -2.27 ± 0.00
    >>> posterior.resample(100)["z"].shape
    torch.Size([100])
    """

    def __init__(
        self,
        model: Callable,
        guide: Callable | None = None,
        num_samples: int | None = None,
        *,
        parallel: bool | None = None,
    ):
        if not callable(model):
            raise errors.wrong_argument("Importance", "model=", model, "a function")
        if guide is not None and not callable(guide):
            raise errors.wrong_argument("Importance", "guide=", guide, "a function")
        if parallel not in (None, True, False):
            raise errors.wrong_argument("Importance", "parallel=", parallel, "True, False or None")
        self.num_samples = whole_number("Importance", "num_samples=", num_samples, default=10)
        self.model, self.parallel = model, parallel
        self.guide = _prior_of(model) if guide is None else guide
        self.is_vectorized: bool | None = None
        self.args: tuple = ()
        self.kwargs: dict[str, Any] = {}
        self._draws: dict[str, Tensor] = {}
        self._model_log_prob: Tensor | None = None
        self._guide_log_prob: Tensor | None = None
        self._returned: Any = None

    @torch.no_grad()
    def run(self, *args, **kwargs) -> Importance:
        """Draw, and weigh, with these arguments of the model; returns itself."""
        runs = Runs(self.model, self.guide, self.num_samples, args, kwargs)
        if self.parallel is None:
            together = runs.together() if self.num_samples > 2 else None
        else:
            together = runs.at_once() if self.parallel else None
        drawn = runs.one_by_one() if together is None else together
        check_possible("Importance", drawn.model - drawn.guide, drawn.culprit)
        self.is_vectorized, self.args, self.kwargs = together is not None, args, kwargs
        self._draws, self._returned = drawn.draws, drawn.returned
        self._model_log_prob, self._guide_log_prob = drawn.model, drawn.guide
        return self

    def _ready(self) -> Importance:
        if self._model_log_prob is None:
            raise errors.not_run("Importance", "posterior.run(*args), with the model's arguments")
        return self

    @property
    def model_log_prob(self) -> Tensor:
        """log p(x, z) of each draw."""
        return self._ready()._model_log_prob

    @property
    def guide_log_prob(self) -> Tensor:
        """log q(z) of each draw."""
        return self._ready()._guide_log_prob

    @property
    def log_weights(self) -> Tensor:
        """log p(x, z) - log q(z) of each draw; shape `(num_samples,)`."""
        return self.model_log_prob - self.guide_log_prob

    def get_samples(self) -> dict[str, Tensor]:
        """The guide's draws as they are, to be used with `log_weights`; by name, of shape
        `(num_samples,) + the site's`.
        """
        return dict(self._ready()._draws)

    def resample(self, num_samples: int | None = None, *, smooth: bool = False) -> dict:
        """Draws of equal weight, chosen from the weighted ones, which may repeat.

        Args:
            num_samples: how many; as many as there are, unless told.
            smooth: choose by Pareto-smoothed weights.
        """
        number = whole_number("resample", "num_samples=", num_samples, default=self.num_samples)
        weights = self.get_smoothed_weights(log_scale=True) if smooth else self.log_weights
        index = systematic(weights, number)
        index = index[torch.randperm(number, device=index.device)]  # neighbours are not related
        return {name: value[index] for name, value in self._ready()._draws.items()}

    def returned(self) -> Any:
        """What the model returned, of all draws: a tensor with them at its first dimension."""
        return self._ready()._returned

    def __repr__(self) -> str:
        head = f"Importance(num_samples={self.num_samples})"
        if self._model_log_prob is None:
            return f"{head}: not run yet"
        value, error = self.get_log_evidence()
        ess = self.get_ESS().item()
        return f"{head}: ESS {ess:.1f}, log-evidence {value.item():.2f} ± {error.item():.2f}"


class EmpiricalMarginal(Empirical):
    """The weighted draws of one site, or of the model's result, as a distribution.

    Args:
        trace_posterior: an `Importance` that was run.
        sites: the site's name; "_RETURN", what the model returns, unless told; or a list of names
            of sites of one shape, that are put side by side.

    Raises:
        UsageError: no such site, or a result that is no tensor.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Bernoulli(torch.tensor(0.3)))
    >>> posterior = Importance(model, num_samples=5000).run()
    >>> bool(abs(EmpiricalMarginal(posterior, "z").mean - 0.3) < 0.05)
    True
    """

    def __init__(self, trace_posterior: Importance, sites: str | list | None = None):
        if not isinstance(trace_posterior, Importance):
            expected = "an Importance that was run"
            raise errors.wrong_argument(
                "EmpiricalMarginal", "trace_posterior=", trace_posterior, expected
            )
        draws = trace_posterior.get_samples()
        names = [sites or "_RETURN"] if sites is None or isinstance(sites, str) else list(sites)
        draws["_RETURN"] = trace_posterior.returned()
        for name in names:
            if name not in draws:
                raise errors.no_draws_of(name, list(draws))
            if not isinstance(draws[name], Tensor):
                raise errors.result_no_tensor(draws[name])
        single = sites is None or isinstance(sites, str)
        values = draws[names[0]] if single else torch.stack([draws[n] for n in names], 1)
        super().__init__(values, trace_posterior.log_weights)


class _Drawn:
    """Draws of all runs: by site, with the two log-probabilities of each."""

    def __init__(self, draws, model: Tensor, guide: Tensor, returned=None, culprit=None):
        self.draws, self.model, self.guide = draws, model, guide
        self.returned, self.culprit = returned, culprit


class Runs:
    """Runs of a guide, and of its model that takes the guide's draws; all at once or one by one."""

    def __init__(self, model: Callable, guide: Callable, number: int, args: tuple, kwargs: dict):
        self.model, self.guide, self.number = model, guide, number
        self.args, self.kwargs = args, kwargs
        self.returned: Any = None  # what the model returned in the last run
        with block():
            self.example = self._pair(model, guide)
        self.returned_alone = self.returned
        plates = (f for t in self.example for s in t.sites("sample") for f in s.plates)
        self.nesting = -min((f.dim for f in plates if f.vectorized), default=0)

    def _pair(self, model: Callable, guide: Callable) -> tuple[Trace, Trace]:
        @functools.wraps(model, updated=())
        def noting(*args, **kwargs):
            self.returned = model(*args, **kwargs)

        return ELBO().traces(noting, guide, *self.args, **self.kwargs)

    # -- at once -----------------------------------------------------------------------------
    def together(self) -> _Drawn | None:
        """All at once; None if the first or last draw, run by itself, has another weight."""
        try:
            with block():
                model_trace, guide_trace = self._vectorized()
                drawn = self._gathered(model_trace, guide_trace)
                same = all(self._same(i, model_trace, guide_trace, drawn) for i in (0, -1))
        except FAULTS:
            return None
        return drawn if same else None

    def at_once(self) -> _Drawn:
        """All at once, in a plate."""
        return self._gathered(*self._vectorized())

    def _vectorized(self) -> tuple[Trace, Trace]:
        around = plate(_PARTICLES, self.number, dim=-self.nesting - 1)
        return self._pair(around(self.model), around(self.guide))

    def _gathered(self, model_trace: Trace, guide_trace: Trace) -> _Drawn:
        draws = {
            name: self._rows(site.value, self.example[0].nodes[name].value)
            for name, site in _latent(model_trace).items()
        }
        log_p, log_q = (summed(run, self.number) for run in (model_trace, guide_trace))
        returned = self._rows(self.returned, self.returned_alone)
        return _Drawn(draws, log_p, log_q, returned, impossible(model_trace, self.number))

    def _rows(self, value: Any, alone: Any) -> Any:
        """What all runs have made, of shape `(number,) + that of one`; the rest as it is."""
        if not isinstance(value, Tensor) or not isinstance(alone, Tensor):
            return value
        shape = (self.number, *alone.shape)
        fits = value.numel() == math.prod(shape)
        return value.reshape(shape) if fits else value.reshape(alone.shape).expand(shape)

    def _same(self, i: int, model_trace: Trace, guide_trace: Trace, drawn: _Drawn) -> bool:
        """Whether a draw repeated by itself has the log-probabilities that it has in the plate."""
        then = self._row(self.example[1], guide_trace, i)
        alone = trace(replay(self.guide, trace=then)).get_trace(*self.args, **self.kwargs)
        then = self._row(self.example[0], model_trace, i)
        drawn_now = {s.name: s for s in alone.sites("sample") if s.name in then}
        then.nodes |= drawn_now
        there = trace(replay(self.model, trace=then)).get_trace(*self.args, **self.kwargs)
        if set(_latent(there)) != set(drawn.draws):
            return False
        pairs = ((alone, drawn.guide[i]), (there, drawn.model[i]))
        return all(_agree([s.log_prob_sum for s in run.sites("sample")], x) for run, x in pairs)

    def _row(self, example: Trace, run: Trace, i: int) -> Trace:
        """One of the runs that a vectorised one holds, to be replayed."""
        row = Trace()
        for site in run.sites("sample", "plate"):
            if site.name not in example or site.is_observed:
                continue
            one = copy.copy(site)
            if site.type == "sample":
                if _is_delta(site.fn):  # computed from other draws, to the last digit
                    continue
                one.value = self._rows(site.value, example.nodes[site.name].value)[i]
            row.add(one)
        return row

    # -- one by one --------------------------------------------------------------------------
    def one_by_one(self) -> _Drawn:
        """A run for every draw."""
        runs, returned = [], []
        for _ in range(self.number):
            runs.append(self._pair(self.model, self.guide))
            returned.append(self.returned)
        draws = {}
        for name in _latent(runs[0][0]):
            values = [run.nodes[name].value for run, _ in runs if name in run]
            if len(values) == self.number and len({value.shape for value in values}) == 1:
                draws[name] = torch.stack(values)
        pairs = zip(*runs, strict=True)
        log_p, log_q = (torch.stack([t.log_prob_sum() for t in traces]) for traces in pairs)
        if all(isinstance(r, Tensor) and r.shape == returned[0].shape for r in returned):
            returned = torch.stack(returned)
        return _Drawn(draws, log_p, log_q, returned, _always([run for run, _ in runs]))


def _prior_of(model: Callable) -> Callable:
    return block(model, hide_types=["observe"])


def _latent(run: Trace) -> dict[str, Message]:
    """The latent variables of a model's run."""
    sites = run.sites("sample")
    return {s.name: s for s in sites if not s.is_observed and not s.infer.get("is_auxiliary")}


def _is_delta(fn: Any) -> bool:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return type(fn).__name__ == "Delta"


def _agree(terms: list[Tensor], found: Tensor) -> bool:
    """Whether a sum is what was found, but for rounding."""
    total = sum(terms, found.new_zeros(()))
    size = 1.0 + sum(abs(x) for x in map(float, terms) if math.isfinite(x))
    return torch.allclose(total, found, rtol=0, atol=size * torch.finfo(found.dtype).eps ** 0.5)


def summed(run: Trace, number: int) -> Tensor:
    """The log-probabilities of runs that were made together, in a plate around them all."""
    terms = [site.log_prob.reshape(number, -1).sum(-1) for site in run.sites("sample")]
    return sum(terms[1:], terms[0]) if terms else torch.zeros(number)


def impossible(run: Trace, number: int) -> Message | None:
    """The first site that is impossible, or undefined, in all runs that were made together."""
    for site in run.sites("sample"):
        if not torch.isfinite(site.log_prob.reshape(number, -1).sum(-1)).any():
            return site
    return None


def _always(runs: list[Trace]) -> Message | None:
    """The first site that is impossible, or undefined, in all runs."""
    for site in runs[0].sites("sample"):
        there = [run.nodes[site.name].log_prob_sum for run in runs if site.name in run]
        if not any(map(math.isfinite, map(float, there))):
            return site
    return None


def whole_number(what: str, argument: str, found: Any, default: int, least: int = 1) -> int:
    """A number of draws, steps or runs as given by a user."""
    if found is None:
        return default
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise errors.wrong_argument(what, argument, found, f"a whole number, at least {least}")
    return found


def vectorized_importance_weights(
    model: Callable,
    guide: Callable,
    *args,
    num_samples: int = 1,
    max_plate_nesting: int | None = None,
    normalized: bool = False,
    **kwargs,
) -> tuple[Tensor, Trace, Trace]:
    """Log-weights of draws that are made in one run, in a plate around guide and model.

    Args:
        model, guide: functions of `args` and `kwargs`, whose batch dimensions all belong to plates.
        num_samples: how many draws, at least 1.
        max_plate_nesting: how many dimensions the plates take; one run tells, unless given.
        normalized: subtract what makes the weights' sum 1.

    Returns:
        The log-weights, shape `(num_samples,)`, with gradients; and the traces of model and guide.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> vectorized_importance_weights(model, model, num_samples=3)[0]
    tensor([0., 0., 0.])
    """
    number = whole_number("vectorized_importance_weights", "num_samples=", num_samples, 1)
    nesting = max_plate_nesting
    if nesting is None:
        nesting = plate_nesting(model, guide, *args, **kwargs)
    around = plate(_PARTICLES, number, dim=-nesting - 1)
    model_trace, guide_trace = ELBO().traces(around(model), around(guide), *args, **kwargs)
    log_weights = summed(model_trace, number) - summed(guide_trace, number)
    if normalized:
        check_possible("vectorized_importance_weights", log_weights)
        log_weights = log_weights - log_weights.logsumexp(0)
    return log_weights, model_trace, guide_trace


@torch.no_grad()
def psis_diagnostic(
    model: Callable,
    guide: Callable,
    *args,
    num_particles: int = 1000,
    max_simultaneous_particles: int | None = None,
    max_plate_nesting: int | None = None,
    **kwargs,
) -> float:
    """How well a guide fits: the tail index of its importance weights, by ArviZ.

    Below 0.5 the guide covers the posterior well; up to 0.7 its weighted draws can be used; above,
    it misses part of the posterior (Yao, Vehtari, Simpson and Gelman, 2018, "Yes, but did it work?
    Evaluating variational inference"). See `Importance.get_pareto_k`.

    Args:
        model, guide: functions of `args` and `kwargs`, whose batch dimensions all belong to plates.
        num_particles: how many draws.
        max_simultaneous_particles: how many are made in one run; all, unless told.
        max_plate_nesting: how many dimensions the plates take; one run tells, unless given.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> guide = lambda: pplkit.sample("z", dist.Normal(0.0, 1.5))
    >>> psis_diagnostic(model, guide) < 0.5
    True
    """
    total = whole_number("psis_diagnostic", "num_particles=", num_particles, 1000)
    most = whole_number(
        "psis_diagnostic", "max_simultaneous_particles=", max_simultaneous_particles, total
    )
    parts = [min(most, total - done) for done in range(0, total, most)]
    log_weights = [
        vectorized_importance_weights(
            model, guide, *args, num_samples=n, max_plate_nesting=max_plate_nesting, **kwargs
        )[0]
        for n in parts
    ]
    together = torch.cat(log_weights)
    check_possible("psis_diagnostic", together)
    return smoothed(together, "psis_diagnostic")[1]


@dataclass
class WeighedPredictiveResults(LogWeights):
    """Predictions with weights.

    Attributes:
        samples: by site, of shape `(num_samples,) + the site's`.
        log_weights, guide_log_prob, model_log_prob: of shape `(num_samples,)`.

    >>> import pplkit, pplkit.distributions as dist
    >>> model = lambda: pplkit.sample("z", dist.Normal(0.0, 1.0))
    >>> WeighedPredictive(model, guide=model, num_samples=20)().get_ESS()
    tensor(20.)
    """

    samples: dict[str, Tensor]
    log_weights: Tensor
    guide_log_prob: Tensor
    model_log_prob: Tensor

    def resample(self, num_samples: int | None = None) -> dict[str, Tensor]:
        """Predictions of equal weight, chosen from the weighted ones, which may repeat."""
        size = len(self.log_weights)
        number = whole_number("resample", "num_samples=", num_samples, default=size)
        index = systematic(self.log_weights, number)
        index = index[torch.randperm(number, device=index.device)]
        return {name: value[index] for name, value in self.samples.items()}


class WeighedPredictive(Predictive):
    """What a model predicts for a guide's draws, with the weights that make up for what the guide
    misses.

    Called with the model's arguments, and with `model_guide=` the model that the guide was fitted
    to, observations included, if that is another one. It returns `WeighedPredictiveResults`.

    Args:
        model: a function.
        guide: draws the latent variables, with the model's arguments.
        num_samples: how many draws.
        return_sites: names of those to return; all, unless told.
        parallel: make all draws in one run.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(x=None):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     return pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide():
    ...     pplkit.sample("z", dist.Normal(0.5, 1.0))
    >>> seen = pplkit.handlers.condition(model, data={"x": torch.tensor(2.0)})
    >>> predictive = WeighedPredictive(model, guide=guide, num_samples=500, parallel=True)
    >>> result = predictive(model_guide=seen)
    >>> result.samples["x"].shape, result.log_weights.shape
    (torch.Size([500]), torch.Size([500]))
    """

    def __init__(self, model, guide=None, num_samples=None, return_sites=(), parallel=False):
        if guide is None:
            raise errors.missing_argument("WeighedPredictive", "guide=", "a function")
        super().__init__(
            model, None, guide, num_samples, return_sites=return_sites, parallel=parallel
        )

    @torch.no_grad()
    def __call__(
        self, *args, model_guide: Callable | None = None, **kwargs
    ) -> WeighedPredictiveResults:
        """Draw and weigh, with these arguments of the model."""
        fitted = self.model if model_guide is None else model_guide
        posterior = Importance(fitted, self.guide, self.num_samples, parallel=self.parallel)
        posterior.run(*args, **kwargs)
        given, wanted = posterior.get_samples(), self.return_sites or None
        samples = self._drawn(self.model, given, wanted, self.parallel, args, kwargs)[0]
        log_q, log_p = posterior.guide_log_prob, posterior.model_log_prob
        return WeighedPredictiveResults(samples, log_p - log_q, log_q, log_p)

    forward = call = __call__
