"""Small matrices and running products, made of operations that ONNX Runtime has.

ONNX factorises nothing. For a matrix of a fixed size the loops of a factorisation are written out:
the graph grows with the size, to `LARGEST`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

LARGEST = 32


def written_out(size: Any) -> bool:
    """Whether loops over this size are written out: it is fixed, and small enough."""
    return isinstance(size, int) and size <= LARGEST


def cholesky_ex(a: Tensor, *, upper: bool = False, check_errors: bool = False):
    """The lower triangular factor, and which of its pivots is the first that is not positive,
    counted from 1; 0 if none is. There the factor holds nan.
    """
    if not written_out(a.shape[-1]):
        return NotImplemented
    rest, columns, pivots = a.mT if upper else a, [], []
    for j in range(a.shape[-1]):
        pivots.append(rest[..., :1, 0])
        column = rest[..., 0] / pivots[-1].sqrt()
        columns.append(pad(column, (j, 0)))
        below = column[..., 1:]
        rest = rest[..., 1:, 1:] - below.unsqueeze(-1) * below.unsqueeze(-2)
    bad = (~(torch.cat(pivots, -1) > 0)).to(torch.int32)
    count = torch.arange(a.shape[-1], 0, -1, dtype=torch.int32, device=a.device)
    first = (bad * count).amax(-1)
    info = torch.where(first > 0, a.shape[-1] + 1 - first, 0).to(torch.int32)
    factor = torch.stack(columns, -1)
    return (factor.mT if upper else factor), info


def cholesky(a: Tensor, upper: bool = False) -> Any:
    """The factor alone."""
    found = cholesky_ex(a, upper=upper)
    return found if found is NotImplemented else found[0]


def solve_triangular(
    a: Tensor, b: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    """The x of `a @ x = b`, or of `x @ a = b` unless `left`."""
    if not written_out(a.shape[-1]):
        return NotImplemented
    if not left:
        return solve_triangular(a.mT, b.mT, upper=not upper, unitriangular=unitriangular).mT
    n, rows, rest = a.shape[-1], [], b
    for step in range(n):
        i = n - 1 - step if upper else step
        row = rest[..., -1:, :] if upper else rest[..., :1, :]
        rows.append(row if unitriangular else row / a[..., i : i + 1, i : i + 1])
        if upper:
            rest = rest[..., :-1, :] - a[..., :i, i : i + 1] * rows[-1]
        else:
            rest = rest[..., 1:, :] - a[..., i + 1 :, i : i + 1] * rows[-1]
    rows = rows[::-1] if upper else rows
    return torch.cat(torch.broadcast_tensors(*rows), -2)


def triangular_solve(b: Tensor, a: Tensor, upper=True, transpose=False, unitriangular=False) -> Any:
    """The x of `a @ x = b`, and the part of `a` that was read."""
    if not written_out(a.shape[-1]):
        return NotImplemented
    matrix = a.mT if transpose else a
    x = solve_triangular(matrix, b, upper=upper != transpose, unitriangular=unitriangular)
    return x, (a.triu() if upper else a.tril())


def cholesky_solve(b: Tensor, factor: Tensor, upper: bool = False) -> Any:
    """The x of `factor @ factor.mT @ x = b`."""
    if not written_out(factor.shape[-1]):
        return NotImplemented
    lower = factor.mT if upper else factor
    half = solve_triangular(lower, b, upper=False)
    return solve_triangular(lower.mT, half, upper=True)


def cholesky_inverse(factor: Tensor, upper: bool = False) -> Any:
    """The inverse of the matrix that has this Cholesky factor."""
    if not written_out(factor.shape[-1]):
        return NotImplemented
    one = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    half = solve_triangular(factor.mT if upper else factor, one, upper=False)
    return half.mT @ half


# -- along a dimension -----------------------------------------------------------------------------


def _up_to(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """For each position the row of all, and which of them are not behind it."""
    rows = x.movedim(dim, -1).unsqueeze(-2)
    place = torch.arange(rows.shape[-1], device=x.device)
    return rows, place <= place.unsqueeze(-1)


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running products."""
    if dtype is None:
        dtype = x.dtype if x.is_floating_point() else torch.int64
    x = x.to(dtype)
    if x.dim() == 0:
        return x.clone()
    rows, within = _up_to(x, dim)
    return torch.where(within, rows, 1).prod(-1).movedim(-1, dim)
