"""Sums over many discrete variables, one variable at a time, in logarithms.

A joint log-probability is a sum of tables, each over a few variables. To sum the probability over a
variable, only the tables that have it need be joined; what is left is a table again (Zhang and
Poole, 1994, "A simple approach to Bayesian network computations"). Along a chain every such table
is small, and the work grows as the chain's length.

Rows of a plate are independent copies: a variable inside a plate is summed out in each row, and
what is left is multiplied over the rows before a variable outside is (Obermeyer et al., 2019,
"Tensor variable elimination for plated factor graphs").

What was joined on the way up also tells the way down: the distribution of each variable given those
that are summed after it. From it come marginals, draws and the most probable values.
"""

from __future__ import annotations

import functools
import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import errors

_LARGE = 10**8  # elements; a larger table is told of
_HARD = 10**6  # elements; from here a better order of the variables is worth looking for


class CannotSum(Exception):
    """Factors that cannot be summed one variable at a time.

    Attributes:
        reason: the name of an error in `pplkit.errors`.
        names: of the variables that it is about.
        found: what stands in the way: plates, or scales.
    """

    def __init__(self, reason: str, names: list[str], found: list):
        super().__init__(reason, names, found)
        self.reason, self.names, self.found = reason, names, found


class Factor(NamedTuple):
    """A table of log-weights."""

    tensor: Tensor
    dims: tuple[str, ...]  # a name for each dimension, in alphabetical order
    scale: Any = 1.0  # multiplies the logarithm of the sum that this is a part of
    reach: frozenset[str] = frozenset()  # the plates that it was computed in


class Step(NamedTuple):
    """One variable summed out."""

    variable: str
    joint: Factor  # of all tables that had it
    message: Factor  # what is left


def named(tensor: Tensor, names: Sequence[str | None], **more) -> Factor:
    """A factor from a tensor whose dimensions have these names; those without one have size 1.

    >>> named(torch.zeros(3, 1, 2), ["z", None, "rows"]).dims
    ('rows', 'z')
    """
    kept = sorted((name, i) for i, name in enumerate(names) if name is not None)
    shape = [tensor.shape[i] for _, i in kept]
    places = [i for _, i in kept]
    places += [i for i, name in enumerate(names) if name is None]
    return Factor(tensor.permute(places).reshape(shape), tuple(n for n, _ in kept), **more)


def aligned(factor: Factor, dims: Sequence[str]) -> Tensor:
    """A factor's tensor, with size 1 at those of the dimensions that it has not."""
    sizes = dict(zip(factor.dims, factor.tensor.shape, strict=True))
    return factor.tensor.reshape([sizes.get(dim, 1) for dim in dims])


def joined(factors: Sequence[Factor]) -> Factor:
    """The product of factors, that is, the sum of their logarithms.

    >>> joined([Factor(torch.zeros(2), ("a",)), Factor(torch.ones(3), ("b",))]).tensor.shape
    torch.Size([2, 3])
    """
    if len(factors) == 1:
        return factors[0]
    dims = tuple(sorted({dim for factor in factors for dim in factor.dims}))
    small = sorted(factors, key=lambda factor: len(factor.dims))
    total = aligned(small[0], dims)
    for factor in small[1:]:
        total = total + aligned(factor, dims)
    reach = frozenset().union(*(factor.reach for factor in factors))
    return Factor(total, dims, _common_scale(factors), reach)


def _common_scale(factors: Sequence[Factor]) -> Any:
    first = factors[0].scale
    for factor in factors[1:]:
        if factor.scale is not first and (float(factor.scale) != float(first)):
            raise CannotSum("different_scales", list(factor.dims), [first, factor.scale])
    return first


def log_sum(tensor: Tensor, dim: int) -> Tensor:
    """log(sum(exp(tensor))); where all terms are log(0), log(0), and no gradient.

    >>> log_sum(torch.tensor([[0.0, 0.0], [-torch.inf, -torch.inf]]), 1)
    tensor([0.6931,   -inf])
    """
    top = tensor.detach().amax(dim, keepdim=True)
    none = top == -math.inf
    top = torch.where(none, 0.0, top)
    total = (tensor - top).exp().sum(dim)
    none, top = none.squeeze(dim), top.squeeze(dim)
    return torch.where(none, -math.inf, torch.where(none, 1.0, total).log() + top)


