"""Smooth maps between sets: torch's transforms, and those that the further constraints need.

Importing this module teaches `biject_to` and `transform_to` the constraints of
`pplkit.distributions.constraints`.

A square matrix with a structure (a Cholesky factor, a covariance) has fewer free numbers than
elements, so its bijection starts from a vector of just these; `transform_to` starts from a whole
matrix and ignores what is redundant.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import biject_to, transform_to
from torch.distributions import constraints as _torch_constraints
from torch.distributions import transforms as _torch
from torch.distributions.transforms import *
from torch.distributions.transforms import (
    ComposeTransform,
    CorrCholeskyTransform,
    ExpTransform,
    SoftplusTransform,
    Transform,
)

from . import constraints

__all__ = [
    *_torch.__all__,
    "CholeskyTransform", "CorrMatrixCholeskyTransform", "ELUTransform", "LeakyReLUTransform",
    "LowerCholeskyAffine", "Normalize", "OrderedTransform", "Permute", "PositivePowerTransform",
    "SimplexToOrderedTransform", "SoftplusLowerCholeskyTransform", "UnitLowerCholeskyTransform",
    "VectorToTrilTransform", "biject_to", "transform_to",
]  # fmt: skip


class _Plain(Transform):
    """A transform without settings: any two of a class are equal."""

    bijective = True

    def __eq__(self, other):
        return type(self) is type(other)

    __hash__ = Transform.__hash__


class OrderedTransform(_Plain):
    """A real vector to an increasing one: y_1 = x_1, y_i = y_(i-1) + exp(x_i).

    >>> OrderedTransform()(torch.tensor([1.0, 0.0, 0.0]))
    tensor([1., 2., 3.])
    """

    domain = constraints.real_vector
    codomain = constraints.ordered_vector

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x[..., 1:].sum(-1)


class SimplexToOrderedTransform(Transform):
    """Probabilities of K ordered categories to the K - 1 cutpoints of an ordered logistic model.

    Args:
        anchor_point: where the predictor stands; a number, or batch-shaped.

    >>> SimplexToOrderedTransform()(torch.tensor([0.25, 0.25, 0.5]))
    tensor([-1.0986,  0.0000])
    """

    domain = constraints.simplex
    codomain = constraints.ordered_vector
    bijective = True

    def __init__(self, anchor_point=0.0, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.anchor_point = anchor_point

    def __eq__(self, other):
        if not isinstance(other, SimplexToOrderedTransform):
            return False
        return bool(
            (torch.as_tensor(self.anchor_point) == torch.as_tensor(other.anchor_point)).all()
        )

    __hash__ = Transform.__hash__

    @property
    def _anchor(self):
        at = self.anchor_point
        return at.unsqueeze(-1) if isinstance(at, Tensor) else at

    def _call(self, x: Tensor) -> Tensor:
        return x[..., :-1].cumsum(-1).logit() + self._anchor

    def _inverse(self, y: Tensor) -> Tensor:
        below = (y - self._anchor).sigmoid()
        return F.pad(F.pad(below, (0, 1), value=1.0), (1, 0), value=0.0).diff(dim=-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        z = y - self._anchor
        return (F.softplus(z) + F.softplus(-z)).sum(-1)

    def forward_shape(self, shape):
        return torch.Size(shape[:-1]) + (shape[-1] - 1,)

    def inverse_shape(self, shape):
        return torch.Size(shape[:-1]) + (shape[-1] + 1,)

    def with_cache(self, cache_size: int = 1):
        return SimplexToOrderedTransform(self.anchor_point, cache_size)


class CholeskyTransform(_Plain):
    """A positive definite matrix to its lower Cholesky factor.

    >>> CholeskyTransform()(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """

    domain = constraints.positive_definite
    codomain = constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return torch.linalg.cholesky_ex(x).L

    def _inverse(self, y: Tensor) -> Tensor:
        return y @ y.mT

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # From L to L L^T the determinant is 2^n prod_i L_ii^(n + 1 - i), over the n (n + 1) / 2
        # free numbers.
        n = x.shape[-1]
        powers = torch.arange(n, 0, -1, dtype=x.dtype, device=x.device)
        return -n * math.log(2) - (powers * y.diagonal(dim1=-2, dim2=-1).log()).sum(-1)


class CorrMatrixCholeskyTransform(CholeskyTransform):
    """A correlation matrix to its lower Cholesky factor, whose rows have length 1.

    >>> CorrMatrixCholeskyTransform()(torch.tensor([[1.0, 0.6], [0.6, 1.0]]))
    tensor([[1.0000, 0.0000],
            [0.6000, 0.8000]])
    """

    domain = constraints.corr_matrix
    codomain = constraints.corr_cholesky

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # As above, with the n diagonal elements bound: prod_i L_ii^(n - i).
        n = x.shape[-1]
        powers = torch.arange(n - 1, -1, -1, dtype=x.dtype, device=x.device)
        return -(powers * y.diagonal(dim1=-2, dim2=-1).log()).sum(-1)


class SoftplusLowerCholeskyTransform(_Plain):
    """A real matrix to a lower triangular one, with softplus on its diagonal; the upper half is
    ignored.

    >>> SoftplusLowerCholeskyTransform()(torch.zeros(2, 2))
    tensor([[0.6931, 0.0000],
            [0.0000, 0.6931]])
    """

    bijective = False
    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.softplus_lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + F.softplus(x.diagonal(dim1=-2, dim2=-1)).diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.tril(-1) + _softplus_inverse(y.diagonal(dim1=-2, dim2=-1)).diag_embed()


class UnitLowerCholeskyTransform(_Plain):
    """A real matrix to a lower triangular one with ones on its diagonal; the rest is ignored.

    >>> UnitLowerCholeskyTransform()(torch.full((2, 2), 3.0))
    tensor([[1., 0.],
            [3., 1.]])
    """

    bijective = False
    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.unit_lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return x.tril(-1) + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class VectorToTrilTransform(Transform):
    """A vector to a lower triangular matrix: a bijection, for it holds just the matrix's free
    numbers.

    Args:
        diagonal: what becomes of the diagonal: "exp", "softplus", or "unit" for ones, which take no
            numbers.

    The vector has n (n + 1) / 2 elements for an n by n matrix, n (n - 1) / 2 with "unit": first the
    rows below the diagonal, one after the other, then the diagonal.

    >>> VectorToTrilTransform()(torch.tensor([3.0, 0.0, 0.0]))
    tensor([[1., 0.],
            [3., 1.]])
    """

    bijective = True
    domain = constraints.real_vector
    _codomains = {
        "exp": constraints.lower_cholesky,
        "softplus": constraints.softplus_lower_cholesky,
        "unit": constraints.unit_lower_cholesky,
    }

    def __init__(self, diagonal: str = "exp", cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.diagonal = diagonal

    def __eq__(self, other):
        return isinstance(other, VectorToTrilTransform) and self.diagonal == other.diagonal

    __hash__ = Transform.__hash__

    @property
    def codomain(self):
        return self._codomains[self.diagonal]

    def _size(self, length: int) -> int:
        """n, from the length of the vector."""
        n = (math.isqrt(8 * length + 1) + (1 if self.diagonal == "unit" else -1)) // 2
        if self._length(n) != length:
            raise ValueError(f"{length} numbers do not fill a lower triangular matrix")
        return n

    def _length(self, n: int) -> int:
        return n * (n - 1) // 2 if self.diagonal == "unit" else n * (n + 1) // 2

    def _call(self, x: Tensor) -> Tensor:
        n = self._size(x.shape[-1])
        rows, columns = torch.tril_indices(n, n, -1, device=x.device)
        below = len(rows)
        # A scatter from the flat position keeps this a function without in-place writes.
        flat = (rows * n + columns).expand(x.shape[:-1] + (below,))
        tril = x.new_zeros(x.shape[:-1] + (n * n,)).scatter(-1, flat, x[..., :below])
        if self.diagonal == "unit":
            diagonal = x.new_ones(x.shape[:-1] + (n,))
        else:
            diagonal = x[..., below:]
            diagonal = diagonal.exp() if self.diagonal == "exp" else F.softplus(diagonal)
        return tril.unflatten(-1, (n, n)) + diagonal.diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        n = y.shape[-1]
        rows, columns = torch.tril_indices(n, n, -1, device=y.device)
        below = y.flatten(-2)[..., rows * n + columns]
        if self.diagonal == "unit":
            return below
        diagonal = y.diagonal(dim1=-2, dim2=-1)
        diagonal = diagonal.log() if self.diagonal == "exp" else _softplus_inverse(diagonal)
        return torch.cat([below, diagonal], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if self.diagonal == "unit":
            return x.new_zeros(x.shape[:-1])
        diagonal = x[..., -y.shape[-1] :]
        return (diagonal if self.diagonal == "exp" else -F.softplus(-diagonal)).sum(-1)

    def forward_shape(self, shape):
        n = self._size(shape[-1])
        return torch.Size(shape[:-1]) + (n, n)

    def inverse_shape(self, shape):
        return torch.Size(shape[:-2]) + (self._length(shape[-1]),)

    def with_cache(self, cache_size: int = 1):
        return VectorToTrilTransform(self.diagonal, cache_size)


class Normalize(Transform):
    """A real vector to the unit sphere of the `p` norm; the zero vector goes to (1, 0, ..., 0). Not
    a bijection.

    >>> Normalize()(torch.tensor([3.0, 4.0]))
    tensor([0.6000, 0.8000])
    """

    domain = constraints.real_vector
    codomain = constraints.sphere
    bijective = False

    def __init__(self, p: float = 2, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.p = p

    def __eq__(self, other):
        return isinstance(other, Normalize) and self.p == other.p

    __hash__ = Transform.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return normalized(x, self.p)

    def _inverse(self, y: Tensor) -> Tensor:
        return y

    def with_cache(self, cache_size: int = 1):
        return Normalize(self.p, cache_size)


def normalized(x: Tensor, p: float = 2) -> Tensor:
    """`x` over its norm along the last dimension; (1, 0, ..., 0) for a zero vector."""
    zero = (x == 0).all(-1, keepdim=True)
    first = torch.arange(x.shape[-1], device=x.device) == 0
    x = torch.where(zero, first.to(x.dtype), x)
    return x / torch.linalg.vector_norm(x, p, dim=-1, keepdim=True)


class LowerCholeskyAffine(Transform):
    """A real vector, stretched and shifted: y = scale_tril x + loc.

    Args:
        loc: shape `(..., D)`.
        scale_tril: lower triangular with a positive diagonal, shape `(..., D, D)`.

    >>> LowerCholeskyAffine(torch.ones(2), 2 * torch.eye(2))(torch.tensor([1.0, 2.0]))
    tensor([3., 5.])
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, scale_tril: Tensor, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        if not loc.shape[-1:] == scale_tril.shape[-1:] == scale_tril.shape[-2:-1]:
            shapes = f"loc {tuple(loc.shape)}, scale_tril {tuple(scale_tril.shape)}"
            raise ValueError(
                f"LowerCholeskyAffine needs loc (..., D) and scale_tril (..., D, D), not {shapes}"
            )
        self.loc, self.scale_tril = loc, scale_tril

    def _call(self, x: Tensor) -> Tensor:
        return (self.scale_tril @ x.unsqueeze(-1)).squeeze(-1) + self.loc

    def _inverse(self, y: Tensor) -> Tensor:
        centred = (y - self.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.scale_tril, centred, upper=False).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1).expand(x.shape[:-1])

    def with_cache(self, cache_size: int = 1):
        return LowerCholeskyAffine(self.loc, self.scale_tril, cache_size)


