"""The No-U-Turn sampler: Hamiltonian paths that are doubled until they turn back.

A path grows forwards or backwards, by as many steps as it has, until its ends begin to approach
each other; a point of it is chosen by its energy (Hoffman and Gelman, 2014, "The No-U-Turn
Sampler"; with multinomial weights, and a criterion for any metric, as in Betancourt, 2017, "A
conceptual introduction to Hamiltonian Monte Carlo", appendix A). The recursion over halves of the
path is unrolled, so that all chains take their steps together: of the halves that are open, the
first momenta are remembered, one for each level (Phan, Pradhan and Jankowiak, 2019, "Composable
effects for flexible and accelerated probabilistic programming in NumPyro").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import errors
from .adaptation import Metric
from .hmc import DIVERGED, HMC, Evaluate, Outcome, Point, hashed, known, leapfrog, uniforms

# Where in a seed's stream numbers are taken from: leaves have 2^depth + their number.
DIRECTION, MERGE = 1 << 33, 1 << 32


def turning(first: Tensor, last: Tensor, total: Tensor, metric: Metric) -> Tensor:
    """Whether a path turns back: its way, the sum of momenta along it, is against an end's motion.

    The momenta at the ends count half, as in the trapezoidal rule.
    """
    way = metric.velocity(total - 0.5 * (first + last))
    return ((first * way).sum(-1) <= 0) | ((last * way).sum(-1) <= 0)


@dataclass
class _Branch:
    """A new part of the path, as long as all the rest."""

    end: Point
    proposal: Point
    energy: Tensor  # the proposal's
    log_weight: Tensor
    momenta: Tensor  # their sum
    whole: Tensor  # whether it was built to its end
    diverging: Tensor
    accepted: Tensor  # sum over its leaves
    leaves: Tensor


class NUTS(HMC):
    """The No-U-Turn sampler, for `MCMC`: Hamiltonian Monte Carlo that finds the paths' lengths.

    Args:
        max_tree_depth: a path has up to `2 ** max_tree_depth - 1` steps.
        use_multinomial_sampling: True; Pyro's other way, slice sampling, is not here.
        model, potential_fn, step_size, adapt_step_size, adapt_mass_matrix, full_mass, transforms,
            max_plate_nesting, target_accept_prob, init_strategy: see `HMC`.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer import MCMC
    >>> def model(heads):
    ...     p = pplkit.sample("p", dist.Beta(1.0, 1.0))
    ...     with pplkit.plate("throws", len(heads)):
    ...         pplkit.sample("heads", dist.Bernoulli(p), obs=heads)
    >>> mcmc = MCMC(NUTS(model), num_samples=100, num_chains=4, seed=0)
    >>> mcmc.run(torch.tensor([1.0, 1.0, 0.0, 1.0]))
    >>> bool((mcmc.get_samples()["p"].mean() - 2 / 3).abs() < 0.1)
    True
    """

    def __init__(
        self,
        model=None,
        potential_fn=None,
        step_size: float = 1.0,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool | Sequence[Sequence[str]] = False,
        use_multinomial_sampling: bool = True,
        transforms=None,
        max_plate_nesting: int | None = None,
        jit_compile: bool = False,
        jit_options: dict | None = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        max_tree_depth: int = 10,
        **more,
    ):
        super().__init__(
            model,
            potential_fn,
            step_size,
            adapt_step_size=adapt_step_size,
            adapt_mass_matrix=adapt_mass_matrix,
            full_mass=full_mass,
            transforms=transforms,
            max_plate_nesting=max_plate_nesting,
            target_accept_prob=target_accept_prob,
            **more,
        )
        if use_multinomial_sampling is not True:
            found = use_multinomial_sampling
            raise errors.wrong_argument("NUTS", "use_multinomial_sampling=", found, "True")
        if type(max_tree_depth) is not int or not 1 <= max_tree_depth <= 20:
            expected = "a whole number from 1 to 20"
            raise errors.wrong_argument("NUTS", "max_tree_depth=", max_tree_depth, expected)
        self.max_tree_depth = max_tree_depth

    def transition(
        self, at: Point, step: Tensor, metric: Metric, noise: Tensor, seeds: Tensor, evaluate
    ) -> Outcome:
        """One draw of each chain; see `HMC.transition`."""
        at = at._replace(p=metric.momentum(noise))
        start = at.potential + metric.kinetic(at.p)
        left = right = proposal = at
        energy, log_weight, momenta = start, torch.zeros_like(start), at.p
        accepted, leaves = torch.zeros_like(start), torch.zeros_like(seeds)
        diverging = torch.zeros_like(start, dtype=torch.bool)
        going = ~diverging
        for depth in range(self.max_tree_depth):
            forward = hashed(seeds, torch.tensor(DIRECTION + depth, device=seeds.device)) >= 0
            signed = torch.where(forward, step, -step)
            edge = right.where(forward, left)
            new = self._branch(edge, signed, depth, going, start, metric, seeds, evaluate)
            accepted, leaves = accepted + new.accepted, leaves + new.leaves
            diverging = diverging | new.diverging
            going = new.whole
            # A point of the new part is taken rather than one of the old by their weights' ratio.
            chance = uniforms(seeds, torch.tensor(MERGE + depth, device=seeds.device))
            taken = going & (chance.log() < new.log_weight - log_weight)
            proposal = new.proposal.where(taken, proposal)
            energy = torch.where(taken, new.energy, energy)
            log_weight = torch.logaddexp(log_weight, new.log_weight)
            momenta = momenta + new.momenta
            right = new.end.where(going & forward, right)
            left = new.end.where(going & ~forward, left)
            going = going & ~turning(left.p, right.p, momenta, metric)
            if not bool(going.any()):
                break
        return Outcome(proposal, accepted / leaves, leaves, diverging, energy)

    def _branch(
        self,
        at: Point,
        step: Tensor,
        depth: int,
        going: Tensor,
        start: Tensor,
        metric: Metric,
        seeds: Tensor,
        evaluate: Evaluate,
    ) -> _Branch:
        """Double the path: 2^depth leaves beyond `at`, for the chains that are going."""
        count = 1 << depth
        numbers = torch.arange(count, count + count, device=seeds.device)
        chances = uniforms(seeds[:, None], numbers).log().unbind(1)
        zero = torch.zeros_like(start)
        new = _Branch(
            at, at, start, zero - math.inf, torch.zeros_like(at.p), going, ~going & going, zero,
            torch.zeros_like(seeds),
        )  # fmt: skip
        opened: list = [None] * (depth + 1)  # first momenta of open halves, and sums before them
        for n in range(count):
            going = new.whole
            there = leapfrog(new.end, step, metric, evaluate)
            energy = there.potential + metric.kinetic(there.p)
            gain = known(start - energy)
            diverged = going & ~(gain >= -DIVERGED)
            new.diverging = new.diverging | diverged
            new.accepted = new.accepted + torch.where(going, gain.exp().clamp(max=1.0), 0.0)
            new.leaves = new.leaves + going
            going = going & ~diverged
            # Of the leaves so far, each is the proposal with the probability of its weight.
            weight = torch.logaddexp(new.log_weight, gain)
            taken = going & (chances[n] < gain - weight)
            new.log_weight = torch.where(going, weight, new.log_weight)
            new.proposal = there.where(taken, new.proposal)
            new.energy = torch.where(taken, energy, new.energy)
            new.end = there.where(going, new.end)
            before = new.momenta
            new.momenta = torch.where(going[:, None], before + there.p, before)
            going = going & ~_closes_turning(opened, n, there.p, before, new.momenta, metric)
            new.whole = going
            if not bool(going.any()):
                break
        return new


def _closes_turning(
    opened: list, n: int, p: Tensor, before: Tensor, momenta: Tensor, metric: Metric
) -> Tensor:
    """Whether a half of the path that ends with leaf `n` turns back.

    Leaf n begins a half if it is even, and ends as many as its number has trailing ones; they all
    began at leaves whose numbers have one bit fewer above, and so each level keeps one momentum.
    """
    level = (n >> 1).bit_count()
    turns = torch.zeros_like(p[:, 0], dtype=torch.bool)
    if n % 2 == 0:
        opened[level] = p, before
        return turns
    ones = (~n & (n + 1)).bit_length() - 1
    for i in range(level, level - ones, -1):
        first, sum_before = opened[i]
        turns = turns | turning(first, p, momenta - sum_before, metric)
    return turns
