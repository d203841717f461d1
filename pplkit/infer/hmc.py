"""Hamiltonian Monte Carlo: each draw is the end of a path that a particle takes over the potential.

Potential and kinetic energy together stay the same on the way, but for the error of the leapfrog
steps, which a Metropolis test makes good (Neal, 2011, "MCMC using Hamiltonian dynamics"). All
chains take their steps together, each with a step size and a mass matrix of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import errors
from .adaptation import LOG_TARGET, Metric, clamped
from .autoguide.initialization import Strategy, init_to_uniform

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
DIVERGED = 1000.0  # an energy that has grown by this much never comes back
_DOUBLINGS = 100
_ONE_OF_TWO = "one of the two: the model itself, not model(...), which runs it"


class Point(NamedTuple):
    """Where chains are: positions and momenta `(chains, size)`, potential `(chains,)`, gradient."""

    q: Tensor
    p: Tensor
    potential: Tensor
    grad: Tensor

    def where(self, mask: Tensor, other: Point) -> Point:
        """These where the mask holds, the other's elsewhere."""
        wide = mask[:, None]
        return Point(
            torch.where(wide, self.q, other.q),
            torch.where(wide, self.p, other.p),
            torch.where(mask, self.potential, other.potential),
            torch.where(wide, self.grad, other.grad),
        )


class Outcome(NamedTuple):
    """What a transition has come to; each `(chains,)` but for the point."""

    point: Point
    accept_prob: Tensor
    num_steps: Tensor
    diverging: Tensor
    energy: Tensor


def known(gain: Tensor) -> Tensor:
    """An energy's loss; what is not a number has gone for good."""
    return torch.where(gain.isnan(), -math.inf, gain)


def leapfrog(at: Point, step: Tensor, metric: Metric, evaluate: Evaluate) -> Point:
    """One step of the particles; backwards in time where `step` is negative."""
    half = 0.5 * step[:, None]
    p = at.p - half * at.grad
    q = at.q + step[:, None] * metric.velocity(p)
    potential, grad = evaluate(q)
    return Point(q, p - half * grad, potential, grad)


def reasonable_step(
    at: Point, step: Tensor, metric: Metric, noise: Tensor, evaluate: Evaluate
) -> Tensor:
    """A step size whose first step is accepted about as often as not: doubled, or halved, until its
    acceptance crosses the mark (Hoffman and Gelman, 2014, algorithm 4).
    """
    at = at._replace(p=metric.momentum(noise))
    energy = at.potential + metric.kinetic(at.p)
    going = torch.ones_like(step, dtype=torch.bool)
    rising = None
    for _ in range(_DOUBLINGS):
        there = leapfrog(at, step, metric, evaluate)
        gain = energy - there.potential - metric.kinetic(there.p)
        accepted = gain > LOG_TARGET  # not so for NaN
        if rising is None:
            rising = accepted
        going = going & (accepted == rising)
        step = clamped(torch.where(going, torch.where(rising, step * 2, step / 2), step))
        if not bool(going.any()):
            break
    return step