class Permute(Transform):
    """The elements of a dimension, in another order.

    Args:
        permutation: a permutation of 0 ... n - 1; integers.
        dim: the dimension, negative; what is right of it belongs to one value.

    >>> Permute(torch.tensor([2, 0, 1]))(torch.tensor([10.0, 20.0, 30.0]))
    tensor([30., 10., 20.])
    """

    bijective = True
    volume_preserving = True

    def __init__(self, permutation: Tensor, *, dim: int = -1, cache_size: int = 0):
        if dim >= 0:
            raise ValueError(f"Permute needs a negative dim, counted from the right, not {dim}")
        super().__init__(cache_size=cache_size)
        self.permutation, self.dim = permutation, dim

    @property
    def domain(self):
        return constraints.independent(constraints.real, -self.dim)

    codomain = domain

    def _call(self, x: Tensor) -> Tensor:
        return x.index_select(self.dim, self.permutation)

    def _inverse(self, y: Tensor) -> Tensor:
        return y.index_select(self.dim, self.permutation.argsort())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(x.shape[: self.dim])

    def with_cache(self, cache_size: int = 1):
        return Permute(self.permutation, dim=self.dim, cache_size=cache_size)


class ELUTransform(_Plain):
    """Every number x to x if x > 0, else exp(x) - 1.

    >>> ELUTransform()(torch.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """

    domain = constraints.real
    codomain = constraints.greater_than(-1.0)
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return F.elu(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, y.clamp(max=0).log1p())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.clamp(max=0)


