"""Simulation-based calibration: does an inference know how much it knows?

Parameters are drawn from the prior, data from the model with these parameters, and a posterior is
inferred from the data. Over many repetitions the true parameter must be anywhere among its
posterior's draws with the same probability: its rank is uniform (Talts, Betancourt, Simpson,
Vehtari and Gelman, 2018, "Validating Bayesian inference algorithms with simulation-based
calibration"). The data's log-likelihood is ranked too, for an inference that overlooks the data and
gives the prior back ranks all parameters well (Modrák et al., 2023, "Simulation-based calibration
checking for Bayesian computation: the choice of test quantities shapes sensitivity").
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .. import errors
from ..distributions import Unit
from ..handlers import block, condition, trace, uncondition
from ..handlers import seed as seeded
from ..optim import Adam, Optimizer
from ..params import ParamStore
from ..primitives import plate
from ..randomness import drawing
from ..trace import Trace
from . import uniformity
from .autoguide import AutoDelta, AutoGuide, AutoNormal
from .diagnostics import _Reruns
from .elbo import Trace_ELBO, called
from .importance import FAULTS, Importance, Runs, whole_number
from .svi import SVI
from .weights import arviz_for

LIKELIHOOD = "log_likelihood"
_ELEMENTS = 1 << 24  # in one run
_FEW = 10  # draws, fewer of which tell little


def simulation_based_calibration(
    model: Callable,
    sampler: Any,
    *args,
    num_simulations: int = 100,
    num_samples: int = 200,
    warmup_steps: int = 300,
    num_steps: int | None = None,
    optim: Optimizer | None = None,
    level: float = 0.05,
    seed: int | None = None,
    compile: bool | str = "auto",
    **kwargs,
) -> Calibration:
    """Check an inference on data that the model makes itself.

    Args:
        model: a function of `args` and `kwargs` with observed sites, `obs=`; the data among its
            arguments tell shapes alone, simulated ones take their place.
        sampler: what infers:

            - `NUTS` or `HMC`, or `functools.partial(NUTS, target_accept_prob=0.9)`: a chain for
              each simulation, all in one vectorised run;
            - the class of an automatic guide, as `AutoNormal`, or a `partial` of it: fitted to each
              simulation by SVI, site-by-site guides (AutoNormal) to all at once, in a plate;
            - `Importance`, or `functools.partial(Importance, num_samples=5000)`: resampled draws;
            - a guide, a function of the model's arguments: the simulated data are given to it as
              the arguments that the model observes as they are. With `num_steps` its parameters
              are fitted to each simulation, starting anew; without, it is taken as it is.
        num_simulations: how many data sets; at least 20.
        num_samples: draws of each posterior; those of a chain are thinned to about as many as are
            independent.
        warmup_steps: of each chain.
        num_steps: of each SVI fit; 1000 for automatic guides unless told.
        optim: of SVI; `Adam({"lr": 0.02})` unless told.
        level: the probability that a correct inference fails the verdict.
        seed: of all randomness; this context's random stream unless given.
        compile: as of `MCMC`.

    Returns:
        A `Calibration`: print it for the verdict, `.plot()` it to see.

    Raises:
        UsageError: a sampler that is none of these; a model that observes nothing, or whose data
            cannot be simulated.
        ImportError: ArviZ, which counts independent draws of chains, is not installed.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Normal(0.0, 1.0))
    ...     pplkit.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):  # the exact posterior has scale 0.71
    ...     pplkit.sample("z", dist.Normal(x / 2, 0.3))
    >>> result = simulation_based_calibration(model, guide, torch.tensor(0.0), seed=0)
    >>> result.is_calibrated
    False
    >>> result.finding("z")
    'too narrow: the truth lies too often beyond all draws'
    """
    what = "simulation_based_calibration"
    if not callable(model):
        raise errors.wrong_argument(what, "model=", model, "a function")
    infer = _way(sampler)
    if not callable(sampler):
        expected = "NUTS, an automatic guide's class, Importance, or a guide"
        raise errors.wrong_argument(what, "sampler=", sampler, expected)
    if not isinstance(level, float) or not 0 < level < 1:
        raise errors.wrong_argument(what, "level=", level, "a number between 0 and 1")
    whole_number(what, "num_simulations=", num_simulations, 100, least=20)
    whole_number(what, "num_samples=", num_samples, 200, least=_FEW)
    whole_number(what, "warmup_steps=", warmup_steps, 300, least=0)
    whole_number(what, "num_steps=", num_steps, 0, least=0)
    if optim is not None and not isinstance(optim, Optimizer):
        raise errors.wrong_argument(what, "optim=", optim, 'an optimiser, as Adam({"lr": 0.02})')
    with seeded(rng_seed=seed) if seed is not None else nullcontext():
        simulated = Simulated(model, args, kwargs, num_simulations)
        settings = {"number": num_samples, "warmup": warmup_steps, "steps": num_steps}
        settings |= {"optim": optim or Adam({"lr": 0.02}), "compile": compile}
        draws, notes = infer(simulated, sampler, settings)
        found = simulated.ranks(draws)
    name = getattr(sampler, "func", sampler)
    name = getattr(name, "__name__", type(name).__name__)
    return Calibration(found, next(iter(draws.values())).shape[1], name, level, notes)


# -- data that the model makes --------------------------------------------------------------------


class Simulated:
    """Draws of the prior, and of the data that belong to them.

    Attributes:
        truths: latent variables by name, `(simulations, ...)`.
        observed: simulated observations by site, `(simulations, ...)`.
        example: a run of the model as it is.
    """

    def __init__(self, model: Callable, args: tuple, kwargs: dict, number: int):
        self.model, self.args, self.kwargs, self.number = model, args, kwargs, number
        with torch.no_grad(), block():
            with trace() as recorder:
                called("model", model, args, kwargs)
            self.example = recorder.trace
            names = self._checked(self.example)
            runs = [trace(uncondition(model)).get_trace(*args, **kwargs) for _ in range(number)]
        plates = (f for site in self.example.sites("sample") for f in site.plates)
        self.nesting = -min((f.dim for f in plates if f.vectorized), default=0)
        latent = self.example.stochastic_nodes
        for name in (*names, *latent):
            if (
                any(name not in run for run in runs)
                or len({self._at(run, name).shape for run in runs}) > 1
            ):
                raise errors.simulations_differ(name)
        self.observed = {n: torch.stack([self._at(run, n) for run in runs]) for n in names}
        self.truths = {n: torch.stack([self._at(run, n) for run in runs]) for n in latent}

    @staticmethod
    def _at(run: Trace, name: str) -> Tensor:
        return run.nodes[name].value

    @staticmethod
    def _checked(run: Trace) -> list[str]:
        """Names of what is observed; raises where data cannot be simulated."""
        observed = []
        for site in run.sites("sample"):
            if any(frame.size != frame.full_size for frame in site.plates):
                raise errors.cannot_simulate(site, "a plate that takes a part of its rows")
            if site.is_observed and isinstance(site.fn, Unit):
                raise errors.cannot_simulate(site, "a factor, which has no data to draw")
            if site.is_observed:
                observed.append(site.name)
        if not observed or not run.stochastic_nodes:
            raise errors.nothing_to_calibrate(not observed)
        return observed

    def of(self, i: int) -> dict[str, Tensor]:
        """The observations of one simulation."""
        return {name: value[i] for name, value in self.observed.items()}

    def model_of(self, i: int) -> Callable:
        """The model that observes what one simulation has made."""
        return condition(self.model, data=self.of(i))

    def arguments_of(self, i: int) -> tuple[tuple, dict, list[str]]:
        """The model's arguments, with simulated data in the place of real ones; and the sites whose
        data are no argument.
        """
        args, kwargs, hidden = list(self.args), dict(self.kwargs), []
        for name, value in self.of(i).items():
            real, met = self.example.nodes[name].value, False
            for at, given in enumerate(self.args):
                if given is real:
                    args[at], met = value, True
            for key, given in self.kwargs.items():
                if given is real:
                    kwargs[key], met = value, True
            if not met:
                hidden.append(name)
        return tuple(args), kwargs, hidden

    # -- ranks -------------------------------------------------------------------------------
    def ranks(self, draws: dict[str, Tensor]) -> dict[str, Tensor]:
        """The rank of each truth among its `(simulations, draws)`, by quantity."""
        found = {}
        for name, truth in self.truths.items():
            if name not in draws:
                continue
            there = draws[name].reshape(self.number, draws[name].shape[1], -1)
            flat = truth.reshape(self.number, -1)
            for part, index in enumerate(torch.ones(truth.shape[1:]).nonzero().tolist()):
                label = name + (f"[{','.join(map(str, index))}]" if index else "")
                found[label] = _rank(there[:, :, part], flat[:, part])
        likelihood = self._likelihood(draws)
        if likelihood is not None:
            found[LIKELIHOOD] = _rank(*likelihood)
        return found

    @torch.no_grad()
    def _likelihood(self, draws: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
        """Of each simulation's data at its draws, `(simulations, draws)`, and at the truth."""
        if any(name not in draws for name in self.truths):
            return None
        given = {
            n: torch.cat([draws[n], x[:, None].to(draws[n])], 1) for n, x in self.truths.items()
        }
        found = self._at_once(given)
        if found is None:
            found = torch.stack([self._one(given, i) for i in range(self.number)])
        return found[:, :-1], found[:, -1]

    def _one(self, given: dict[str, Tensor], i: int) -> Tensor:
        """The log-likelihood of one simulation's data, at all draws."""
        values = {name: x[i] for name, x in given.items()}
        runs = _Reruns(self.model_of(i), values, self.args, self.kwargs)
        return sum(x.reshape(len(x), -1).sum(-1) for x in runs.log_likelihood.values())

    def _at_once(self, given: dict[str, Tensor]) -> Tensor | None:
        """Of all simulations, in a plate; None unless the first and the last alone agree."""
        draws = next(iter(given.values())).shape[1]
        size = sum(x[0].numel() for x in (*self.observed.values(), *self.truths.values()))
        most = max(1, _ELEMENTS // (draws * size))
        try:
            parts = [
                self._in_plate(given, range(at, min(at + most, self.number)))
                for at in range(0, self.number, most)
            ]
            found = torch.cat(parts)
            for i in (0, -1):
                values = self.of(i) | {name: x[i, i] for name, x in given.items()}
                with block():
                    run = trace(condition(self.model, data=values)).get_trace(
                        *self.args, **self.kwargs
                    )
                alone = sum(run.nodes[name].log_prob_sum for name in self.observed)
                if not torch.isclose(found[i, i], alone, rtol=1e-3, atol=1e-3):
                    return None
        except FAULTS:
            return None
        return found

    def _in_plate(self, given: dict[str, Tensor], chosen: range) -> Tensor:
        """Of some simulations, `(simulations, draws)`."""
        draws = next(iter(given.values())).shape[1]
        rows = slice(chosen.start, chosen.stop)
        values = {name: x[rows].flatten(0, 1) for name, x in given.items()}
        values |= {n: x[rows].repeat_interleave(draws, 0) for n, x in self.observed.items()}
        values = {name: self.aligned(name, x) for name, x in values.items()}
        number = len(chosen) * draws
        around = plate("simulations", number, dim=-self.nesting - 1)
        with block():
            run = trace(condition(around(self.model), data=values)).get_trace(
                *self.args, **self.kwargs
            )
        run.check_plates()
        terms = (run.nodes[name].log_prob.reshape(number, -1).sum(-1) for name in self.observed)
        return sum(terms).reshape(len(chosen), draws)

    def aligned(self, name: str, value: Tensor) -> Tensor:
        """Values of a site, one for each row of a plate around the model."""
        gap = self.nesting - (value.dim() - 1 - self.example.nodes[name].fn.event_dim)
        return value.reshape((len(value), *(1,) * gap, *value.shape[1:]))


def _rank(draws: Tensor, truth: Tensor) -> Tensor:
    """How many draws are below the truth; among equal ones its place is drawn by lot."""
    below = (draws < truth[:, None]).sum(1)
    equal = (draws == truth[:, None]).sum(1)
    with drawing():
        lot = torch.rand(truth.shape, device=truth.device)
    return below + (lot * (equal + 1)).floor().long().clamp(max=equal)


# -- posteriors ------------------------------------------------------------------------------------


def _way(sampler: Any) -> Callable:
    """How a sampler is used: by its class, or the class that it is a partial of."""
    from .hmc import HMC

    home = sampler
    while isinstance(home, functools.partial):
        home = home.func
    if isinstance(home, type):
        if issubclass(home, HMC):
            return _by_chains
        if issubclass(home, AutoGuide):
            sitewise = issubclass(home, (AutoNormal, AutoDelta))
            return _by_guides_at_once if sitewise else _by_guide_class
        if issubclass(home, Importance):
            return _by_importance
    elif isinstance(home, HMC):
        raise errors.sampler_made_already(type(home).__name__)
    return _by_guide


def _by_chains(simulated: Simulated, sampler: Callable, settings: dict):
    """A chain for each simulation, thinned."""
    from .mcmc import MCMC, Chains, Draws
    from .potential import Density, Potential

    arviz_for("simulation_based_calibration of chains")

    def observing(observed: dict[str, Tensor]) -> Any:
        with condition(data=observed):
            return simulated.model(*simulated.args, **simulated.kwargs)

    kernel = sampler(observing)
    mcmc = MCMC(
        kernel,
        settings["number"],
        settings["warmup"],
        num_chains=simulated.number,
        progress_bar=False,
        compile=settings["compile"],
    )
    density = Density(
        kernel.model,
        (simulated.of(0),),
        {},
        transforms=mcmc.transforms,
        max_plate_nesting=kernel.max_plate_nesting,
    )
    potential = Potential(density, (simulated.observed,), {}, per_chain=True)
    rng_seed = mcmc._seed()
    at = mcmc._start(potential, rng_seed)
    within = kernel.within(density.variables)
    chains = Chains(kernel, potential, at, mcmc.warmup_steps, rng_seed, within)
    made = Draws(simulated.number, mcmc.num_samples, density.size, at.q.device)
    mcmc._run(chains, made)
    values: list[dict[str, Tensor]] = []
    for i in range(simulated.number):
        args, kwargs = potential.of_chain(i)
        values.append(density.constrained(made.rows[i], args, kwargs))
    draws = {name: torch.stack([row[name] for row in values]) for name in values[0]}
    diverged = int((made.fields["diverging"].any(1)).sum())
    thinned, notes = _thinned(draws)
    if diverged:
        notes.append(f"{diverged} of {simulated.number} chains have divergences")
    return thinned, notes


def _thinned(draws: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """About as many draws as are independent, by ArviZ's effective sample sizes: as most of the
    chains have, of the variable that mixes worst.
    """
    arviz = arviz_for("simulation_based_calibration of chains")
    rows = torch.cat(
        [x.reshape(*x.shape[:2], -1).double() for x in draws.values()], 2
    )  # chains, draws, parts
    number = rows.shape[1]
    each = rows.permute(1, 0, 2).reshape(1, number, -1).cpu().numpy()
    sizes = torch.as_tensor(arviz.ess(arviz.convert_to_dataset({"x": each}))["x"].values)
    sizes = sizes.reshape(rows.shape[0], rows.shape[2]).nan_to_num(nan=1.0)
    kept = int(sizes.quantile(0.1, 0).min().clamp(1, number))
    notes = []
    if kept < _FEW:
        notes.append(
            f"most chains have only {kept} independent draws of {number}: take more num_samples="
        )
    index = ((torch.arange(kept) + 0.5) * number / kept).long()
    return {name: x[:, index.to(x.device)] for name, x in draws.items()}, notes


def _by_importance(simulated: Simulated, sampler: Callable, settings: dict):
    """Resampled draws of each simulation."""
    posteriors = []
    for i in range(simulated.number):
        args, kwargs, _ = simulated.arguments_of(i)
        posteriors.append(sampler(simulated.model_of(i)).run(*args, **kwargs))
    few = sum(posterior.get_ESS() < settings["number"] for posterior in posteriors)
    each = [posterior.resample(settings["number"]) for posterior in posteriors]
    notes = []
    if few:
        notes.append(
            f"in {few} of {simulated.number} simulations the effective sample size is below the "
            f"{settings['number']} draws that are ranked: take more num_samples= in Importance"
        )
    return _side_by_side(each), notes


def _by_guide(simulated: Simulated, guide: Callable, settings: dict):
    """A guide's draws for each simulation; its parameters fitted, if asked for."""
    hidden = simulated.arguments_of(0)[2]
    if hidden and not settings["steps"]:
        errors.warn(errors.guide_sees_no_data(hidden))
    each = []
    for i in range(simulated.number):
        model, (args, kwargs, _) = simulated.model_of(i), simulated.arguments_of(i)
        with ParamStore() if settings["steps"] else nullcontext():
            if settings["steps"]:
                _fitted(model, guide, args, kwargs, settings)
            each.append(_drawn(model, guide, settings["number"], args, kwargs))
    return _side_by_side(each), []


def _by_guide_class(simulated: Simulated, sampler: Callable, settings: dict):
    """An automatic guide, made and fitted for each simulation."""
    settings = {**settings, "steps": settings["steps"] or 1000}
    each = []
    for i in range(simulated.number):
        model, (args, kwargs, _) = simulated.model_of(i), simulated.arguments_of(i)
        with ParamStore():
            guide = sampler(model)
            _fitted(model, guide, args, kwargs, settings)
            each.append(_drawn(model, guide, settings["number"], args, kwargs))
    return _side_by_side(each), []


def _by_guides_at_once(simulated: Simulated, sampler: Callable, settings: dict):
    """An automatic guide whose sites are independent, for all simulations in a plate."""
    observed = {name: simulated.aligned(name, x) for name, x in simulated.observed.items()}
    around = plate("simulations", simulated.number, dim=-simulated.nesting - 1)
    together = condition(around(simulated.model), data=observed)
    if not _agrees(simulated, together):
        return _by_guide_class(simulated, sampler, settings)
    settings = {**settings, "steps": settings["steps"] or 1000}
    args, kwargs = simulated.args, simulated.kwargs
    with ParamStore():
        guide = sampler(together)
        _fitted(together, guide, args, kwargs, settings)
        drawn = _drawn(together, guide, settings["number"], args, kwargs)
    draws = {}
    for name, truth in simulated.truths.items():
        draws[name] = drawn[name].reshape(settings["number"], *truth.shape).transpose(0, 1)
    return draws, []


def _agrees(simulated: Simulated, together: Callable) -> bool:
    """Whether the model in a plate of simulations says of each what it says of it alone."""
    known, number = {}, simulated.number
    try:
        with torch.no_grad(), block():
            run = trace(together).get_trace(*simulated.args, **simulated.kwargs)
            for name, truth in simulated.truths.items():
                known[name] = truth.reshape(run.nodes[name].value.shape)
            run = trace(condition(together, data=known)).get_trace(
                *simulated.args, **simulated.kwargs
            )
            found = sum(s.log_prob.reshape(number, -1).sum(-1) for s in run.sites("sample"))
            for i in (0, number - 1):
                truth = {name: value[i] for name, value in simulated.truths.items()}
                one = condition(simulated.model_of(i), data=truth)
                there = trace(one).get_trace(*simulated.args, **simulated.kwargs).log_prob_sum()
                if not torch.isclose(found[i], there, rtol=1e-3, atol=1e-3):
                    return False
    except FAULTS:
        return False
    return True


def _fitted(model, guide, args, kwargs, settings) -> None:
    optim = copy.deepcopy(settings["optim"])  # it remembers what it has moved
    SVI(model, guide, optim, Trace_ELBO()).run(
        settings["steps"], *args, progress_bar=False, **kwargs
    )


def _drawn(model, guide, number, args, kwargs) -> dict[str, Tensor]:
    """A guide's draws of the model's latent variables, `(number, ...)`."""
    with torch.no_grad():
        runs = Runs(model, guide, number, args, kwargs)
        return (runs.together() or runs.one_by_one()).draws


def _side_by_side(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in each]) for name in each[0]}


