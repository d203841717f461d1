"""Where a value must lie: torch's constraints, and those that a probabilistic program needs
besides.

`param(name, init, constraint=...)` and the algorithms that move over unconstrained space use
`biject_to(constraint)`, a smooth bijection from all of a real space onto the constrained set.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import constraints as _torch
from torch.distributions.constraints import *
from torch.distributions.constraints import Constraint, independent, positive, real

__all__ = [
    *_torch.__all__,
    "anything", "corr_matrix", "either", "integer", "masked", "ordered_vector",
    "positive_ordered_vector", "positive_vector", "softplus_lower_cholesky", "softplus_positive",
    "sphere", "unit_lower_cholesky", "weights",
]  # fmt: skip


class _Anything(type(real)):
    """Any number, NaN too."""

    def check(self, value: Tensor) -> Tensor:
        return torch.ones_like(value, dtype=torch.bool)


class _Integer(Constraint):
    """Whole numbers, negative ones too."""

    is_discrete = True

    def check(self, value: Tensor) -> Tensor:
        return value % 1 == 0


class _Sphere(Constraint):
    """Vectors of Euclidean length 1."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        allowed = 100 * torch.finfo(value.dtype).eps * value.shape[-1] ** 0.5
        return (torch.linalg.vector_norm(value, dim=-1) - 1).abs() < allowed


class _OrderedVector(Constraint):
    """Vectors whose elements increase."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value[..., 1:] > value[..., :-1]).all(-1)


class _PositiveOrderedVector(Constraint):
    """Vectors of positive elements that increase."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value > 0).all(-1) & ordered_vector.check(value)


class _PositiveDefinite(type(_torch.positive_definite)):
    """Symmetric matrices whose eigenvalues are positive."""

    def check(self, value: Tensor) -> Tensor:
        # Unlike torch's, without a branch on the outcome: that would wait for the device.
        uneven = (value - value.mT).abs() - 1e-5 * value.abs()
        symmetric = (uneven <= 1e-6).all(-2).all(-1)
        return symmetric & torch.linalg.cholesky_ex(value).info.eq(0)


class _CorrMatrix(Constraint):
    """Correlation matrices: symmetric, positive definite, with ones on the diagonal."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        ones = ((value.diagonal(dim1=-2, dim2=-1) - 1).abs() < 1e-6).all(-1)
        return positive_definite.check(value) & ones


class _UnitLowerCholesky(Constraint):
    """Lower triangular matrices with ones on the diagonal."""

    event_dim = 2

    def check(self, value: Tensor) -> Tensor:
        ones = (value.diagonal(dim1=-2, dim2=-1) == 1).all(-1)
        return ones & (value.tril() == value).flatten(-2).all(-1)


class _SoftplusPositive(type(positive)):
    """Positive numbers, reached through softplus: gentler than the exponential far from zero."""

    def __init__(self):
        super().__init__(lower_bound=0.0)


class _SoftplusLowerCholesky(type(_torch.lower_cholesky)):
    """Lower triangular matrices with a positive diagonal, reached through softplus."""


class _Weights(Constraint):
    """Non-negative numbers, finite and not all zero: what can be normalised to probabilities."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        total = value.sum(-1)
        return (value >= 0).all(-1) & (total > 0) & total.isfinite()


class masked(Constraint):
    """`constraint` where `mask` is true, anything elsewhere."""

    def __init__(self, constraint: Constraint, mask: Tensor):
        self.constraint, self.mask = constraint, mask
        self.event_dim, self.is_discrete = constraint.event_dim, constraint.is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return self.constraint.check(value) | ~self.mask

    def __repr__(self) -> str:
        return f"{self.constraint} (where the mask is true)"


class either(Constraint):
    """`one` where `mask` is true, `other` elsewhere."""

    def __init__(self, mask: Tensor, one: Constraint, other: Constraint):
        self.mask, self.one, self.other = mask, one, other
        self.event_dim, self.is_discrete = one.event_dim, one.is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        return torch.where(self.mask, self.one.check(value), self.other.check(value))

    def __repr__(self) -> str:
        return f"{self.one} where the mask is true, {self.other} elsewhere"


anything = _Anything()
integer = _Integer()
sphere = _Sphere()
ordered_vector = _OrderedVector()
positive_ordered_vector = _PositiveOrderedVector()
positive_definite = _PositiveDefinite()
corr_matrix = _CorrMatrix()
unit_lower_cholesky = _UnitLowerCholesky()
softplus_positive = _SoftplusPositive()
softplus_lower_cholesky = _SoftplusLowerCholesky()
weights = _Weights()
positive_vector = independent(positive, 1)