def largest(tensor: Tensor, dim: int) -> Tensor:
    """The largest element along a dimension."""
    return tensor.amax(dim)


def without(factor: Factor, gone: Iterable[str], reduce=log_sum) -> Factor:
    """A factor, reduced over these of its dimensions."""
    for dim in gone:
        at = factor.dims.index(dim)
        left = factor.dims[:at] + factor.dims[at + 1 :]
        factor = factor._replace(tensor=reduce(factor.tensor, at), dims=left)
    return factor


def looked_up(factor: Factor, values: Mapping[str, Factor]) -> Factor:
    """A factor where variables have values: `values[name]` holds indices, in plates perhaps.

    >>> table = Factor(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), ("a", "b"))
    >>> looked_up(table, {"b": Factor(torch.tensor(1), ())}).tensor
    tensor([2., 4.])
    """
    for name in [dim for dim in factor.dims if dim in values]:
        index = values[name]
        dims = tuple(sorted({*factor.dims, *index.dims}))
        table, chosen = aligned(factor, dims), aligned(index, dims)
        at = dims.index(name)
        shape = list(torch.broadcast_shapes(table.shape, chosen.shape))
        shape[at] = 1
        chosen = chosen.expand(shape)
        shape[at] = table.shape[at]
        value = table.expand(shape).gather(at, chosen).squeeze(at)
        factor = factor._replace(tensor=value, dims=dims[:at] + dims[at + 1 :])
    return factor


