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


def mv(matrix: Tensor, vector: Tensor) -> Tensor:
    """By a matrix of one column: ONNX Runtime 1.32 drops the transpose from A' (A v)."""
    return torch.mm(matrix, vector.unsqueeze(-1)).squeeze(-1)


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


# -- any square matrix -----------------------------------------------------------------------------


def lu_factor_ex(a: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """The factors of a matrix whose rows are swapped, packed in one; which rows were swapped, one
    after the other, counted from 1; the first pivot that is 0, counted from 1, or 0.
    """
    n = a.shape[-1]
    if not written_out(n) or a.shape[-2] != n or not pivot:
        return NotImplemented
    place, swaps = torch.arange(n, device=a.device), []
    for k in range(n):
        height = torch.where(place < k, -1.0, a[..., k].abs())
        chosen = height.argmax(-1, keepdim=True)
        swaps.append(chosen + 1)
        a = a.gather(-2, _swapped(place, k, chosen).unsqueeze(-1).expand(a.shape))
        below = place > k
        share = torch.where(below, a[..., k] / a[..., k, k].unsqueeze(-1), 0.0).unsqueeze(-1)
        cleared = a - share * torch.where(below, a[..., k, :], 0.0).unsqueeze(-2)
        a = torch.where((place == k) & below.unsqueeze(-1), share, cleared)
    zero = (a.diagonal(dim1=-2, dim2=-1) == 0).to(torch.int32)
    count = torch.arange(n, 0, -1, dtype=torch.int32, device=a.device)
    first = (zero * count).amax(-1)
    info = torch.where(first > 0, n + 1 - first, 0).to(torch.int32)
    return a, torch.cat(swaps, -1).to(torch.int32), info


def _swapped(place: Tensor, k: int, chosen: Tensor) -> Tensor:
    """The order of rows once row k and the chosen one have changed places."""
    return torch.where(place == k, chosen, torch.where(place == chosen, k, place))


def _permutation(pivots: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix that swaps rows as these pivots say."""
    n = pivots.shape[-1]
    place = torch.arange(n, device=pivots.device)
    order = place.expand(pivots.shape)
    for k in range(n):
        order = order.gather(-1, _swapped(place, k, pivots[..., k : k + 1].long() - 1))
    return (order.unsqueeze(-1) == place).to(dtype)


def lu_solve(lu: Tensor, pivots: Tensor, b: Tensor, *, left: bool = True, adjoint: bool = False):
    """The x of `a @ x = b`, or of `x @ a = b` unless `left`; `a.mT` for `a` if `adjoint`."""
    if not written_out(lu.shape[-1]):
        return NotImplemented
    if not left:
        return lu_solve(lu, pivots, b.mT, adjoint=not adjoint).mT
    swap = _permutation(pivots, lu.dtype)
    if adjoint:
        half = solve_triangular(lu.mT, b, upper=False)
        return swap.mT @ solve_triangular(lu.mT, half, upper=True, unitriangular=True)
    half = solve_triangular(lu, swap @ b, upper=False, unitriangular=True)
    return solve_triangular(lu, half, upper=True)


def solve_ex(a: Tensor, b: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """The x of `a @ x = b`, and the factors of `a`."""
    found = lu_factor_ex(a)
    if found is NotImplemented:
        return found
    lu, pivots, info = found
    vector = b.dim() == 1 or (a.dim() - 1 == b.dim() and b.shape == a.shape[:-1])
    x = lu_solve(lu, pivots, b.unsqueeze(-1) if vector else b, left=left or vector)
    return (x.squeeze(-1) if vector else x), lu, pivots, info


def inv_ex(a: Tensor, *, check_errors: bool = False) -> Any:
    """The inverse, and the first pivot that is 0."""
    found = lu_factor_ex(a)
    if found is NotImplemented:
        return found
    lu, pivots, info = found
    one = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    return lu_solve(lu, pivots, one.expand(a.shape)), info


def _sign(pivots: Tensor, dtype: torch.dtype) -> Tensor:
    place = torch.arange(1, pivots.shape[-1] + 1, device=pivots.device)
    return (1 - 2 * (pivots != place).to(dtype)).prod(-1)


def det(a: Tensor) -> Any:
    """The determinant, and the factors of the matrix."""
    found = lu_factor_ex(a)
    if found is NotImplemented:
        return found
    lu, pivots, _ = found
    return _sign(pivots, a.dtype) * lu.diagonal(dim1=-2, dim2=-1).prod(-1), lu, pivots


def slogdet(a: Tensor) -> Any:
    """The determinant's sign, the logarithm of its absolute value, and the factors."""
    found = lu_factor_ex(a)
    if found is NotImplemented:
        return found
    lu, pivots, _ = found
    pivot = lu.diagonal(dim1=-2, dim2=-1)
    sign = _sign(pivots, a.dtype) * pivot.sign().prod(-1)
    return sign, pivot.abs().log().sum(-1), lu, pivots


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


def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """Logarithms of running sums of exponentials."""
    if x.dim() == 0:
        return x.clone()
    rows, within = _up_to(x, dim)
    rows = torch.where(within, rows, -torch.inf)
    highest = rows.amax(-1, keepdim=True)
    highest = torch.where(highest.abs() == torch.inf, 0.0, highest)
    total = (rows - highest).exp().sum(-1).log() + highest.squeeze(-1)
    return total.movedim(-1, dim)


def _running(x: Tensor, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
    """Running extremes, and where each was met last; what is no number stays."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    rows, within = _up_to(x, dim)
    lost = torch.isnan(rows) if x.is_floating_point() else torch.zeros_like(rows, dtype=torch.bool)
    same = torch.where(lost, 0, rows)  # for comparisons
    least = torch.where(within & ~lost, same, same.amin(-1, keepdim=True))
    most = torch.where(within & ~lost, same, same.amax(-1, keepdim=True))
    found = (least.amax(-1) if largest else most.amin(-1)).unsqueeze(-1)
    over = (lost & within).any(-1, keepdim=True)
    here = within & torch.where(over, lost, same == found)
    place = torch.where(here, torch.arange(rows.shape[-1], device=x.device), -1).amax(-1)
    values = torch.where(over, torch.nan, found) if x.is_floating_point() else found
    return values.squeeze(-1).movedim(-1, dim), place.movedim(-1, dim)


def cummax(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Running maxima, and the place of each."""
    return _running(x, dim, largest=True)


def cummin(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Running minima, and the place of each."""
    return _running(x, dim, largest=False)


def median(x: Tensor) -> Tensor:
    """The lower one of the middle numbers; no number if one of all is none."""
    row = x.reshape(-1)
    return median_of(row, 0)[0]


def median_of(x: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The same along a dimension, and its place."""
    if x.dim() == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    rows = x.movedim(dim, -1)
    values, places = rows.sort(-1)  # what is no number comes last
    middle = torch.arange(rows.shape[-1], device=x.device) == (rows.shape[-1] - 1) // 2
    place = torch.where(middle, places, 0).sum(-1, keepdim=True)
    here = middle & (values == values)
    found = torch.where(here, values, 0).sum(-1, keepdim=True, dtype=x.dtype)
    if x.is_floating_point():
        lost = torch.isnan(rows)
        any_lost = lost.any(-1, keepdim=True)
        found = torch.where(any_lost, torch.nan, found)
        place = torch.where(any_lost, lost.to(torch.int64).argmax(-1, keepdim=True), place)
    made = [part.movedim(-1, dim) if keepdim else part.squeeze(-1) for part in (found, place)]
    return made[0], made[1]


def diagonal_scatter(
    x: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """`x` with `src` for one of its diagonals; torch's own way writes into a copy."""
    whole = x.movedim((dim1, dim2), (-2, -1))
    rows = torch.arange(whole.shape[-2], device=x.device).unsqueeze(-1)
    columns = torch.arange(whole.shape[-1], device=x.device)
    # On the diagonal the place of an element is that of its row, or of its column if above.
    place = rows if offset >= 0 else columns.unsqueeze(0)
    place = place.clamp(max=src.shape[-1] - 1).reshape(-1)
    spread = src.index_select(-1, place).unsqueeze(-1 if offset >= 0 else -2)
    made = torch.where(columns - rows == offset, spread, whole)
    return made.movedim((-2, -1), (dim1, dim2))


def cdist(x: Tensor, y: Tensor, p: float, mode: int | None = None) -> Tensor:
    """Distances between the rows of two matrices."""
    gaps = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (gaps != 0).to(x.dtype).sum(-1)
    if p == float("inf"):
        return gaps.amax(-1)
    return gaps.sum(-1) if p == 1 else gaps.pow(p).sum(-1).pow(1 / p)


def searchsorted(
    row: Tensor, x: Tensor, *, out_int32=False, right=False, side=None, sorter=None
) -> Any:
    """How many of a sorted row are below x; those that equal it too if `right`."""
    if sorter is not None:
        row = row.gather(-1, sorter)
    right = right if side is None else side == "right"
    if row.dim() == 1:
        row = row.expand(*x.shape, row.shape[0])
        x = x.unsqueeze(-1)
    else:
        row, x = row.unsqueeze(-2), x.unsqueeze(-1)
    below = row <= x if right else row < x
    return below.sum(-1, dtype=torch.int64).to(torch.int32 if out_int32 else torch.int64)


def bucketize(x: Tensor, row: Tensor, *, out_int32: bool = False, right: bool = False) -> Any:
    """As `searchsorted`."""
    return searchsorted(row, x, out_int32=out_int32, right=right)
