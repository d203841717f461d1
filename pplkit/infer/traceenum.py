"""ELBO with discrete variables summed out exactly, in the model, in the guide, or in both.

Variables that the model enumerates are summed inside the logarithm: the model's log-joint is
replaced by log sum_z p(x, z). Variables that the guide enumerates are summed outside of it: an
expectation over q(z), each term with its probability. Draws of the guide that are not enumerated
and have no gradient are scored, as in `Trace_ELBO`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import checks, errors
from ..distributions import Distribution
from ..effects import Handler, Message
from ..enumeration import Dims, Enumerating, alternatives, strategy
from ..handlers import block, condition, replay, trace
from ..ops.elimination import Elimination, Factor, aligned, without
from ..primitives import plate
from ..trace import Trace
from .elbo import _PARTICLES, ELBO, called, check_match, check_sites, plate_nesting
from .enum_factors import Cost, Joint, cost_of, enumerated, loops_of, plates_of, table


class TraceEnum_ELBO(ELBO):
    """ELBO for programs with discrete variables, which are summed over rather than drawn.

    A site of the model that the guide does not sample, marked `infer={"enumerate": "parallel"}`, is
    summed out of the joint probability: with no other latent variable, the loss is the exact
    negative log-evidence. Where variables are independent given others, plates and `markov` loops
    say so, and the work grows with the number of rows and steps, not of combinations.

    A site of the guide that is marked `"parallel"` or `"sequential"` is summed with its
    probabilities: its expectation is exact, its gradient without noise. `"parallel"` runs the
    program once, with all values along a dimension; `"sequential"` once for each value, so that
    Python code may branch on it. With `num_samples` the sum is over that many draws.

    What stands outside a plate must not depend on a variable inside it that is enumerated, or drawn
    without a gradient.

    Args:
        num_particles, max_plate_nesting, vectorize_particles: see `ELBO`. Dimensions left of
            `max_plate_nesting` are the enumerated variables'.
        strict_enumeration_warning: warn when no site is marked.

    Raises:
        ModelError: a discrete site of the model that is neither marked nor sampled by the guide;
            one whose values cannot be listed; plates that cross.
        PlateError: a plate beyond `max_plate_nesting`.

    >>> import pplkit, pplkit.distributions as dist
    >>> def model(x):
    ...     z = pplkit.sample("z", dist.Bernoulli(0.25), infer={"enumerate": "parallel"})
    ...     pplkit.sample("x", dist.Normal(4.0 * z, 1.0), obs=x)
    >>> elbo, guide = TraceEnum_ELBO(), lambda x: None
    >>> round(elbo.loss(model, guide, torch.tensor(4.0)), 4)  # -log p(x)
    2.3042
    >>> elbo.compute_marginals(model, guide, torch.tensor(2.0))["z"].probs
    tensor(0.2500)
    """

    def __init__(self, *args, strict_enumeration_warning: bool = True, **kwargs):
        super().__init__(*args, **kwargs)
        self.strict_enumeration_warning = strict_enumeration_warning

    # -- estimates ---------------------------------------------------------------------------
    def particle_loss(self, model_trace, guide_trace):
        weights = Weights(guide_trace, self._first)
        joint = Joint(model_trace, guide_trace.nodes, self._first, weights.homes)
        costs = joint.summed()
        costs += [cost_of(site, self._first, -1) for site in guide_trace.sites("sample")]
        return -weights.expected(costs)

    def loss_of(self, runs):
        return self._per_particle([self.particle_loss(*run) for run in runs])

    def estimate(self, runs):
        loss = self.loss_of(runs)
        return loss, loss  # scores are part of the loss: nothing to its value, all to its gradient

    def _per_particle(self, terms: list[Tensor]) -> Tensor:
        total = terms[0] if len(terms) == 1 else torch.stack(terms).sum()
        return total if self.num_particles == 1 else total / self.num_particles

    # -- runs --------------------------------------------------------------------------------
    @property
    def _vectorized(self) -> bool:
        return self.vectorize_particles and self.num_particles > 1

    @property
    def _first(self) -> int:
        """The rightmost dimension of enumeration."""
        return -1 - self.max_plate_nesting - self._vectorized

    def runs(self, model, guide, *args, **kwargs):
        if self.max_plate_nesting == math.inf:
            self.max_plate_nesting = plate_nesting(model, guide, *args, **kwargs)
        if self._vectorized:
            particles = plate(_PARTICLES, self.num_particles, dim=self._first + 1)
            model, guide = particles(model), particles(guide)
        for _ in range(1 if self._vectorized else self.num_particles):
            choices = _Choices()
            while True:
                yield self._traces(choices, model, guide, args, kwargs)
                if not choices.next():
                    break

    def traces(self, model, guide, *args, **kwargs):
        """A run of the guide, and one of the model that takes the guide's values."""
        return next(self.runs(model, guide, *args, **kwargs))

    def _traces(self, choices, model, guide, args, kwargs) -> tuple[Trace, Trace]:
        dims = Dims(self._first)  # the model's dimensions are left of the guide's
        with trace() as recorder, Enumerating(dims), choices:
            returned = called("guide", guide, args, kwargs)
        guide_trace = recorder.trace
        try:
            with trace() as recorder, Enumerating(dims), replay(trace=guide_trace):
                called("model", model, args, kwargs)
        except (errors.ShapeError, errors.DistributionError, errors.ModelError):
            check_sites(recorder.trace, guide_trace)  # the likelier cause comes first
            raise
        self._check(recorder.trace, guide_trace, returned)
        return recorder.trace, guide_trace

    def _check(self, model_trace: Trace, guide_trace: Trace, returned: Any) -> None:
        marked = False
        for site in model_trace.sites("sample"):
            marked = marked or enumerated(site)
            if site.is_observed or site.name in guide_trace.nodes:
                continue
            if enumerated(site) and site.infer.get("num_samples") is not None:
                raise errors.draws_in_model(site)
            if strategy(site) == "sequential":
                raise errors.sequential_in_model(site)
        check_match(model_trace, guide_trace, returned)
        marked = marked or any(strategy(site) for site in guide_trace.sites("sample"))
        if self.strict_enumeration_warning and not marked:
            errors.warn(errors.nothing_enumerated(type(self).__name__))

    # -- the posterior of what the model enumerates ------------------------------------------
    def compute_marginals(
        self, model: Callable, guide: Callable, *args, **kwargs
    ) -> dict[str, Distribution]:
        """The posterior of each variable that the model enumerates, by itself.

        Other latent variables have the values of one draw from the guide.

        Returns:
            A distribution for each, of the shape of its plates: of the site's own family for
            Bernoulli, Categorical and OneHotCategorical, `Empirical` over the values for others.

        Raises:
            InferenceError: observations of probability zero.
            UsageError: several particles, or a guide that enumerates.
        """
        joint = self._joint("TraceEnum_ELBO.compute_marginals()", model, guide, args, kwargs)[0]
        return joint.marginals("compute_marginals")

    def compute_conditionals(
        self, model: Callable, guide: Callable, data: Mapping[str, Any], *args, **kwargs
    ) -> dict[str, Distribution]:
        """The posterior of each enumerated variable, given values of some of them.

        Args:
            data: the values, by site.

        >>> import pplkit, pplkit.distributions as dist
        >>> def model():  # either burglar or earthquake sets off the alarm
        ...     b = pplkit.sample("burglar", dist.Bernoulli(0.1))
        ...     e = pplkit.sample("earthquake", dist.Bernoulli(0.1))
        ...     loud = torch.maximum(b, e)
        ...     pplkit.sample("alarm", dist.Bernoulli(loud), obs=torch.tensor(1.0))
        >>> from pplkit.infer import config_enumerate
        >>> model, guide, elbo = config_enumerate(model), lambda: None, TraceEnum_ELBO()
        >>> elbo.compute_marginals(model, guide)["burglar"].probs
        tensor(0.5263)
        >>> elbo.conditional(model, guide, {"earthquake": torch.tensor(1.0)})["burglar"].probs
        tensor(0.1000)
        """
        return self.compute_marginals(condition(model, data=data), guide, *args, **kwargs)

    conditional = compute_conditionals

    def sample_posterior(self, model: Callable, guide: Callable, *args, **kwargs) -> Any:
        """Run the model with the enumerated variables drawn from their joint posterior.

        Other latent variables have the values of one draw from the guide. A `trace` around sees the
        values.

        Returns:
            What the model returns.

        Raises:
            InferenceError: observations of probability zero.
            UsageError: several particles, or a guide that enumerates.
        """
        what = "TraceEnum_ELBO.sample_posterior()"
        with block():
            joint, run = self._joint(what, model, guide, args, kwargs)
            drawn = joint.drawn(run, "sample_posterior")
        with replay(trace=drawn):
            return model(*args, **kwargs)

    def _joint(self, what, model, guide, args, kwargs) -> tuple[Joint, Trace]:
        if self.num_particles != 1:
            raise errors.exact_needs(what, "multiple particles", "num_particles=1")
        model_trace, guide_trace = self.traces(model, guide, *args, **kwargs)
        if any(strategy(site) for site in guide_trace.sites("sample") if not site.is_observed):
            raise errors.exact_needs(what, "guide enumeration", "sites enumerated in the model")
        return Joint(model_trace, guide_trace.nodes, self._first), model_trace