class Elimination:
    """Sums variables out of factors, and remembers how.

    Args:
        sizes: of all dimensions, by name.
        reduce: `log_sum`, or `largest` for the most probable values.

    >>> first = Factor(torch.tensor([0.5, 0.5]).log(), ("a",))
    >>> then = Factor(torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log(), ("a", "b"))
    >>> run = Elimination({"a": 2, "b": 2})
    >>> run.sum_out([first, then], ["a"])[0].tensor.exp()
    tensor([0.5500, 0.4500])
    """

    def __init__(self, sizes: Mapping[str, int], reduce=log_sum):
        self.sizes, self.reduce = sizes, reduce
        self.steps: list[Step] = []
        self._made: dict[int, int] = {}  # which step has made a tensor, by the tensor's identity
        self._above: dict[int, int] = {}  # which step has joined what a step has left
        self._alive: list[Tensor] = []  # so that no other takes their identities

    def sum_out(self, factors: Sequence[Factor], variables: Sequence[str]) -> list[Factor]:
        """Factors over what remains, of the same sum."""
        order, most = cheapest_order([f.dims for f in factors], self.sizes, variables)
        rows = {d for f in factors for d in f.dims}.difference(variables)
        # While a program is captured, the sizes of plates are symbols.
        most *= math.prod(self.sizes[d] for d in rows if isinstance(self.sizes[d], int))
        if most > _LARGE:
            errors.warn(errors.large_table(most, variables))
        pool = dict(enumerate(factors))
        having = defaultdict(dict)
        for i, factor in pool.items():
            for dim in factor.dims:
                having[dim][i] = None
        for variable in order:
            mine = [i for i in having[variable] if i in pool]
            joint = joined([self._used(pool.pop(i)) for i in mine])
            message = self._summed(variable, joint)
            number = len(factors) + len(self.steps)
            pool[number] = message
            for dim in message.dims:
                having[dim][number] = None
        return list(pool.values())

    def _used(self, factor: Factor) -> Factor:
        made = self._made.get(id(factor.tensor))
        if made is not None:
            self._above[made] = len(self.steps)
        return factor

    def _summed(self, variable: str, joint: Factor) -> Factor:
        message = without(joint, [variable], self.reduce)
        self._remember(message, len(self.steps))
        self.steps.append(Step(variable, joint, message))
        return message

    def _remember(self, factor: Factor, step: int) -> None:
        self._made[id(factor.tensor)] = step
        self._alive.append(factor.tensor)

    def contract(
        self,
        factors: Sequence[Factor],
        homes: Mapping[str, frozenset[str]],
        fixed: Mapping[str, frozenset[str]],
        plates: Iterable[str],
    ) -> list[Factor]:
        """Sum all variables out, those inside plates in each row.

        Args:
            factors: the tables; one of a plate has its dimension.
            homes: the variables to sum out, and the plates that each stands in.
            fixed: further variables among the dimensions, which stay.
            plates: names of the plates.

        Returns:
            A factor for each part that no variable connects with another, still with the rows of
            the plates that all of the part stands in.

        Raises:
            CannotSum: plates that cross in a way that cannot be summed row by row.
        """
        plates, waiting, done = frozenset(plates), defaultdict(list), []
        for factor in factors:
            waiting[plates.intersection(factor.dims)].append(factor)
        while waiting:
            leaf = max(waiting, key=len)
            local = [name for name, home in homes.items() if home == leaf]
            for part, inside in connected(waiting.pop(leaf), local):
                for term in self.sum_out(part, inside) if inside else part:
                    rest = [dim for dim in term.dims if dim in homes]
                    if not rest:
                        done.append(term)
                        continue
                    outside = frozenset().union(*(homes[name] for name in rest))
                    if not outside < leaf:
                        raise CannotSum("crossing_plates", rest, sorted(leaf))
                    waiting[outside].append(self._multiplied(term, leaf - outside, homes, fixed))
        return done

    def _multiplied(self, term: Factor, rows: frozenset[str], homes, fixed) -> Factor:
        """The product over the rows of plates."""
        for name in term.dims:
            if fixed.get(name, frozenset()) & rows:
                names = [dim for dim in term.dims if dim in homes]
                raise CannotSum("guide_inside_plate", [name, *names], sorted(rows))
        made = self._made.get(id(term.tensor))
        at = [term.dims.index(name) for name in rows]
        left = tuple(dim for dim in term.dims if dim not in rows)
        product = term._replace(tensor=term.tensor.sum(at), dims=left)
        if made is not None:
            self._remember(product, made)
        return product

    # -- the way down ------------------------------------------------------------------------
    def log_marginals(self) -> list[Factor]:
        """For each step the log-probabilities of its variables together, given all factors."""
        found: list[Factor] = [None] * len(self.steps)
        variables = {step.variable for step in self.steps}
        for i in reversed(range(len(self.steps))):
            step = self.steps[i]
            given = Factor(*_conditional(step))
            if i in self._above:  # what is left of this step is part of another one's table
                above = found[self._above[i]]
                gone = variables.intersection(above.dims).difference(step.message.dims)
                given = joined([given, without(above, sorted(gone))])
            found[i] = given
        return found

    def chosen(self, choose) -> dict[str, Factor]:
        """A value for each variable, as indices: from the last that was summed to the first.

        `choose` takes log-weights and the dimension of the alternatives, and returns indices.
        """
        values: dict[str, Factor] = {}
        for step in reversed(self.steps):
            weights = looked_up(step.joint, values)
            at = weights.dims.index(step.variable)
            left = weights.dims[:at] + weights.dims[at + 1 :]
            values[step.variable] = Factor(choose(weights.tensor, at), left)
        return values


def _conditional(step: Step) -> tuple[Tensor, tuple[str, ...]]:
    """Log-probabilities of a step's variable given the others of its table."""
    total = aligned(step.message, step.joint.dims)
    return step.joint.tensor - torch.where(total == -math.inf, 0.0, total), step.joint.dims