# -- the result ------------------------------------------------------------------------------------


class Calibration:
    """What simulation-based calibration has found.

    A correct inference fails with probability `level` at most: each quantity's ranks are held
    against bands that all of their empirical distribution stays in with a given probability
    (Säilynoja, Bürkner and Vehtari, 2022, "Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison"), and the level is
    shared among quantities (Holm, 1979).

    Attributes:
        ranks: by quantity, `(num_simulations,)`, from 0 to `num_samples`.
        num_simulations, num_samples: how many ranks, among how many draws.
        p_values: by quantity, of uniform ranks.
        is_calibrated: the verdict.
        notes: what else was noticed.

    >>> ranks = {"z": torch.arange(200) % 10}
    >>> print(Calibration(ranks, 9, "NUTS"))
    Simulation-based calibration of NUTS: 200 simulations, ranks among 9 draws
      quantity  p-value  finding
      z          1.0000  calibrated
    Verdict: calibrated. No quantity's ranks are too far from uniform (level 0.05).
    """

    def __init__(
        self,
        ranks: dict[str, Tensor],
        num_samples: int,
        sampler: str = "the inference",
        level: float = 0.05,
        notes: list[str] | tuple = (),
    ):
        self.ranks, self.num_samples, self.sampler = ranks, num_samples, sampler
        self.level, self.notes = level, list(notes)
        self.num_simulations = len(next(iter(ranks.values())))
        below = {name: uniformity.below(x, num_samples) for name, x in ranks.items()}
        counts = torch.stack([*below.values()])
        found = uniformity.p_values(counts, self.num_simulations, num_samples)
        self.p_values = dict(zip(ranks, found.tolist(), strict=True))
        self._failed = self._holm()

    def _holm(self) -> set[str]:
        """Quantities that fail, at the level of all together."""
        failed, left = set(), len(self.p_values)
        for name, p in sorted(self.p_values.items(), key=lambda item: item[1]):
            if p * left > self.level:
                break
            failed.add(name)
            left -= 1
        return failed

    @property
    def is_calibrated(self) -> bool:
        """Whether no quantity fails."""
        return not self._failed

    def finding(self, name: str) -> str:
        """What a quantity's ranks say, in words."""
        if name not in self.ranks:
            raise errors.no_draws_of(name, list(self.ranks))
        if name not in self._failed:
            return "calibrated"
        said = _in_words(self.ranks[name], self.num_samples)
        return _OF_LIKELIHOOD.get(said, said) if name == LIKELIHOOD else said

    def __repr__(self) -> str:
        width = max(len("quantity"), *map(len, self.ranks))
        size = f"{self.num_simulations} simulations, ranks among {self.num_samples} draws"
        lines = [
            f"Simulation-based calibration of {self.sampler}: {size}",
            f"  {'quantity':<{width}}  p-value  finding",
        ]
        lines += [
            f"  {name:<{width}}  {p:7.4f}  {self.finding(name)}"
            for name, p in self.p_values.items()
        ]
        if self._failed:
            number, all_ = len(self._failed), len(self.ranks)
            lines.append(
                f"Verdict: not calibrated. The ranks of {number} of {all_} quantities are not "
                f"uniform (level {self.level:g})."
            )
        else:
            lines.append(
                "Verdict: calibrated. No quantity's ranks are too far from uniform "
                f"(level {self.level:g})."
            )
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])

    def plot(self, names: list[str] | None = None, columns: int = 3) -> Any:
        """How far the ranks' empirical distribution is from the uniform one, and the band in which
        all of it stays with the level's probability; a figure of matplotlib.

        A line that leaves the band shows what is wrong: an S that starts upwards, posteriors that
        are too narrow; one that starts downwards, too wide; a bow above, draws that are too high;
        a bow below, too low.

        Args:
            names: of the quantities to show; all unless told, of more than 12 the worst.
            columns: panels side by side.
        """
        try:
            from matplotlib import pyplot
        except ImportError as fault:
            raise errors.missing_package("matplotlib", "Calibration.plot") from fault
        if names is None:
            names = sorted(self.p_values, key=self.p_values.get)[:12]
            names = [name for name in self.ranks if name in names]
        for name in names:
            self.finding(name)  # raises where there is none
        columns = min(columns, len(names))
        rows = math.ceil(len(names) / columns)
        figure, axes = pyplot.subplots(
            rows, columns, squeeze=False, sharex=True, sharey=True,
            figsize=(3.4 * columns, 2.6 * rows), layout="constrained",
        )  # fmt: skip
        share = 1 - (1 - self.level) ** (1 / len(self.ranks))  # of one among all
        places, low, high = uniformity.band(self.num_samples, self.num_simulations, share)
        flat = axes.ravel()
        for axis, name in zip(flat, names, strict=False):
            _panel(axis, name, self, places, low, high)
        for axis in flat[len(names) :]:
            axis.set_visible(False)
        figure.supxlabel("rank of the truth, as a share of the draws")
        figure.supylabel("empirical minus uniform")
        pyplot.close(figure)  # a notebook shows what a cell returns
        return figure