class JitTraceEnum_ELBO(TraceEnum_ELBO):
    """`TraceEnum_ELBO`, under the name that it has in Pyro when its steps are traced by torch.jit.

    Here steps run as they are.

    >>> JitTraceEnum_ELBO(max_plate_nesting=1).max_plate_nesting
    1
    """


class _Choices(Handler):
    """Gives sites that are marked "sequential" one combination of values after another."""

    def __init__(self):
        super().__init__()
        self.path: list[tuple[int, int]] = []  # which value, of how many
        self.at = 0

    def process_message(self, msg: Message) -> None:
        if msg.type != "sample" or msg.is_observed or msg.value is not None:
            return
        if strategy(msg) != "sequential":
            return
        if msg.infer.get("num_samples") is not None:
            raise errors.number_of_samples(msg, msg.infer["num_samples"])
        values = alternatives(msg)
        if self.at == len(self.path):
            self.path.append((0, len(values)))
        msg.value = values[self.path[self.at][0]]
        msg.infer["_enum_total"] = len(values)
        self.at += 1

    def next(self) -> bool:
        """Go on to the next combination; False after the last."""
        self.at = 0
        while self.path and self.path[-1][0] + 1 == self.path[-1][1]:
            self.path.pop()
        if self.path:
            index, total = self.path.pop()
            self.path.append((index + 1, total))
        return bool(self.path)