def connected(
    factors: Sequence[Factor], variables: Sequence[str]
) -> list[tuple[list[Factor], list[str]]]:
    """The factors in groups that share none of the variables, each with the variables it has.

    >>> a, b = Factor(torch.zeros(2), ("a",)), Factor(torch.zeros(2), ("b",))
    >>> [names for _, names in connected([a, b, a], ["a", "b"])]
    [['a'], ['b']]
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            leader[name] = name = leader[leader[name]]
        return name

    wanted = set(variables)
    mine = [[dim for dim in factor.dims if dim in wanted] for factor in factors]
    for names in mine:
        for other in names[1:]:
            leader[find(other)] = find(names[0])
    groups: dict[Any, tuple[list[Factor], list[str]]] = {}
    for i, (factor, names) in enumerate(zip(factors, mine, strict=True)):
        groups.setdefault(find(names[0]) if names else i, ([], []))[0].append(factor)
    for name in variables:
        if name in leader:
            groups[find(name)][1].append(name)
    return list(groups.values())


# -- in which order ----------------------------------------------------------------------------


def cheapest_order(
    scopes: Sequence[Iterable[str]], sizes: Mapping[str, int], variables: Sequence[str]
) -> tuple[list[str], int]:
    """An order in which to sum the variables, and the size of the largest table on the way.

    The variable whose sum leaves the smallest table goes first. Where that leads to a large table,
    the order of the program is tried too, forward and backward, and that of `opt_einsum`, if it is
    installed; the best is taken. Other dimensions, as rows of plates, are left out of account: all
    tables have them alike.

    >>> cheapest_order([("a",), ("a", "b"), ("b", "rows")], {"a": 2, "b": 3}, ["a", "b"])
    (['b', 'a'], 6)
    """
    kept = set(variables)
    inner = tuple(frozenset(kept.intersection(scope)) for scope in scopes)
    order, most = _cheapest(inner, tuple((v, sizes[v]) for v in variables))
    return list(order), most


@functools.lru_cache(maxsize=64)  # the same at each step of a fit
def _cheapest(scopes, sizes: tuple[tuple[str, int], ...]) -> tuple[tuple[str, ...], int]:
    sizes = dict(sizes)
    order, most = _greedy(scopes, sizes)
    if most > _HARD:
        others = [order, list(sizes), list(sizes)[::-1], *_searched(scopes, sizes)]
        order = min(others, key=lambda other: _largest_table(scopes, sizes, other))
        most = _largest_table(scopes, sizes, order)
    return tuple(order), most


def _greedy(scopes, sizes: Mapping[str, int]) -> tuple[list[str], int]:
    graph = _Graph(scopes, sizes)
    queue = [(graph.left_by(v), i, v) for i, v in enumerate(sizes)]
    heapq.heapify(queue)
    latest = {v: cost for cost, _, v in queue}
    number = {v: i for i, v in enumerate(sizes)}
    order, most = [], 1
    while queue:
        cost, _, v = heapq.heappop(queue)
        if latest.get(v) != cost:
            continue  # its neighbours have changed since
        del latest[v]
        order.append(v)
        most = max(most, cost * sizes[v])
        for other in graph.remove(v):
            latest[other] = graph.left_by(other)
            heapq.heappush(queue, (latest[other], number[other], other))
    return order, most


def _largest_table(scopes, sizes: Mapping[str, int], order: Iterable[str]) -> int:
    graph, most = _Graph(scopes, sizes), 1
    for v in order:
        most = max(most, graph.left_by(v) * sizes[v])
        graph.remove(v)
    return most


class _Graph:
    """Which variables a variable shares a table with."""

    def __init__(self, scopes: Iterable[Iterable[str]], sizes: Mapping[str, int]):
        self.sizes = sizes
        self.beside: dict[str, set[str]] = {v: set() for v in sizes}
        for scope in scopes:
            for v in scope:
                self.beside[v] |= scope
        for v, names in self.beside.items():
            names.discard(v)

    def left_by(self, v: str) -> int:
        return math.prod(self.sizes[name] for name in self.beside[v])

    def remove(self, v: str) -> set[str]:
        """Sum a variable out: its neighbours now share a table. Returns them."""
        names = self.beside.pop(v)
        for other in names:
            self.beside[other] |= names
            self.beside[other] -= {v, other}
        return names


def _searched(scopes, sizes: Mapping[str, int]) -> list[list[str]]:
    """The order in which `opt_einsum` would sum the variables; nothing without the package."""
    try:
        import opt_einsum
    except ImportError:
        return []
    letter = {v: opt_einsum.get_symbol(i) for i, v in enumerate(sizes)}
    terms = [sorted(scope) for scope in scopes]
    equation = ",".join("".join(letter[v] for v in term) for term in terms) + "->"
    shapes = [tuple(sizes[v] for v in term) for term in terms]
    path, _ = opt_einsum.contract_path(equation, *shapes, shapes=True, optimize="auto")
    order, left, pool = [], dict.fromkeys(sizes), [set(scope) for scope in scopes]
    for pair in path:
        merged = set().union(*(pool.pop(i) for i in sorted(pair, reverse=True)))
        still = set().union(*pool)
        gone = [v for v in left if v in merged and v not in still]
        order += gone
        for v in gone:
            del left[v]
        pool.append(merged.difference(gone))
    return [order + list(left)]
