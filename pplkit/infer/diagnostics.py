"""Draws as ArviZ takes them: its tables, plots, R-hat, effective sizes, energy and cross-validation
then know the model's plates by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..distributions import Unit
from ..effects import Message, scale_and_mask
from ..handlers import block, condition, trace, uncondition
from ..primitives import plate
from ..trace import Trace
from .importance import Importance, whole_number
from .predictive import Predictive, tell_unknown
from .weights import arviz_for

_DRAWS = "_num_predictive_samples"
_FAULTS = (RuntimeError, ValueError, TypeError, IndexError)
_ELEMENTS = 1 << 24  # of log-probabilities in one run
_STATS = {"accept_prob": "acceptance_rate", "num_steps": "n_steps"}  # as ArviZ calls them


def to_arviz(
    source: Any,
    model: Callable | None = None,
    model_args: tuple = (),
    model_kwargs: Mapping[str, Any] | None = None,
    *,
    num_samples: int | None = None,
    num_chains: int | None = None,
    prior: int | None = None,
    posterior_predictive: bool | Mapping[str, Tensor] = False,
    log_likelihood: bool | None = None,
    coords: Mapping[str, Sequence] | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """Draws from a posterior, and what the model makes of them, as ArviZ's `InferenceData`.

    ArviZ then does the rest: `az.summary(data)` (R-hat, bulk and tail effective sizes),
    `az.bfmi(data)` (energy), `az.loo(data)` (cross-validation by Pareto-smoothed importance
    sampling), `az.plot_trace(data)` and all others. Deterministic sites are among the posterior's
    variables.

    Args:
        source: an `MCMC` that was run; an `Importance` that was run, whose draws are resampled to
            equal weights; a guide, whose draws are taken as they are; or draws by name, of shape
            `(num_samples, ...)`.
        model: known of an `MCMC` or an `Importance`; without it there are neither dimensions by
            name nor other groups than the posterior.
        model_args, model_kwargs: its arguments, known where the model is.
        num_samples: how many draws, of a guide or by resampling; 1000 of a guide unless told.
        num_chains: of draws given by name: how many chains follow each other in them.
        prior: how many draws of the prior and its predictions to add.
        posterior_predictive: True adds predictions, one for each draw; or the predictions, by name.
        log_likelihood: whether the log-probability of each observation is added, which
            cross-validation asks for; unless told, where the draws hold all latent variables.
        coords: labels along dimensions, by the dimension's name; a plate's rows are numbered unless
            told.
        dims: names of a variable's dimensions, left to right; a plate's is its own name, and others
            are called `<variable>_dim_0` and so on, unless told.

    Raises:
        ImportError: ArviZ is not installed (`pip install "arviz<1"`).
        UsageError: a source that is none of these; draws that do not fall into chains; a
            log-likelihood that is asked for, of a model with other latent variables.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(y):
    ...     mu = pplkit.sample("mu", dist.Normal(0.0, 1.0))
    ...     with pplkit.plate("school", 3):
    ...         theta = pplkit.sample("theta", dist.Normal(mu, 1.0))
    ...         pplkit.sample("y", dist.Normal(theta, 1.0), obs=y)
    >>> draws = {"mu": torch.randn(100), "theta": torch.randn(100, 3)}
    >>> data = to_arviz(draws, model, (torch.zeros(3),), coords={"school": ["A", "B", "C"]})
    >>> data.posterior["theta"].dims, data.log_likelihood["y"].shape
    (('chain', 'draw', 'school'), (1, 100, 3))
    """
    arviz = arviz_for("to_arviz")
    source, model, args, kwargs = _told_of(source, model, model_args, dict(model_kwargs or {}))
    draws, chains = _draws(source, model, args, kwargs, num_samples, num_chains)
    groups: dict[str, dict[str, Tensor]] = {"posterior": draws}
    names = _Names(dims, coords)
    stats = getattr(source, "get_extra_fields", None)
    if stats is not None:
        groups["sample_stats"] = _sample_stats(stats())
    if model is not None:
        runs = _Reruns(model, draws, args, kwargs)
        names.note(runs.example)
        groups["posterior"] = draws | runs.deterministic
        if log_likelihood and runs.left_out:
            raise errors.log_likelihood_of_others(runs.left_out)
        if log_likelihood or (log_likelihood is None and not runs.left_out and runs.observed):
            groups["log_likelihood"] = runs.log_likelihood
        if posterior_predictive is True:
            groups["posterior_predictive"] = runs.predicted(draws)
        groups["observed_data"] = {name: runs.example.nodes[name].value for name in runs.observed}
        if prior is not None:
            number = whole_number("to_arviz", "prior=", prior, 1)
            groups["prior"], groups["prior_predictive"] = runs.prior(number)
    elif prior is not None or posterior_predictive is True or log_likelihood:
        raise errors.missing_argument("to_arviz", "model=", "a function, for what it predicts")
    if isinstance(posterior_predictive, Mapping):
        groups["posterior_predictive"] = dict(posterior_predictive)
    return _inference_data(arviz, groups, chains, names)


def _told_of(source: Any, model: Any, args: tuple, kwargs: dict) -> tuple:
    """The source, the model and its arguments, as far as the source knows them."""
    if isinstance(source, Importance):
        source._ready()
        if model is None:
            model, args, kwargs = source.model, source.args, source.kwargs
    elif hasattr(source, "get_extra_fields"):
        source.get_samples()  # raises unless there are any
        if model is None and source.kernel.model is not None:
            model = source.kernel.model
            args, kwargs = source.chains.potential.args, source.chains.potential.kwargs
    elif not isinstance(source, Mapping) and not callable(source):
        expected = "an MCMC or Importance that was run, a guide, or draws by name"
        raise errors.wrong_argument("to_arviz", "source=", source, expected)
    if model is not None and not callable(model):
        raise errors.wrong_argument("to_arviz", "model=", model, "a function")
    if not isinstance(args, tuple):
        expected = "a tuple: (data,) for a single argument"
        raise errors.wrong_argument("to_arviz", "model_args=", args, expected)
    return source, model, args, kwargs


@torch.no_grad()
def _draws(source, model, args, kwargs, num_samples, num_chains) -> tuple[dict[str, Tensor], int]:
    """Draws by name, of shape `(number, ...)`, chain after chain; and the number of chains."""
    if isinstance(source, Importance):
        return source.resample(num_samples), 1
    if hasattr(source, "get_extra_fields"):
        by_chain = source.get_samples(group_by_chain=True)
        chains = len(next(iter(by_chain.values())))
        return {name: x.flatten(0, 1) for name, x in by_chain.items()}, chains
    if callable(source):
        if model is None:
            expected = "the model that the guide is for"
            raise errors.missing_argument("to_arviz", "model=", expected)
        number = whole_number("to_arviz", "num_samples=", num_samples, default=1000)
        return Importance(model, source, number).run(*args, **kwargs).get_samples(), 1
    draws = {name: torch.as_tensor(value) for name, value in source.items()}
    if not draws or len({value.shape[:1] for value in draws.values()}) > 1:
        raise errors.different_numbers_of_draws({n: v.shape for n, v in draws.items()})
    size = next(iter(draws.values())).shape[0]
    chains = whole_number("to_arviz", "num_chains=", num_chains, default=1)
    if size % chains:
        raise errors.draws_by_chain(size, chains)
    return draws, chains


def _sample_stats(fields: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stats = {_STATS.get(name, name): value for name, value in fields.items()}
    if "potential_energy" in stats:
        stats["lp"] = -stats.pop("potential_energy")
    return stats


class _Reruns:
    """A model, run again for each of its posterior's draws: all in a plate where that gives what
    runs of single draws give, else one by one.

    Attributes:
        example: a run as the model is.
        observed: names of what it observes.
        left_out: names of latent variables that there are no draws of.
        deterministic, log_likelihood: by site, a row for each draw.
    """

    def __init__(self, model: Callable, draws: dict[str, Tensor], args: tuple, kwargs: dict):
        self.model, self.args, self.kwargs = model, args, kwargs
        self.number = len(next(iter(draws.values())))
        with torch.no_grad(), block():
            self.example = trace(model).get_trace(*args, **kwargs)
        tell_unknown(self.example, draws)
        sites = self.example.sites("sample")
        self.observed = [s.name for s in sites if s.is_observed and not isinstance(s.fn, Unit)]
        self.left_out = [s.name for s in sites if not s.is_observed and s.name not in draws]
        frames = [f for s in sites for f in s.plates if f.vectorized]
        self.nesting = -min((frame.dim for frame in frames), default=0)
        draws = {name: x for name, x in draws.items() if name in self.example}
        computed = [s.name for s in self.example.sites("deterministic")]
        self.computed = [n for n in computed if isinstance(self.example.nodes[n].value, Tensor)]
        with torch.no_grad(), block():
            found = self._together(draws)
            self.in_a_plate = found is not None
            if found is None:
                found = self._stacked([self._alone(draws, i) for i in range(self.number)])
        self.log_likelihood = {name: found[name] for name in self.observed}
        self.deterministic = {name: found[name] for name in self.computed}

    def _alone(self, draws: dict[str, Tensor], i: int) -> dict[str, Tensor]:
        row = {name: value[i] for name, value in draws.items()}
        run = trace(condition(self.model, data=row)).get_trace(*self.args, **self.kwargs)
        return self._read(run)

    def _read(self, run: Trace) -> dict[str, Tensor]:
        """What is asked for of a run: log-probabilities of observations, deterministic values."""
        found = {name: run.nodes[name].value for name in self.computed}
        for name in self.observed:
            site = run.nodes[name]
            found[name] = scale_and_mask(site.unscaled_log_prob, 1.0, site.mask)
        return found

    def _stacked(self, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _together(self, draws: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """All draws in a plate; None unless the first and the last by themselves agree."""
        try:
            ends = [self._alone(draws, i) for i in (0, self.number - 1)]
            size = sum(x.numel() for x in ends[0].values())
            most = max(1, _ELEMENTS // max(1, size))
            parts = [
                self._in_plate({name: x[at : at + most] for name, x in draws.items()}, ends[0])
                for at in range(0, self.number, most)
            ]
        except _FAULTS:
            return None
        found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if not self.left_out:
            for row, there in zip((0, -1), ends, strict=True):
                for name, x in there.items():
                    if not torch.allclose(
                        found[name][row], x, rtol=1e-3, atol=1e-4, equal_nan=True
                    ):
                        return None
        return found

    def _in_plate(self, draws: dict[str, Tensor], alone: dict[str, Tensor]) -> dict[str, Tensor]:
        number = len(next(iter(draws.values())))
        given = {}
        for name, value in draws.items():
            gap = self.nesting - (value.dim() - 1 - self._event_dim(name))
            given[name] = value.reshape((number, *(1,) * gap, *value.shape[1:]))
        around = plate(_DRAWS, number, dim=-self.nesting - 1)
        run = trace(condition(around(self.model), data=given)).get_trace(*self.args, **self.kwargs)
        run.check_plates()
        found = {}
        for name, value in self._read(run).items():
            shape = (number, *alone[name].shape)
            fits = value.numel() == math.prod(shape)
            found[name] = value.reshape(shape) if fits else value.reshape(shape[1:]).expand(shape)
        return found

    def _event_dim(self, name: str) -> int:
        site = self.example.nodes[name]
        return site.fn.event_dim if site.type == "sample" else 0

    def predicted(self, draws: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is observed, drawn again for each draw."""
        known = {name: x for name, x in draws.items() if name in self.example}
        return self._shaped(
            Predictive(
                uncondition(self.model), known, return_sites=self.observed, parallel=self.in_a_plate
            ),
            self.number,
        )

    def prior(self, number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Draws of the prior, and of what it predicts."""
        drawn = self._shaped(
            Predictive(
                uncondition(self.model),
                num_samples=number,
                return_sites=None,
                parallel=self.in_a_plate,
            ),
            number,
        )
        predicted = {name: drawn.pop(name) for name in self.observed}
        return drawn, predicted

    def _shaped(self, predictive: Predictive, number: int) -> dict[str, Tensor]:
        """Predictions, without the dimensions that `Predictive` leaves for plates."""
        shaped = {}
        for name, value in predictive(*self.args, **self.kwargs).items():
            site = self.example.nodes[name]
            if isinstance(value, Tensor) and not (
                site.type == "sample" and isinstance(site.fn, Unit)
            ):
                shaped[name] = value.reshape((number, *site.value.shape))
        return shaped


class _Names:
    """Names of dimensions, and labels along them: a model's plates, and what the user tells."""

    def __init__(self, dims: Mapping | None, coords: Mapping | None):
        for label, given in (("dims=", dims), ("coords=", coords)):
            if given is not None and not isinstance(given, Mapping):
                raise errors.wrong_argument("to_arviz", label, given, "a dictionary")
        self.given = {name: list(value) for name, value in (dims or {}).items()}
        self.labels = {name: list(value) for name, value in (coords or {}).items()}
        self.sites: dict[str, Message] = {}

    def note(self, example: Trace) -> None:
        """A run of the model, by whose sites variables are called."""
        for site in example.sites("sample", "deterministic"):
            self.sites[site.name] = site

    def of(self, name: str, value: Tensor, batch_only: bool) -> tuple[Tensor, list[str]]:
        """A variable without its dimensions of size 1 that are no plate's, and the others' names.

        The value's first dimensions are chains and draws.
        """
        site = self.sites.get(name)
        names = self.given.get(name)
        if names is None or len(names) != value.dim() - 2:
            value, found = self._by_plates(name, site, value, batch_only)
            names = found if names is None else names
        rest = list(value.shape[2:])
        if len(names) != len(rest):
            raise errors.dims_of_variable(name, names, rest)
        for label, size in zip(names, rest, strict=True):
            labels = self.labels.setdefault(label, list(range(size)))
            if len(labels) != size:
                raise errors.labels_along(label, len(labels), size, name)
        return value, names

    @staticmethod
    def _by_plates(
        name: str, site: Message | None, value: Tensor, batch_only: bool
    ) -> tuple[Tensor, list[str]]:
        rest = list(value.shape[2:])
        frames = {f.dim: f for f in site.plates if f.vectorized} if site is not None else {}
        batch = len(rest) - (0 if site is None or batch_only else _event_dim(site))
        names, empty = [f"{name}_dim_{i}" for i in range(len(rest))], []
        for dim in range(batch):
            frame = frames.get(dim - batch)
            if frame is not None and rest[dim] == frame.size:
                whole = frame.size == frame.full_size
                names[dim] = frame.name if whole else f"{frame.name}_rows"
            elif frames and rest[dim] == 1:
                empty.append(dim)
        for dim in reversed(empty):
            value, _ = value.squeeze(2 + dim), names.pop(dim)
        return value, names


def _event_dim(site: Message) -> int:
    if site.type == "sample":
        return site.fn.event_dim
    return site.kwargs.get("event_dim") or 0


def _inference_data(arviz: Any, groups: dict, chains: int, names: _Names) -> Any:
    """All groups with their dimensions named."""
    said: dict[str, dict] = {}
    dims: dict[str, list[str]] = {}
    for group, variables in groups.items():
        one = {"observed_data": None, "prior": 1, "prior_predictive": 1}.get(group, chains)
        said[group] = {}
        for name, value in variables.items():
            value = value.detach()
            shape = (1, 1) if one is None else (one, len(value) // one)
            rows = value.reshape((*shape, *(value.shape if one is None else value.shape[1:])))
            if group == "sample_stats":
                said[group][name] = rows.cpu().numpy()
                continue
            rows, dims[name] = names.of(name, rows, group == "log_likelihood")
            said[group][name] = (rows[0, 0] if one is None else rows).cpu().numpy()
    used = {label for row in dims.values() for label in row}
    unknown = [label for label in names.labels if label not in used]
    if unknown:
        raise errors.unknown_dimension(unknown[0], sorted(used))
    return arviz.from_dict(**said, dims=dims, coords=names.labels)