class _Weight(NamedTuple):
    """What a site of the guide does to the terms that depend on it."""

    factor: Factor  # a log-probability
    site: Message
    plates: frozenset[str]


class Weights:
    """The guide's probabilities, by which the summands of the ELBO are averaged.

    A site weighs the terms that stand in all of its plates, at least: what stands outside a plate
    does not depend on what is inside.
    """

    def __init__(self, guide_trace: Trace, first: int):
        self.first = first
        self.homes: dict[str, frozenset[str]] = {}  # the enumerated variables' plates
        self.summed: dict[str, _Weight] = {}
        self.sequential: list[_Weight] = []
        self.scored: list[_Weight] = []
        for site in guide_trace.sites("sample"):
            self._add(site)

    def _add(self, site: Message) -> None:
        name, how, plates = site.name, strategy(site), plates_of(site)
        if site.is_observed:
            how = None
        if how is None and site.fn.has_rsample:
            return
        number = site.infer.get("num_samples") if how == "parallel" else None
        masked = site.fn._unmasked() is not site.fn
        log_prob = site.log_prob
        if masked or not _counts_once(site):
            log_prob = checks.density(site, drawn=True)
        weight = _Weight(table(site, log_prob, self.first), site, plates)
        if how == "sequential":
            self.sequential.append(weight)
        elif how == "parallel" and number is None:
            if name in weight.factor.dims:
                self.homes[name], self.summed[name] = plates, weight
        else:
            if number is not None and number > 1:
                even = log_prob.new_zeros((number,))  # all alike: marginals are normalised
                self.homes[name] = plates
                self.summed[name] = weight._replace(factor=Factor(even, (name,)))
            if not site.fn.has_rsample:
                score = weight.factor.tensor - weight.factor.tensor.detach()
                factor = weight.factor._replace(tensor=score)
                self.scored.append(weight._replace(factor=factor))

    def expected(self, costs: list[Cost]) -> Tensor:
        """The costs' expectation, summed; its gradient includes the scores'."""
        together = defaultdict(list)
        for cost in costs:
            cost = self._counted(cost)
            together[cost.plates].append(cost)
        total = torch.zeros(())
        for plates, group in together.items():
            queries = []  # (cost, the variables it is averaged over, score or None)
            for cost in group:
                queries.append((cost, self._variables(cost.factor), None))
                for weight in self.scored:
                    if self._scores(weight, cost):
                        names = self._variables(cost.factor) | self._variables(weight.factor)
                        queries.append((cost, names, weight))
            tables = self._tables(plates, {names for _, names, _ in queries if names})
            for cost, names, weight in queries:
                total = total + _averaged(cost, tables.get(names), weight)
        return total

    def _variables(self, factor: Factor) -> frozenset[str]:
        return frozenset(self.homes.keys() & set(factor.dims))

    def _counted(self, cost: Cost) -> Cost:
        """A cost times the probabilities of the sequential sites, in this run of many."""
        inside, share = [], 1.0
        for weight in self.sequential:
            if weight.plates <= cost.plates:
                inside.append(weight.factor)
            elif weight.plates <= cost.plates | cost.factor.reach:
                inner = sorted(weight.plates - cost.plates)
                raise errors.guide_inside_plate(weight.site, [weight.site.name], inner)
            else:
                share /= weight.site.infer["_enum_total"]  # it is there in each of the runs
        factor = cost.factor
        for weight in inside:
            factor = _times(factor, weight._replace(tensor=weight.tensor.exp()))
        return cost._replace(factor=factor._replace(tensor=factor.tensor * share))

    def _scores(self, weight: _Weight, cost: Cost) -> bool:
        """Whether a draw of the guide may influence a cost."""
        name = weight.site.name
        if not weight.plates <= cost.plates | cost.factor.reach:
            return False
        if name in self.homes and name not in cost.factor.dims:
            return False  # a term of none of the draws
        loops = loops_of(weight.site)
        return not any(n == m and i != j for n, i in loops for m, j in cost.loops)

    def _tables(self, plates: frozenset[str], queries: set[frozenset[str]]):
        """The joint probabilities of groups of enumerated variables, in each row of plates."""
        if not queries:
            return {}
        wanted, factors = set().union(*queries), []
        for name, weight in reversed(self.summed.items()):  # what is not upstream sums to 1
            if name in wanted:
                factors.append(weight.factor)
                wanted |= self._variables(weight.factor)
        factors.reverse()
        variables = [name for name in self.summed if name in wanted]
        sizes = {d: n for f in factors for d, n in zip(f.dims, f.tensor.shape, strict=True)}
        for names in sorted(queries, key=sorted):
            dims = tuple(sorted(names))
            zero = factors[0].tensor.new_zeros(()).expand([sizes[d] for d in dims])
            factors.append(Factor(zero, dims))
        run = Elimination(sizes)
        run.sum_out(factors, variables)
        at = {step.variable: i for i, step in enumerate(run.steps)}
        found = run.log_marginals()
        tables = {}
        for names in queries:
            joint = found[min(at[name] for name in names)]
            others = [d for d in joint.dims if d in at and d not in names]
            joint = without(joint, others)
            tables[names] = joint._replace(tensor=joint.tensor.exp())
        return tables


def _counts_once(site: Message) -> bool:
    return site.mask is None and isinstance(site.scale, float) and site.scale == 1.0


def _times(cost: Factor, weight: Factor) -> Factor:
    """Cost times weight; where the weight is 0 the cost does not matter, be it infinite."""
    dims = tuple(sorted({*cost.dims, *weight.dims}))
    cost_, weight_ = aligned(cost, dims), aligned(weight, dims)
    weighted = weight_ * torch.where(weight_ == 0, 0.0, cost_)
    return cost._replace(tensor=weighted, dims=dims)


def _averaged(cost: Cost, weights: Factor | None, score: _Weight | None) -> Tensor:
    """The sum of a cost over rows, averaged over variables; times a score, if there is one."""
    factor = cost.factor
    if score is None:
        return (factor if weights is None else _times(factor, weights)).tensor.sum()
    factor = factor._replace(tensor=factor.tensor.detach())
    if weights is not None:
        weights = weights._replace(tensor=weights.tensor.detach())
        factor = _times(factor, weights)
    dims = tuple(sorted({*factor.dims, *score.factor.dims}))
    return (aligned(factor, dims) * aligned(score.factor, dims)).sum()
