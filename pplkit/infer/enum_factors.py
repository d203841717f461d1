"""From a run under enumeration to tables over its variables, and from these to what is asked.

A site's log-probability becomes a `Factor`: each of its dimensions is called by the plate or the
enumerated variable that it belongs to.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import errors
from ..distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Empirical,
    ExpandedDistribution,
    MaskedDistribution,
    OneHotCategorical,
    OrderedLogistic,
)
from ..effects import Message, PlateFrame, scale_and_mask
from ..ops.elimination import CannotSum, Elimination, Factor, largest, log_sum, looked_up, named
from ..ops.elimination import without as reduced
from ..trace import Trace

_EVENT = "\0{}"  # names of the event's dimensions: before all others in the alphabet


def rows_of(site: Message) -> dict[int, PlateFrame]:
    """The plates of a site that have more than one row, by their dimensions."""
    return {f.dim: f for f in site.plates if f.vectorized and f.size > 1}


def plates_of(site: Message) -> frozenset[str]:
    """The names of the plates of a site that have more than one row."""
    return frozenset(frame.name for frame in rows_of(site).values())


def table(site: Message, tensor: Tensor, first: int, event_dim: int = 0, **more) -> Factor:
    """A tensor of a site's (its log-probability, or its value) with names for its dimensions.

    Args:
        first: the rightmost dimension of enumeration.
        event_dim: how many dimensions on the right belong to the event.
    """
    plates, seen = rows_of(site), site.infer.get("_enumerated", {})
    batch = tensor.shape[: tensor.dim() - event_dim]
    short = [d for d in plates if len(batch) < -d or batch[d] == 1]
    if short and not event_dim:  # the same in all rows, which all count
        batch = [1] * (-min(short) - len(batch)) + list(batch)
        for d in short:
            batch[d] = plates[d].size
        tensor = tensor.expand(batch)
    names: list[str | None] = []
    for dim in range(-len(batch), 0):
        if batch[dim] == 1:
            names.append(None)
        elif dim in plates and plates[dim].size == batch[dim]:
            names.append(plates[dim].name)
        elif dim in seen:
            names.append(seen[dim])
        elif dim > first:
            raise errors.not_in_a_plate(site, dim, batch[dim], tensor.shape)
        else:
            raise errors.dimension_out_of_scope(site, dim, batch[dim])
    names += [_EVENT.format(i) for i in range(event_dim)]
    return named(tensor, names, **more)


def placed(factor: Factor, plates: Iterable[PlateFrame], event_dim: int = 0) -> Tensor:
    """The tensor of a factor, with its plates' rows at the plates' dimensions again."""
    frames = {f.dim: f.name for f in plates if f.vectorized}
    order = [frames.get(dim) for dim in range(min(frames, default=0), 0)]
    events = [_EVENT.format(i) for i in range(event_dim)]
    kept = [name for name in order if name in factor.dims]
    tensor = factor.tensor.permute([factor.dims.index(name) for name in kept + events])
    sizes = dict(zip(kept, tensor.shape, strict=False))
    shape = [sizes.get(name, 1) for name in order]
    return tensor.reshape(shape + list(tensor.shape[len(kept) :]))


class Cost(NamedTuple):
    """A summand of the ELBO."""

    factor: Factor
    plates: frozenset[str]  # it has a value for each of their rows
    loops: frozenset[tuple[str, int]] = frozenset()  # and stands in these rounds of loops


def loops_of(site: Message) -> frozenset[tuple[str, int]]:
    """The rounds of loops over plates that a site stands in."""
    return frozenset((f.name, f.counter) for f in site.plates if not f.vectorized)


class Joint:
    """The model's part of a run: what enumerated variables touch, and the rest.

    Args:
        run: a trace of the model under enumeration.
        given: names of the sites whose values the guide gives.
        first: the rightmost dimension of enumeration.
        fixed: the guide's enumerated variables, with the plates that each stands in.
        largest: whether the largest term is asked for, rather than the sum.
    """

    def __init__(
        self,
        run: Trace,
        given: Collection[str],
        first: int,
        fixed: Mapping[str, frozenset[str]] | None = None,
        largest: bool = False,
    ):
        sites = run.sites("sample")
        self.first, self.fixed = first, fixed or {}
        self.largest = largest
        self.sites = {s.name: s for s in sites if enumerated(s) and s.name not in given}
        self.factors: list[Factor] = []
        self.costs: list[Cost] = []
        self.plates: set[str] = set()
        self.sizes: dict[str, int] = {}
        for site in sites:
            self._add(site)
        used = {dim for factor in self.factors for dim in factor.dims}
        self.homes = {name: plates_of(s) for name, s in self.sites.items() if name in used}

    def _add(self, site: Message) -> None:
        own, plates = site.name in self.sites, plates_of(site)
        self.plates |= plates
        # The probabilities of a masked variable sum to 1, but the largest is less: it would count.
        masked = _mass(site) if own and not self.largest else _masked(site)
        factor = table(site, masked, self.first, reach=plates)
        for name, size in zip(factor.dims, factor.tensor.shape, strict=True):
            if self.sizes.setdefault(name, size) != size:
                dim = next(d for d, v in site.infer["_enumerated"].items() if v == name)
                raise errors.dimension_out_of_scope(site, dim, size)
        if any(dim in self.sites for dim in factor.dims):
            if isinstance(site.scale, Tensor) and site.scale.dim():
                raise errors.different_scales(site, [], [site.scale])
            self.factors.append(factor._replace(scale=_number(site.scale)))
            return
        if own:  # of one value alone
            masked = scale_and_mask(masked, site.scale, site.mask)
            self.costs.append(Cost(table(site, masked, self.first, reach=plates), plates))
        else:
            self.costs.append(cost_of(site, self.first))

    def eliminate(self) -> tuple[Elimination, list[Factor]]:
        """Sum the variables out; returns how, and what is left: a term for each separate part."""
        run = Elimination(self.sizes, largest if self.largest else log_sum)
        try:
            return run, run.contract(self.factors, self.homes, self.fixed, self.plates)
        except CannotSum as fault:
            site = next(self.sites[name] for name in fault.names if name in self.sites)
            names = [name for name in fault.names if name in self.homes or name in self.fixed]
            raise getattr(errors, fault.reason)(site, names, fault.found) from None

    def summed(self) -> list[Cost]:
        """The logarithm of the sum over all values of the variables, as summands of the ELBO."""
        if not self.factors:
            return self.costs
        costs = list(self.costs)
        for term in self.eliminate()[1]:
            scaled = term.tensor
            if not (isinstance(term.scale, float) and term.scale == 1.0):
                scaled = scaled * term.scale
            costs.append(
                Cost(term._replace(tensor=scaled), frozenset(self.plates.intersection(term.dims)))
            )
        return costs

    # -- answers -----------------------------------------------------------------------------
    def marginals(self, what: str) -> dict[str, Distribution]:
        """The posterior of each variable by itself."""
        run, left = self.eliminate()
        _check_possible(left, what)
        found = {
            step.variable: log_p for step, log_p in zip(run.steps, run.log_marginals(), strict=True)
        }
        variables = set(self.homes)
        answers = {}
        for name, site in self.sites.items():
            logits = found.get(name, Factor(torch.zeros(()), ()))
            others = [dim for dim in logits.dims if dim in variables and dim != name]
            answers[name] = _over_values(site, reduced(logits, others))
        return answers

    def drawn(self, run: Trace, what: str) -> Trace:
        """A run with values for the variables: drawn from the posterior, or its most probable."""
        elimination, left = self.eliminate()
        _check_possible(left, what)
        values = elimination.chosen(_most_probable if self.largest else _at_random)
        new = Trace()
        for site in map(copy.copy, run.sites("sample", "plate")):
            if site.type == "plate":
                new.add(site)
            if site.type == "plate" or site.is_observed:
                continue
            factor = table(site, site.value, self.first, site.fn.event_dim)
            value = placed(looked_up(factor, values), site.plates, site.fn.event_dim)
            batch = [1] * max((-f.dim for f in site.plates if f.vectorized), default=0)
            for frame in site.plates:
                if frame.vectorized:
                    batch[frame.dim] = frame.size
            site.value = value.expand(torch.Size(batch) + site.fn.event_shape)
            site.infer = {}  # nothing is enumerated any more
            new.add(site)
        return new


def enumerated(site: Message) -> bool:
    """Whether a site has its values along a dimension."""
    return "_enumerate_dim" in site.infer


def cost_of(site: Message, first: int, sign: int = 1) -> Cost:
    """A site's log-probability as a summand of the ELBO."""
    plates = plates_of(site)
    log_prob = site.log_prob if sign == 1 else -site.log_prob
    return Cost(table(site, log_prob, first, reach=plates), plates, loops_of(site))