class LeakyReLUTransform(_Plain):
    """Every number x to x if x > 0, else x / 100.

    >>> LeakyReLUTransform()(torch.tensor([-1.0, 2.0]))
    tensor([-0.0100,  2.0000])
    """

    domain = constraints.real
    codomain = constraints.real
    sign = 1

    def _call(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.where(y > 0, y, 100 * y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return (x < 0).to(x.dtype) * math.log(0.01)


class PositivePowerTransform(Transform):
    """Every number x to sign(x) |x|^exponent.

    Args:
        exponent: > 0, a number or a tensor that broadcasts.

    >>> PositivePowerTransform(2.0)(torch.tensor([-3.0, 2.0]))
    tensor([-9.,  4.])
    """

    domain = constraints.real
    codomain = constraints.real
    bijective = True
    sign = 1

    def __init__(self, exponent, *, cache_size: int = 0):
        super().__init__(cache_size=cache_size)
        self.exponent = exponent

    def __eq__(self, other):
        same = isinstance(other, PositivePowerTransform)
        return same and bool(
            (torch.as_tensor(self.exponent) == torch.as_tensor(other.exponent)).all()
        )

    __hash__ = Transform.__hash__

    def _call(self, x: Tensor) -> Tensor:
        return x.sign() * x.abs() ** self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y.sign() * y.abs() ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        exponent = torch.as_tensor(self.exponent, dtype=x.dtype, device=x.device)
        return exponent.log() + (exponent - 1) * x.abs().log()

    def with_cache(self, cache_size: int = 1):
        return PositivePowerTransform(self.exponent, cache_size=cache_size)


def _softplus_inverse(y: Tensor) -> Tensor:
    return y + (-torch.expm1(-y)).log()


# -- the constraints' bijections -------------------------------------------------------------------

_BIJECTIONS = {
    constraints.anything: lambda: _torch.identity_transform,
    constraints.ordered_vector: OrderedTransform,
    constraints.positive_ordered_vector: lambda: ComposeTransform(
        [OrderedTransform(), ExpTransform()]
    ),
    constraints.corr_matrix: lambda: ComposeTransform(
        [CorrCholeskyTransform(), CorrMatrixCholeskyTransform().inv]
    ),
    constraints.softplus_positive: SoftplusTransform,
}
_FROM_MATRICES = {
    constraints.sphere: Normalize,
    constraints.softplus_lower_cholesky: SoftplusLowerCholeskyTransform,
    constraints.unit_lower_cholesky: UnitLowerCholeskyTransform,
    constraints.positive_definite: _torch.PositiveDefiniteTransform,
}
_FROM_VECTORS = {
    constraints.lower_cholesky: VectorToTrilTransform,
    constraints.softplus_lower_cholesky: lambda: VectorToTrilTransform("softplus"),
    constraints.unit_lower_cholesky: lambda: VectorToTrilTransform("unit"),
    constraints.positive_definite: lambda: ComposeTransform(
        [VectorToTrilTransform(), CholeskyTransform().inv]
    ),
}
_FROM_VECTORS[_torch_constraints.positive_definite] = _FROM_VECTORS[constraints.positive_definite]


def _register(registry, table) -> None:
    for constraint, make in table.items():
        registry.register(constraint, lambda _, make=make: make())


_register(biject_to, _BIJECTIONS | _FROM_VECTORS)
_register(transform_to, _BIJECTIONS | _FROM_MATRICES)
