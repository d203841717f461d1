"""What a chain learns while it warms up: how long its steps shall be, and how its variables spread.

The step size is moved by dual averaging until as many proposals are accepted as asked for (Hoffman
and Gelman, 2014, "The No-U-Turn Sampler", section 3.2). The variables' covariance, the inverse of
the mass matrix, is estimated in windows that double in length (the Stan reference manual, "HMC
algorithm parameters"): a first stretch finds the region where the probability is, windows then
learn its shape, a last stretch settles the step size for the final shape.

All tensors have a first dimension of chains, and are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

SMALLEST, LARGEST = 1e-10, 1e10  # of step sizes


class Phase(IntEnum):
    """What follows a transition: nothing, a row for the covariance, or a new covariance."""

    PLAIN = 0
    COLLECT = 1
    CLOSE = 2


def schedule(warmup: int, initial: int = 75, final: int = 50, window: int = 25) -> list[Phase]:
    """The phase of each transition of a warm-up.

    A short one keeps at least 6 transitions to settle the step size, which starts anew, ten times
    too long, when the covariance is known; more of so few would settle it too low.

    >>> [int(phase) for phase in schedule(20)]
    [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 0, 0, 0, 0, 0, 0]
    >>> [t for t, phase in enumerate(schedule(1000)) if phase == Phase.CLOSE]
    [99, 149, 249, 449, 949]
    """
    if warmup < 20:
        return [Phase.PLAIN] * warmup
    if initial + final + window > warmup:
        initial, final = int(0.15 * warmup), max(6, int(0.1 * warmup))
        window = warmup - initial - final
    phases, last = [Phase.PLAIN] * warmup, warmup - final
    start = initial
    while start < last:
        end = start + window
        if end + 2 * window > last:  # too little is left for a window of its own
            end = last
        phases[start : end - 1] = [Phase.COLLECT] * (end - 1 - start)
        phases[end - 1] = Phase.CLOSE
        start, window = end, 2 * window
    return phases


def rows_seen(phases: list[Phase]) -> list[int]:
    """How many rows of its window each transition's phase has, its own included.

    >>> rows_seen([Phase.PLAIN, Phase.COLLECT, Phase.CLOSE, Phase.PLAIN])
    [0, 1, 2, 0]
    """
    seen, number = [], 0
    for phase in phases:
        number = 0 if phase == Phase.PLAIN else number + 1
        seen.append(number)
        number = 0 if phase == Phase.CLOSE else number
    return seen


@dataclass
class Metric:
    """The mass matrix: by the covariance that is its inverse, and what momenta are made with.

    Attributes:
        covariance: `(chains, size)`, the variances; or `(chains, size, size)`.
        root: the variances' square roots; or the lower Cholesky factor.
    """

    covariance: Tensor
    root: Tensor

    @classmethod
    def unit(cls, chains: int, size: int, dense: bool, device=None) -> Metric:
        one = torch.ones(chains, size, dtype=torch.float64, device=device)
        return cls.of(torch.diag_embed(one) if dense else one)

    @classmethod
    def of(cls, covariance: Tensor) -> Metric:
        dense = covariance.dim() == 3
        return cls(covariance, torch.linalg.cholesky(covariance) if dense else covariance.sqrt())

    @property
    def dense(self) -> bool:
        return self.covariance.dim() == 3

    def momentum(self, noise: Tensor) -> Tensor:
        """Momenta from standard normal numbers: their covariance is the mass matrix."""
        if not self.dense:
            return noise / self.root
        turned = self.root.transpose(-1, -2)
        return torch.linalg.solve_triangular(turned, noise[..., None], upper=True)[..., 0]

    def velocity(self, momentum: Tensor) -> Tensor:
        if not self.dense:
            return self.covariance * momentum
        return (self.covariance @ momentum[..., None])[..., 0]

    def kinetic(self, momentum: Tensor) -> Tensor:
        return 0.5 * (momentum * self.velocity(momentum)).sum(-1)


@dataclass
class DualAveraging:
    """Nesterov's dual averaging of the logarithm of the step size."""

    log_step: Tensor
    log_mean: Tensor
    error: Tensor  # how far acceptance has been from its target, averaged
    count: Tensor
    centre: Tensor

    @classmethod
    def around(cls, step: Tensor) -> DualAveraging:
        """Start anew; long steps are tried first, they cost less."""
        zero = torch.zeros_like(step)
        return cls(step.log(), zero, zero.clone(), zero.clone(), (10 * step).log())

    def update(self, accepted: Tensor, target: float) -> None:
        self.count = self.count + 1
        weight = 1 / (self.count + 10)
        self.error = (1 - weight) * self.error + weight * (target - accepted)
        self.log_step = self.centre - self.count.sqrt() / 0.05 * self.error
        kept = self.count**-0.75
        self.log_mean = kept * self.log_step + (1 - kept) * self.log_mean


@dataclass
class Spread:
    """Mean and covariance of the rows seen so far (Welford's algorithm)."""

    mean: Tensor
    products: Tensor

    @classmethod
    def empty(cls, like: Metric) -> Spread:
        zero = torch.zeros_like(like.covariance)
        return cls(zero[:, 0].clone() if like.dense else zero.clone(), zero)

    def add(self, rows: Tensor, number: int) -> None:
        """Take in a row of each chain, the `number`-th."""
        before = rows - self.mean
        self.mean = self.mean + before / number
        after = rows - self.mean
        dense = self.products.dim() == 3
        grown = after[:, :, None] * before[:, None, :] if dense else before * after
        self.products = self.products + grown

    def metric(self, n: int, within: Tensor | None = None) -> Metric:
        """The covariance of `n` rows, drawn towards a small multiple of the unit matrix, for they
        are few; 0 where `within`, `(size, size)`, is.
        """
        covariance = self.products / (n - 1) * (n / (n + 5))
        small = 1e-3 * (5 / (n + 5))
        if covariance.dim() == 3:
            size = covariance.shape[-1]
            covariance = covariance if within is None else covariance * within
            covariance = covariance + small * torch.eye(size, dtype=covariance.dtype).to(covariance)
        else:
            covariance = covariance + small
        return Metric.of(covariance)


def clamped(step: Tensor) -> Tensor:
    """A step size within bounds that keep arithmetic sane."""
    return step.clamp(SMALLEST, LARGEST).nan_to_num(nan=SMALLEST)


LOG_TARGET = math.log(0.8)  # of the acceptance that the first guess of a step size crosses