def _panel(axis: Any, name: str, result: Calibration, places, low, high) -> None:
    size = result.num_simulations
    counts = uniformity.below(result.ranks[name], result.num_samples)
    failed = name in result._failed
    shown = places.tolist()
    axis.fill_between(
        shown, (low / size - places).tolist(), (high / size - places).tolist(),
        step="mid", color="#bdbdbd", alpha=0.6, linewidth=0,
    )  # fmt: skip
    axis.axhline(0, color="#737373", linewidth=0.8)
    axis.step(
        shown, (counts / size - places).tolist(), where="mid",
        color="#b2182b" if failed else "#2166ac", linewidth=1.6,
    )  # fmt: skip
    told = result.finding(name).partition(":")[0]
    axis.set_title(f"{name}: {told}", fontsize=10)
    axis.set_xlim(0, 1)


_OF_LIKELIHOOD = {
    "draws are too low": "too low: the draws fit the data worse than they should",
    "draws are too high": "too high: the draws fit the data better than they should",
}


def _in_words(ranks: Tensor, number: int) -> str:
    """Which way ranks are not uniform: by their mean or their spread, whichever is further off."""
    at = (ranks.double() + 0.5) / (number + 1)
    size = len(at)
    off_centre = (at.mean() - 0.5) * math.sqrt(12 * size)
    spread = ((at - 0.5).square().mean() * 12 - 1) / math.sqrt(0.8 / size)
    if abs(off_centre) > abs(spread):
        return "draws are too low" if off_centre > 0 else "draws are too high"
    if spread > 0:
        return "too narrow: the truth lies too often beyond all draws"
    return "too wide: the truth lies too often in the middle of the draws"