def sizes_of(factors: Iterable[Factor]) -> dict[str, int]:
    """The size of every dimension."""
    return {d: n for f in factors for d, n in zip(f.dims, f.tensor.shape, strict=True)}


def _number(scale: Any) -> Any:
    return float(scale) if isinstance(scale, int) else scale


def _is_plain(site: Message) -> bool:
    return site.mask is None and isinstance(site.scale, float) and site.scale == 1.0


def _masked(site: Message) -> Tensor:
    """A site's log-probability, masked but not scaled."""
    if _is_plain(site):
        return site.log_prob
    unscaled = site.unscaled_log_prob
    if site._log_prob is None:
        site._log_prob = scale_and_mask(unscaled, site.scale, site.mask)
    return scale_and_mask(unscaled, 1.0, site.mask)


def _mass(site: Message) -> Tensor:
    """The probabilities of a variable's own values; where it is masked they still sum to 1."""
    if isinstance(site.fn, MaskedDistribution):
        return site.fn.base_dist.log_prob(site.value)
    return site.log_prob if _is_plain(site) else site.unscaled_log_prob


def _check_possible(left: list[Factor], what: str) -> None:
    for term in left:
        if bool((term.tensor == -torch.inf).any()):
            raise errors.probability_zero(what)


def _over_values(site: Message, logits: Factor) -> Distribution:
    """Log-probabilities of a site's values as a distribution, of the shape of its plates."""
    frames = {f.dim: f for f in site.plates if f.vectorized}
    shape = [frames[d].size if d in frames else 1 for d in range(min(frames, default=0), 0)]
    name = site.name if site.name in logits.dims else None
    by_value = Factor(
        logits.tensor, tuple(_EVENT.format(0) if d == name else d for d in logits.dims)
    )
    if name is None:  # one value only
        by_value = Factor(logits.tensor.unsqueeze(-1), (*logits.dims, _EVENT.format(0)))
    table = placed(by_value, site.plates, 1)
    table = table.expand(torch.Size(shape) + table.shape[-1:])
    fn = site.fn
    while isinstance(fn, MaskedDistribution | ExpandedDistribution):
        fn = fn.base_dist
    if isinstance(fn, Bernoulli) and name is not None:
        return Bernoulli(logits=torch.nan_to_num(table[..., 1] - table[..., 0]))
    if isinstance(fn, OneHotCategorical):
        return OneHotCategorical(logits=table)
    if isinstance(fn, Categorical | OrderedLogistic):
        return Categorical(logits=table)
    values = site.value.movedim(site.infer["_enumerate_dim"] - fn.event_dim, -1 - fn.event_dim)
    values = values.reshape((-1, *values.shape[-1 - fn.event_dim :]))[0]  # all rows have the same
    return Empirical(values.expand(torch.Size(shape) + values.shape), table)


def _at_random(weights: Tensor, dim: int) -> Tensor:
    return Categorical(logits=weights.movedim(dim, -1)).sample()


def _most_probable(weights: Tensor, dim: int) -> Tensor:
    return weights.argmax(dim)
