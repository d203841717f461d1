"""Whether ranks are uniform: an exact test on all of their empirical distribution.

Of N ranks from 0 to L, the number below i is binomial, and along i these numbers form a Markov
chain. At each place i a number has a two-sided probability of its own; the statistic is the
smallest of them, and its distribution follows from the chain, place by place (Säilynoja, Bürkner
and Vehtari, 2022, "Graphical test for discrete uniformity and its applications in goodness-of-fit
evaluation and multiple sample comparison").
"""

from __future__ import annotations

import torch
from torch import Tensor

_PLACES = 100  # at most: more tell no more, and take their time


def places(number: int) -> Tensor:
    """Where the empirical distribution of ranks among `number` draws is looked at.

    >>> places(4)
    tensor([1, 2, 3, 4])
    """
    if number <= _PLACES:
        return torch.arange(1, number + 1)
    return torch.linspace(1, number, _PLACES).round().long().unique()


def below(ranks: Tensor, number: int) -> Tensor:
    """How many ranks are below each place.

    >>> below(torch.tensor([0, 2, 2]), 2)
    tensor([1, 1])
    """
    return (ranks[:, None].cpu() < places(number)).sum(0)


def _log_binomial(n: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """The binomial's log-probability; minus infinity for k beyond n."""
    n, k = n.double(), k.double()
    inside = (k >= 0) & (k <= n)
    k = torch.where(inside, k, 0.0)
    ways = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    log = ways + torch.xlogy(k, p) + torch.xlogy(n - k, 1 - p)
    return torch.where(inside, log, -torch.inf)


def _two_sided(size: int, at: Tensor) -> Tensor:
    """The two-sided probability of each number from 0 to `size`, `(places, size + 1)`."""
    k = torch.arange(size + 1)
    mass = _log_binomial(torch.tensor(size), k, at[:, None]).exp()
    low = mass.cumsum(1)
    high = mass.flip(1).cumsum(1).flip(1)
    return (2 * torch.minimum(low, high)).clamp(max=1.0)


def _exceeded(thresholds: Tensor, size: int, at: Tensor) -> Tensor:
    """How probable it is that at some place the two-sided probability is at or below each of the
    thresholds.
    """
    two_sided = _two_sided(size, at)
    k = torch.arange(size + 1)
    state = torch.zeros(len(thresholds), size + 1, dtype=torch.float64)
    state[:, 0] = 1.0
    before = torch.tensor(0.0, dtype=torch.float64)
    for place, probability in zip(at, two_sided, strict=True):
        moved = (place - before) / (1 - before)
        step = _log_binomial(size - k[:, None], k[None] - k[:, None], moved).exp()
        state = (state @ step) * (probability > thresholds[:, None])
        before = place
    return (1 - state.sum(1)).clamp(0.0, 1.0)


def _shares(number: int) -> Tensor:
    return places(number).double() / (number + 1)


def p_values(counts: Tensor, size: int, number: int | None = None) -> Tensor:
    """How probable uniform ranks as far off as these are.

    Args:
        counts: how many ranks are below each place, `(quantities, places)`.
        size: how many ranks.
        number: of draws they are among; as many as there are places, unless told.

    >>> p_values(torch.tensor([[50], [90]]), 100, 1) > 0.01
    tensor([ True, False])
    """
    at = _shares(counts.shape[1] if number is None else number)
    two_sided = _two_sided(size, at)
    found = two_sided[torch.arange(len(at)), counts].min(1).values
    return _exceeded(found * (1 + 1e-9), size, at)


def band(number: int, size: int, level: float) -> tuple[Tensor, Tensor, Tensor]:
    """The band in which the empirical distribution of uniform ranks stays, all of it, but for the
    probability `level`.

    Returns:
        The places as shares of all ranks, and the lowest and highest number of ranks below each.

    >>> _, low, high = band(1, 100, 0.05)
    >>> low, high
    (tensor([40]), tensor([60]))
    """
    at = _shares(number)
    grid = torch.logspace(-9, 0, 400, dtype=torch.float64) * level
    allowed = grid[_exceeded(grid, size, at) <= level]
    threshold = allowed[-1] if len(allowed) else grid[0]
    inside = _two_sided(size, at) > threshold
    k = torch.arange(size + 1)
    low = torch.where(inside, k, size).min(1).values
    high = torch.where(inside, k, 0).max(1).values
    return at, low, high