class HMC:
    """Hamiltonian Monte Carlo with paths of a fixed length, for `MCMC`.

    Args:
        model: a function; or give `potential_fn`, the negative log-density as a function of a
            dictionary of real-valued tensors, and `MCMC(initial_params=)`.
        step_size: of the leapfrog steps; where adaptation starts.
        trajectory_length: time that a path takes, 2 pi unless told; steps are as many as fit.
        num_steps: how many steps a path has, in place of `trajectory_length`.
        adapt_step_size: find a step size in the warm-up at which `target_accept_prob` of the
            proposals are accepted.
        adapt_mass_matrix: learn the variables' scales in the warm-up.
        full_mass: learn their correlations, too: True, all of them; `[("a", "b"), ("c",)]`, those
            within each block of variables, the others' scales alone. Each chain learns them by
            itself: from fewer rows than a few times the numbers in a block it learns them badly.
        transforms: by variable, maps from its support to real numbers in place of its own.
        max_plate_nesting: how many dimensions plates take, for models with discrete variables; a
            run of the model tells otherwise.
        init_strategy: where chains start, see `autoguide.initialization`.

    Discrete variables marked `infer={"enumerate": "parallel"}` (see `config_enumerate`) are summed
    out. Pyro's `jit_compile`, `jit_options`, `ignore_jit_warnings`, `min_stepsize` and
    `max_stepsize` are accepted and change nothing.

    >>> import pplkit, pplkit.distributions as dist
    >>> from pplkit.infer import MCMC
    >>> def model():
    ...     pplkit.sample("x", dist.Normal(3.0, 2.0))
    >>> mcmc = MCMC(HMC(model, trajectory_length=3.0), num_samples=100, seed=1)
    >>> mcmc.run()
    >>> bool((mcmc.get_samples()["x"].mean() - 3.0).abs() < 1.0)
    True
    """

    def __init__(
        self,
        model: Callable | None = None,
        potential_fn: Callable | None = None,
        step_size: float = 1.0,
        trajectory_length: float | None = None,
        num_steps: int | None = None,
        adapt_step_size: bool = True,
        adapt_mass_matrix: bool = True,
        full_mass: bool | Sequence[Sequence[str]] = False,
        transforms: Mapping[str, Any] | None = None,
        max_plate_nesting: int | None = None,
        jit_compile: bool = False,
        jit_options: dict | None = None,
        ignore_jit_warnings: bool = False,
        target_accept_prob: float = 0.8,
        init_strategy: Strategy = init_to_uniform,
        *,
        min_stepsize: float = 1e-10,
        max_stepsize: float = 1e10,
    ):
        name = type(self).__name__
        if (model is None) == (potential_fn is None):
            raise errors.missing_argument(name, "a model, or potential_fn=", _ONE_OF_TWO)
        given, label = (model, "model=") if model is not None else (potential_fn, "potential_fn=")
        if not callable(given):
            called = f"the function itself: {label[:-1]}, not {label[:-1]}(...), which runs it"
            raise errors.wrong_argument(name, label, given, "a function", called)
        for label, number in (
            ("step_size=", step_size),
            ("trajectory_length=", trajectory_length),
        ):
            if number is not None and not _positive(number):
                raise errors.wrong_argument(name, label, number, "a positive number")
        if not _positive(target_accept_prob) or not target_accept_prob < 1:
            between = "a number between 0 and 1"
            raise errors.wrong_argument(name, "target_accept_prob=", target_accept_prob, between)
        if num_steps is not None and (type(num_steps) is not int or num_steps < 1):
            raise errors.wrong_argument(name, "num_steps=", num_steps, "a whole number, at least 1")
        if not callable(init_strategy):
            expected = "a function from a site to a tensor, as init_to_uniform"
            raise errors.wrong_argument(name, "init_strategy=", init_strategy, expected)
        self.model, self.potential_fn, self.step_size = model, potential_fn, float(step_size)
        self.trajectory_length = 2 * math.pi if trajectory_length is None else trajectory_length
        self.num_steps = num_steps
        self.adapt_step_size, self.adapt_mass_matrix = adapt_step_size, adapt_mass_matrix
        self.full_mass, self.transforms = _blocks(name, full_mass), transforms
        self.max_plate_nesting = max_plate_nesting
        self.target_accept_prob = float(target_accept_prob)
        self.init_strategy = init_strategy

    def transition(
        self, at: Point, step: Tensor, metric: Metric, noise: Tensor, seeds: Tensor, evaluate
    ) -> Outcome:
        """One draw of each chain.

        Args:
            noise: standard normal numbers, `(chains, size)`, for the momenta.
            seeds: a whole number for each chain, for all else.
        """
        at = at._replace(p=metric.momentum(noise))
        energy = at.potential + metric.kinetic(at.p)
        count = self._steps(step)
        there, most = at, int(count.max())
        for n in range(most):
            there = leapfrog(there, step, metric, evaluate).where(count > n, there)
        new = there.potential + metric.kinetic(there.p)
        gain = known(energy - new)
        accept_prob = gain.exp().clamp(max=1.0)
        accepted = uniforms(seeds, torch.zeros((), dtype=torch.int64)) < accept_prob
        return Outcome(
            there.where(accepted, at),
            accept_prob,
            count,
            ~(gain >= -DIVERGED),
            torch.where(accepted, new, energy),
        )

    def within(self, variables: Sequence) -> Tensor | None:
        """Which pairs of numbers are in one block of `full_mass`, `(size, size)`; None: all, or
        none.

        Raises:
            UsageError: a block of a variable that there is not.
        """
        if isinstance(self.full_mass, bool):
            return None
        places = {variable.name: variable.slice for variable in variables}
        size = max(place.stop for place in places.values())
        within = torch.eye(size, dtype=torch.float64)
        for block in self.full_mass:
            member = torch.zeros(size, dtype=torch.float64)
            for name in block:
                if name not in places:
                    raise errors.not_a_variable(
                        type(self).__name__, "full_mass=", name, list(places)
                    )
                member[places[name]] = 1.0
            within = torch.maximum(within, torch.outer(member, member))
        return within

    def _steps(self, step: Tensor) -> Tensor:
        if self.num_steps is not None:
            return torch.full_like(step, self.num_steps, dtype=torch.int64)
        # A first guess of the step size may be tiny.
        return (self.trajectory_length / step).clamp(1, 1024).long()


def _blocks(kernel: str, full_mass: Any) -> bool | list[tuple[str, ...]]:
    """`full_mass=` as a user gives it: True, False, or names in blocks."""
    if isinstance(full_mass, bool):
        return full_mass
    expected = 'True, False, or names of variables in blocks: [("a", "b"), ("c",)]'
    blocks = full_mass if isinstance(full_mass, list | tuple) else [None]
    for block in blocks:
        if not isinstance(block, list | tuple) or not all(isinstance(n, str) for n in block):
            raise errors.wrong_argument(kernel, "full_mass=", full_mass, expected)
    names = [name for block in blocks for name in block]
    if len(names) > len(set(names)):
        expected = "each variable in one block alone"
        raise errors.wrong_argument(kernel, "full_mass=", full_mass, expected)
    return [tuple(block) for block in blocks]


def _positive(number: Any) -> bool:
    plain = isinstance(number, int | float) and not isinstance(number, bool)
    return plain and 0 < number < math.inf


# -- random numbers from a seed and a counter ------------------------------------------------------


def _wrapped(number: int) -> int:
    """A number of 64 bits as a signed one."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


_GAMMA, _MIX1, _MIX2 = map(_wrapped, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """A shift to the right that fills up with zeros."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def hashed(seeds: Tensor, counters: Tensor) -> Tensor:
    """64 random bits for each seed and counter: the splitmix64 generator (Steele, Lea and Flood,
    2014, "Fast splittable pseudorandom number generators") at that place of its stream.

    >>> hashed(torch.tensor([0]), torch.tensor([0])).tolist()  # 0xe220a8397b1dcdaf
    [-2152535657050944081]
    """
    bits = seeds + (counters + 1) * _GAMMA
    bits = (bits ^ _shifted(bits, 30)) * _MIX1
    bits = (bits ^ _shifted(bits, 27)) * _MIX2
    return bits ^ _shifted(bits, 31)


def uniforms(seeds: Tensor, counters: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), in float64, for each seed and counter."""
    return _shifted(hashed(seeds, counters), 11).double() * 2.0**-53
